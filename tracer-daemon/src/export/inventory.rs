//! `leakline plan` for many binaries: a table for people, a document a line as JSON.
//!
//! Owns the wording; what is in it comes from `pipeline::inventory`. Refuses to list what is no Go program unless asked,
//! but counts it. A binary is a line, and its path is never cut: it is there to be copied.

use std::{collections::HashMap, fmt::Write as _};

use serde::Serialize;

use super::{json::SCHEMA, plan::Planned, untrusted};
use crate::inspect::InspectError;

/// Processes that a row names.
const PIDS_SHOWN: usize = 12;
/// Notes below the table.
const NOTES_SHOWN: usize = 100;
/// Stands below every table.
const EVIDENCE_MEANS: [&str; 3] = [
    "books, profile: what the runtime knows can be read, without a probe; profile names lines",
    "bursts: allocations can be caught in short windows, within a budget; names lines",
    "exact: all allocations can be counted, by a trap on each of about 1 µs",
];
/// What a column makes room for: all kinds of evidence. Go versions with experiments can be longer.
const COLUMN_MAX: usize = 29;

/// One binary.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its path.
    pub path: String,
    /// The processes that run it, ascending; empty where files were searched.
    pub pids: Vec<u32>,
    /// What it is.
    pub finding: Finding,
}

/// What is said about a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A Go program.
    Program(Program),
    /// A Go program of a kind that we do not know.
    Refused(Reason),
    /// It contradicts its format, or could not be read: it may be a Go program.
    Unreadable(Reason),
    /// Built for another machine: it may be a Go program.
    OtherMachine(Reason),
    /// No Go program.
    NotGo(Reason),
}

/// A stated reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable identifier.
    pub id: &'static str,
    /// A sentence.
    pub text: String,
    /// The version of Go, where the binary says so nevertheless.
    pub go_version: Option<String>,
}

impl Reason {
    /// A reason with its sentence.
    pub fn new(id: &'static str, text: &str) -> Self {
        Self { id, text: untrusted::name(text).into_owned(), go_version: None }
    }

    /// Whether nothing can be said of the program, since another one unpacks it.
    fn is_packed(&self) -> bool {
        self.id == InspectError::Packed { packer: "" }.id()
    }
}

/// What is said about a Go program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    go_version: String,
    stripped: bool,
    position_independent: bool,
    cgo: bool,
    evidence: Vec<&'static str>,
    refused: Vec<String>,
}

impl Program {
    /// What the table shows of a plan.
    pub fn of(planned: &Planned<'_>) -> Self {
        Self {
            go_version: untrusted::name(&planned.facts.go_version.text).into_owned(),
            stripped: planned.facts.stripped,
            position_independent: planned.facts.position_independent,
            cgo: planned.facts.cgo,
            evidence: planned.evidence(),
            refused: planned
                .plan
                .refused
                .iter()
                .map(|refusal| untrusted::name(&refusal.to_string()).into_owned())
                .collect(),
        }
    }
}

impl Finding {
    /// What a failed inspection says about a binary.
    pub fn of_error(error: &InspectError) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(current) = cause {
            text = format!("{text}: {current}");
            cause = current.source();
        }
        let mut reason = Reason::new(error.id(), &text);
        if let InspectError::UnsupportedGoVersion { version, .. } = error {
            reason.go_version = Some(untrusted::name(version).into_owned());
        }
        match error {
            InspectError::WrongArchitecture { .. } | InspectError::Elf32 => Self::OtherMachine(reason),
            error if error.is_no_target() => Self::NotGo(reason),
            error if error.is_refusal() => Self::Refused(reason),
            _ => Self::Unreadable(reason),
        }
    }

    /// Whether it is listed without being asked for.
    pub fn is_of_interest(&self) -> bool {
        matches!(self, Self::Program(_) | Self::Refused(_) | Self::Unreadable(_))
    }

    fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Program(_) => None,
            Self::Refused(reason) | Self::Unreadable(reason) | Self::OtherMachine(reason) | Self::NotGo(reason) => {
                Some(reason)
            }
        }
    }
}

/// How many there are of each kind, and what could not be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Processes that run the binaries; `None` where files were searched.
    pub processes: Option<u64>,
    /// Binaries.
    pub binaries: u64,
    /// Files that were searched and are no binaries.
    pub other_files: u64,
    /// Go programs, refused ones included.
    pub programs: u64,
    /// Go programs in which windows could be opened.
    pub with_bursts: u64,
    /// Go programs in which all allocations could be counted.
    pub with_exact: u64,
    /// Go programs of a kind that we do not know.
    pub refused: u64,
    /// Binaries whose program is packed: they may be Go programs.
    pub packed: u64,
    /// Binaries that contradict their format or could not be read.
    pub unreadable: u64,
    /// Binaries for another machine.
    pub other_machine: u64,
    /// Processes of which nothing is left, or that we may not look at.
    pub closed_processes: u64,
    /// Sentences about what the search left out.
    pub left_out: Vec<String>,
}

