//! Loads the kernel object: its constants, maps and programs.
//!
//! aya does most of it: aya-obj parses and relocates, aya makes the maps, which `collect` uses as aya's. What it cannot do
//! is load a program for `uprobe_multi`, nor hand out the descriptor of one for a link of ours; hence the order of aya 0.14's
//! `EbpfLoader::load` (aya/src/bpf.rs) is followed here. This file goes when aya's own support for such links (aya 0.16) can be used.
//!
//! The object is our own, embedded one: it is not hostile.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    EbpfError,
    maps::{Map, MapData, MapError},
};
use aya_obj::{Object, generated::bpf_attach_type};
use procfs::KernelVersion;

use super::{AttachError, FOR_PROGRAMS, KERNEL_OBJECT, bpf, is_permission};
use crate::units::approximate;

/// How a program is to be attached; the kernel wants to know when it loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// One perf event for each point.
    PerfEvents,
    /// All points by one link (Linux 6.6).
    UprobeMulti,
}

impl Mechanism {
    /// How many times as long as for one busy point hits cost while as many points go.
    pub fn tails(self, points: usize) -> f64 {
        match self {
            Self::PerfEvents => approximate(points as u64),
            Self::UprobeMulti => 1.0,
        }
    }

    /// The time that it may take on a busy host until probes at so many points are gone, ns.
    pub fn closing_ns(self, points: usize) -> u64 {
        match self {
            Self::PerfEvents => u64::try_from(points).unwrap_or(u64::MAX).saturating_mul(300_000_000),
            Self::UprobeMulti => 0,
        }
    }
}

/// Verifier log of a refused program: first size, and the largest that is tried.
const LOG_BYTES: usize = 1 << 20;
const LOG_BYTES_MAX: usize = 16 << 20;
/// What of it is shown: lines, and characters of each. The last ones say what is wrong; what is more would be cut off where
/// reasons are printed.
const LOG_LINES: usize = 4;
const LOG_LINE_CHARS: usize = 80;

/// A loaded object: its maps and programs in the kernel.
#[derive(Debug)]
pub struct KernelObject {
    maps: HashMap<String, Map>,
    programs: HashMap<&'static str, OwnedFd>,
}

