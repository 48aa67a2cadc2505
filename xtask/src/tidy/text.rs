//! Rules over the text of a file: header, length, paths of a building machine.

use super::{Finding, Severity};
use crate::machine_paths;

/// A file above this is worth splitting.
const SOFT_LINES: usize = 400;
/// A file above this must be split.
const HARD_LINES: usize = 700;
/// Put on a line that must name such a path (a path inside a container, an example of user input), with the reason.
const PATH_EXCEPTION: &str = "tidy: not of this machine";
/// How far a NUL byte is looked for, bytes.
const BINARY_PROBE_BYTES: usize = 8192;

/// The content as text. None means that it is binary.
pub(super) fn as_text(content: &[u8]) -> Option<&str> {
    let probe = &content[..content.len().min(BINARY_PROBE_BYTES)];
    if probe.contains(&0) { None } else { std::str::from_utf8(content).ok() }
}

/// Every source file begins by saying what it owns.
pub(super) fn header(text: &str) -> Option<Finding> {
    let good = text.strip_prefix("//!").is_some_and(|rest| !rest.lines().next().unwrap_or_default().trim().is_empty());
    (!good).then(|| Finding::failure(1, "does not begin with `//!` and what the file owns"))
}

pub(super) fn size(text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    if lines <= SOFT_LINES {
        return None;
    }
    let severity = if lines <= HARD_LINES { Severity::Warning } else { Severity::Failure };
    Some(Finding { severity, line: 0, message: format!("{lines} lines; soft limit {SOFT_LINES}, hard {HARD_LINES}") })
}

/// Nothing names a folder of the machine on which it was written.
pub(super) fn machine_paths(text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.contains(PATH_EXCEPTION));
    lines
        .flat_map(|(index, line)| {
            let found = machine_paths::find(line.as_bytes(), &machine_paths::FIXED);
            found.into_iter().map(move |(_, path)| {
                Finding::failure(index + 1, format!("names a path of the building machine: {path}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Severity, as_text, header, machine_paths, size};
    use crate::machine_paths::FIXED;

    #[test]
    fn a_file_without_a_header_is_found() {
        assert!(header("fn main() {}").is_some());
        assert!(header("").is_some());
        assert!(header("//!\nfn main() {}").is_some(), "an empty header says nothing");
        assert!(header("// comment\n//! Late.").is_some());
        assert!(header("//! Owns it.\n").is_none());
    }

    #[test]
    fn long_files_are_warned_about_and_very_long_ones_fail() {
        let lines = |count: usize| size(&"x\n".repeat(count)).map(|finding| finding.severity);
        assert_eq!(lines(400), None);
        assert_eq!(lines(401), Some(Severity::Warning));
        assert_eq!(lines(700), Some(Severity::Warning));
        assert_eq!(lines(701), Some(Severity::Failure));
    }

    #[test]
    fn a_path_of_the_building_machine_is_found_with_its_line() {
        for folder in FIXED {
            let findings = machine_paths(&format!("one\ncd {folder}main\n"));
            assert_eq!(findings.len(), 1, "{folder}");
            assert_eq!(findings[0].line, 2);
        }
        assert_eq!(machine_paths("cd $HOME/work/x; docs/root/x"), []);
    }

    #[test]
    fn a_line_may_say_why_it_names_such_a_path() {
        assert_eq!(machine_paths(&format!("cd {}app # tidy: not of this machine, in the image", FIXED[1])), []);
    }

    #[test]
    fn binary_content_is_not_text() {
        assert_eq!(as_text(b"\x7fELF\0"), None);
        assert_eq!(as_text(b"\xff\xfe"), None);
        assert_eq!(as_text(b"text"), Some("text"));
    }
}
