//! The fixture matrix: every supported minor version of Go times every way to build. In each cell facts, variables and
//! probe points found without a symbol table are those of the unstripped twin, whose symbol table tells the truth, and exact
//! counts of the running program are exact.
//!
//! `cargo xtask test` runs a covering subset. `cargo xtask matrix` runs all cells and writes `docs/results/fixtures.json`, from which
//! `docs/support.md` is made.

mod cell;
mod results;

use std::env;

use self::cell::{Mode, Row, check};
use self::results::Results;
pub(crate) use self::results::{Cell, commit};
use crate::leakline::can_attach;

/// One toolchain for each minor version, the newest patch release.
const TOOLCHAINS: [&str; 9] =
    ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"];

/// The cells that `cargo xtask test` runs: each version and each way to build at least once, what differs most between
/// versions more often.
macro_rules! cells {
    ($($name:ident: $toolchain:literal, $mode:ident;)*) => {$(
        #[test]
        fn $name() {
            is_as_committed($toolchain, Mode::$mode, can_attach(stringify!($name)));
        }
    )*};
}

/// A cell is right, and as much is found and claimed in it as the committed results say.
fn is_as_committed(toolchain: &str, mode: Mode, counted: bool) {
    let name = format!("{toolchain} {}", mode.name());
    let row = check(toolchain, mode, counted).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    println!("{name}: {}", row.summary());
    let committed = Results::read().right(toolchain, mode).unwrap_or_else(|| panic!("{name}: no committed result"));
    let claims = |row: &Row| {
        let refused: Vec<String> = row.refused.iter().map(|(id, _)| id.clone()).collect();
        (row.globals, row.points, refused, row.exact_objects.is_some() || !counted)
    };
    assert_eq!(
        claims(&row),
        claims(&committed),
        "{name}: found, expected; `cargo xtask matrix --only '{name}'` renews it"
    );
}

cells! {
    go1_19_plain: "go1.19.13", Plain;
    go1_19_cgo_external_pie: "go1.19.13", CgoExternalPie;
    go1_20_pie_stripped: "go1.20.14", PieStripped;
    go1_20_amd64_v3: "go1.20.14", Amd64V3;
    go1_21_profile: "go1.21.13", Profile;
    go1_22_race: "go1.22.12", Race;
    go1_23_not_optimised: "go1.23.12", NotOptimised;
    go1_23_trimpath: "go1.23.12", Trimpath;
    go1_24_cgo_external: "go1.24.11", CgoExternal;
    go1_25_pie: "go1.25.5", Pie;
    go1_26_stripped: "go1.26.6", Stripped;
    go1_27_profile: "go1.27.3", Profile;
    go1_27_not_optimised: "go1.27.3", NotOptimised;
}

/// All cells, or a share of them: `LEAKLINE_MATRIX_SHARD=1/3`; with `LEAKLINE_MATRIX_RESUME` without those that ran on
/// this commit; with `LEAKLINE_MATRIX_ONLY` those whose name has that in it. `cargo xtask matrix` sets them.
#[test]
#[ignore = "takes hours: cargo xtask matrix"]
fn all_cells() {
    let mut results = Results::read();
    let (share, of) = results::shard(&env::var("LEAKLINE_MATRIX_SHARD").unwrap_or_else(|_| "1/1".to_owned()));
    let resume = env::var_os("LEAKLINE_MATRIX_RESUME").is_some();
    let only = env::var("LEAKLINE_MATRIX_ONLY").unwrap_or_default();
    let counted = can_attach("the fixture matrix");
    let cells: Vec<(&str, Mode)> = TOOLCHAINS
        .into_iter()
        .flat_map(|toolchain| Mode::ALL.into_iter().map(move |mode| (toolchain, mode)))
        .filter(|(toolchain, mode)| mode.exists_in(toolchain))
        .filter(|(toolchain, mode)| format!("{toolchain} {}", mode.name()).contains(&only))
        .collect();
    let mine: Vec<(&str, Mode)> =
        cells.iter().enumerate().filter(|(index, _)| index % of == share).map(|(_, cell)| *cell).collect();
    let mut wrong = Vec::new();
    for (done, (toolchain, mode)) in mine.iter().enumerate() {
        let name = format!("{toolchain} {}", mode.name());
        if resume && results.ran_on_this_commit(toolchain, *mode) {
            continue;
        }
        let outcome = check(toolchain, *mode, counted);
        match &outcome {
            Ok(row) => println!("{}/{} {name}: {}", done + 1, mine.len(), row.summary()),
            Err(problem) => {
                println!("{}/{} {name}: WRONG: {problem}", done + 1, mine.len());
                wrong.push(name);
            }
        }
        results.put(toolchain, *mode, outcome);
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}
