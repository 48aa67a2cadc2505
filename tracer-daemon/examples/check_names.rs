//! Whether leakline names the functions of a Go binary right: `check_names FILE RANDOM_FUNCTIONS`; prints a line of JSON.
//!
//! Where the binary has a symbol table, every function of the function table is compared with it. In any case some
//! functions are drawn and the place of an instruction in each is looked at. Draws the same ones each time.
//! Counterpart: `cargo xtask real-binaries`, which judges the numbers.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    fs::File,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use object::{
    LittleEndian as Le, elf,
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};
use serde_json::json;
use tracer_daemon::{
    addr::Svma,
    inspect::{FunctionTable, StepBudget, inspect_file},
};

/// Examples of what is wrong that are printed.
const EXAMPLES: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, draws] = arguments.as_slice() else { bail!("usage: check_names FILE RANDOM_FUNCTIONS") };
    let draws: u64 = draws.parse().context("RANDOM_FUNCTIONS must be a number")?;
    let facts = inspect_file(File::open(file).with_context(|| format!("cannot open {file}"))?)?;
    let table = &facts.functions_table;
    let names = if facts.stripped { None } else { Some(compare(file, table)?) };
    let lines = look(table, draws)?;
    println!(
        "{}",
        json!({
            "functions": table.len(),
            "names": names,
            "lines": lines,
        })
    );
    Ok(())
}

/// Compares name and address of every function with the symbol table.
fn compare(file: &str, table: &FunctionTable) -> Result<serde_json::Value> {
    let symbols = symbols(&fs::read(file)?)?;
    let (mut compared, mut hashed, mut unnamed, mut different, mut examples) = (0_u64, 0_u64, 0_u64, 0_u64, Vec::new());
    let mut has_main = false;
    for index in 0..table.len() {
        let Some(function) = table.function(index)? else { break };
        let name = table.name(&function)?;
        has_main |= name == "main.main";
        let at = symbols.get(&function.start.0).map(Vec::as_slice).unwrap_or_default();
        if at.iter().any(|symbol| is_written_as(symbol, &name)) {
            compared += 1;
        } else if name.is_empty() && !at.is_empty() {
            // Whose name stands first among the names is nameless for Go's runtime too (`moduledata.funcName`).
            unnamed += 1;
        } else if name.starts_with("type:") && at.iter().any(|symbol| symbol.starts_with("type:")) {
            // The linker writes a hash instead of a long type into symbol tables (typeSymbolMangle in cmd/link/internal/ld).
            hashed += 1;
        } else {
            different += 1;
            if examples.len() < EXAMPLES {
                examples.push(format!("{:#x}: {name} and {at:?}", function.start.0));
            }
        }
    }
    Ok(
        json!({ "equal": compared, "hashed": hashed, "unnamed": unnamed, "different": different, "examples": examples, "has_main": has_main }),
    )
}

/// Whether the linker writes the name of this symbol so into the function table.
///
/// Symbol tables mark functions of another calling convention (`fmt.Println.abi0`) and have a dot for the one in the middle. Up to
/// go1.20 the function table has `[...]` for what stands between the first and the last square bracket
/// (`nameParts` in cmd/link/internal/ld/pcln.go).
fn is_written_as(symbol: &str, name: &str) -> bool {
    let symbol = symbol.strip_suffix(".abi0").or_else(|| symbol.strip_suffix(".abiinternal")).unwrap_or(symbol);
    let name = name.replace('·', ".");
    if symbol == name {
        return true;
    }
    let (Some(first), Some(last)) = (symbol.find('['), symbol.rfind(']')) else { return false };
    name.contains("[...]") && first < last && name == format!("{}[...]{}", &symbol[..first], &symbol[last + 1..])
}

fn symbols(bytes: &[u8]) -> Result<HashMap<u64, Vec<String>>> {
    let header = elf::FileHeader64::<Le>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let table = sections.symbols(endian, bytes, elf::SHT_SYMTAB)?;
    let mut found: HashMap<u64, Vec<String>> = HashMap::new();
    for symbol in table.iter().filter(|symbol| symbol.st_type() == elf::STT_FUNC) {
        let name = String::from_utf8_lossy(symbol.name(endian, table.strings())?).into_owned();
        found.entry(symbol.st_value(endian)).or_default().push(name);
    }
    // Only so that a section header that cannot be read is noticed.
    for section in sections.iter() {
        section.data(endian, bytes)?;
    }
    Ok(found)
}

/// File and line of an instruction in each of some functions.
fn look(table: &FunctionTable, draws: u64) -> Result<serde_json::Value> {
    let mut random = SplitMix64(0x6c65_616b_6c69_6e65);
    let (mut looked_at, mut without_place, mut unnamed, mut empty) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut kinds, mut other, mut has_main) = (BTreeMap::<String, u64>::new(), Vec::new(), false);
    for index in 0..table.len() {
        let Some(function) = table.function(index)? else { break };
        if table.name(&function)? == "main.main" {
            has_main = true;
            break;
        }
    }
    for _ in 0..draws {
        let Some(function) = table.function(random.next() % table.len())? else { break };
        let length = function.end.0.saturating_sub(function.start.0).max(1);
        let at = Svma(function.start.0 + random.next() % length);
        let name = table.name(&function)?;
        looked_at += 1;
        unnamed += u64::from(name.is_empty());
        let Some((path, line)) = table.file_and_line(&function, at, &mut StepBudget::of_one_address())? else {
            without_place += 1; // padding behind the last instruction, or code of the linker
            continue;
        };
        let path = table.file(path)?;
        if path.is_empty() || line == 0 || path.chars().any(char::is_control) {
            empty += 1;
        }
        let kind = match Path::new(&path).extension().and_then(|kind| kind.to_str()) {
            _ if path == "<autogenerated>" => "autogenerated",
            Some(kind @ ("go" | "s")) => kind,
            _ => {
                if other.len() < EXAMPLES {
                    other.push(format!("{name} {path}:{line}"));
                }
                "other"
            }
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(json!({
        "looked_at": looked_at,
        "without_place": without_place,
        "unnamed": unnamed,
        "empty": empty,
        "kinds": kinds,
        "other_examples": other,
        "has_main": has_main,
    }))
}

/// Steele, Lea and Flood's generator.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
