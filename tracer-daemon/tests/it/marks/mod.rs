//! Mark bits that are read from outside tell who lives: known objects of 22 kinds, from 1 byte to 1 MiB, kept and forgotten,
//! through collections on request, stopped in the middle of sweeping, and 200 collections at the program's own pace. Nothing that is
//! kept may be called dead, nothing that a collection found dead alive; what cannot be known must be called so.
//!
//! `cargo xtask test` runs each version once, in one of the ways to build, and both collectors where there are two.
//! `cargo xtask marks` runs all of them and writes `docs/results/marks.json`.

mod phases;
mod program;
mod results;

use std::env;

use self::phases::{Mistakes, concurrent, frozen, quiet};
use self::program::Program;
use self::results::Row;
use crate::go::Build;

/// A way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Stripped,
    Pie,
}

/// Which collector marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    /// The version's own.
    Default,
    /// The other one. Its layout is known from DWARF only.
    GreenTea,
    NoGreenTea,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    toolchain: &'static str,
    mode: Mode,
    collector: Collector,
}

impl Cell {
    fn name(self) -> String {
        let mode = match self.mode {
            Mode::Plain => "default",
            Mode::Stripped => "-s -w",
            Mode::Pie => "PIE",
        };
        let experiment = self.experiment().map(|experiment| format!(" {experiment}")).unwrap_or_default();
        format!("{} {mode}{experiment}", self.toolchain)
    }

    const fn experiment(self) -> Option<&'static str> {
        match self.collector {
            Collector::Default => None,
            Collector::GreenTea => Some("greenteagc"),
            Collector::NoGreenTea => Some("nogreenteagc"),
        }
    }

    /// Green Tea is what go1.26 and later have.
    fn has_inline_marks(self) -> bool {
        match self.collector {
            Collector::Default => matches!(self.toolchain, "go1.26.6" | "go1.27.3"),
            Collector::GreenTea => true,
            Collector::NoGreenTea => false,
        }
    }

    fn run(self) -> Result<Row, String> {
        let flags: &[&str] = match self.mode {
            Mode::Plain => &[],
            Mode::Stripped => &["-ldflags=-s -w"],
            Mode::Pie => &["-buildmode=pie"],
        };
        let environment = [("CGO_ENABLED", "0"), ("GOEXPERIMENT", self.experiment().unwrap_or_default())];
        let build = Build { program: "marks", toolchain: self.toolchain, flags, environment: &environment };
        let mut program = Program::start(&build);
        let mut row = Row::default();
        let mut mistakes = Mistakes::default();
        quiet(&mut program, &mut mistakes, &mut row);
        frozen(&mut program, &mut mistakes, &mut row, self.has_inline_marks());
        row.add_sources(&program.reader.sources());
        concurrent(&mut program, &mut mistakes, &mut row);
        mistakes.none()?;
        Ok(row)
    }
}

macro_rules! cells {
    ($($name:ident: $toolchain:literal, $mode:ident, $collector:ident;)*) => {$(
        #[test]
        fn $name() {
            let cell = Cell { toolchain: $toolchain, mode: Mode::$mode, collector: Collector::$collector };
            let row = cell.run().unwrap_or_else(|problem| panic!("{}: {problem}", cell.name()));
            println!("{}: {}", cell.name(), row.summary());
        }
    )*};
}

cells! {
    go1_19_pie: "go1.19.13", Pie, Default;
    go1_20_stripped: "go1.20.14", Stripped, Default;
    go1_21_plain: "go1.21.13", Plain, Default;
    go1_22_stripped: "go1.22.12", Stripped, Default;
    go1_23_pie: "go1.23.12", Pie, Default;
    go1_24_plain: "go1.24.11", Plain, Default;
    go1_25_stripped: "go1.25.5", Stripped, Default;
    go1_25_green_tea: "go1.25.5", Plain, GreenTea;
    go1_26_stripped: "go1.26.6", Stripped, Default;
    go1_26_no_green_tea: "go1.26.6", Plain, NoGreenTea;
    go1_27_pie: "go1.27.3", Pie, Default;
    go1_27_no_green_tea: "go1.27.3", Pie, NoGreenTea;
}

const TOOLCHAINS: [&str; 9] =
    ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"];

/// All cells; with `LEAKLINE_MARKS_ONLY` those whose name has that in it.
#[test]
#[ignore = "takes minutes: cargo xtask marks"]
fn all_cells() {
    let only = env::var("LEAKLINE_MARKS_ONLY").unwrap_or_default();
    let mut cells = Vec::new();
    for toolchain in TOOLCHAINS {
        let other = match toolchain {
            "go1.25.5" => Some(Collector::GreenTea),
            "go1.26.6" | "go1.27.3" => Some(Collector::NoGreenTea),
            _ => None,
        };
        for mode in [Mode::Plain, Mode::Stripped, Mode::Pie] {
            cells.push(Cell { toolchain, mode, collector: Collector::Default });
            // A stripped one is refused: its layout is not that of the release.
            let other = other.filter(|_| mode != Mode::Stripped);
            cells.extend(other.map(|collector| Cell { toolchain, mode, collector }));
        }
    }
    cells.retain(|cell| cell.name().contains(&only));
    let mut wrong = Vec::new();
    for (done, cell) in cells.iter().enumerate() {
        let name = cell.name();
        let outcome = cell.run();
        match &outcome {
            Ok(row) => println!("{}/{} {name}: {}", done + 1, cells.len(), row.summary()),
            Err(problem) => {
                println!("{}/{} {name}: WRONG: {problem}", done + 1, cells.len());
                wrong.push(name.clone());
            }
        }
        results::put(&name, outcome);
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}
