//! What is said on the console of a machine, and whether it is what it should be. Counterpart: `init.sh`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::results::Recorded;

/// `docs/results/kernels.json`.
pub(crate) const RESULTS: &str = "kernels";
/// The line that leaks.
const LEAK: &str = "main.keepSession";

/// What was seen on one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) commit: String,
    /// Debian's package of the kernel, with version.
    pub(crate) package: String,
    /// What it says it is.
    pub(crate) release: String,
    /// Why windows are not opened by links of `uprobe_multi`; `None`: they are.
    pub(crate) by_perf_events: Option<String>,
    /// By version of Go.
    pub(crate) programs: BTreeMap<String, Seen>,
    /// What is not as it should be.
    pub(crate) failures: Vec<String>,
}

/// What was seen of one program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Windows that were opened.
    pub(crate) bursts: u64,
    /// How long they were open, seconds.
    pub(crate) open_s: f64,
    /// What leakline says the program paid, a share of its CPU time.
    pub(crate) target_ratio: f64,
    /// Why it leaks, as its line's verdict says. `None`: it was not named.
    pub(crate) named: Option<String>,
    /// Breakpoints in place when leakline was killed.
    pub(crate) killed_at: u64,
    /// Breakpoints left some seconds later.
    pub(crate) left: u64,
}

impl Recorded for Cell {
    fn commit(&self) -> &str {
        &self.commit
    }

    fn is_good(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.by_perf_events.is_some() { "perf events" } else { "uprobe_multi" };
        write!(formatter, "{} by {by}", self.release)?;
        for (release, seen) in &self.programs {
            let named = if seen.named.is_some() { "named" } else { "not named" };
            write!(
                formatter,
                "; go{release}: {} bursts, {named}, {} left of {}",
                seen.bursts, seen.left, seen.killed_at
            )?;
        }
        self.failures.iter().try_for_each(|failure| write!(formatter, "\n    WRONG: {failure}"))
    }
}

/// What is made of the console.
pub(super) fn judge(said: &str, has_multi: bool, package: String, commit: &str) -> Cell {
    let mut cell = Cell {
        commit: commit.to_owned(),
        package,
        release: String::new(),
        by_perf_events: None,
        programs: BTreeMap::new(),
        failures: Vec::new(),
    };
    let mut program = String::new();
    let (mut has_checks, mut has_ended) = (false, false);
    for line in said.lines() {
        // Before the first line the console may be in the middle of one.
        let Some((_, told)) = line.split_once("@@ ") else { continue };
        let (key, value) = told.trim_end().split_once(' ').unwrap_or((told.trim_end(), ""));
        let number = value.parse::<u64>().ok();
        let mut must = |holds: bool| {
            if !holds {
                cell.failures.push(format!("{program}: {key} {}", value.chars().take(200).collect::<String>()));
            }
        };
        match key {
            "kernel" => value.clone_into(&mut cell.release),
            "doctor" | "attach" | "differing" | "dmesg" => must(number == Some(0)),
            "left" | "holders" => {
                must(number == Some(0));
                if key == "left" {
                    cell.programs.entry(program.clone()).or_default().left = number.unwrap_or(u64::MAX);
                }
            }
            "checks" => {
                has_checks = true;
                cell.failures.extend(checks(value));
            }
            "program" => value.clone_into(&mut program),
            "document" => document(value, &program, &mut cell),
            "killed" => {
                must(number.is_some_and(|places| places >= 3));
                cell.programs.entry(program.clone()).or_default().killed_at = number.unwrap_or_default();
            }
            "runs" => must(number.is_some_and(|ticks| ticks > 0)),
            "exit" => must(value == "0 got terminated"),
            "end" => has_ended = true,
            _ => {}
        }
    }
    if !has_checks {
        cell.failures.push("no checks".into());
    }
    if !has_ended {
        cell.failures.push("the machine did not come to its end".into());
    }
    if cell.programs.is_empty() {
        cell.failures.push("no program was watched".into());
    }
    if has_multi == cell.by_perf_events.is_some() {
        cell.failures.push(format!("by perf events: {:?}", cell.by_perf_events));
    }
    cell
}

/// What is wrong with a machine that watched no program.
pub(super) fn judge_checks(said: &str) -> Vec<String> {
    let of = |key: &str| said.lines().find_map(|line| line.split_once(key)).map(|(_, value)| value.trim_end());
    let mut failures = of("@@ checks ").map_or_else(|| vec!["no checks".to_owned()], checks);
    if of("@@ end").is_none() {
        failures.push("the machine did not come to its end".into());
    }
    failures
}

