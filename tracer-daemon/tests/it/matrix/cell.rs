//! One cell: a program built in one way by one version, three times: with its symbol table, which tells the truth; the same
//! bytes with the symbol table hidden, which must give the same addresses; and stripped by the linker.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object as _, ObjectSymbol as _};
use serde::{Deserialize, Serialize};
use tracer_daemon::inspect::{BinaryFacts, FunctionCode, Global, inspect_file, inspect_source};
use tracer_daemon::plan::{ProbePlan, ProbePoint, RarePoints};

use crate::exact::count;
use crate::go::{Build, WITH_PROFILE};

/// A way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Stripped,
    Pie,
    PieStripped,
    CgoExternal,
    CgoExternalPie,
    Profile,
    Trimpath,
    Race,
    Amd64V3,
    NotOptimised,
}

impl Mode {
    pub(super) const ALL: [Self; 11] = [
        Self::Plain,
        Self::Stripped,
        Self::Pie,
        Self::PieStripped,
        Self::CgoExternal,
        Self::CgoExternalPie,
        Self::Profile,
        Self::Trimpath,
        Self::Race,
        Self::Amd64V3,
        Self::NotOptimised,
    ];

    /// As the table of results names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "default",
            Self::Stripped => "-s -w",
            Self::Pie => "PIE",
            Self::PieStripped => "PIE -s -w",
            Self::CgoExternal => "cgo external",
            Self::CgoExternalPie => "cgo external PIE",
            Self::Profile => "PGO",
            Self::Trimpath => "-trimpath",
            Self::Race => "-race",
            Self::Amd64V3 => "GOAMD64=v3",
            Self::NotOptimised => "-N -l",
        }
    }

    /// Profiles are for go1.21 and later.
    pub(super) fn exists_in(self, toolchain: &str) -> bool {
        self != Self::Profile || minor(toolchain) >= 21
    }

    const fn is_stripped(self) -> bool {
        matches!(self, Self::Stripped | Self::PieStripped)
    }

    const fn is_pie(self) -> bool {
        matches!(self, Self::Pie | Self::PieStripped | Self::CgoExternalPie)
    }

    const fn has_cgo(self) -> bool {
        matches!(self, Self::CgoExternal | Self::CgoExternalPie | Self::Race)
    }

    fn flags(self, strip: Strip) -> Vec<&'static str> {
        let external = matches!(self, Self::CgoExternal | Self::CgoExternalPie);
        // The flags are part of the build info and so of the program: those of both twins have the same length.
        let linker = match (external, strip) {
            (false, Strip::No) => "-ldflags=-s=0 -w=0",
            (false, Strip::Yes) => "-ldflags=-s=1 -w=1",
            (true, Strip::No) => "-ldflags=-linkmode=external -s=0 -w=0",
            (true, Strip::Yes) => "-ldflags=-linkmode=external -s=1 -w=1",
        };
        let own = match self {
            Self::Pie | Self::PieStripped | Self::CgoExternalPie => Some("-buildmode=pie"),
            Self::Profile => Some(WITH_PROFILE),
            Self::Trimpath => Some("-trimpath"),
            Self::Race => Some("-race"),
            Self::NotOptimised => Some("-gcflags=all=-N -l"),
            Self::Plain | Self::Stripped | Self::CgoExternal | Self::Amd64V3 => None,
        };
        // A program that does not use cgo does not link it, whatever the linker.
        let cgo = external.then_some("-tags=withcgo");
        own.into_iter().chain(cgo).chain([linker]).collect()
    }

    fn environment(self, toolchain: &str) -> Vec<(&'static str, &'static str)> {
        let mut environment = vec![("CGO_ENABLED", if self.has_cgo() { "1" } else { "0" })];
        if self == Self::Amd64V3 {
            environment.push(("GOAMD64", "v3"));
        }
        if minor(toolchain) == 22 {
            environment.push(("GOEXPERIMENT", "rangefunc")); // iter.Pull before it was official
        }
        environment
    }

    fn build(self, toolchain: &str, strip: Strip) -> std::path::PathBuf {
        let environment = self.environment(toolchain);
        let flags = self.flags(strip);
        Build { program: "knownsites", toolchain, flags: &flags, environment: &environment }.path()
    }
}

#[derive(Clone, Copy)]
enum Strip {
    No,
    Yes,
}

/// What was seen in a cell where nothing is wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Variables found without the symbol table, at the address that it says.
    pub(super) globals: usize,
    /// Probe points, the same with and without the symbol table.
    pub(super) points: usize,
    /// Identifier and sentence of whatever is refused.
    pub(super) refused: Vec<(String, String)>,
    /// Objects counted exactly in a run; none where the binary is refused for that, or this host cannot attach.
    pub(super) exact_objects: Option<u64>,
}

impl Row {
    pub(super) fn summary(&self) -> String {
        let exact = self.exact_objects.map_or("not counted".to_owned(), |objects| format!("{objects} objects exact"));
        let refused: Vec<&str> = self.refused.iter().map(|(id, _)| id.as_str()).collect();
        format!("{} variables, {} points, {exact}, refused {refused:?}", self.globals, self.points)
    }
}

