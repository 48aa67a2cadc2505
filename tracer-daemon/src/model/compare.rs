//! Is it worse than before? Two sets of growth rates, each with its interval, compared site by site.
//!
//! One-sided tests on the difference of two rates, with both variances, at a level that holds for all sites of one comparison
//! together. What counts is what is beyond chance *and* beyond what two runs of the same program differ by (`tolerance`), and
//! only of what is judged to leak: a site that fails here is leaking by its verdict, too. Knows numbers and identities; what
//! is measured is chosen in `gate.rs`.
//!
//! Reference: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::verdict::Verdict;
use super::{Rate, SiteId};

/// How often two runs of the same program may differ beyond chance in any of their sites.
pub const LEVEL: f64 = 0.05;
/// How much faster, as a part, a known growth may be in another run of the same program: machines and loads differ.
pub const TOLERANCE: f64 = 0.2;
/// Half of a 95 % interval in standard deviations.
const Z: f64 = 1.96;

/// What accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Bytes of the heap that collections find alive.
    Bytes,
    /// Goroutines.
    Goroutines,
    /// Bytes of resident memory outside of Go's heap.
    Native,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bytes, Self::Goroutines, Self::Native];

    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Goroutines => "goroutines",
            Self::Native => "native",
        }
    }
}

/// A line of the source. Names are as the target spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Function.
    pub function: String,
    /// File; empty where it is not known.
    pub file: String,
    /// Line; 0 where it is not known.
    pub line: u32,
}

/// What is measured of one site, or of the whole process, in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What accumulates.
    pub quantity: Quantity,
    /// Where. `None`: in the process as a whole.
    pub site: Option<SiteId>,
    /// The line a person would change. `None`: the process as a whole.
    pub place: Option<Place>,
    /// What is said of it.
    pub verdict: Verdict,
    /// Per second. `None`: nothing beyond chance, or not known.
    pub growth: Option<Rate>,
    /// Bytes or goroutines at the end. `None`: not known.
    pub live: Option<f64>,
}

impl Measure {
    fn key(&self) -> Key {
        (self.quantity, self.site)
    }
}

type Key = (Quantity, Option<SiteId>);

/// By what is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The least verdict that fails.
    pub fail_on: Verdict,
    /// How much faster, as a part, a known growth may be.
    pub tolerance: f64,
    /// How often a comparison of two equal runs may fail.
    pub level: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { fail_on: Verdict::Leaking, tolerance: TOLERANCE, level: LEVEL }
    }
}

/// How two runs differ in one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It accumulates, and did not before.
    New,
    /// It accumulates faster than before, beyond chance and tolerance.
    Worse,
    /// It accumulates, and there is nothing to compare it with.
    Uncompared,
    /// It seems to accumulate, and did not before, but among so many sites that is not beyond chance; or one of the runs does not
    /// know of it.
    Doubtful,
    /// It accumulates no faster than before.
    Known,
    /// It accumulated, and does no more.
    Gone,
    /// It does not accumulate.
    Quiet,
}

impl Change {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Worse => "worse",
            Self::Uncompared => "uncompared",
            Self::Doubtful => "doubtful",
            Self::Known => "known",
            Self::Gone => "gone",
            Self::Quiet => "quiet",
        }
    }
}

/// One site in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// How they differ.
    pub change: Change,
    /// Whether the comparison fails by it.
    pub fails: bool,
    /// Whether both runs know of it, be it that it is not there. Always where there is no baseline.
    pub is_comparable: bool,
    /// How often chance alone does as much to one site. `None`: not tested.
    pub p_value: Option<f64>,
    /// In the baseline. `None`: it has no such site, or there is no baseline.
    pub before: Option<Measure>,
    /// Now. `None`: not seen.
    pub after: Option<Measure>,
}

impl Compared {
    /// What was measured last.
    pub fn newest(&self) -> Option<&Measure> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// Where. `None`: the process as a whole.
    pub fn site(&self) -> Option<SiteId> {
        self.newest().and_then(|newest| newest.site)
    }

    /// What accumulates. `None`: in no run.
    pub fn quantity(&self) -> Option<Quantity> {
        self.newest().map(|newest| newest.quantity)
    }

    /// Whether it may accumulate, and that is not certain.
    pub fn is_doubtful(&self) -> bool {
        self.change == Change::Doubtful
    }
}

