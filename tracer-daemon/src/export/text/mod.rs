//! The report that a person reads first, at 3 a.m., on a terminal or in a ticket.
//!
//! Owns the order (what was seen, at which price, which lines, by which paths, which goroutines, what was lost, what to
//! do next) and the wording. Layout is in `layout`, numbers in `human`, names pass through `untrusted`. Refuses to say
//! "leak" of an allocation rate: in `exact` evidence volume is all that is known. Reads no environment: width and colour
//! are input.

mod births;
mod books;
mod check;
pub mod diff;
mod exact;
mod goroutine_table;
mod goroutines;
mod layout;
mod live;
pub mod memory;
mod places;
mod series;
mod sites;
#[cfg(test)]
mod tests;
mod verdict;

pub use self::check::check;
pub use self::goroutine_table::goroutine_table;

use self::layout::Page;
use super::{
    report::{ProcessFacts, Report},
    untrusted,
};

/// How wide and how colourful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; what is narrower than 60 is laid out for 60, what is wider than 160 for 160.
    pub width: usize,
    /// Whether to use ANSI colours.
    pub colour: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 100, colour: false }
    }
}

/// The report as text, with a line feed at the end.
pub fn render(report: &Report, style: Style) -> String {
    let mut page = Page::new(style);
    match &report.snapshot.exact {
        Some(exact) => exact::write(&mut page, report, exact),
        None => books::write(&mut page, report),
    }
    page.finish()
}

fn binary(process: &ProcessFacts) -> String {
    let mut parts = vec![untrusted::path(&process.exe).into_owned()];
    if let Some(module) = &process.main_module {
        parts.push(format!("module {}", untrusted::name(module)));
    }
    let kinds = [(process.stripped, "stripped"), (process.pie, "position independent"), (process.cgo, "with C code")];
    parts.extend(kinds.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()));
    if let Some(build_id) = &process.build_id {
        parts.push(format!("build id {}", untrusted::name(build_id)));
    }
    parts.join(", ")
}

fn workload(process: &ProcessFacts) -> Option<String> {
    let named =
        |label: &str, name: &Option<String>| name.as_deref().map(|name| format!("{label} {}", untrusted::name(name)));
    let parts: Vec<String> = [
        named("namespace", &process.namespace),
        named("pod", &process.pod),
        named("container", &process.container),
        named("container id", &process.container_id),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn go_version(process: &ProcessFacts) -> String {
    if process.go_version.is_empty() {
        String::from("Go version unknown")
    } else {
        untrusted::name(&process.go_version).into_owned()
    }
}
