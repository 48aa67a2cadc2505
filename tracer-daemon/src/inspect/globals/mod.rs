//! Where the runtime's global variables are: by the symbol table, else by DWARF, else by the runtime's own code.
//!
//! Code is believed only where two of its functions agree, or where one does and the variable's first value in the file is
//! what it must be. Functions that disagree are a refusal of all that depends on that variable, never a vote.
//! Counterpart: `read`, which will look at these addresses in a process.

mod rules;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Instruction};

use serde::{Deserialize, Serialize};

use self::rules::{Condition, Rule, rules};
use super::InspectError;
use super::elf::ElfImage;
use super::functions::FunctionCode;
use super::module_data::ModuleData;
use super::{layout, symbols};
use crate::addr::Svma;

/// A global variable of package runtime. Types and meaning: the Go source file named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Global {
    /// `mheap_` (mheap.go): the heap.
    Mheap,
    /// `memstats` (mstats.go): statistics.
    Memstats,
    /// `gcController` (mgcpacer.go): the pacer with its goals.
    GcController,
    /// `allgs` (proc.go): the slice of all goroutines.
    Allgs,
    /// `allglen` (proc.go): its length, read without a lock.
    Allglen,
    /// `allgptr` (proc.go): its array, read without a lock.
    Allgptr,
    /// `allp` (runtime2.go): the slice of all processors.
    Allp,
    /// `sched` (runtime2.go): the scheduler.
    Sched,
    /// `mbuckets` (mprof.go): the heap profile.
    Mbuckets,
    /// `MemProfileRate` (mprof.go): mean bytes between two samples of the heap profile; 0 is off.
    MemProfileRate,
    /// `mProfCycle` (mprof.go): which cycle of the heap profile is filled.
    MProfCycle,
    /// `gcphase` (mgc.go): off, marking, mark termination.
    Gcphase,
    /// `gcBlackenEnabled` (mgc.go): whether new objects are marked at birth.
    GcBlackenEnabled,
    /// `waitReasonStrings` (runtime2.go): the array of the texts of wait reasons.
    WaitReasonStrings,
    /// `gomaxprocs` (runtime2.go).
    Gomaxprocs,
    /// `finq` (mfinal.go): finalizers to be run.
    Finq,
    /// `firstmoduledata` (symtab.go): the program's own tables.
    FirstModuleData,
}

impl Global {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Mheap,
        Self::Memstats,
        Self::GcController,
        Self::Allgs,
        Self::Allglen,
        Self::Allgptr,
        Self::Allp,
        Self::Sched,
        Self::Mbuckets,
        Self::MemProfileRate,
        Self::MProfCycle,
        Self::Gcphase,
        Self::GcBlackenEnabled,
        Self::WaitReasonStrings,
        Self::Gomaxprocs,
        Self::Finq,
        Self::FirstModuleData,
    ];

    /// Its name in the symbol table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mheap => "runtime.mheap_",
            Self::Memstats => "runtime.memstats",
            Self::GcController => "runtime.gcController",
            Self::Allgs => "runtime.allgs",
            Self::Allglen => "runtime.allglen",
            Self::Allgptr => "runtime.allgptr",
            Self::Allp => "runtime.allp",
            Self::Sched => "runtime.sched",
            Self::Mbuckets => "runtime.mbuckets",
            Self::MemProfileRate => "runtime.MemProfileRate",
            Self::MProfCycle => "runtime.mProfCycle",
            Self::Gcphase => "runtime.gcphase",
            Self::GcBlackenEnabled => "runtime.gcBlackenEnabled",
            Self::WaitReasonStrings => "runtime.waitReasonStrings",
            Self::Gomaxprocs => "runtime.gomaxprocs",
            Self::Finq => "runtime.finq",
            Self::FirstModuleData => "runtime.firstmoduledata",
        }
    }
}

/// How an address was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// The symbol table names it.
    SymbolTable,
    /// The program's DWARF names it.
    Dwarf,
    /// So many functions refer to it where they must.
    Code {
        /// How many agree.
        functions: usize,
    },
    /// One function refers to it where it must, and its first value in the file is right.
    CodeAndValue,
    /// It was needed to read the function table, and proved itself there.
    FunctionTable,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SymbolTable => write!(formatter, "symbol table"),
            Self::Dwarf => write!(formatter, "DWARF"),
            Self::Code { functions } => write!(formatter, "{functions} functions agree"),
            Self::CodeAndValue => write!(formatter, "one function, and its value"),
            Self::FunctionTable => write!(formatter, "function table"),
        }
    }
}