impl KernelObject {
    /// Loads these programs of the object that is embedded in leakline, to be attached in this way, and all maps of the
    /// object, with these values of its constants (by name; all must be in the object) and these capacities of its maps (bytes for
    /// rings, entries for others; the object's own for those that are not named).
    pub fn embedded(
        constants: &[(&str, &[u8])],
        capacities: &[(&'static str, u32)],
        programs: &[&'static str],
        mechanism: Mechanism,
    ) -> Result<Self, AttachError> {
        let mut object = Object::parse(KERNEL_OBJECT).map_err(|error| load_error(error.into()))?;
        let constants = constants.iter().map(|(name, value)| (*name, (*value, true))).collect();
        object.patch_map_data(constants).map_err(|error| load_error(error.into()))?;
        let btf = btf(&mut object);
        let btf = btf.as_ref().map(OwnedFd::as_fd);

        let definitions = definitions(&mut object, capacities)?;
        let mut maps = HashMap::new();
        for (name, definition) in &definitions {
            let map = MapData::create(definition.clone(), name, btf).map_err(map_error)?;
            bpf::fill_section(map.fd().as_fd(), definition).map_err(|error| map_error(MapError::IoError(error)))?;
            maps.insert(name.clone(), map);
        }
        // Programs come to name maps by our descriptors of them: these must live until the programs are loaded.
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let places = definitions.iter().filter_map(|(name, definition)| {
            Some((name.as_str(), maps.get(name)?.fd().as_fd().as_raw_fd(), definition))
        });
        object.relocate_maps(places, &sections).map_err(|error| load_error(error.into()))?;
        object.relocate_calls(&sections).map_err(|error| load_error(error.into()))?;
        object.sanitize_functions(aya::features());

        let mut loaded = HashMap::new();
        for &name in programs {
            loaded.insert(name, load_program(&object, name, mechanism, btf)?);
        }
        // Sections are maps for the programs alone, which hold them from now on.
        maps.retain(|name, _| !name.starts_with('.'));
        let named = |(name, map)| Ok((name, Map::from_map_data(map).map_err(map_error)?));
        Ok(Self { maps: maps.into_iter().map(named).collect::<Result<_, AttachError>>()?, programs: loaded })
    }

    /// Takes a map out, for its reader. None: no such map, or it was taken.
    pub fn take_map(&mut self, name: &str) -> Option<Map> {
        self.maps.remove(name)
    }

    /// A map that was not taken out.
    pub fn map_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.maps.get_mut(name)
    }

    /// The descriptor of a map that was not taken out, for a holder.
    pub fn map_fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, AttachError> {
        let map = self.maps.get(name).ok_or(AttachError::NotInObject { name })?;
        let (Map::Array(data) | Map::PerCpuArray(data)) = map else { return Err(AttachError::NotInObject { name }) };
        Ok(data.fd().as_fd())
    }

    /// A program that was loaded.
    pub fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, AttachError> {
        self.programs.get(name).map(OwnedFd::as_fd).ok_or(AttachError::NotInObject { name })
    }
}

/// Takes the maps out of a parsed object.
fn definitions(
    object: &mut Object,
    capacities: &[(&'static str, u32)],
) -> Result<Vec<(String, aya_obj::Map)>, AttachError> {
    let mut definitions: HashMap<String, aya_obj::Map> = object.maps.drain().collect();
    for &(name, capacity) in capacities {
        definitions.get_mut(name).ok_or(AttachError::NotInObject { name })?.set_max_entries(capacity);
    }
    Ok(definitions.into_iter().collect())
}

fn load_program(
    object: &Object,
    name: &'static str,
    mechanism: Mechanism,
    btf: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, AttachError> {
    let missing = || AttachError::NotInObject { name };
    let program = object.programs.get(name).ok_or_else(missing)?;
    let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
    let attach_type = match mechanism {
        Mechanism::PerfEvents => None,
        Mechanism::UprobeMulti => Some(bpf_attach_type::BPF_TRACE_UPROBE_MULTI),
    };
    let kernel = program.kernel_version.unwrap_or_else(kernel_version);
    let load = |log: &mut [u8]| bpf::load_program(name, program, function, btf, attach_type, kernel, log);
    let refused = match load(&mut []) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    match with_log(load) {
        Ok(program) => Ok(program),
        // The verifier, too, refuses by `EACCES`; but then it says why.
        Err((_, said)) if said.is_empty() && is_permission(&refused) => {
            Err(AttachError::NotAllowed { doing: "load a BPF program", needs: FOR_PROGRAMS })
        }
        Err((source, said)) => Err(AttachError::LoadProgram { program: name, source, verifier: last_lines(&said) }),
    }
}

/// Loads a program with a log that is long enough: it can be that it succeeds this time.
fn with_log(load: impl Fn(&mut [u8]) -> io::Result<OwnedFd>) -> Result<OwnedFd, (io::Error, String)> {
    let mut bytes = LOG_BYTES;
    loop {
        let mut log = vec![0; bytes];
        match load(&mut log) {
            Ok(program) => return Ok(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && bytes < LOG_BYTES_MAX => bytes *= 4,
            Err(error) => {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                log.truncate(end);
                return Err((error, String::from_utf8_lossy(&log).into_owned()));
            }
        }
    }
}

/// The lines that say what is wrong, in one.
fn last_lines(log: &str) -> String {
    // Statistics come last, where they come.
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("processed ")).collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    let shown = lines.get(from..).unwrap_or_default().iter();
    shown.map(|line| line.chars().take(LOG_LINE_CHARS).collect()).collect::<Vec<String>>().join(" | ")
}

/// Type information makes the verifier's words better; where the kernel does not take it, it is left out.
fn btf(object: &mut Object) -> Option<OwnedFd> {
    let features = aya::features().btf()?;
    let information = object.fixup_and_sanitize_btf(features).ok()??.to_bytes();
    match bpf::load_btf(&information) {
        Ok(btf) => Some(btf),
        Err(error) => {
            tracing::debug!(%error, "the kernel does not take the type information of our programs");
            None
        }
    }
}

/// What kernels before 5.0 compare; others do not look at it.
fn kernel_version() -> u32 {
    KernelVersion::current()
        .map_or(0, |now| u32::from(now.major) << 16 | u32::from(now.minor) << 8 | u32::from(now.patch.min(255)))
}

fn map_error(error: MapError) -> AttachError {
    load_error(EbpfError::MapError(error))
}

fn load_error(error: EbpfError) -> AttachError {
    if is_permission(&error) {
        AttachError::NotAllowed { doing: "load BPF programs and maps", needs: FOR_PROGRAMS }
    } else {
        AttachError::Load { source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_LINE_CHARS, LOG_LINES, last_lines};

    #[test]
    fn the_end_of_a_long_log_is_shown() {
        let mut log = (0..1000).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        log.push_str("\nprocessed 1000 insns (limit 1000000)\n");
        assert_eq!(last_lines(&log), "996 | 997 | 998 | 999");
        assert_eq!(last_lines("one"), "one");
        let wide = "R1=".repeat(1_000);
        assert!(last_lines(&format!("{wide}\n{wide}\n{wide}\n{wide}")).len() < LOG_LINES * (LOG_LINE_CHARS + 3));
    }
}
