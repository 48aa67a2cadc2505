//! Go versions: how they are written, which are supported, and what of the runtime differs between them.
//!
//! One table, [`RELEASES`], holds what DWARF does not tell or what names need. A version without a row is refused, or must
//! bring its own DWARF.

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
pub(crate) const VERSION_BYTES_MAX: usize = 256;

impl GoVersion {
    /// Reads a version as `runtime.Version` prints it. `None` for whatever is not a release or its candidate: a
    /// development version (`devel go1.28-…`, `go1.25-20250209-RC00`) can have the layout of either neighbour.
    pub fn parse(text: &str) -> Option<Self> {
        if !printable(text) {
            return None;
        }
        let (minor, rest) = leading_number(text.strip_prefix("go1.")?)?;
        let patch = rest.strip_prefix('.').and_then(leading_number).map(|(patch, _)| patch);
        let released =
            patch.is_some() || rest.is_empty() || [" ", "rc", "-X:"].iter().any(|next| rest.starts_with(next));
        released.then(|| Self { minor, patch, text: text.to_owned() })
    }

    /// The experiments (GOEXPERIMENT) that the version states, such as `rangefunc` and `nogreenteagc`.
    pub(crate) fn experiments(&self) -> impl Iterator<Item = &str> {
        // ` X:` up to go1.25, `-X:` from go1.26 on (cmd/link/internal/ld/data.go, `buildVersion`).
        let listed = self.text.split_once(" X:").or_else(|| self.text.split_once("-X:")).map(|(_, listed)| listed);
        let names = listed.and_then(|listed| listed.split(' ').next()).unwrap_or_default();
        names.split(',').filter(|name| !name.is_empty())
    }

    /// Reads a version that is no release and yet says on the way to which one it was. `None` where it does not.
    fn of_development(text: &str) -> Option<Self> {
        let (_, after) = text.split_once("go1.").filter(|_| printable(text))?;
        let (minor, _) = leading_number(after)?;
        Some(Self { minor, patch: None, text: text.to_owned() })
    }
}

/// A version is printed as it is: a longer or stranger one is none.
pub(crate) fn printable(text: &str) -> bool {
    text.len() <= VERSION_BYTES_MAX && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// What the later stages need to know about one minor version; also what only this stage and `symbolize` use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) minor: u32,
    pub(crate) function_ids: FunctionIds,
    /// Whether methods can have type parameters of their own (go1.27).
    pub(crate) generic_methods: bool,
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

impl FunctionIds {
    /// Those of all releases of a minor version; `None` where it has no row.
    pub fn known(minor: u32) -> Option<Self> {
        row(minor).map(|release| release.function_ids)
    }

    /// The constants in Go's source that hold the numbers, in the order of the fields; behind `|` as before go1.21.
    const CONSTANTS: [&str; 6] = [
        "internal/abi.FuncID_asyncPreempt|runtime.funcID_asyncPreempt",
        "internal/abi.FuncID_debugCallV2|runtime.funcID_debugCallV2",
        "internal/abi.FuncID_gopanic|runtime.funcID_gopanic",
        "internal/abi.FuncID_panicwrap|runtime.funcID_panicwrap",
        "internal/abi.FuncID_sigpanic|runtime.funcID_sigpanic",
        "internal/abi.FuncIDWrapper|runtime.funcID_wrapper",
    ];

    /// The names of all constants that can hold a number.
    pub(crate) fn constants() -> impl Iterator<Item = &'static str> {
        Self::CONSTANTS.into_iter().flat_map(|names| names.split('|'))
    }

    /// Asks for the values of constants; `None` where one is missing.
    pub(crate) fn from_constants(value: impl Fn(&str) -> Option<u8>) -> Option<Self> {
        let value = |names: &str| names.split('|').find_map(&value);
        let [async_preempt, debug_call, gopanic, panicwrap, sigpanic, wrapper] = Self::CONSTANTS.map(value);
        Some(Self {
            async_preempt: async_preempt?,
            debug_call: debug_call?,
            gopanic: gopanic?,
            panicwrap: panicwrap?,
            sigpanic: sigpanic?,
            wrapper: wrapper?,
        })
    }
}

/// runtime/symtab.go of go1.19 and go1.20, internal/abi/symtab.go of go1.21.
const IDS_1_19: FunctionIds =
    FunctionIds { async_preempt: 3, debug_call: 5, gopanic: 9, panicwrap: 14, sigpanic: 18, wrapper: 21 };
/// internal/abi/symtab.go of go1.22 to go1.24: `corostart` came after `cgocallback`.
const IDS_1_22: FunctionIds =
    FunctionIds { async_preempt: 3, debug_call: 6, gopanic: 10, panicwrap: 15, sigpanic: 19, wrapper: 22 };
/// internal/abi/symtab.go of go1.25 to go1.27: `runfinq` became `runFinalizers` and `runCleanups`.
const IDS_1_25: FunctionIds = FunctionIds { sigpanic: 20, wrapper: 23, ..IDS_1_22 };

/// One row per supported minor version; where things lie in its structures is in `layout`.
pub(crate) const RELEASES: [Release; 9] = [
    release(19, IDS_1_19),
    release(20, IDS_1_19),
    release(21, IDS_1_19),
    release(22, IDS_1_22),
    release(23, IDS_1_22),
    release(24, IDS_1_22),
    release(25, IDS_1_25),
    release(26, IDS_1_25),
    release(27, IDS_1_25),
];

const fn release(minor: u32, function_ids: FunctionIds) -> Release {
    Release { minor, function_ids, generic_methods: minor >= 27 }
}

