//! Counting: what `cargo test -- --show-output` prints, as passed, failed and skipped tests.

use std::fmt;

/// How a test that cannot run here begins the line that says so; name and proof follow.
const SKIP: &str = "SKIPPED: ";

/// In the reason of an ignored test: another command runs it.
const OWN_COMMAND: &str = "cargo xtask ";

/// What came of some tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) passed: usize,
    /// One line each.
    pub(super) failures: Vec<String>,
    /// One line each, with the proof that the test cannot run here.
    pub(super) skips: Vec<String>,
}

impl Outcome {
    pub(super) fn pass() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    pub(super) fn failure(line: String) -> Self {
        Self { failures: vec![line], ..Self::default() }
    }

    pub(super) fn skip(line: String) -> Self {
        Self { skips: vec![line], ..Self::default() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failures.len(), self.skips.len())
    }
}

/// Where in the output of one test binary we are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// One line a test.
    #[default]
    List,
    /// What the tests printed that passed.
    Successes,
    /// What the tests printed that failed.
    Failures,
}

/// Reads the output of test binaries line by line.
#[derive(Debug, Default)]
pub(super) struct Parser {
    outcome: Outcome,
    part: Part,
    /// Whether the test whose output is being read has already been counted as skipped.
    counted: bool,
    /// Skips of this binary so far: it counts them as passed.
    skips_of_binary: usize,
    failures_of_binary: usize,
    /// Whether a binary has begun and not yet said its result.
    running: bool,
}

impl Parser {
    /// Takes one line; says whether a person should see it (what passing tests print is noise, save skips).
    pub(super) fn line(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.result(result);
            return true;
        }
        if self.part == Part::List && is_start(line) {
            self.end_of_binary();
            self.running = true;
        }
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            _ if line.starts_with("---- ") => self.counted = false,
            _ => {}
        }
        match self.part {
            Part::List => {
                if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                    self.failures_of_binary += 1;
                    self.outcome.failures.push(format!("test {name}"));
                }
                if let Some((name, why)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
                    // What runs for hours is a command of its own, of which the tests here are the short form.
                    if !why.contains(OWN_COMMAND) {
                        self.outcome.skips.push(format!("{name}: ignored{why}"));
                    }
                }
                true
            }
            Part::Successes => {
                let skip = line.strip_prefix(SKIP).filter(|_| !self.counted);
                if let Some(skip) = skip {
                    self.counted = true;
                    self.skips_of_binary += 1;
                    self.outcome.skips.push(skip.to_owned());
                }
                skip.is_some()
            }
            Part::Failures => true,
        }
    }

    /// The counts, with one more failure where cargo failed and no test did (it did not compile, or a binary died).
    pub(super) fn finish(mut self, cargo_succeeded: bool, how_it_ended: &str) -> Outcome {
        self.end_of_binary();
        if !cargo_succeeded && self.outcome.failures.is_empty() {
            self.outcome.failures.push(how_it_ended.to_owned());
        }
        self.outcome
    }

    /// `ok. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
    fn result(&mut self, result: &str) {
        let count = |kind: &str| {
            let part = result.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(kind));
            part.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or(0)
        };
        self.outcome.passed += count("passed").saturating_sub(self.skips_of_binary);
        // A test that prints while others report may spoil a line of the list: the sum is what counts.
        let unnamed = count("failed").saturating_sub(self.failures_of_binary);
        self.outcome.failures.extend((0..unnamed).map(|_| "a test whose name was not read; see above".to_owned()));
        self.running = false;
        self.end_of_binary();
    }

    fn end_of_binary(&mut self) {
        if self.running {
            self.outcome.failures.push("a test binary died before its result; see above".to_owned());
        }
        *self = Self { outcome: std::mem::take(&mut self.outcome), ..Self::default() };
    }
}

/// `running 3 tests`
fn is_start(line: &str) -> bool {
    let count = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
    count.is_some_and(|(count, rest)| count.parse::<usize>().is_ok() && rest.len() < 2)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Parser};

    fn parse(output: &str, cargo_succeeded: bool) -> (Outcome, Vec<String>) {
        let mut parser = Parser::default();
        let shown = output.lines().filter(|line| parser.line(line)).map(str::to_owned).collect();
        (parser.finish(cargo_succeeded, "cargo ended badly"), shown)
    }

    const MIXED: &str = "
running 5 tests
test a ... ok
test b ... FAILED
test c ... ignored, needs a cluster
test d ... ignored, takes hours: cargo xtask matrix
test d ... ok
test e ... ok

successes:

---- a stdout ----
noise
SKIPPED: a no BTF: /sys/kernel/btf/vmlinux is absent
SKIPPED: a said twice

---- d stdout ----
noise

successes:
    a
    d
    e

failures:

---- b stdout ----
SKIPPED: b and then it failed
thread 'b' panicked

failures:
    b

test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_skipping_test_counts_as_skipped_once_and_not_as_passed() {
        let (outcome, _) = parse(MIXED, false);
        assert_eq!(outcome.to_string(), "2 passed, 1 failed, 2 skipped");
        assert_eq!(outcome.failures, ["test b"]);
        assert_eq!(outcome.skips, ["c: ignored, needs a cluster", "a no BTF: /sys/kernel/btf/vmlinux is absent"]);
    }

    #[test]
    fn what_passing_tests_print_is_not_shown_but_skips_and_failures_are() {
        let (_, shown) = parse(MIXED, false);
        assert!(!shown.contains(&"noise".to_owned()), "{shown:?}");
        assert!(shown.contains(&"SKIPPED: a no BTF: /sys/kernel/btf/vmlinux is absent".to_owned()), "{shown:?}");
        assert!(shown.contains(&"thread 'b' panicked".to_owned()), "{shown:?}");
    }

    #[test]
    fn several_binaries_add_up() {
        let (outcome, _) = parse(&format!("{MIXED}{MIXED}"), false);
        assert_eq!(outcome.to_string(), "4 passed, 2 failed, 4 skipped");
    }

    #[test]
    fn what_does_not_compile_is_one_failure() {
        let (outcome, _) = parse("", false);
        assert_eq!(outcome.failures, ["cargo ended badly"]);
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let (outcome, _) = parse(&format!("running 2 tests\ntest a ... ok\n{MIXED}"), false);
        assert_eq!(outcome.failures, ["a test binary died before its result; see above", "test b"]);
    }

    #[test]
    fn a_failure_whose_line_was_spoiled_counts_all_the_same() {
        let (outcome, _) = parse(
            "running 1 test\nnoisetest a ... FAILEDnoise\ntest result: FAILED. 0 passed; 1 failed; 0 ignored",
            false,
        );
        assert_eq!(outcome.failures.len(), 1);
    }
}
