//! Who is visible, and what is summed.

use proptest::{collection::vec, prelude::*};

use super::*;

const FIRST: ProcessKey = ProcessKey(1);
const SECOND: ProcessKey = ProcessKey(2);

fn values(of: &[(u64, u64)]) -> Values {
    of.iter().map(|(site, value)| ((SiteId(*site), String::new()), *value)).collect()
}

fn growing(site: u64, verdict: Verdict, value: f64) -> (SiteId, Growth) {
    let rate = Rate { value, low: value - 3.0, high: Some(value + 4.0) };
    (SiteId(site), Growth { verdict, rate: Some(rate) })
}

fn steady(site: u64) -> (SiteId, Growth) {
    (SiteId(site), Growth { verdict: Verdict::Steady, rate: None })
}

fn shown(gauges: &SiteGauges) -> Vec<(Option<u64>, u64)> {
    gauges.sums().into_iter().map(|((site, _), value)| (site.map(|site| site.0), value)).collect()
}

fn visible(gauges: &SiteGauges) -> Vec<u64> {
    gauges.visible.iter().map(|site| site.0).collect()
}

#[test]
fn visible_sites_and_other_sum_to_all_and_do_not_take_turns() {
    let mut gauges = SiteGauges::new(2);
    gauges.observe(FIRST, 1.0, values(&[(1, 100), (2, 50), (3, 45)]), []);
    assert_eq!(shown(&gauges), [(None, 45), (Some(1), 100), (Some(2), 50)]);
    gauges.observe(FIRST, 2.0, values(&[(1, 100), (2, 50), (3, 60)]), []);
    assert_eq!(shown(&gauges), [(None, 60), (Some(1), 100), (Some(2), 50)]);
    gauges.observe(SECOND, 1.0, values(&[(3, 10)]), []);
    assert_eq!(shown(&gauges), [(None, 50), (Some(1), 100), (Some(3), 70)]);
    assert_eq!(gauges.end(FIRST).map(|holding| holding.values.len()), Some(3));
    assert_eq!(shown(&gauges), [(Some(3), 10)]);
}

#[test]
fn a_site_that_grows_is_shown_whatever_it_holds_and_stays_for_a_while() {
    let mut gauges = SiteGauges::new(2);
    let held = || values(&[(1, 1000), (2, 900), (3, 1)]);
    gauges.observe(FIRST, 1.0, held(), [steady(1), steady(2), steady(3)]);
    assert_eq!(visible(&gauges), [1, 2]);
    gauges.observe(FIRST, 10.0, held(), [steady(1), steady(2), growing(3, Verdict::Growing, 5.0)]);
    assert_eq!(visible(&gauges), [1, 3]);
    gauges.observe(FIRST, 10.0 + STAY_S, held(), [steady(1), steady(2), steady(3)]);
    assert_eq!(visible(&gauges), [1, 3], "it was said to grow ten minutes ago");
    assert_eq!(gauges.growths(), BTreeMap::new(), "it does not grow any more");
    gauges.observe(FIRST, 11.0 + STAY_S, held(), [steady(1), steady(2), steady(3)]);
    assert_eq!(visible(&gauges), [1, 2]);
}

#[test]
fn of_more_sites_that_grow_than_there_is_room_for_the_fastest_are_shown_and_do_not_take_turns() {
    let mut gauges = SiteGauges::new(2);
    let held = || values(&[(1, 1000), (2, 1), (3, 1), (4, 1)]);
    let leaking = |site, rate| growing(site, Verdict::Leaking, rate);
    gauges.observe(FIRST, 1.0, held(), [steady(1), leaking(2, 300.0), leaking(3, 200.0), leaking(4, 100.0)]);
    assert_eq!(visible(&gauges), [2, 3]);
    gauges.observe(FIRST, 2.0, held(), [steady(1), leaking(2, 300.0), leaking(3, 200.0), leaking(4, 240.0)]);
    assert_eq!(visible(&gauges), [2, 3], "20 % ahead is not enough");
    gauges.observe(FIRST, 3.0, held(), [steady(1), leaking(2, 300.0), leaking(3, 200.0), leaking(4, 251.0)]);
    assert_eq!(visible(&gauges), [2, 4]);
    let hidden = growing(3, Verdict::Leaking, 200.0).1.rate;
    assert_eq!(gauges.growths().get(&None).copied(), hidden, "others have what the hidden one grows by");
}