impl Summary {
    /// Counts one binary.
    pub fn count(&mut self, finding: &Finding) {
        self.binaries += 1;
        match finding {
            Finding::Program(program) => {
                self.programs += 1;
                self.with_bursts += u64::from(program.evidence.contains(&"bursts"));
                self.with_exact += u64::from(program.evidence.contains(&"exact"));
            }
            Finding::Refused(reason) if reason.is_packed() => self.packed += 1,
            Finding::Refused(_) => {
                self.programs += 1;
                self.refused += 1;
            }
            Finding::Unreadable(_) => self.unreadable += 1,
            Finding::OtherMachine(_) => self.other_machine += 1,
            Finding::NotGo(_) => {}
        }
    }

    /// Sentences, a line each.
    pub fn lines(&self) -> Vec<String> {
        let searched = match self.processes {
            Some(processes) => format!(
                "{}, {}",
                counted(processes, "process", "processes"),
                counted(self.binaries, "executable", "executables")
            ),
            None if self.other_files == 0 => counted(self.binaries, "ELF file", "ELF files"),
            None => format!(
                "{}, {}",
                counted(self.binaries, "ELF file", "ELF files"),
                counted(self.other_files, "other file", "other files")
            ),
        };
        let mut lines = vec![format!(
            "{searched}: {}, {} with bursts, {} with exact, {} refused",
            counted(self.programs, "Go program", "Go programs"),
            self.with_bursts,
            self.with_exact,
            self.refused,
        )];
        let mut say = |count: u64, one: &str, more: &str| {
            if count > 0 {
                lines.push(counted(count, one, more));
            }
        };
        say(self.packed, "file is packed and may be a Go program", "files are packed and may be Go programs");
        say(self.unreadable, "file is damaged or could not be read", "files are damaged or could not be read");
        say(self.other_machine, "file is for another machine", "files are for other machines");
        say(
            self.closed_processes,
            "process is gone or may not be looked at",
            "processes are gone or may not be looked at",
        );
        lines.extend(self.left_out.iter().cloned());
        lines
    }
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The table, a line a binary, and what it sums up to. `width` in columns, for all but paths. Refusals stand below as notes, since many
/// binaries have the same.
pub fn text(rows: &[Row], summary: &Summary, width: usize) -> String {
    let mut text = String::new();
    let mut notes = Notes::default();
    let lines: Vec<([String; 6], &Row)> = rows.iter().map(|row| (cells(row, &mut notes), row)).collect();
    let headings = ["GO VERSION", "STRIPPED", "PIE", "CGO", "EVIDENCE", "NOTES"];
    let mut widths = headings.map(|heading| heading.chars().count());
    for (cells, _) in &lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count().min(COLUMN_MAX));
        }
    }
    if !rows.is_empty() {
        line(&mut text, &format!("{}PATH", columns(widths, &headings)));
    }
    for (cells, row) in &lines {
        let with_path = format!("{}{}", columns(widths, cells), untrusted::path(&row.path));
        match pids(&row.pids) {
            Some(pids) if with_path.chars().count() + 2 + pids.chars().count() <= width => {
                line(&mut text, &format!("{with_path}  {pids}"));
            }
            Some(pids) => {
                line(&mut text, &with_path);
                wrapped(&mut text, "    ", &pids, width);
            }
            None => line(&mut text, &with_path),
        }
    }
    if !notes.shown.is_empty() {
        text.push('\n');
    }
    for (index, note) in notes.shown.iter().enumerate() {
        wrapped(&mut text, &format!("{:>3}  ", index + 1), note, width);
    }
    if notes.numbers.len() > notes.shown.len() {
        line(
            &mut text,
            &format!("     … and {} more, which --output json prints", notes.numbers.len() - notes.shown.len()),
        );
    }
    if !rows.is_empty() {
        text.push('\n');
        for sentence in EVIDENCE_MEANS {
            line(&mut text, sentence);
        }
    }
    summary.lines().iter().for_each(|sentence| line(&mut text, sentence));
    text
}

/// What of the rows is said below the table, each sentence once.
#[derive(Default)]
struct Notes {
    /// Numbers, from 1.
    numbers: HashMap<String, usize>,
    /// The first, in this order.
    shown: Vec<String>,
}

impl Notes {
    /// The number of a sentence, from 1.
    fn number(&mut self, sentence: &str) -> String {
        if let Some(number) = self.numbers.get(sentence) {
            return number.to_string();
        }
        let number = self.numbers.len() + 1;
        self.numbers.insert(sentence.to_owned(), number);
        if number <= NOTES_SHOWN {
            self.shown.push(sentence.to_owned());
        }
        number.to_string()
    }
}

