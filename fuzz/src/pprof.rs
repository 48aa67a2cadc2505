//! Any bytes as a pprof file: read or refused; what is read is written and read again as the same, and can be compared.

use tracer_daemon::export::{diff, pprof::Profile};
use tracer_daemon::model::profile_change::compare;

/// Bytes: the file.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(profile) = Profile::parse(bytes) else { return };
    let written = profile.to_bytes().expect("it is written to memory");
    assert_eq!(Profile::parse(&written).expect("what was written can be read"), profile);
    if let Ok(stacks) = diff::stacks(&profile) {
        let change = compare(&stacks, &stacks, None);
        assert_eq!(change.in_use.difference().bytes, 0, "nothing has changed");
    }
    let difference = diff::profile(&profile, &profile);
    assert!(difference.samples.is_empty() || has_extremes(&profile), "nothing is left of a profile less itself");
}

/// Sums that do not fit are cut, and then nothing cancels.
fn has_extremes(profile: &Profile) -> bool {
    let values = profile.samples.iter().flat_map(|sample| &sample.values);
    values.map(|value| u128::from(value.unsigned_abs())).sum::<u128>() > i64::MAX.unsigned_abs().into()
}
