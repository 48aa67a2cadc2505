//! The marks that programs under test carry at the ends of lines: `//site:NAME` and `//also:NAME`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A place in the source: the end of a path, and a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the folder of all programs: `plain/lru/main.go`.
    pub(crate) file: String,
    pub(crate) line: u64,
}

impl Place {
    pub(crate) fn is(&self, file: &str, line: u64) -> bool {
        self.line == line && file.strip_suffix(self.file.as_str()).is_some_and(|rest| rest.ends_with('/'))
    }
}

/// The marked lines of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// By a name, such as that of a leak: the lines that do it.
    pub(crate) sites: BTreeMap<String, Vec<Place>>,
    /// Lines that truly grow, by an amount that nobody has counted.
    pub(crate) also: Vec<Place>,
}

impl Marks {
    /// Those of all files of a folder below that of all programs.
    pub(crate) fn read(programs: &Path, folder: &str) -> Result<Self> {
        let mut marks = Self::default();
        let entries = fs::read_dir(programs.join(folder)).with_context(|| format!("no folder {folder}"))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "go") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                marks.add(&format!("{folder}/{name}"), &fs::read_to_string(&path)?);
            }
        }
        Ok(marks)
    }

    fn add(&mut self, file: &str, text: &str) {
        for (number, line) in (1_u64..).zip(text.lines()) {
            let place = || Place { file: file.to_owned(), line: number };
            for comment in line.split("//").skip(1) {
                let comment = comment.trim();
                if let Some(name) = comment.strip_prefix("site:") {
                    self.sites.entry(name.to_owned()).or_default().push(place());
                } else if comment.starts_with("also:") {
                    self.also.push(place());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_where_they_stand() {
        let mut marks = Marks::default();
        marks.add("plain/x/main.go", "package main\nfoo() //site:a\nbar() //also:a //path:a\n");
        assert_eq!(marks.sites["a"], [Place { file: "plain/x/main.go".to_owned(), line: 2 }]);
        assert_eq!(marks.also[0].line, 3);
        assert!(marks.also[0].is("/src/zoo/plain/x/main.go", 3));
        assert!(!marks.also[0].is("/src/zoo/plain/x/main.go", 2));
        assert!(!marks.also[0].is("/src/zoo/unplain/x/main.go", 3));
    }
}