/// Compares each site. What fails comes first, then what changed, the fastest growth at the top of each. What a run does not
/// have it has not seen to accumulate.
pub fn compare(before: Option<&[Measure]>, after: &[Measure], rules: &Rules) -> Vec<Compared> {
    compare_known(before, after, rules, |_| true)
}

/// As [`compare`]. `both_know`: whether both runs had the evidence for this; else it does not fail by being new.
pub fn compare_known(
    before: Option<&[Measure]>,
    after: &[Measure],
    rules: &Rules,
    both_know: impl Fn(&Measure) -> bool,
) -> Vec<Compared> {
    let mut pairs: BTreeMap<Key, (Option<&Measure>, Option<&Measure>)> = BTreeMap::new();
    for measure in before.unwrap_or_default() {
        pairs.entry(measure.key()).or_default().0 = Some(measure);
    }
    for measure in after {
        pairs.entry(measure.key()).or_default().1 = Some(measure);
    }
    let mut rows: Vec<Compared> = pairs
        .into_values()
        .map(|(before, after)| Compared {
            change: Change::Quiet,
            fails: false,
            is_comparable: true,
            p_value: None,
            before: before.cloned(),
            after: after.cloned(),
        })
        .collect();
    if before.is_some() {
        for row in &mut rows {
            // What is not known is not zero.
            let is_known = |measure: &Option<Measure>| {
                measure.as_ref().is_none_or(|measure| measure.verdict != Verdict::Unknown && both_know(measure))
            };
            row.is_comparable = is_known(&row.before) && is_known(&row.after);
        }
        // Each site that was looked at had the chance to look worse, also those whose verdict keeps them from being tested.
        test(&mut rows, after.len(), rules);
    } else {
        for row in &mut rows {
            by_verdict(row, rules.fail_on);
        }
    }
    let growth = |row: &Compared| row.newest().and_then(|newest| newest.growth).map_or(0.0, |growth| growth.value);
    rows.sort_by(|one, other| {
        (!one.fails, one.change).cmp(&(!other.fails, other.change)).then_with(|| growth(other).total_cmp(&growth(one)))
    });
    rows
}

fn by_verdict(row: &mut Compared, fail_on: Verdict) {
    let verdict = row.after.as_ref().map_or(Verdict::Unknown, |after| after.verdict);
    row.fails = verdict >= fail_on;
    if verdict >= Verdict::Growing {
        row.change = Change::Uncompared;
    }
}

fn test(rows: &mut [Compared], family: usize, rules: &Rules) {
    for row in rows.iter_mut() {
        let accumulates = |measure: &Option<Measure>, least| {
            measure.as_ref().is_some_and(|measure| measure.verdict >= least && measure.growth.is_some())
        };
        if !row.is_comparable {
            if accumulates(&row.after, Verdict::Growing.min(rules.fail_on))
                || accumulates(&row.before, Verdict::Growing)
            {
                row.change = Change::Doubtful;
            }
        } else if accumulates(&row.after, rules.fail_on) {
            row.p_value = p_value(row, rules.tolerance);
            row.change = if has_growth(row.before.as_ref()) { Change::Known } else { Change::Doubtful };
        } else if accumulates(&row.after, Verdict::Growing) {
            row.change = if has_growth(row.before.as_ref()) { Change::Known } else { Change::Doubtful };
        } else if accumulates(&row.before, Verdict::Growing) {
            row.change = Change::Gone;
        }
    }
    let mut tested: Vec<&mut Compared> = rows.iter_mut().filter(|row| row.p_value.is_some()).collect();
    let p_of = |row: &Compared| row.p_value.unwrap_or(1.0);
    tested.sort_by(|one, other| p_of(one).total_cmp(&p_of(other)));
    let mut left = family.max(tested.len());
    for row in tested {
        if p_of(row) > rules.level / count(left) {
            break;
        }
        left = left.saturating_sub(1).max(1);
        row.fails = true;
        row.change = if has_growth(row.before.as_ref()) { Change::Worse } else { Change::New };
    }
}

fn has_growth(measure: Option<&Measure>) -> bool {
    measure.and_then(|measure| measure.growth).is_some_and(|growth| growth.high.is_none_or(|high| high > 0.0))
}