#[test]
fn what_is_not_accused_comes_behind_what_is_however_fast() {
    let mut gauges = SiteGauges::new(1);
    let sites = [growing(1, Verdict::WarmingUp, 1e6), growing(2, Verdict::Growing, 2000.0)];
    gauges.observe(FIRST, 1.0, values(&[(1, 1_000_000), (2, 1)]), sites);
    assert_eq!(visible(&gauges), [2]);
}

#[test]
fn growth_of_one_site_in_two_processes_is_one_sum_and_the_worst_verdict() {
    let mut gauges = SiteGauges::new(2);
    gauges.observe(FIRST, 1.0, values(&[(1, 10)]), [growing(1, Verdict::Growing, 100.0)]);
    gauges.observe(SECOND, 1.0, values(&[(1, 10), (2, 10)]), [growing(1, Verdict::Leaking, 200.0), steady(2)]);
    let sum = gauges.growths()[&Some(SiteId(1))];
    let root = |side: f64| (2.0 * side * side).sqrt();
    assert_eq!(sum, Rate { value: 300.0, low: 300.0 - root(3.0), high: Some(300.0 + root(4.0)) });
    let verdicts = [(SiteId(1), Verdict::Leaking), (SiteId(2), Verdict::Steady)];
    assert_eq!(gauges.verdicts(), BTreeMap::from(verdicts));
    let holding = gauges.end(SECOND).unwrap();
    assert_eq!(gauges.verdicts()[&SiteId(1)], Verdict::Growing);
    let mut elsewhere = SiteGauges::new(2);
    elsewhere.go_on(SECOND, holding);
    assert_eq!(elsewhere.verdicts(), BTreeMap::from(verdicts));
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![
        Verdict::Unknown,
        Verdict::Shrinking,
        Verdict::Steady,
        Verdict::WarmingUp,
        Verdict::Growing,
        Verdict::Leaking,
    ])
}

proptest! {
    #[test]
    fn whatever_is_observed_no_more_are_shown_than_there_is_room_for_and_accused_ones_first(
        looks in vec((0_u64..3, 0.0..2000.0_f64, vec((0_u64..8, 0_u64..100, any_verdict(), -50.0..50.0_f64), 0..8)), 1..20),
    ) {
        const CAPACITY: usize = 3;
        let mut gauges = SiteGauges::new(CAPACITY);
        for (process, at_s, sites) in looks {
            let held = sites.iter().map(|(site, value, ..)| (*site, *value)).collect::<Vec<_>>();
            let growths: BTreeMap<_, _> = sites.iter().map(|(site, _, verdict, rate)| growing(*site, *verdict, *rate)).collect();
            gauges.observe(ProcessKey(process), at_s, values(&held), growths.clone());
            prop_assert!(gauges.visible.len() <= CAPACITY);
            let accused = growths.iter().filter(|(_, growth)| growth.verdict >= Verdict::Growing).map(|(site, _)| site);
            let hidden = accused.filter(|site| !gauges.is_visible(**site)).count();
            let was_accused = |site: &SiteId| gauges.processes.values().any(|holding| holding.accused.contains_key(site));
            prop_assert!(hidden == 0 || gauges.visible.iter().all(was_accused), "one that grows is hidden behind one that does not");
            let total: u64 = gauges.processes.values().flat_map(|holding| holding.values.values()).sum();
            prop_assert_eq!(gauges.sums().values().sum::<u64>(), total);
            let grown: f64 = gauges.growths().values().map(|rate| rate.value).sum();
            let of_all = gauges.processes.values().flat_map(|holding| holding.growths.values());
            let of_all: f64 = of_all.filter_map(|growth| growth.rate).map(|rate| rate.value).sum();
            prop_assert!((grown - of_all).abs() < 1e-6);
            prop_assert!(gauges.processes.values().all(|holding| holding.accused.len() <= 8));
        }
    }
}