/// What we know of a version.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Support {
    /// It has a row.
    Known(Release),
    /// It is newer than all rows, or no release: its binary must say itself where things lie and which number a function
    /// has. The rest is as in this release.
    OnlyWithDwarf(Release),
}

/// Experiments that change nothing of what is read from a program: those of the compiler, of other packages than runtime,
/// and one whose structures were compared with those without it (`sizespecializedmalloc`, go1.26). Any other may move
/// fields: `greenteagc`, `nogreenteagc` and `staticlockranking` do.
const HARMLESS_EXPERIMENTS: [&str; 20] = [
    "aliastypeparams",
    "boringcrypto",
    "cacheprog",
    "coverageredesign",
    "dwarf5",
    "jsonv2",
    "loopvar",
    "newinliner",
    "noaliastypeparams",
    "nocoverageredesign",
    "nodwarf5",
    "noloopvar",
    "nonewinliner",
    "norangefunc",
    "nosizespecializedmalloc",
    "noswissmap",
    "rangefunc",
    "sizespecializedmalloc",
    "swissmap",
    "synctest",
];

/// Whether objects with pointers have no header before them in this build although the version has one (go1.22's
/// `noallocheaders`): DWARF says what a header would measure, not whether there is one.
pub(crate) fn is_without_malloc_headers(version: &GoVersion) -> bool {
    version.experiments().any(|experiment| experiment == "noallocheaders")
}

/// What we know of a version as the build info states it.
pub(crate) fn supported(text: &str) -> Result<(GoVersion, Support), InspectError> {
    if let Some(version) = GoVersion::parse(text) {
        let as_released = version.experiments().all(|experiment| HARMLESS_EXPERIMENTS.contains(&experiment));
        if let Some(release) = row(version.minor) {
            let support = if as_released { Support::Known(release) } else { Support::OnlyWithDwarf(release) };
            return Ok((version, support));
        }
        let release = row_or_newest(version.minor).ok_or_else(|| unsupported(text))?;
        return Ok((version, Support::OnlyWithDwarf(release)));
    }
    let version =
        GoVersion::of_development(text).ok_or_else(|| InspectError::UnreadableGoVersion { found: text.to_owned() })?;
    let release = row_or_newest(version.minor).ok_or_else(|| unsupported(text))?;
    Ok((version, Support::OnlyWithDwarf(release)))
}

/// The refusal of a version.
pub(crate) fn unsupported(text: &str) -> InspectError {
    InspectError::UnsupportedGoVersion {
        version: text.to_owned(),
        oldest_minor: RELEASES.iter().map(|release| release.minor).min().unwrap_or_default(),
        newest_minor: newest_minor(),
    }
}

/// 27 where go1.27 is the newest release with a row.
pub(crate) fn newest_minor() -> u32 {
    RELEASES.iter().map(|release| release.minor).max().unwrap_or_default()
}

fn row(minor: u32) -> Option<Release> {
    RELEASES.iter().find(|release| release.minor == minor).copied()
}

/// The row of a minor version, that of the newest for a newer one; `None` for an older one.
fn row_or_newest(minor: u32) -> Option<Release> {
    row(minor).or_else(|| row(newest_minor()).filter(|newest| newest.minor < minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(u32, Option<u32>)> {
        GoVersion::parse(text).map(|version| (version.minor, version.patch))
    }

    #[test]
    fn experiments_that_may_move_fields_need_dwarf() {
        for text in
            ["go1.22.12 X:rangefunc", "go1.25.5 X:jsonv2,synctest", "go1.26.6", "go1.26.6-X:sizespecializedmalloc"]
        {
            assert!(matches!(supported(text), Ok((_, Support::Known(_)))), "{text}");
        }
        for text in [
            "go1.21.13 X:staticlockranking",
            "go1.22.12 X:rangefunc,noallocheaders",
            "go1.25.5 X:greenteagc",
            "go1.26.6-X:nogreenteagc",
        ] {
            assert!(matches!(supported(text), Ok((_, Support::OnlyWithDwarf(_)))), "{text}");
        }
        assert!(is_without_malloc_headers(&GoVersion::parse("go1.22.12 X:rangefunc,noallocheaders").unwrap()));
        assert!(!is_without_malloc_headers(&GoVersion::parse("go1.22.12 X:rangefunc").unwrap()));
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

    fn support(text: &str) -> (u32, u32, bool) {
        let (version, support) = supported(text).unwrap();
        let (release, known) = match support {
            Support::Known(release) => (release, true),
            Support::OnlyWithDwarf(release) => (release, false),
        };
        (version.minor, release.minor, known)
    }

    #[test]
    fn releases_with_a_row_need_no_dwarf_and_newer_ones_do() {
        assert_eq!(support("go1.24.11"), (24, 24, true));
        assert_eq!(support("go1.27rc2"), (27, 27, true));
        assert_eq!(support("go1.28"), (28, 27, false));
        assert_eq!(support("go1.28.3"), (28, 27, false));
        assert_eq!(support("devel go1.28-abcdef Mon"), (28, 27, false));
        assert_eq!(support("devel go1.27-abcdef Mon"), (27, 27, false));
        assert_eq!(support("go1.25-20250209-RC00 cl/1"), (25, 25, false));
    }

    #[test]
    fn version_older_than_all_rows_is_refused_with_the_range() {
        for text in ["go1.18.10", "devel go1.18-abcdef Mon"] {
            let error = supported(text).unwrap_err();
            assert_eq!(error.to_string(), format!("built by {text}, and only go1.19 to go1.27 are supported"));
        }
        for text in ["unknown", "devel +abcdef Mon", "go1.", "go1.\u{7}"] {
            let error = supported(text).unwrap_err();
            assert!(matches!(error, InspectError::UnreadableGoVersion { ref found } if found == text), "{error:?}");
        }
    }
}
