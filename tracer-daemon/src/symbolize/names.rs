//! What a function's name says: its package, and whose code that is. Pure functions on text.
//!
//! Names are those of the function table: `package/path%2ewith.escapes.(*Type[go.shape.int]).Method.func1`
//! (escapes: `objabi.PathToPrefix` in cmd/internal/objabi/path.go).

use std::borrow::Cow;

/// Whether methods can have type parameters of their own, which decides how names are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenericMethods {
    /// Up to go1.26: all between the first and the last bracket is left out.
    Absent,
    /// From go1.27 on: a generic method of a generic type has two lists.
    Present,
}

/// Functions that the runtime puts into other packages (`//go:linkname` in runtime: malloc.go, slice.go, chan.go, map.go,
/// `map_swiss.go` of go1.19 to go1.27) and that allocate: the code to blame is the one that calls them.
const LINKED_ALLOCATORS: [&str; 12] = [
    "internal/bytealg.MakeNoZero",
    "internal/reflectlite.unsafe_New",
    "maps.clone",
    "maps.newarray",
    "maps.newobject",
    "reflect.growslice",
    "reflect.makechan",
    "reflect.makemap",
    "reflect.mapassign0",
    "reflect.mapassign_faststr0",
    "reflect.unsafe_New",
    "reflect.unsafe_NewArray",
];

/// The name as Go prints it: type arguments become `[...]` (`funcNamePiecesForPrint` in runtime/traceback.go).
pub fn for_print(name: &str, generic_methods: GenericMethods) -> Cow<'_, str> {
    let (Some(open), Some(close)) = (name.find('['), name.rfind(']')) else { return Cow::Borrowed(name) };
    let Some(interior) = name.get(open + 1..close) else { return Cow::Borrowed(name) };
    let (before, after) = (name.get(..open).unwrap_or_default(), name.get(close + 1..).unwrap_or_default());
    if generic_methods == GenericMethods::Absent || !interior.contains('[') {
        return Cow::Owned(format!("{before}[...]{after}"));
    }
    match lists(interior) {
        Lists::One => Cow::Owned(format!("{before}[...]{after}")),
        Lists::Two { between } => Cow::Owned(format!("{before}[...]{between}[...]{after}")),
        Lists::Malformed => Cow::Borrowed(name),
    }
}

/// What stands between the first and the last bracket of a name.
enum Lists<'name> {
    /// One list of type arguments.
    One,
    /// Two, with a method's name between them.
    Two { between: &'name str },
    /// Brackets that do not match: Go prints the name in full.
    Malformed,
}

fn lists(interior: &str) -> Lists<'_> {
    let (mut depth, mut closed) = (1_u32, 0);
    for (index, character) in interior.char_indices() {
        match character {
            '[' if depth == 0 => {
                return Lists::Two { between: interior.get(closed + 1..index).unwrap_or_default() };
            }
            ']' if depth == 0 => return Lists::Malformed,
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                closed = index;
            }
            _ => {}
        }
    }
    if depth == 1 { Lists::One } else { Lists::Malformed }
}

/// The import path of the package that a function belongs to, unescaped. `None` for what belongs to none: generated
/// functions of types (`type:.eq.…`), assembly entry points (`gogo`), C.
pub fn package_of(name: &str) -> Option<Cow<'_, str>> {
    // Since go1.20 the linker marks its own symbols by a colon, before by two dots.
    if ["type:", "go:", "type..", "go.("].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    // Slashes and dots behind these belong to type arguments and receivers.
    let end = name.find(['[', '(', '{']).unwrap_or(name.len());
    let plain = name.get(..end)?;
    let last_element = plain.rfind('/').map_or(0, |slash| slash + 1);
    let dot = plain.get(last_element..)?.find('.')?;
    let package = plain.get(..last_element + dot).filter(|package| !package.is_empty())?;
    Some(unescaped(package))
}

/// Whether the function is the runtime's own, or one that the runtime puts into another package to allocate for it. The
/// packages for users below `runtime/` (debug, pprof, trace, metrics, …) are not.
pub fn is_runtime(name: &str) -> bool {
    if LINKED_ALLOCATORS.contains(&name) {
        return true;
    }
    package_of(name).is_some_and(|package| {
        package == "runtime" || package.starts_with("runtime/internal/") || package.starts_with("internal/runtime/")
    })
}

/// Whether the package is of Go's standard library: the first element of its path has no dot, and it is not `main`.
/// `vendor/` in front is not looked at. A main module without a dot in its name looks the same: ask [`is_main_module`]
/// first.
pub fn is_standard_library(package: &str) -> bool {
    let path = package.strip_prefix("vendor/").unwrap_or(package);
    let first = path.split('/').next().unwrap_or_default();
    !first.is_empty() && !first.contains('.') && first != "main" && first != "command-line-arguments"
}

