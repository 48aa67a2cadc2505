//! Go versions: how they are written, which are supported, and what of the runtime differs between them.
//!
//! One table, [`RELEASES`], drives all that depends on the version. A version without a row is refused.

use super::InspectError;

/// The version of Go that built a binary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GoVersion {
    /// 26 in `go1.26.6`.
    pub minor: u32,
    /// 6 in `go1.26.6`; `None` in `go1.26rc1`.
    pub patch: Option<u32>,
    /// As the build info states it, experiments included: `go1.22.12 X:rangefunc`, `go1.26.6-X:nogreenteagc`.
    pub text: String,
}

/// Experiments are part of a version's text, hence the room.
const VERSION_BYTES_MAX: usize = 256;

impl GoVersion {
    /// Reads a version as `runtime.Version` prints it. `None` for whatever is not a release or its candidate: a
    /// development version (`devel go1.28-…`, `go1.25-20250209-RC00`) can have the layout of either neighbour.
    pub fn parse(text: &str) -> Option<Self> {
        // It is printed as it is: a longer or stranger one is no version.
        if text.len() > VERSION_BYTES_MAX || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return None;
        }
        let (minor, rest) = leading_number(text.strip_prefix("go1.")?)?;
        let patch = rest.strip_prefix('.').and_then(leading_number).map(|(patch, _)| patch);
        let released =
            patch.is_some() || rest.is_empty() || [" ", "rc", "-X:"].iter().any(|next| rest.starts_with(next));
        released.then(|| Self { minor, patch, text: text.to_owned() })
    }
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// Where the later stages find things in the runtime's structures. Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// Offset of `goid` in `runtime.g`.
    pub g_goid: u64,
    /// Offset of `gopc`, the address behind the `go` statement, in `runtime.g`.
    pub g_gopc: u64,
    /// Bytes that precede the user's pointer in the slot of a small object with pointers above 512 bytes
    /// (`mallocHeaderSize` in runtime/malloc.go, go1.22 and later; 0 before).
    pub malloc_header_bytes: u64,
}

/// What the later stages need to know about one minor version; also what only this stage and `symbolize` use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) minor: u32,
    pub(crate) layout: RuntimeLayout,
    pub(crate) module: ModuleLayout,
    pub(crate) function_ids: FunctionIds,
    /// Whether methods can have type parameters of their own (go1.27).
    pub(crate) generic_methods: bool,
}

/// Offsets in `runtime.moduledata` (runtime/symtab.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleLayout {
    /// `text`: the address that the function table counts from.
    pub(crate) text: u64,
    /// `gofunc`: the address that FUNCDATA offsets count from.
    pub(crate) gofunc: u64,
}

/// Numbers of the functions that stack walks treat apart (`FuncID` in internal/abi/symtab.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionIds {
    /// `FuncID_asyncPreempt`.
    pub async_preempt: u8,
    /// `FuncID_debugCallV2`.
    pub debug_call: u8,
    /// `FuncID_gopanic`.
    pub gopanic: u8,
    /// `FuncID_panicwrap`.
    pub panicwrap: u8,
    /// `FuncID_sigpanic`.
    pub sigpanic: u8,
    /// `FuncIDWrapper`: generated code (method wrappers, the closure of `go f(x)`).
    pub wrapper: u8,
}

/// runtime/symtab.go of go1.19 and go1.20, internal/abi/symtab.go of go1.21.
const IDS_1_19: FunctionIds =
    FunctionIds { async_preempt: 3, debug_call: 5, gopanic: 9, panicwrap: 14, sigpanic: 18, wrapper: 21 };
/// internal/abi/symtab.go of go1.22 to go1.24: `corostart` came after `cgocallback`.
const IDS_1_22: FunctionIds =
    FunctionIds { async_preempt: 3, debug_call: 6, gopanic: 10, panicwrap: 15, sigpanic: 19, wrapper: 22 };
/// internal/abi/symtab.go of go1.25 to go1.27: `runfinq` became `runFinalizers` and `runCleanups`.
const IDS_1_25: FunctionIds = FunctionIds { sigpanic: 20, wrapper: 23, ..IDS_1_22 };