fn cells(row: &Row, notes: &mut Notes) -> [String; 6] {
    let yes_no = |yes| if yes { "yes" } else { "no" }.to_owned();
    match &row.finding {
        Finding::Program(program) => {
            let evidence = if program.evidence.is_empty() { "none".to_owned() } else { program.evidence.join(", ") };
            let numbers: Vec<String> = program.refused.iter().map(|refused| notes.number(refused)).collect();
            [
                program.go_version.clone(),
                yes_no(program.stripped),
                yes_no(program.position_independent),
                yes_no(program.cgo),
                evidence,
                numbers.join(", "),
            ]
        }
        Finding::Refused(reason)
        | Finding::Unreadable(reason)
        | Finding::OtherMachine(reason)
        | Finding::NotGo(reason) => {
            let number = notes.number(&format!("{} ({})", reason.text, reason.id));
            let kind = match row.finding {
                Finding::NotGo(_) => "not Go",
                _ => reason.go_version.as_deref().unwrap_or("?"),
            };
            [kind, "-", "-", "-", "none", &number].map(str::to_owned)
        }
    }
}

fn columns(widths: [usize; 6], cells: &[impl AsRef<str>]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{:<width$}  ", cell.as_ref()));
    cells.collect()
}

fn pids(pids: &[u32]) -> Option<String> {
    let word = match pids.len() {
        0 => return None,
        1 => "pid",
        _ => "pids",
    };
    let shown: Vec<String> = pids.iter().take(PIDS_SHOWN).map(u32::to_string).collect();
    let mut text = format!("{word} {}", shown.join(", "));
    if pids.len() > PIDS_SHOWN {
        // Writing to a String cannot fail.
        let _infallible = write!(text, " … and {} more", pids.len() - PIDS_SHOWN);
    }
    Some(text)
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A sentence behind what it begins with, broken at spaces.
fn wrapped(text: &mut String, first: &str, sentence: &str, width: usize) {
    let indent = " ".repeat(first.chars().count());
    let mut current = first.to_owned();
    let mut is_empty = true;
    for word in sentence.split(' ') {
        if !is_empty && current.chars().count() + 1 + word.chars().count() > width {
            line(text, &current);
            current.clone_from(&indent);
            is_empty = true;
        }
        if !is_empty {
            current.push(' ');
        }
        current.push_str(word);
        is_empty = false;
    }
    line(text, &current);
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    process: Process<'a>,
    plan: Plan<'a>,
}

#[derive(Serialize)]
struct Process<'a> {
    exe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    go_version: Option<&'a str>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    pids: &'a [u32],
}

#[derive(Serialize)]
struct Plan<'a> {
    functions: [(); 0],
    evidence: [(); 0],
    refused: [Refused<'a>; 1],
}

#[derive(Serialize)]
struct Refused<'a> {
    id: &'static str,
    text: &'a str,
}

