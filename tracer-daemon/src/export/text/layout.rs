//! Lines that fit: wrapping, columns, emphasis. Knows nothing about what the text says.
//!
//! Width is counted in characters; characters that take two columns are rare in Go names and only shift a table.

use super::Style;
use crate::{
    export::untrusted,
    symbolize::{Frame, Origin},
};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// Width of the names of facts.
const FACT_WIDTH: usize = 10;

/// Frames of one stack.
const MAX_FRAMES: usize = 12;
/// Frames of it from the one that the stack is shown for, where that lies deeper.
const FRAMES_AT_PLACE: usize = 4;

/// The page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    width: usize,
    colour: bool,
}

impl Page {
    pub(super) fn new(style: Style) -> Self {
        Self { text: String::new(), width: style.width.clamp(60, 160), colour: style.colour }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn finish(mut self) -> String {
        let end = self.text.trim_end_matches('\n').len();
        self.text.truncate(end);
        self.text.push('\n');
        self.text
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A sentence that is read first.
    pub(super) fn heading(&mut self, sentence: &str) {
        self.wrapped("", "", sentence, BOLD);
    }

    /// A sentence that must not be missed.
    pub(super) fn warning(&mut self, sentence: &str) {
        self.wrapped("", "", sentence, RED);
    }

    /// A title, and beside it how to read what follows.
    pub(super) fn section(&mut self, title: &str, explanation: &str) {
        self.wrapped("", "", title, BOLD);
        if !explanation.is_empty() {
            self.wrapped("", "", explanation, DIM);
        }
    }

    /// A named fact.
    pub(super) fn fact(&mut self, name: &str, text: &str) {
        let indent = " ".repeat(FACT_WIDTH);
        self.wrapped(&format!("{name:FACT_WIDTH$}"), &indent, text, "");
    }

    /// Text below something, wrapped with the same indentation.
    pub(super) fn indented(&mut self, columns: usize, text: &str) {
        let indent = " ".repeat(columns.min(self.width / 2));
        self.wrapped(&indent, &indent, text, "");
    }

    /// One of several things.
    pub(super) fn item(&mut self, text: &str) {
        self.wrapped("- ", "  ", text, "");
    }

    /// A line as it is.
    pub(super) fn line(&mut self, line: &str) {
        self.painted(line, "");
    }

    /// A line that may be overlooked.
    pub(super) fn quiet_line(&mut self, line: &str) {
        self.painted(line, DIM);
    }

    /// A line that stands out.
    pub(super) fn strong_line(&mut self, line: &str) {
        self.painted(line, BOLD);
    }

    /// Frames, the first one first, and in any case the one that they are shown for. Places are whole, so that they can be
    /// copied: what does not fit beside the function goes below it.
    pub(super) fn stack(&mut self, frames: &[Frame], shown_for: &Frame) {
        let place = frames.iter().position(|frame| frame == shown_for).unwrap_or(0);
        let (head, resume) =
            if place < MAX_FRAMES { (MAX_FRAMES, MAX_FRAMES) } else { (MAX_FRAMES - FRAMES_AT_PLACE, place) };
        frames.iter().take(head).for_each(|frame| self.frame(frame));
        self.hidden_frames(resume.min(frames.len()).saturating_sub(head), "");
        if resume > head {
            frames.iter().skip(resume).take(FRAMES_AT_PLACE).for_each(|frame| self.frame(frame));
        }
        let end = if resume > head { resume + FRAMES_AT_PLACE } else { head };
        self.hidden_frames(frames.len().saturating_sub(end), " (--output json)");
    }

    fn hidden_frames(&mut self, count: usize, hint: &str) {
        let noun = if count == 1 { "frame" } else { "frames" };
        if count > 0 {
            self.quiet_line(&format!("    … {count} more {noun}{hint}"));
        }
    }

    fn frame(&mut self, frame: &Frame) {
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let name = format!("    {}{inlined}", function(frame));
        let place = file_and_line(frame);
        let both = format!("{name:44}  {place}");
        if both.chars().count() <= self.width {
            self.line(&both);
        } else {
            self.line(&name);
            self.line(&format!("        {place}"));
        }
    }

    /// Breaks at spaces; a word that is longer than the line gets a line of its own and is not broken, so that it can be
    /// copied.
    fn wrapped(&mut self, first: &str, further: &str, text: &str, paint: &str) {
        let mut line = first.to_owned();
        let (mut columns, mut is_empty) = (first.chars().count(), true);
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if !is_empty && columns + 1 + length > self.width {
                self.painted(&line, paint);
                further.clone_into(&mut line);
                (columns, is_empty) = (further.chars().count(), true);
            }
            if !is_empty {
                line.push(' ');
                columns += 1;
            }
            line.push_str(word);
            columns += length;
            is_empty = false;
        }
        self.painted(&line, paint);
    }

    fn painted(&mut self, line: &str, paint: &str) {
        // What must not be broken has no-break spaces; on the terminal they are spaces.
        let line = line.trim_end().replace('\u{a0}', " ");
        if self.colour && !paint.is_empty() && !line.is_empty() {
            self.text.push_str(paint);
            self.text.push_str(&line);
            self.text.push_str(RESET);
        } else {
            self.text.push_str(&line);
        }
        self.text.push('\n');
    }
}

/// Function, file and line in a sentence: `main.(*store).put (/src/store.go:42)`.
pub(super) fn place(frame: &Frame) -> String {
    format!("{} ({})", function(frame), file_and_line(frame))
}

/// The function, escaped.
pub(super) fn function(frame: &Frame) -> String {
    if frame.function.is_empty() { String::from("?") } else { untrusted::name(&frame.function).into_owned() }
}

/// `/src/store.go:42`, escaped; says so where the file is not known, or whose code it is where that is not Go's.
pub(super) fn file_and_line(frame: &Frame) -> String {
    match (frame.file.is_empty(), frame.line) {
        (true, _) => String::from(match frame.origin {
            Origin::Go | Origin::Unknown => "file unknown",
            Origin::Native => "native code",
            Origin::Vdso => "kernel code",
        }),
        (false, 0) => untrusted::path(&frame.file).into_owned(),
        (false, line) => format!("{}:{line}", untrusted::path(&frame.file)),
    }
}

/// A function and its place for the last columns of a table: on one line where they fit or enough of the place does,
/// else the place below the function. Where they do not fit, the function goes without the path of its package, as Go programmers
/// write it, and of what is still too long the end is kept, since it says more.
pub(super) fn last_columns(frame: &Frame, room: usize) -> (String, Option<String>) {
    let (function, place) = (function(frame), file_and_line(frame));
    let place_length = place.chars().count();
    let short = without_package_path(&function);
    for function in [&function, short] {
        let length = function.chars().count();
        if length.max(FUNCTION_COLUMN) + GAP + place_length <= room {
            return (format!("{function:FUNCTION_COLUMN$}  {place}"), None);
        }
        if length + GAP + place_length <= room {
            return (format!("{function}  {place}"), None);
        }
    }
    let left = room.saturating_sub(GAP + short.chars().count().max(FUNCTION_COLUMN));
    if left >= PLACE_COLUMN {
        return (format!("{short:FUNCTION_COLUMN$}  {}", untrusted::keep_end(&place, left)), None);
    }
    let function = if function.chars().count() <= room { &function } else { short };
    (untrusted::keep_end(function, room).into_owned(), Some(untrusted::keep_end(&place, room).into_owned()))
}

/// `web.New` of `github.com/prometheus/prometheus/web.New`. Brackets and parentheses may hold other paths.
fn without_package_path(function: &str) -> &str {
    let package_end = function.find(['[', '(']).unwrap_or(function.len());
    let start = function.get(..package_end).and_then(|package| package.rfind('/')).map_or(0, |slash| slash + 1);
    function.get(start..).unwrap_or(function)
}

/// Between two columns.
const GAP: usize = 2;
/// Functions up to this length leave places aligned.
const FUNCTION_COLUMN: usize = 30;
/// With less room than this a place goes below its function.
const PLACE_COLUMN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixture;

