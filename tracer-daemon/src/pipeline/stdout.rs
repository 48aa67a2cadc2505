//! Results to stdout, for readers that may go away.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Whether somebody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// It was taken.
    Listening,
    /// The reader of the pipe has seen enough.
    Gone,
}

/// Prints a document and a line feed.
pub fn print(text: &str) -> anyhow::Result<Reader> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}