/// One line of JSON, without the line feed, for a binary of which no plan can be made; `None` where one was made: that
/// prints itself ([`Planned::line`]).
///
/// # Errors
/// None that is known: all keys are strings.
pub fn line_without_plan(row: &Row) -> serde_json::Result<Option<String>> {
    let Some(reason) = row.finding.reason() else { return Ok(None) };
    serde_json::to_string(&Document {
        schema: SCHEMA,
        process: Process {
            exe: untrusted::path(&row.path).into_owned(),
            go_version: reason.go_version.as_deref(),
            pids: &row.pids,
        },
        plan: Plan { functions: [], evidence: [], refused: [Refused { id: reason.id, text: &reason.text }] },
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::export::{fixture, json::closed_schema::closed};

    fn program(go_version: &str, evidence: &[&'static str], refused: &[&str]) -> Finding {
        Finding::Program(Program {
            go_version: go_version.to_owned(),
            stripped: true,
            position_independent: false,
            cgo: true,
            evidence: evidence.to_vec(),
            refused: refused.iter().map(|&text| text.to_owned()).collect(),
        })
    }

    fn rows() -> Vec<Row> {
        let row = |path: &str, pids: std::ops::Range<u32>, finding| Row {
            path: path.to_owned(),
            pids: pids.collect(),
            finding,
        };
        vec![
            row(
                "/opt/old",
                0..0,
                Finding::of_error(&InspectError::UnsupportedGoVersion {
                    version: "go1.15.9".to_owned(),
                    oldest_minor: 19,
                    newest_minor: 27,
                }),
            ),
            row("/srv/shop", 812..813, program("go1.26.6", &["books", "profile", "bursts", "exact"], &[])),
            row(
                "/usr/lib/x86_64-linux-gnu/a/rather/long/path/to/a/daemon",
                900..949,
                program(
                    "go1.19.8",
                    &["books", "bursts", "exact"],
                    &["runtime.gdestroy is not in the function table (function_missing)"],
                ),
            ),
            row(
                "/usr/bin/broken",
                0..0,
                Finding::Unreadable(Reason::new("binary_malformed", "malformed ELF program headers: count is 0xffff")),
            ),
            row(
                "/bin/ls",
                0..0,
                Finding::NotGo(Reason::new(
                    "not_go",
                    "not a Go program: it has neither build info nor a function table",
                )),
            ),
        ]
    }

    fn summary(rows: &[Row]) -> Summary {
        let mut summary = Summary { left_out: vec!["3 folders could not be read".to_owned()], ..Summary::default() };
        for row in rows {
            summary.count(&row.finding);
        }
        summary
    }

    #[test]
    fn the_table_as_a_person_sees_it() {
        let rows = rows();
        expect![[r"
            GO VERSION  STRIPPED  PIE  CGO  EVIDENCE                       NOTES  PATH
            go1.15.9    -         -    -    none                           1      /opt/old
            go1.26.6    yes       no   yes  books, profile, bursts, exact         /srv/shop
                pid 812
            go1.19.8    yes       no   yes  books, bursts, exact           2      /usr/lib/x86_64-linux-gnu/a/rather/long/path/to/a/daemon
                pids 900, 901, 902, 903, 904, 905, 906, 907, 908, 909, 910, 911 … and 37
                more
            ?           -         -    -    none                           3      /usr/bin/broken
            not Go      -         -    -    none                           4      /bin/ls

              1  built by go1.15.9, and only go1.19 to go1.27 are supported
                 (go_version_unsupported)
              2  runtime.gdestroy is not in the function table (function_missing)
              3  malformed ELF program headers: count is 0xffff (binary_malformed)
              4  not a Go program: it has neither build info nor a function table (not_go)

            books, profile: what the runtime knows can be read, without a probe; profile names lines
            bursts: allocations can be caught in short windows, within a budget; names lines
            exact: all allocations can be counted, by a trap on each of about 1 µs
            5 ELF files: 3 Go programs, 2 with bursts, 2 with exact, 1 refused
            1 file is damaged or could not be read
            3 folders could not be read
        "]]
        .assert_eq(&text(&rows, &summary(&rows), 78));
    }

    #[test]
    fn what_is_packed_is_not_counted_as_a_go_program() {
        let mut summary = Summary { other_files: 7, ..Summary::default() };
        summary.count(&Finding::of_error(&InspectError::Packed { packer: "UPX" }));
        expect![[r"
            1 ELF file, 7 other files: 0 Go programs, 0 with bursts, 0 with exact, 0 refused
            1 file is packed and may be a Go program
        "]]
        .assert_eq(&text(&[], &summary, 80));
    }

    #[test]
    fn notes_are_numbered_once_and_those_beyond_the_bound_are_counted() {
        let row = |number: usize| Row {
            path: "/x".to_owned(),
            pids: Vec::new(),
            finding: Finding::Unreadable(Reason::new("binary_malformed", &format!("reason {number}"))),
        };
        let rows: Vec<Row> = (0..NOTES_SHOWN + 3).chain([0]).map(row).collect();
        let text = text(&rows, &summary(&rows), 80);
        assert_eq!(text.matches("reason ").count(), NOTES_SHOWN);
        assert!(text.contains("… and 3 more"), "{text}");
        let first = text.lines().find(|line| line.ends_with("/x")).unwrap();
        assert_eq!(text.lines().filter(|line| *line == first).count(), 2);
    }

    #[test]
    fn nothing_found_is_a_sentence_and_no_empty_table() {
        let summary = Summary { processes: Some(1), closed_processes: 1, ..Summary::default() };
        expect![[r"
            1 process, 0 executables: 0 Go programs, 0 with bursts, 0 with exact, 0 refused
            1 process is gone or may not be looked at
        "]]
        .assert_eq(&text(&[], &summary, 80));
    }

    #[test]
    fn what_has_no_plan_is_a_document_of_the_schema_too() {
        let schema = serde_json::from_str(include_str!("../../../docs/schema/plan.schema.json")).unwrap();
        let validator = jsonschema::validator_for(&closed(schema)).unwrap();
        let mut documents = 0;
        for row in rows() {
            let Some(line) = line_without_plan(&row).unwrap() else { continue };
            let document: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(validator.is_valid(&document), "{line}");
            documents += 1;
        }
        assert_eq!(documents, 3);
    }

    proptest! {
        #[test]
        fn no_path_breaks_a_line(path in fixture::any_text(), width in 40_usize..200) {
            let rows = [Row { path, pids: vec![1], finding: program("go1.26.6", &[], &[]) }];
            let text = text(&rows, &summary(&rows), width);
            prop_assert!(text.lines().count() <= 9, "{text}");
            prop_assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        }
    }
}
