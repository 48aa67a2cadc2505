//! Results to stdout, for readers that may go away.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

use crate::export::text;

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

/// Width and colour of stdout. `NO_COLOR` as in no-color.org, `COLUMNS` as shells set it.
pub(super) fn style() -> text::Style {
    let is_terminal = io::stdout().is_terminal();
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = columns.or_else(|| is_terminal.then(terminal_width).flatten()).unwrap_or(text::Style::default().width);
    text::Style { width, colour: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}
