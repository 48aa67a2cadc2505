//! `leakline diff`: what has changed between two heap profiles.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::stdout;
use crate::{
    cli::DiffOutput,
    export::{
        diff::{self, FileFacts},
        pprof::{FILE_BYTES_MAX, PprofError, Profile},
        text, untrusted,
    },
    model::profile_change::compare,
};

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// The older one.
    pub before: PathBuf,
    /// The newer one.
    pub after: PathBuf,
    /// How to print.
    pub output: DiffOutput,
    /// The module whose lines are the user's own; `None`: the one that the files name.
    pub main_module: Option<String>,
}

/// Compares two files and prints what has changed.
pub fn diff(options: &Options) -> anyhow::Result<()> {
    let (before, after) = (read(&options.before)?, read(&options.after)?);
    let facts = [(&options.before, &before), (&options.after, &after)]
        .map(|(path, profile)| FileFacts::of(name(path), profile));
    warn(&facts);
    let [older, newer] = [&before, &after].map(diff::stacks);
    let stacks = |of: &Path, stacks: Result<_, diff::DiffError>| stacks.with_context(|| name(of));
    let (older, newer) = (stacks(&options.before, older)?, stacks(&options.after, newer)?);
    if options.output == DiffOutput::Pprof {
        return print_bytes(&diff::profile(&before, &after).to_bytes().context("cannot compress the profile")?);
    }
    let named = || diff::main_module(&after).or_else(|| diff::main_module(&before)).map(str::to_owned);
    let main_module = options.main_module.clone().or_else(named);
    let change = compare(&older, &newer, main_module.as_deref());
    let [before, after] = &facts;
    let text = match options.output {
        DiffOutput::Json => diff::line(&change, before, after).context("cannot write the difference as JSON")?,
        DiffOutput::Text | DiffOutput::Pprof => text::diff::render(&change, before, after, stdout::style()),
    };
    stdout::print(&text)?;
    Ok(())
}

fn name(path: &Path) -> String {
    untrusted::path(&path.display().to_string()).into_owned()
}

fn warn([before, after]: &[FileFacts; 2]) {
    if before.time_unix_ns > after.time_unix_ns && after.time_unix_ns > 0 {
        tracing::warn!("{} is newer than {}: growth is negative (leakline diff OLDER NEWER)", before.name, after.name);
    }
    if let Some(unlike) = diff::unlike(before, after) {
        tracing::warn!("{unlike}");
    }
    if before.as_of_unix_ns.is_some() && before.as_of_unix_ns == after.as_of_unix_ns {
        tracing::warn!(
            "both files are as of the same collection, so nothing can have changed: make the second one after two more \
             collections, or both with --newest"
        );
    }
    if before.rate_bytes != after.rate_bytes {
        tracing::warn!(
            "the profiles were sampled at different rates (one sample per {} and per {} bytes): both are estimates of the same \
             thing, of different precision",
            before.rate_bytes,
            after.rate_bytes
        );
    }
}

/// Reads one file; a pipe is one, too.
fn read(path: &Path) -> anyhow::Result<Profile> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", name(path)))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", name(path)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let too_large = PprofError::TooLarge { what: "bytes", most: FILE_BYTES_MAX };
        return Err(too_large).with_context(|| name(path));
    }
    Profile::parse(&bytes).with_context(|| name(path))
}

fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        bail!("a pprof file is not for terminals: redirect it, e.g. leakline diff A B --output pprof > growth.pb.gz");
    }
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}