/// A variable that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalAddress {
    /// Where it is.
    pub address: Svma,
    /// How we know.
    pub found_by: FoundBy,
}

/// Why a variable was not found. What needs it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum GlobalMissing {
    /// None of the functions is there that would refer to it.
    #[error("{name} is not found: none of the functions that would refer to it is in the binary")]
    NoFunction {
        /// The variable.
        name: Cow<'static, str>,
    },
    /// One function alone is not enough.
    #[error("{name} is not found: only {function} refers to it, and nothing confirms it")]
    Unconfirmed {
        /// The variable.
        name: Cow<'static, str>,
        /// The function.
        function: Cow<'static, str>,
    },
    /// Two functions that must refer to one variable refer to two.
    #[error("{name} is not found: {first} and {second} do not agree where it is")]
    Disagreement {
        /// The variable.
        name: Cow<'static, str>,
        /// One function.
        first: Cow<'static, str>,
        /// The other.
        second: Cow<'static, str>,
    },
}

impl GlobalMissing {
    fn disagreement(name: &'static str, first: &'static str, second: &'static str) -> Self {
        Self::Disagreement { name: name.into(), first: first.into(), second: second.into() }
    }

    /// The stable identifier of the reason.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::NoFunction { .. } => "global_without_function",
            Self::Unconfirmed { .. } => "global_unconfirmed",
            Self::Disagreement { .. } => "global_disagreement",
        }
    }
}

/// The variables of one binary.
#[derive(Clone, Debug)]
pub struct Globals(BTreeMap<Global, Result<GlobalAddress, GlobalMissing>>);

impl Globals {
    /// Where a variable is, or why it is not known.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn get(&self, global: Global) -> Result<GlobalAddress, GlobalMissing> {
        match self.0.get(&global) {
            Some(found) => found.clone(),
            None => Err(GlobalMissing::NoFunction { name: global.name().into() }),
        }
    }

    /// All of them, in the order of [`Global::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Global, &Result<GlobalAddress, GlobalMissing>)> {
        self.0.iter().map(|(global, found)| (*global, found))
    }
}

/// The functions whose code the rules need.
pub(crate) fn functions() -> impl Iterator<Item = &'static str> {
    let of_condition = |condition| match condition {
        Condition::Always => None,
        Condition::Without(function) | Condition::With(function) => Some(function),
    };
    let rules = Global::ALL.into_iter().flat_map(rules);
    rules.flat_map(move |rule| [Some(rule.function), of_condition(rule.condition)]).flatten()
}

/// What is known of the binary when its variables are sought.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) image: &'a ElfImage,
    pub(crate) module: &'a ModuleData,
    pub(crate) minor: u32,
    /// By name: those of [`functions`] that are in the binary.
    pub(crate) code: &'a BTreeMap<String, Vec<FunctionCode>>,
}

/// Looks for all of them.
pub(crate) fn find(context: &Context<'_>) -> Result<Globals, InspectError> {
    let names = Global::ALL.map(Global::name);
    let mut found_by = FoundBy::SymbolTable;
    let mut named = symbols::variables(context.image, &names)?;
    if named.is_empty() {
        // DWARF that is not there, or not readable, leaves the code to tell.
        let by_dwarf = layout::globals(context.image, &names).unwrap_or_default();
        let of = |name: &'static str| by_dwarf.get(name).map(|address| (name, *address));
        named = names.into_iter().filter_map(of).collect();
        found_by = FoundBy::Dwarf;
    }
    let mut variables = Variables { context, decoded: BTreeMap::new() };
    let mut found = BTreeMap::new();
    for global in Global::ALL {
        let by_name = named.get(global.name()).copied();
        let outcome = match (global, by_name) {
            (Global::FirstModuleData, _) => {
                Ok(GlobalAddress { address: context.module.at, found_by: FoundBy::FunctionTable })
            }
            (_, Some(address)) if context.module.is_variable(address) => Ok(GlobalAddress { address, found_by }),
            _ => by_code(&mut variables, global)?,
        };
        found.insert(global, outcome);
    }
    Ok(Globals(found))
}