/// Whether the package is the user's own: `main`, or of the main module.
pub fn is_main_module(package: &str, main_module: Option<&str>) -> bool {
    if package == "main" {
        return true;
    }
    let Some(rest) = main_module.filter(|module| !module.is_empty()).and_then(|module| package.strip_prefix(module))
    else {
        return false;
    };
    rest.is_empty() || rest.starts_with('/')
}

/// `%2e` becomes `.`, and so on; what is not an escape stays.
fn unescaped(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match escape(rest) {
            Some(byte) => (byte, after.get(2..).unwrap_or_default()),
            None => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn package_is_what_stands_before_the_dot_behind_the_last_slash() {
        for (name, package) in [
            ("github.com/x/y%2ez.(*T[go.shape.int]).M.func1", Some("github.com/x/y.z")),
            ("gopkg.in/yaml%2ev3.(*Decoder).Decode", Some("gopkg.in/yaml.v3")),
            ("main.main", Some("main")),
            ("main.F[github.com/a/b.T]", Some("main")),
            ("main.(*struct { github.com/a/b.T }).M", Some("main")),
            ("slices.SortFunc[go.shape.[]string,go.shape.string]", Some("slices")),
            ("runtime.mallocgc", Some("runtime")),
            ("main.glob..func1", Some("main")),
            ("vendor/golang.org/x/net/http2/hpack.(*Decoder).Write", Some("vendor/golang.org/x/net/http2/hpack")),
            ("odd/p%22q%.F", Some("odd/p\"q%")),
            ("type:.eq.main.T", None),
            ("type..hash.main.T", None),
            ("go:(*struct { sync.Mutex; a/b.c int }).Lock", None),
            ("crosscall2", None),
            ("", None),
            (".f", None),
        ] {
            assert_eq!(package_of(name).as_deref(), package, "{name}");
        }
    }

    #[test]
    fn runtime_is_the_runtime_and_its_allocators_elsewhere() {
        for name in [
            "runtime.mallocgc",
            "runtime.(*mcache).refill",
            "runtime/internal/atomic.Xadd",
            "internal/runtime/maps.(*Map).putSlotSmall",
            "reflect.unsafe_New",
            "reflect.unsafe_NewArray",
            "internal/reflectlite.unsafe_New",
        ] {
            assert!(is_runtime(name), "{name}");
        }
        for name in ["runtime/debug.Stack", "runtime/pprof.Do", "reflect.New", "runtimes.F", "main.runtime", "gogo"] {
            assert!(!is_runtime(name), "{name}");
        }
    }

    #[test]
    fn standard_library_has_no_dot_in_its_first_element() {
        for package in ["net/http", "runtime", "encoding/json", "vendor/net"] {
            assert!(is_standard_library(package), "{package}");
        }
        for package in ["main", "github.com/x/y", "golang.org/x/net", "vendor/golang.org/x/net", ""] {
            assert!(!is_standard_library(package), "{package}");
        }
    }

    #[test]
    fn main_module_ends_at_a_slash() {
        assert!(is_main_module("main", None));
        assert!(is_main_module("example.com/a", Some("example.com/a")));
        assert!(is_main_module("example.com/a/b", Some("example.com/a")));
        assert!(!is_main_module("example.com/ab", Some("example.com/a")));
        assert!(!is_main_module("example.com/a", None));
        assert!(!is_main_module("anything", Some("")));
    }

    #[test]
    fn type_arguments_are_not_printed() {
        use GenericMethods::{Absent, Present};
        for (name, before, since) in [
            ("main.F", "main.F", "main.F"),
            ("main.(*T[go.shape.int]).M", "main.(*T[...]).M", "main.(*T[...]).M"),
            ("main.F[go.shape.[]int].func1", "main.F[...].func1", "main.F[...].func1"),
            ("main.(*T[a[b]]).M[go.shape.[]c].func1", "main.(*T[...].func1", "main.(*T[...]).M[...].func1"),
            ("odd][", "odd][", "odd]["),
            ("odd[a]]b[]", "odd[...]", "odd[a]]b[]"),
        ] {
            assert_eq!(for_print(name, Absent), before);
            assert_eq!(for_print(name, Present), since);
        }
    }

    proptest! {
        #[test]
        fn any_name_is_classified_without_panic(name in "[a-z/.%\\[\\](){}é0-9]{0,40}", module in "[a-z/.]{0,9}") {
            is_runtime(&name);
            for_print(&name, GenericMethods::Absent);
            for_print(&name, GenericMethods::Present);
            if let Some(package) = package_of(&name) {
                is_standard_library(&package);
                is_main_module(&package, Some(&module));
            }
        }
    }
}
