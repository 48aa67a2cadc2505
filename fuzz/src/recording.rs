//! Any bytes as a recording: as a file, and as the records in one, which random bytes would not get to behind the checksums. What is read
//! is written and read again as the same.

use tracer_daemon::export::{json, text};
use tracer_daemon::model::observation::Moment;
use tracer_daemon::recording::{Ending, Entry, Reader, RecordingError, Replay, Writer, with_records};

/// Bytes: the file, or the records.
pub(crate) fn run(bytes: &[u8]) {
    let sealed = if bytes.starts_with(b"LEAKLINE") { Ok(bytes.to_vec()) } else { with_records(bytes) };
    let Ok(file) = sealed else { return };
    let Ok((entries, _)) = read(&file) else { return };
    let mut writer = Writer::new(Vec::new()).expect("it is written to memory");
    for (at, entry) in &entries {
        let written = match entry {
            Entry::Observation(observation) => writer.observation(*at, observation),
            Entry::Note(note) => writer.note(*at, note),
        };
        written.expect("what was read can be written");
    }
    let (again, ends_well) = read(&writer.finish().expect("it is written to memory").0).expect("it is a recording");
    assert!(ends_well);
    // What may be read depends on the file's size, and this one may be smaller.
    let known = entries.get(..again.len()).expect("no more is read than was written");
    // As text, in which NaN is equal to itself.
    assert_eq!(format!("{again:?}"), format!("{known:?}"));

    let mut replay = Replay::new(&file[..]).expect("it is a recording");
    while let Some(report) = replay.next_report() {
        json::line(&report).expect("a report is written as JSON");
        text::render(&report, text::Style::default());
    }
}

/// The entries, and whether nothing is missing but what is beyond a bound.
fn read(file: &[u8]) -> Result<(Vec<(Moment, Entry)>, bool), RecordingError> {
    let mut reader = Reader::new(file)?;
    let entries = std::iter::from_fn(|| reader.next_entry()).collect();
    Ok((entries, matches!(reader.ending(), Ending::Complete | Ending::Damaged(RecordingError::TooLarge { .. }))))
}