/// Which of leakline's programs the kernel does not take, by what `leakline doctor` says.
fn checks(json: &str) -> Vec<String> {
    let Ok(document) = serde_json::from_str::<Value>(json) else { return vec!["the checks are no JSON".into()] };
    let checks = document["doctor"]["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut failures = Vec::new();
    for id in ["burst_programs", "exact_programs"] {
        match checks.iter().find(|check| check["id"] == id) {
            Some(check) if check["status"] == "good" => {}
            Some(check) => failures.push(format!("{id}: {}", check["found"].as_str().unwrap_or_default())),
            None => failures.push(format!("{id}: not checked")),
        }
    }
    failures
}

/// leakline's last word on a program.
fn document(json: &str, program: &str, cell: &mut Cell) {
    let Ok(document) = serde_json::from_str::<Value>(json) else {
        cell.failures.push(format!("{program}: no document"));
        return;
    };
    let seen = cell.programs.entry(program.to_owned()).or_default();
    let cost = &document["cost"];
    seen.bursts = cost["bursts"].as_u64().unwrap_or_default();
    seen.open_s = cost["bursts_open_s"].as_f64().unwrap_or_default();
    seen.target_ratio = cost["target_ratio"].as_f64().unwrap_or_default();
    let sites = document["sites"].as_array().map(Vec::as_slice).unwrap_or_default();
    let grows = |function: &str| {
        let is_said = |site: &&Value| site["verdict"] == "growing" || site["verdict"] == "leaking";
        let site = sites.iter().filter(|site| site["function"] == function).find(is_said);
        site.map(|site| site["why"].as_str().unwrap_or_default().to_owned())
    };
    seen.named = grows(LEAK);
    let mut failures = Vec::new();
    if seen.bursts == 0 {
        failures.push("no bursts".to_owned());
    }
    if seen.named.is_none() {
        failures.push("the line that leaks was not named".to_owned());
    }
    if let Some(why) = grows("main.churn") {
        failures.push(format!("accused: {why}"));
    }
    for loss in ["births_ring_full", "births_no_room", "births_without_end"] {
        if document["loss"][loss].as_u64() != Some(0) {
            failures.push(format!("{loss}: {}", document["loss"][loss]));
        }
    }
    cell.failures.extend(failures.into_iter().map(|failure| format!("{program}: {failure}")));
    let refused = document["evidence"]["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
    let slow = refused.iter().find(|refused| refused["id"] == "bursts_by_perf_events");
    cell.by_perf_events = slow.map(|slow| slow["text"].as_str().unwrap_or_default().to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: &str =
        r#"{"doctor":{"checks":[{"id":"burst_programs","status":"good"},{"id":"exact_programs","status":"good"}]}}"#;

    /// What a machine says, with something else in place of a part.
    fn said(part: &str, other: &str) -> String {
        let document = r#"{"cost":{"bursts":7,"bursts_open_s":0.5,"target_ratio":0.01},"loss":{"births_ring_full":0,"births_no_room":0,"births_without_end":0},"sites":[{"function":"main.keepSession","verdict":"growing","why":"it grows"}],"evidence":{"refused":[]}}"#;
        let all = format!(
            "Booting\r\n[2J@@ kernel 6.1.0\r\n@@ doctor 0\r\n@@ checks {CHECKS}\r\n@@ program 1.22.12\r\n@@ attach 0\r\n@@ document {document}\r\n\
             @@ differing 0\r\n@@ killed 4\r\n@@ left 0\r\n@@ runs 12\r\n@@ holders 0\r\n@@ exit 0 got terminated\r\n@@ dmesg 0\r\n@@ end\r\n"
        );
        assert!(all.contains(part));
        all.replace(part, other)
    }

    #[test]
    fn a_machine_on_which_all_went_well_is_good() {
        let cell = judge(&said("@@ doctor 0", "@@ doctor 0"), true, "linux 1".into(), "c");
        assert!(cell.is_good(), "{cell}");
        assert_eq!((cell.release.as_str(), cell.programs["1.22.12"].bursts), ("6.1.0", 7));
        assert_eq!(cell.programs["1.22.12"].named.as_deref(), Some("it grows"));
    }

    #[test]
    fn a_machine_that_watches_nothing_is_judged_by_its_checks_and_its_end() {
        let all = format!("Booting\r\n[2J@@ kernel 5.10\r\n@@ checks {CHECKS}\r\n@@ end\r\n");
        assert_eq!(judge_checks(&all), Vec::<String>::new());
        for (part, other) in [("@@ end", ""), ("good", "missing"), ("@@ checks", "@@ cheques")] {
            assert!(!judge_checks(&all.replace(part, other)).is_empty(), "{other}");
        }
    }

    #[test]
    fn whatever_goes_wrong_shows() {
        for (part, other) in [
            ("@@ doctor 0", "@@ doctor 3"),
            ("burst_programs\",\"status\":\"good", "burst_programs\",\"status\":\"missing"),
            ("exact_programs", "other_programs"),
            ("@@ checks", "@@ cheques"),
            ("@@ attach 0", "@@ attach 1"),
            ("\"bursts\":7", "\"bursts\":0"),
            ("keepSession", "somethingElse"),
            ("keepSession", "churn"),
            ("\"births_ring_full\":0", "\"births_ring_full\":2"),
            ("@@ differing 0", "@@ differing 1"),
            ("@@ killed 4", "@@ killed 1"),
            ("@@ left 0", "@@ left 2"),
            ("@@ runs 12", "@@ runs 0"),
            ("@@ holders 0", "@@ holders 1"),
            ("0 got terminated", "132 "),
            ("@@ dmesg 0", "@@ dmesg 1"),
            ("@@ end", ""),
            ("@@ document {", "@@ document "),
            ("\"refused\":[]", "\"refused\":[{\"id\":\"bursts_by_perf_events\",\"text\":\"slow\"}]"),
        ] {
            assert!(!judge(&said(part, other), true, String::new(), "").is_good(), "{other}");
        }
    }
}
