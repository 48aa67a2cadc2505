//! A file whose presence means: no probes.
//!
//! For whoever suspects leakline, or wants none of its probes for a while, on a whole host at once and without ending it: `touch` takes all
//! probes away within a second (by perf events about 100 ms each), `rm` allows them again. What is read from memory goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::export::Refusal;

/// Where it is looked for unless told otherwise.
pub const KILLSWITCH: &str = "/run/leakline.off";

/// The file.
#[derive(Clone, Debug)]
pub struct Killswitch(Arc<Path>);

impl Killswitch {
    /// This file.
    pub fn new(file: PathBuf) -> Self {
        Self(file.into())
    }

    /// Whether it is there. What cannot be looked at is not.
    pub fn is_on(&self) -> bool {
        fs::symlink_metadata(&self.0).is_ok()
    }

    /// Why there are no probes.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal::new(
            "killswitch",
            format!("no probes: the file {0} is there (`rm {0}` allows them again)", self.0.display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_of_that_name_counts_and_so_does_a_link_that_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let killswitch = Killswitch::new(folder.path().join("off"));
        assert!(!killswitch.is_on());
        std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join("off")).unwrap();
        assert!(killswitch.is_on());
    }
}
