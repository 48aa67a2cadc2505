//! Addresses get the names that Go's own runtime gives them: the program under test is asked for the truth.

mod native;
mod oracle;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde::Deserialize;
use tracer_daemon::addr::{Avma, LoadBias, Svma};
use tracer_daemon::inspect::{BinaryFacts, FunctionRecord, FunctionTable, StepBudget, inspect_file};
use tracer_daemon::symbolize::{Frame, Symbolizer};

use crate::go::{Build, build};

const PROGRAM: &str = "callersframes";
const STRIP: [&str; 1] = ["-ldflags=-s -w"];
/// Toolchains whose other build modes are looked at: all formats of the table, all ways of linking it.
const ELSEWHERE: [&str; 7] = ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.25.5", "go1.26.6", "go1.27.3"];
/// Program counters per binary.
const QUESTIONS: usize = 6_000;

#[derive(Debug, Deserialize)]
struct Answer {
    /// Where main.main is in memory.
    main: u64,
    pcs: Vec<u64>,
    frames: Vec<Named>,
}

/// A frame as the runtime names it, and as we do.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Named {
    function: String,
    file: String,
    line: u32,
    start_line: u32,
}

impl From<&Frame> for Named {
    fn from(frame: &Frame) -> Self {
        Self {
            function: frame.function.to_string(),
            file: frame.file.to_string(),
            line: frame.line,
            start_line: frame.function_start_line,
        }
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators": the same numbers in every run.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}

fn facts(path: &Path) -> Arc<BinaryFacts> {
    Arc::new(inspect_file(File::open(path).unwrap()).unwrap())
}

fn start_of(table: &FunctionTable, name: &str) -> Svma {
    let functions = (0..table.len()).map(|index| table.function(index).unwrap().unwrap());
    functions.into_iter().find(|function| table.name(function).unwrap() == name).unwrap().start
}

/// Return addresses: any byte of any function but its first, functions chosen evenly. And how many were left out because
/// the runtime's answer would have no end.
fn questions(table: &FunctionTable, count: usize) -> (Vec<Svma>, usize) {
    let mut random = SplitMix(26);
    let (mut chosen, mut endless) = (Vec::with_capacity(count), 0);
    while chosen.len() < count {
        let function = table.function(random.below(table.len())).unwrap().unwrap();
        let size_bytes = function.end.0 - function.start.0;
        if size_bytes > 1 {
            let before = Svma(function.start.0 + random.below(size_bytes - 1));
            if ends(table, &function, before) {
                chosen.push(Svma(before.0 + 1));
            } else {
                endless += 1;
            }
        }
    }
    (chosen, endless)
}

/// Whether the inlined calls at an instruction lead out to the function. Where they lead back to themselves
/// `runtime_expandFinalInlineFrame` goes on until memory ends (seen in package initialisation, go1.26 and go1.27).
fn ends(table: &FunctionTable, function: &FunctionRecord, at: Svma) -> bool {
    let (mut instruction, mut parents) = (at, Vec::new());
    let mut budget = StepBudget::of_one_address();
    while let Some(call) = table.inlined_call_at(function, instruction, &mut budget).unwrap() {
        if parents.contains(&call.parent) {
            return false;
        }
        parents.push(call.parent);
        instruction = call.parent;
    }
    true
}

fn ask(path: &Path, about: &str, input: String) -> Vec<Answer> {
    answers(Command::new(path).arg(about), input)
}

fn answers(command: &mut Command, input: String) -> Vec<Answer> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Beside, since the program answers while it reads.
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bias(facts: &BinaryFacts, answer: &Answer) -> LoadBias {
    let main = start_of(&facts.functions_table, "main.main");
    let bias = LoadBias(answer.main - main.0);
    assert!(facts.position_independent || bias == LoadBias(0));
    bias
}

fn symbolizer(facts: &Arc<BinaryFacts>, answer: &Answer) -> Symbolizer {
    Symbolizer::new(Arc::clone(facts), bias(facts, answer))
}

/// Whether the runtime's answer for one address ends with a wrapper that it leaves out of stacks. Up to go1.20
/// `runtime_expandFinalInlineFrame` always keeps the function itself, while `gentraceback` (runtime/traceback.go), which
/// `runtime.Callers` uses, leaves it out; from go1.21 on both do.
fn keeps_wrapper(facts: &BinaryFacts, at: Svma) -> bool {
    let table = &facts.functions_table;
    facts.go_version.minor <= 20 && table.function_at(at).unwrap().unwrap().id == table.ids().wrapper
}

/// What is not known is `?` to the runtime and nothing to us.
fn expected(frames: Vec<Named>) -> Vec<Named> {
    let known = |frame: Named| if frame.file == "?" { Named { file: String::new(), ..frame } } else { frame };
    frames.into_iter().map(known).collect()
}

fn named(frames: &[Frame]) -> Vec<Named> {
    frames.iter().map(Named::from).collect()
}

/// What the runtime can say, too: up to go1.19 it does not know where functions begin.
fn answerable(facts: &BinaryFacts, frames: Vec<Named>) -> Vec<Named> {
    let of_frame =
        |frame: Named| if facts.functions_table.has_start_lines() { frame } else { Named { start_line: 0, ..frame } };
    frames.into_iter().map(of_frame).collect()
}

/// What came of a comparison.
#[derive(Debug, Default)]
struct Compared {
    pcs: usize,
    /// Program counters that stand for more than one frame.
    inlined: usize,
    /// Those whose last frame the runtime leaves out of stacks, see [`keeps_wrapper`].
    wrappers: usize,
    /// Further ones that were not asked for, see [`ends`].
    endless: usize,
    /// Those on which we and the runtime differ, with what each says.
    differences: Vec<String>,
}

/// Compares pc by pc; `command` reads them from its input.
fn compare_pcs(path: &Path, command: &mut Command, count: usize) -> Compared {
    let facts = facts(path);
    let main = start_of(&facts.functions_table, "main.main");
    let mut input = String::new();
    let (questions, endless) = questions(&facts.functions_table, count);
    for pc in questions {
        writeln!(input, "{}", pc.0.wrapping_sub(main.0).cast_signed()).unwrap();
    }
    let answers = answers(command, input);
    assert_eq!(answers.len(), count);
    let (mut symbolizer, bias) = (symbolizer(&facts, &answers[0]), bias(&facts, &answers[0]));
    let mut compared = Compared { pcs: count, endless, ..Compared::default() };
    for answer in answers {
        // The runtime takes it for a return address; the first of our stack is exact.
        let pc = Avma(answer.pcs[0] - 1);
        let frames = answerable(&facts, named(&symbolizer.stack(&[pc])));
        compared.inlined += usize::from(frames.len() > 1);
        let mut truth = expected(answer.frames);
        if truth.len() == frames.len() + 1 && keeps_wrapper(&facts, pc.in_file(bias)) {
            truth.pop();
            compared.wrappers += 1;
        }
        if frames != truth {
            compared.differences.push(format!("at {pc} of {}: we say {frames:?}, Go {truth:?}", path.display()));
        }
    }
    assert_eq!(symbolizer.counts().unreadable, 0);
    compared
}

/// Compares pc by pc and stack by stack.
fn compare(path: &Path) {
    let compared = compare_pcs(path, Command::new(path).arg("pcs"), QUESTIONS);
    assert!(compared.differences.is_empty(), "{} differ: {:#?}", compared.differences.len(), compared.differences);
    let facts = facts(path);
    let stacks = ask(path, "stacks", String::new());
    let mut symbolizer_of_stacks = symbolizer(&facts, &stacks[0]);
    assert_eq!(stacks.len(), 21);
    let addresses: Vec<Vec<Avma>> =
        stacks.iter().map(|answer| answer.pcs.iter().map(|pc| Avma(*pc)).collect()).collect();
    let at_once: Vec<&[Avma]> = addresses.iter().map(Vec::as_slice).collect();
    let batch = symbolizer(&facts, &stacks[0]).stacks(&at_once);
    for ((answer, pcs), of_batch) in stacks.into_iter().zip(&addresses).zip(batch) {
        let frames = symbolizer_of_stacks.stack(pcs);
        assert_eq!(frames, of_batch, "one by one and at once: {pcs:?} of {}", path.display());
        let said = answerable(&facts, named(&frames));
        assert_eq!(said, expected(answer.frames), "{pcs:?} of {}", path.display());
    }
    let Compared { pcs, inlined, .. } = compared;
    println!("{}: {pcs} program counters ({inlined} in inlined code) and 21 stacks equal", path.display());
}

macro_rules! frames_equal_those_of_the_runtime {
    ($($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            compare(&build(PROGRAM, $toolchain, &[]));
            compare(&build(PROGRAM, $toolchain, &STRIP));
        }
    )*};
}

frames_equal_those_of_the_runtime! {
    frames_equal_those_of_the_runtime_1_19: "go1.19.13";
    frames_equal_those_of_the_runtime_1_20: "go1.20.14";
    frames_equal_those_of_the_runtime_1_21: "go1.21.13";
    frames_equal_those_of_the_runtime_1_22: "go1.22.12";
    frames_equal_those_of_the_runtime_1_23: "go1.23.12";
    frames_equal_those_of_the_runtime_1_24: "go1.24.11";
    frames_equal_those_of_the_runtime_1_25: "go1.25.5";
    frames_equal_those_of_the_runtime_1_26: "go1.26.6";
    frames_equal_those_of_the_runtime_1_27: "go1.27.3";
}

/// What is done for go1.19, where the table does not say it, is right where it does: of functions that have a stack frame, as all
/// that allocate or start goroutines have.
#[test]
fn the_first_instruction_is_of_the_line_on_which_the_function_begins() {
    for toolchain in ["go1.20.14", "go1.22.12", "go1.27.3"] {
        let table = facts(&build(PROGRAM, toolchain, &STRIP)).functions_table.clone();
        let (mut compared, mut differ) = (0, Vec::new());
        for index in 0..table.len() {
            let function = table.function(index).unwrap().unwrap();
            let mut budget = StepBudget::of_one_address();
            let behind = Svma(function.start.0 + (function.end.0 - function.start.0) / 2);
            let frame_bytes = table.stack_bytes_at(&function, behind, &mut budget).unwrap().unwrap_or_default();
            let first = table.file_and_line(&function, function.start, &mut budget).unwrap();
            let is_inlined = table.inlined_call_at(&function, function.start, &mut budget).unwrap().is_some();
            let Some((file, line)) = first.filter(|_| frame_bytes > 8 && function.start_line > 0) else { continue };
            if Path::new(&*table.file(file).unwrap()).extension().is_none_or(|extension| extension != "go") {
                continue;
            }
            compared += 1;
            if is_inlined || line != function.start_line {
                differ.push(format!("{}: {line}, {}", table.name(&function).unwrap(), function.start_line));
            }
        }
        println!("{toolchain}: {} of {compared} differ: {differ:?}", differ.len());
        assert!(compared > 500 && differ.is_empty(), "{toolchain}");
    }
}

#[test]
fn frames_are_right_where_the_binary_lies_elsewhere_in_memory() {
    for toolchain in ELSEWHERE {
        compare(&build(PROGRAM, toolchain, &["-buildmode=pie"]));
    }
}

#[test]
fn frames_are_right_where_c_code_lies_before_go_code() {
    for toolchain in ELSEWHERE {
        for mode in ["-buildmode=exe", "-buildmode=pie"] {
            let flags = [mode, "-ldflags=-linkmode=external -s -w"];
            let environment = &[("CGO_ENABLED", "1")];
            compare(&Build { program: PROGRAM, toolchain, flags: &flags, environment }.path());
        }
    }
}
