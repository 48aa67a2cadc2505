//! Any text as a function's name: what is said of it is part of it.

use arbitrary::Arbitrary;
use tracer_daemon::symbolize::names::{
    GenericMethods, for_print, is_main_module, is_runtime, is_standard_library, package_of,
};

#[derive(Arbitrary, Debug)]
struct Input {
    name: Name,
    module: Option<String>,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Text(String),
    /// Of pieces that mean something in names.
    Pieces(Vec<u8>),
}

const PIECES: [&str; 16] = [
    "runtime",
    ".",
    "/",
    "[",
    "]",
    "(*",
    ")",
    "{",
    "}",
    "%2e",
    "%",
    "type:",
    "main",
    "github.com",
    "go.shape.int",
    "é",
];

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let name = match input.name {
        Name::Text(text) => text,
        Name::Pieces(pieces) => {
            pieces.iter().filter_map(|piece| PIECES.get(usize::from(piece % 16))).copied().collect()
        }
    };
    for generic_methods in [GenericMethods::Absent, GenericMethods::Present] {
        let printed = for_print(&name, generic_methods);
        assert!(printed.len() <= name.len() + "[...][...]".len());
        assert!(name.contains('[') || printed == name);
    }
    let package = package_of(&name);
    if let Some(package) = &package {
        // What is no UTF-8 after unescaping becomes a character of three bytes.
        assert!(!package.is_empty() && package.len() <= name.len());
        let main = is_main_module(package, input.module.as_deref());
        assert!(main || package != "main");
        assert!(!is_standard_library(package) || package != "main");
    }
    assert!(!is_runtime(&name) || package.is_some());
}