    fn page(width: usize, colour: bool) -> Page {
        Page::new(Style { width, colour })
    }

    #[test]
    fn prose_is_wrapped_at_the_width_and_words_stay_whole() {
        let mut page = page(60, false);
        page.fact("name", &"word ".repeat(20));
        page.item(&format!("a {} b", "x".repeat(70)));
        let text = page.finish();
        assert!(text.lines().all(|line| line.chars().count() <= 60 || line.contains(&"x".repeat(70))), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("          word")).count(), 1, "{text}");
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let texts = [false, true].map(|colour| {
            let mut page = page(80, colour);
            page.section("TITLE", "how to read");
            page.finish()
        });
        assert_eq!(texts[0], "TITLE\nhow to read\n");
        assert_eq!(texts[1], "\x1b[1mTITLE\x1b[0m\n\x1b[2mhow to read\x1b[0m\n");
    }

    #[test]
    fn last_columns_never_exceed_their_room() {
        for (function, file) in [("main.f", "/a.go"), (&*"f".repeat(90), "/a.go"), ("main.f", &*"/p".repeat(90))] {
            let frame = fixture::frame(function, file, 7);
            for room in [20, 33, 59, 60, 100] {
                let (first, second) = last_columns(&frame, room);
                assert!(first.chars().count() <= room, "{room}: {first}");
                assert!(second.as_ref().is_none_or(|second| second.chars().count() <= room), "{room}: {second:?}");
                assert!(second.as_ref().unwrap_or(&first).ends_with(":7"), "the line number is always there");
            }
        }
    }

    #[test]
    fn a_function_that_does_not_fit_loses_the_path_of_its_package() {
        let file = "github.com/prometheus/prometheus@v0.312.0/web/web.go";
        let frame = fixture::frame("github.com/prometheus/prometheus/web.New.setPathWithPrefix.func20.1", file, 976);
        assert_eq!(last_columns(&frame, 68).0, "web.New.setPathWithPrefix.func20.1  …/web/web.go:976");
        assert_eq!(without_package_path("example.com/x.Map[go.shape.a/b]"), "x.Map[go.shape.a/b]");
        assert_eq!(without_package_path("main.f"), "main.f");
    }

    #[test]
    fn a_deep_stack_shows_the_frame_that_it_is_shown_for() {
        let frames: Vec<Frame> = (0..40).map(|line| fixture::frame("main.f", "/f.go", line)).collect();
        let lines = |at: usize| {
            let mut page = page(80, false);
            page.stack(&frames, &frames[at]);
            page.finish().lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines(3).len(), MAX_FRAMES + 1);
        let deep = lines(30);
        assert_eq!(deep[7..], ["/f.go:7", "frames", "/f.go:30", "/f.go:31", "/f.go:32", "/f.go:33", "json)"]);
        assert_eq!(lines(39)[8..], ["frames", "/f.go:39"]);
        assert_eq!(lines(12)[7..10], ["/f.go:7", "frames", "/f.go:12"]);
    }

    #[test]
    fn numbers_stay_with_their_units() {
        let mut page = page(60, false);
        page.item(&format!("{} 1\u{a0}MiB", "x".repeat(53)));
        assert_eq!(page.finish(), format!("- {}\n  1 MiB\n", "x".repeat(53)));
    }

    #[test]
    fn unknown_places_say_so() {
        let frame = Frame {
            function: "".into(),
            file: "".into(),
            line: 0,
            function_start_line: 0,
            inlined: false,
            origin: Origin::Go,
        };
        assert_eq!(place(&frame), "? (file unknown)");
    }
}
