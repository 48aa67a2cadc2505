//! Committed results of measurements: one entry a cell, each with the commit on which it ran. Who measures says what a cell is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::command;

/// What is measured, whatever command does it: a change here makes other results.
const SOURCES: [&str; 3] = ["tracer-common", "tracer-daemon", "tracer-ebpf"];

/// A cell of a file of results.
pub(crate) trait Recorded: Serialize + DeserializeOwned {
    /// The commit on which it ran, as of [`Results::commit`].
    fn commit(&self) -> &str;
    /// Whether nothing is to be gained by running it again on the same commit.
    fn is_good(&self) -> bool;
}

/// A file of results: cells by name.
#[derive(Debug)]
pub(crate) struct Results<Cell> {
    path: PathBuf,
    lock: PathBuf,
    /// The commit that is tested.
    pub(crate) commit: String,
    cells: PhantomData<Cell>,
}

impl<Cell: Recorded> Results<Cell> {
    /// `docs/results/NAME.json`. `sources`: the folder of the command, relative to the workspace.
    pub(crate) fn new(root: &Path, name: &str, sources: &str) -> Result<Self> {
        // Not beside the results, where it would be taken for one; and left there, since others may wait for it.
        let lock = root.join("target").join(format!("{name}.lock"));
        Ok(Self { path: path(root, name), lock, commit: commit(root, sources)?, cells: PhantomData })
    }

    /// Whether it was right on this commit.
    pub(crate) fn is_done(&self, name: &str) -> Result<bool> {
        Ok(self.read()?.get(name).is_some_and(|cell| cell.commit() == self.commit && cell.is_good()))
    }

    /// Writes at once: a run of hours may be cut off. Another shard may have written meanwhile.
    pub(crate) fn put(&self, name: &str, cell: Cell) -> Result<()> {
        let lock = File::create(&self.lock)?;
        lock.lock()?;
        let mut cells = self.read()?;
        cells.insert(name.to_owned(), cell);
        // A cell a line, so that a change of one is a change of one line.
        let lines = cells
            .iter()
            .map(|(name, cell)| Ok(format!("{}: {}", serde_json::to_string(name)?, serde_json::to_string(cell)?)));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        fs::write(&self.path, format!("{{\n{}\n}}\n", lines.join(",\n")))?;
        Ok(())
    }

    /// All cells; none where the file does not exist yet.
    pub(crate) fn read(&self) -> Result<BTreeMap<String, Cell>> {
        read_file(&self.path)
    }
}

/// All cells of `docs/results/NAME.json`; none where it does not exist yet.
pub(crate) fn read<Cell: Recorded>(root: &Path, name: &str) -> Result<BTreeMap<String, Cell>> {
    read_file(&path(root, name))
}

fn path(root: &Path, name: &str) -> PathBuf {
    root.join("docs/results").join(format!("{name}.json"))
}

fn read_file<Cell: Recorded>(path: &Path) -> Result<BTreeMap<String, Cell>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            serde_json::from_str(&text).with_context(|| format!("{} is not what was written there", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The commit that is tested, marked where what decides the outcome differs from it.
fn commit(root: &Path, sources: &str) -> Result<String> {
    let git = |arguments: &[&str]| command::capture(Command::new("git").current_dir(root).args(arguments));
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--", sources];
    status.extend(SOURCES);
    Ok(format!("{}{}", commit.trim(), if git(&status)?.trim().is_empty() { "" } else { "+" }))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Cell {
        commit: String,
        is_good: bool,
    }

    impl Recorded for Cell {
        fn commit(&self) -> &str {
            &self.commit
        }

        fn is_good(&self) -> bool {
            self.is_good
        }
    }

    #[test]
    fn cells_are_read_as_they_were_written() {
        let folder = std::env::temp_dir().join(format!("leakline-results-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let results = Results {
            path: folder.join("cells.json"),
            lock: folder.join("lock"),
            commit: "c".to_owned(),
            cells: PhantomData,
        };
        let cell = |commit: &str, is_good| Cell { commit: commit.to_owned(), is_good };
        results.put("right", cell("c", true)).unwrap();
        results.put("wrong", cell("c", false)).unwrap();
        results.put("old", cell("b", true)).unwrap();
        let done = ["right", "wrong", "old", "none"].map(|name| results.is_done(name).unwrap());
        let read = results.read().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(done, [true, false, false, false]);
        assert_eq!(read.len(), 3);
    }
}