fn by_code(
    variables: &mut Variables<'_>,
    global: Global,
) -> Result<Result<GlobalAddress, GlobalMissing>, InspectError> {
    let name = global.name();
    let context = variables.context;
    let mut agreed: Option<(Svma, &'static str)> = None;
    let mut functions = 0;
    for rule in rules(global) {
        let is_there = |function: &str| context.code.contains_key(function);
        let holds = match rule.condition {
            Condition::Always => true,
            Condition::Without(function) => !is_there(function),
            Condition::With(function) => is_there(function),
        };
        // A function without any variable leaves them to others, which are not inlined here.
        if !holds || !rule.minors.contains(&context.minor) || variables.of(rule.function).is_empty() {
            continue;
        }
        match (agreed, variables.address(&rule)) {
            (None, Some(address)) => agreed = Some((address, rule.function)),
            (Some((before, _)), Some(address)) if before == address => {}
            // A function that refers to fewer variables than it must disagrees too.
            (Some((_, first)), _) => {
                return Ok(Err(GlobalMissing::disagreement(name, first, rule.function)));
            }
            (None, None) => {
                return Ok(Err(GlobalMissing::disagreement(name, rule.function, rule.function)));
            }
        }
        functions += 1;
    }
    let Some((address, function)) = agreed else { return Ok(Err(GlobalMissing::NoFunction { name: name.into() })) };
    if functions > 1 {
        return Ok(Ok(GlobalAddress { address, found_by: FoundBy::Code { functions } }));
    }
    Ok(if first_value_is_right(context, global, address)? {
        Ok(GlobalAddress { address, found_by: FoundBy::CodeAndValue })
    } else {
        Err(GlobalMissing::Unconfirmed { name: name.into(), function: function.into() })
    })
}

/// Whether the file holds at an address what must be the variable's first value; false where any value could be.
fn first_value_is_right(context: &Context<'_>, global: Global, address: Svma) -> Result<bool, InspectError> {
    match global {
        // 512 * 1024 (mprof.go, go1.20 and later; before it is computed when the program starts).
        Global::MemProfileRate => Ok(context.image.word(address).is_ok_and(|value| value == 512 * 1024)),
        Global::WaitReasonStrings => {
            // The first is empty, the second the same in all versions (runtime2.go, go1.19 to go1.27).
            const SECOND: &[u8] = b"GC assist marking";
            let field = |index: u64| Svma(address.0.saturating_add(8 * index));
            let Ok([empty, text, length]) = context.image.pointers([field(1), field(2), field(3)]) else {
                return Ok(false);
            };
            let mut bytes = [0; SECOND.len()];
            let read = match context.image.offset_of(Svma(text)) {
                Some(offset) => context.image.source.read_up_to("a string", offset.0, &mut bytes)?,
                None => 0,
            };
            Ok(empty == 0 && length == SECOND.len() as u64 && read == SECOND.len() && bytes == SECOND)
        }
        _ => Ok(false),
    }
}

/// The variables that each function refers to, decoded once.
struct Variables<'a> {
    context: &'a Context<'a>,
    decoded: BTreeMap<&'static str, Vec<Svma>>,
}

impl Variables<'_> {
    /// Empty also where the function is not there.
    fn of(&mut self, function: &'static str) -> &[Svma] {
        let context = self.context;
        self.decoded.entry(function).or_insert_with(|| {
            // A name that stands for two functions says nothing.
            let code = context.code.get(function).map(Vec::as_slice);
            if let Some([code]) = code { variables_of(code, context.module) } else { Vec::new() }
        })
    }

    /// What a rule says; `None` where the function refers to too few variables, or to none that could be it.
    fn address(&mut self, rule: &Rule) -> Option<Svma> {
        let address = self.of(rule.function).get(rule.index)?.0.checked_sub(rule.offset).map(Svma)?;
        self.context.module.is_variable(address).then_some(address)
    }
}

/// The variables to which a function refers relative to its own address, each once, in the order of its code.
fn variables_of(code: &FunctionCode, module: &ModuleData) -> Vec<Svma> {
    let mut found = Vec::new();
    for instruction in &mut Decoder::with_ip(64, &code.bytes, code.start.0, DecoderOptions::NONE) {
        if !Instruction::is_ip_rel_memory_operand(&instruction) {
            continue;
        }
        let address = Svma(instruction.ip_rel_memory_address());
        if module.is_variable(address) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}