/// How often chance does as much where the true rate is at most that of the baseline and the tolerance on top. `None`: it
/// does not grow now.
fn p_value(row: &Compared, tolerance: f64) -> Option<f64> {
    let after = row.after.as_ref()?.growth?;
    let before = row.before.as_ref().and_then(|before| before.growth).unwrap_or(Rate::counted(0.0));
    let allowed = 1.0 + tolerance;
    // What shrank by chance is no reason to accuse a site that does nothing.
    let expected = before.value.max(0.0) * allowed;
    // Of each interval the side towards the other one.
    let deviation_before = before.high.map_or(f64::INFINITY, |high| (high - before.value).max(0.0) / Z) * allowed;
    let deviation_after = (after.value - after.low).max(0.0) / Z;
    let difference = after.value - expected;
    let deviation = deviation_before.hypot(deviation_after);
    let score = if deviation > 0.0 { difference / deviation } else { f64::INFINITY.copysign(difference) };
    // Differences that are none: nothing over nothing.
    if difference.is_nan() || difference <= 0.0 || score.is_nan() {
        return Some(1.0);
    }
    Some(Normal::new(0.0, 1.0).map_or(1.0, |normal| normal.sf(score)))
}

#[expect(clippy::cast_precision_loss, reason = "sites of one program, at most millions")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
    use rand_distr::{Distribution as _, Normal as Noise};

    use super::*;

    fn rate(value: f64, half_width: f64) -> Rate {
        Rate { value, low: value - half_width, high: Some(value + half_width) }
    }

    fn measure(site: u64, verdict: Verdict, growth: Option<Rate>) -> Measure {
        let place = Some(Place { function: format!("main.f{site}"), file: "/src/main.go".into(), line: 7 });
        Measure { quantity: Quantity::Bytes, site: Some(SiteId(site)), place, verdict, growth, live: None }
    }

    fn leaking(site: u64, value: f64, half_width: f64) -> Measure {
        measure(site, Verdict::Leaking, Some(rate(value, half_width)))
    }

    fn changes(before: Option<&[Measure]>, after: &[Measure]) -> Vec<(Change, bool)> {
        compare(before, after, &Rules::default()).iter().map(|row| (row.change, row.fails)).collect()
    }

    #[test]
    fn without_a_baseline_the_verdict_decides() {
        let after = [leaking(1, 100.0, 5.0), measure(2, Verdict::Growing, Some(rate(50.0, 40.0)))];
        assert_eq!(changes(None, &after), [(Change::Uncompared, true), (Change::Uncompared, false)]);
        let rules = Rules { fail_on: Verdict::Growing, ..Rules::default() };
        assert!(compare(None, &after, &rules).iter().all(|row| row.fails));
    }

    #[test]
    fn only_what_is_worse_than_the_baseline_fails() {
        let before = [leaking(1, 100.0, 5.0), leaking(2, 100.0, 5.0), measure(3, Verdict::Steady, None)];
        let after = [leaking(1, 150.0, 5.0), leaking(2, 110.0, 5.0), leaking(3, 100.0, 5.0), leaking(4, 100.0, 115.0)];
        let rows = compare(Some(&before), &after, &Rules::default());
        let of = |site| {
            let row = rows.iter().find(|row| row.newest().unwrap().site == Some(SiteId(site))).unwrap();
            (row.change, row.fails)
        };
        assert_eq!(of(1), (Change::Worse, true));
        assert_eq!(of(2), (Change::Known, false), "within the tolerance");
        assert_eq!(of(3), (Change::New, true));
        assert_eq!(of(4), (Change::Doubtful, false), "one of four may do that by chance");
    }

    #[test]
    fn what_one_run_does_not_know_fails_in_neither_direction() {
        let unknown = [measure(1, Verdict::Unknown, None)];
        let leaks = [leaking(1, 100.0, 5.0)];
        assert_eq!(changes(Some(&unknown), &leaks), [(Change::Doubtful, false)]);
        assert_eq!(changes(Some(&leaks), &unknown), [(Change::Doubtful, false)]);
        let unknown_to_one = |before: &[Measure], after: &[Measure]| {
            let rows = compare_known(Some(before), after, &Rules::default(), |_| false);
            rows.iter().map(|row| (row.change, row.fails, row.p_value)).collect::<Vec<_>>()
        };
        assert_eq!(unknown_to_one(&[], &leaks), [(Change::Doubtful, false, None)]);
        assert_eq!(unknown_to_one(&leaks, &[]), [(Change::Doubtful, false, None)]);
        assert_eq!(changes(Some(&[]), &leaks), [(Change::New, true)]);
    }

    #[test]
    fn what_grew_and_does_no_more_is_gone() {
        let before = [leaking(1, 100.0, 5.0), leaking(2, 100.0, 5.0)];
        let after = [measure(2, Verdict::Steady, None)];
        assert_eq!(changes(Some(&before), &after), [(Change::Gone, false), (Change::Gone, false)]);
    }

    #[test]
    fn a_faster_growth_that_is_not_judged_to_leak_fails_only_where_growing_is_asked_for() {
        let before = [measure(1, Verdict::Growing, Some(rate(10.0, 5.0)))];
        let after = [measure(1, Verdict::Growing, Some(rate(100.0, 5.0)))];
        assert_eq!(changes(Some(&before), &after), [(Change::Known, false)]);
        let rules = Rules { fail_on: Verdict::Growing, ..Rules::default() };
        assert_eq!(compare(Some(&before), &after, &rules)[0].change, Change::Worse);
    }

    #[test]
    fn an_interval_that_is_open_upwards_is_not_exceeded() {
        let open = Measure { growth: Some(Rate { value: 1.0, low: 0.0, high: None }), ..leaking(1, 1.0, 1.0) };
        assert_eq!(changes(Some(&[open]), &[leaking(1, 1e9, 1.0)]), [(Change::Known, false)]);
    }

    #[test]
    fn what_fails_comes_first_and_the_fastest_at_the_top() {
        let after = [leaking(1, 100.0, 5.0), measure(2, Verdict::Steady, None), leaking(3, 900.0, 5.0)];
        let rows = compare(Some(&[]), &after, &Rules::default());
        let sites: Vec<_> = rows.iter().map(|row| row.newest().unwrap().site.unwrap().0).collect();
        assert_eq!(sites, [3, 1, 2]);
    }

    /// A run of a program that leaks at some sites: each estimate off by chance, its interval as wide as chance is.
    fn run(truth: &[f64], deviation: f64, random: &mut SmallRng) -> Vec<Measure> {
        let noise = Noise::new(0.0, deviation).unwrap();
        (0..).zip(truth).map(|(site, truth)| leaking(site, truth + noise.sample(random), Z * deviation)).collect()
    }

    /// In how many of so many pairs of runs any site fails.
    fn failures(pairs: u32, before: &[f64], after: &[f64], rules: &Rules) -> u32 {
        let mut random = SmallRng::seed_from_u64(11);
        let mut one_fails = || {
            // How sure a run is differs from program to program.
            let deviation = random.random_range(1.0..30.0);
            let (before, after) = (run(before, deviation, &mut random), run(after, deviation, &mut random));
            compare(Some(&before), &after, rules).iter().any(|row| row.fails)
        };
        (0..pairs).map(|_| u32::from(one_fails())).sum()
    }

    #[test]
    fn equal_runs_fail_no_more_often_than_the_level_says() {
        let exact = Rules { tolerance: 0.0, ..Rules::default() };
        for sites in [1, 10, 100] {
            let truth = vec![100.0; sites];
            let failed = failures(2000, &truth, &truth, &exact);
            let shipped = failures(2000, &truth, &truth, &Rules::default());
            println!(
                "{sites} sites: of 2000 equal pairs {failed} fail at level {LEVEL} without a tolerance, {shipped} with it"
            );
            // 2,000 times the level; without the tolerance it is met exactly, so up to three standard deviations.
            assert!(shipped <= 100, "{sites} sites: {shipped} of 2000");
            assert!(failed <= 130, "{sites} sites: {failed} of 2000");
            // A test that never fails would be no test.
            assert!(failed >= 20, "{sites} sites: {failed} of 2000");
        }
    }

    #[test]
    fn a_leak_beyond_both_intervals_is_found() {
        let mut random = SmallRng::seed_from_u64(12);
        let quiet: Vec<Measure> = (0..20).map(|site| measure(site, Verdict::Steady, None)).collect();
        let found = (0..2000_u32).filter(|_| {
            let noise = Noise::new(0.0, 10.0).unwrap();
            let mut after = quiet.clone();
            // Twice as large as its whole interval is wide.
            after[3] = leaking(3, 2.0 * 2.0 * Z * 10.0 + noise.sample(&mut random), Z * 10.0);
            compare(Some(&quiet), &after, &Rules::default())[0].fails
        });
        assert_eq!(found.count(), 2000);
    }
}