/// runtime/symtab.go of go1.19.
const MODULE_1_19: ModuleLayout = ModuleLayout { text: 176, gofunc: 304 };
/// runtime/symtab.go of go1.20 to go1.26: `covctrs` and `ecovctrs` came before `gofunc`.
const MODULE_1_20: ModuleLayout = ModuleLayout { text: 176, gofunc: 320 };
/// runtime/symtab.go of go1.27: `typedesclen`, `itaboffset` and `itabsize` came before `gofunc`.
const MODULE_1_27: ModuleLayout = ModuleLayout { text: 176, gofunc: 344 };

/// One row per supported minor version. The offsets were taken from the DWARF of programs built by go1.19.8, 1.20.14,
/// 1.21.13, 1.22.10, 1.23.9, 1.24.11, 1.25.5, 1.26.6 and 1.27.3 and are the same on amd64 and arm64; between the patch releases compared
/// (1.23.1/9, 1.24.3/11, 1.25.0/5, 1.26.0/6, 1.27.0/3) none of them moved.
pub(crate) const RELEASES: [Release; 9] = [
    release(19, 152, 296, MODULE_1_19, IDS_1_19),
    release(20, 152, 296, MODULE_1_20, IDS_1_19),
    release(21, 152, 280, MODULE_1_20, IDS_1_19),
    release(22, 152, 280, MODULE_1_20, IDS_1_22),
    release(23, 160, 288, MODULE_1_20, IDS_1_22),
    release(24, 160, 288, MODULE_1_20, IDS_1_22),
    release(25, 152, 280, MODULE_1_20, IDS_1_25),
    release(26, 152, 288, MODULE_1_20, IDS_1_25),
    release(27, 152, 288, MODULE_1_27, IDS_1_25),
];

const fn release(minor: u32, g_goid: u64, g_gopc: u64, module: ModuleLayout, function_ids: FunctionIds) -> Release {
    Release {
        minor,
        layout: RuntimeLayout { g_goid, g_gopc, malloc_header_bytes: if minor >= 22 { 8 } else { 0 } },
        module,
        function_ids,
        generic_methods: minor >= 27,
    }
}

/// The row of a version as the build info states it.
pub(crate) fn supported(text: &str) -> Result<(GoVersion, &'static Release), InspectError> {
    let unsupported = || InspectError::UnsupportedGoVersion {
        version: text.to_owned(),
        oldest_minor: RELEASES.iter().map(|release| release.minor).min().unwrap_or_default(),
        newest_minor: RELEASES.iter().map(|release| release.minor).max().unwrap_or_default(),
    };
    let Some(version) = GoVersion::parse(text) else {
        let development = text.contains("go1.");
        return Err(if development {
            unsupported()
        } else {
            InspectError::UnreadableGoVersion { found: text.to_owned() }
        });
    };
    let release = RELEASES.iter().find(|release| release.minor == version.minor).ok_or_else(unsupported)?;
    Ok((version, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(u32, Option<u32>)> {
        GoVersion::parse(text).map(|version| (version.minor, version.patch))
    }

    #[test]
    fn versions_are_read_in_all_their_forms() {
        assert_eq!(parsed("go1.26.6"), Some((26, Some(6))));
        assert_eq!(parsed("go1.22"), Some((22, None)));
        assert_eq!(parsed("go1.27rc2"), Some((27, None)));
        assert_eq!(parsed("go1.22.12 X:rangefunc"), Some((22, Some(12))));
        assert_eq!(parsed("go1.26.6-X:nogreenteagc"), Some((26, Some(6))));
        assert_eq!(parsed("go1.25.5 (Red Hat 1.25.5-1.el9)"), Some((25, Some(5))));
        for text in [
            "",
            "go1.",
            "go2.1",
            "devel go1.28-1234 Mon",
            "devel +abc",
            "go1.99999999999",
            "go1.é",
            "go1.27beta1",
            "go1.25-20250209-RC00 cl/1",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn version_without_a_row_is_refused_with_the_range() {
        for text in ["go1.18.10", "go1.28", "devel go1.27-abcdef Mon", "go1.25-20250209-RC00 cl/1"] {
            let error = supported(text).unwrap_err();
            assert_eq!(error.to_string(), format!("built by {text}, and only go1.19 to go1.27 are supported"));
        }
        assert!(matches!(supported("unknown"), Err(InspectError::UnreadableGoVersion { found }) if found == "unknown"));
        assert_eq!(supported("go1.24.11").unwrap().1.layout.g_gopc, 288);
    }
}