/// Builds both twins and compares; runs the program where `counted`.
pub(super) fn check(toolchain: &str, mode: Mode, counted: bool) -> Result<Row, String> {
    let (whole, bare) = (mode.build(toolchain, Strip::No), mode.build(toolchain, Strip::Yes));
    let (truth, facts) = (inspected(&whole)?, inspected(&bare)?);
    let blind = without_symbols(&whole)?;
    let expected = (minor(toolchain), mode.is_pie(), mode.has_cgo());
    for (facts, stripped) in [(&truth, false), (&facts, true), (&blind, true)] {
        let found = (facts.go_version.minor, facts.position_independent, facts.cgo);
        equal("minor version, position independence, cgo", &found, &expected)?;
        equal("stripped", &facts.stripped, &stripped)?;
        equal("version", &facts.go_version.text.starts_with(toolchain), &true)?;
        equal("main module", &facts.main_module.as_deref(), &Some("example.com/leakline/programs/knownsites"))?;
    }
    for facts in [&facts, &blind] {
        equal("layout", &facts.layout, &truth.layout)?;
        equal("inlined functions", &facts.inlined, &truth.inlined)?;
    }

    let symbols = symbols(&whole);
    for (name, codes) in &truth.functions {
        let [code] = codes.as_slice() else { return Err(format!("{name} stands for {} functions", codes.len())) };
        equal(name, &Some(code.start.0), &symbols.get(name.as_str()).copied())?;
    }
    equal("number of functions", &facts.functions.len(), &truth.functions.len())?;
    for (name, codes) in &truth.functions {
        equal(name, &blind.functions.get(name), &Some(codes))?;
        let places = |codes: &Vec<FunctionCode>| codes.iter().map(|code| (code.start, code.end)).collect::<Vec<_>>();
        equal(name, &facts.functions.get(name).map(places), &Some(places(codes)))?;
    }

    // Section headers take room too: the linker may put the variables of the stripped twin elsewhere, all by as much.
    let module = |facts: &BinaryFacts| facts.globals.get(Global::FirstModuleData).map_or(0, |found| found.address.0);
    let moved = module(&facts).wrapping_sub(module(&truth));
    let mut refused = Vec::new();
    let mut globals = 0;
    for global in Global::ALL {
        let name = global.name();
        let address = symbols.get(name).copied();
        let of = |facts: &BinaryFacts| facts.globals.get(global).map(|found| found.address.0);
        equal(name, &of(&truth).ok(), &address)?;
        equal(name, &of(&facts).map(|found| found.wrapping_sub(moved)), &of(&blind))?;
        match of(&blind) {
            Ok(found) => {
                equal(name, &Some(found), &address)?;
                globals += 1;
            }
            Err(missing) => refused.push((missing.id().to_owned(), missing.to_string())),
        }
    }

    let (plan, rare) = (ProbePlan::exact(&facts), RarePoints::of(&facts));
    let (true_plan, true_rare) = (ProbePlan::exact(&truth), RarePoints::of(&truth));
    let points: Vec<&ProbePoint> = plan.points.iter().chain(&rare.points).collect();
    equal("points", &points, &true_plan.points.iter().chain(&true_rare.points).collect())?;
    equal("a point without symbols", &ProbePlan::exact(&blind).points, &true_plan.points)?;
    equal("a rare point without symbols", &RarePoints::of(&blind).points, &true_rare.points)?;
    equal("refusals of points", &plan.refused, &true_plan.refused)?;
    let exact = plan.refused.iter().map(|refusal| (refusal.reason.id().to_owned(), refusal.text.clone()));
    refused.extend(exact);
    refused.extend(rare.refused.iter().map(|(_, refusal)| (refusal.reason.id().to_owned(), refusal.text.clone())));

    let running = if mode.is_stripped() || mode == Mode::Plain { &bare } else { &whole };
    let claims_support = plan.counts_allocations && plan.counts_goroutines;
    let exact_objects = if counted && claims_support { Some(count(running)?) } else { None };
    Ok(Row { globals, points: points.len(), refused, exact_objects })
}

fn inspected(path: &Path) -> Result<BinaryFacts, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    inspect_file(file).map_err(|error| format!("{}: {error}", path.display()))
}

/// Facts of the same bytes where the section headers do not tell any more where symbols and DWARF are.
fn without_symbols(path: &Path) -> Result<BinaryFacts, String> {
    let mut bytes = fs::read(path).unwrap();
    let number = |bytes: &[u8], at: usize, size: usize| {
        let mut word = [0; 8];
        word[..size].copy_from_slice(&bytes[at..at + size]);
        usize::try_from(u64::from_le_bytes(word)).unwrap()
    };
    // e_shoff, e_shentsize, e_shnum; sh_type, sh_flags.
    let (table, entry_bytes, count) = (number(&bytes, 40, 8), number(&bytes, 58, 2), number(&bytes, 60, 2));
    for section in (0..count).map(|index| table + index * entry_bytes) {
        const SHT_SYMTAB: usize = 2;
        const SHF_ALLOC: usize = 2;
        let (kind, flags) = (number(&bytes, section + 4, 4), number(&bytes, section + 8, 8));
        let names_of_sections = number(&bytes, 62, 2) == (section - table) / entry_bytes;
        if kind == SHT_SYMTAB || (flags & SHF_ALLOC == 0 && !names_of_sections) {
            bytes[section + 4..section + 8].fill(0);
        }
    }
    inspect_source(Box::new(bytes)).map_err(|error| format!("without symbols: {error}"))
}

/// The symbol table as another reader reads it.
fn symbols(path: &Path) -> BTreeMap<String, u64> {
    let bytes = fs::read(path).unwrap();
    let file = ElfFile64::<LittleEndian>::parse(bytes.as_slice()).unwrap();
    let named = file.symbols().filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())));
    named.collect()
}

/// Of a value that is wrong.
const SHOWN_BYTES: usize = 400;

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let (mut found, mut expected) = (format!("{found:?}"), format!("{expected:?}"));
    found.truncate(SHOWN_BYTES);
    expected.truncate(SHOWN_BYTES);
    Err(format!("{what}: {found}, expected {expected}"))
}

fn minor(toolchain: &str) -> u32 {
    toolchain.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap()
}
