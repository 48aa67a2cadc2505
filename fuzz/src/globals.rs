//! Any code in the functions by which variables are found, any symbol table: what is said to be a variable lies among them,
//! and is believed only for a stated reason.

use arbitrary::Arbitrary;
use tracer_daemon::inspect::{FoundBy, Global};

use super::image::{Function, GoImage, VARIABLES_BYTES, address};
use super::mutation::{Mutated, inspected};

#[derive(Arbitrary, Debug)]
struct Input {
    image: Mutated,
    /// Number of a function, and to which variables it refers.
    functions: Vec<(u8, Vec<Reference>)>,
    /// Number of a variable, and its place.
    symbols: Vec<(u8, u8)>,
}

#[derive(Arbitrary, Debug)]
enum Reference {
    /// `mov rax,[rip+…]` to a variable.
    Load(u8),
    /// `lea rax,[rip+…]` to a variable.
    Address(u8),
    /// To anywhere.
    Far(i32),
    Bytes(Vec<u8>),
}

/// Some to which rules refer: `inspect/globals/rules.rs`.
const FUNCTIONS: [&str; 28] = [
    "runtime.(*gcWork).balance",
    "runtime.(*mcache).allocLarge",
    "runtime.(*scavengerState).init.func4",
    "runtime.GOMAXPROCS",
    "runtime.allgadd",
    "runtime.allocmcache",
    "runtime.atomicAllG",
    "runtime.checkIdleGCNoP",
    "runtime.forEachGRace",
    "runtime.gcAssistAlloc1",
    "runtime.gcMarkTinyAllocs",
    "runtime.gcParkAssist",
    "runtime.gcSweep",
    "runtime.mProf_Flush",
    "runtime.mProf_FlushLocked",
    "runtime.mProf_Free",
    "runtime.mProf_NextCycle",
    "runtime.mProf_PostSweep",
    "runtime.nextSample",
    "runtime.oneNewExtraM",
    "runtime.preemptall",
    "runtime.profilealloc",
    "runtime.queuefinalizer",
    "runtime.schedtrace.func1",
    "runtime.stkbucket",
    "runtime.sweepone.func1",
    "runtime.waitReason.String",
    "runtime.wakeNetPoller",
];

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut image = input.image.plan();
    for (number, references) in input.functions.iter().take(40) {
        let mut function = Function::usual(FUNCTIONS[usize::from(*number) % FUNCTIONS.len()]);
        function.code.clear();
        for reference in references.iter().take(16) {
            function.code.extend(reference.bytes());
        }
        function.code.resize(function.code.len().max(1).next_multiple_of(32), 0xcc);
        image.functions.push(function);
    }
    image.symbols =
        input.symbols.iter().map(|(number, place)| (symbol(*number).to_owned(), u64::from(*place))).collect();
    let named = image.sections && !image.symbols.is_empty();
    let mut built = resolved(&image);
    let (file_bytes, variables) = (built.bytes.len(), built.part("variables"));
    let (start, end) = (address(variables.start), address(variables.end));
    let patched = !input.image.patches.is_empty();
    input.image.apply(&mut built);
    assert!(built.bytes.len() <= file_bytes);
    let Ok(facts) = inspected(built.bytes) else { return };
    for (global, found) in facts.globals.iter() {
        match found {
            Ok(found) => {
                assert!(patched || global == Global::FirstModuleData || (start..end).contains(&found.address.0));
                assert!(!matches!(found.found_by, FoundBy::Code { functions: 0 | 1 }), "one function is not enough");
                assert!(patched || named || found.found_by != FoundBy::SymbolTable);
            }
            Err(missing) => assert!(!missing.to_string().is_empty() && !missing.id().is_empty()),
        }
    }
}

fn symbol(number: u8) -> &'static str {
    Global::ALL[usize::from(number) % Global::ALL.len()].name()
}

/// The image, in whose references 0 stands for the first variable. Where that is depends on nothing that they change.
fn resolved(image: &GoImage) -> super::image::Built {
    let mut built = image.build();
    let (text, variables) = (built.part("text"), built.part("variables").start);
    let mut at = text.start;
    while let Some(code) = built.bytes.get(at..text.end.min(at + 7)).filter(|code| code.len() == 7) {
        let [0x48, 0x8b | 0x8d, 0x05, place, 0, 0xfe, 0xca] = *code else {
            at += 1;
            continue;
        };
        let distance = (variables + usize::from(place) % VARIABLES_BYTES) as u64 - (at as u64 + 7);
        built.patch(at + 3, &u32::try_from(distance).unwrap_or(0).to_le_bytes());
        at += 7;
    }
    built
}

impl Reference {
    fn bytes(&self) -> Vec<u8> {
        match self {
            // A mark for `resolved`.
            Self::Load(place) => vec![0x48, 0x8b, 0x05, *place, 0, 0xfe, 0xca],
            Self::Address(place) => vec![0x48, 0x8d, 0x05, *place, 0, 0xfe, 0xca],
            Self::Far(distance) => [&[0x48, 0x8b, 0x05][..], &distance.to_le_bytes()].concat(),
            Self::Bytes(bytes) => bytes.iter().copied().take(64).collect(),
        }
    }
}
