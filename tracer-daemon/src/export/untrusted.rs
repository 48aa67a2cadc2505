//! Names that come from targets, made safe to print.
//!
//! A function, file, executable or pod name is text that a stranger chose: it may clear a terminal, reverse the reading
//! direction, or be a megabyte long. Every exporter passes such names through here, and nothing else does the job twice.
//! Refuses to guess an encoding: names are already `str`, bytes that were no UTF-8 were replaced where they were read.

use std::{borrow::Cow, fmt::Write as _};

/// Longest name that any exporter shows, in characters.
pub const MAX_NAME_CHARS: usize = 512;

/// What stands where something was cut off.
pub const ELLIPSIS: char = '…';

/// A function, service, pod or module name: control characters escaped, the end cut off beyond [`MAX_NAME_CHARS`].
pub fn name(text: &str) -> Cow<'_, str> {
    if text.chars().nth(MAX_NAME_CHARS).is_none() {
        return escape(Cow::Borrowed(text));
    }
    let mut kept: String = text.chars().take(MAX_NAME_CHARS - 1).collect();
    kept.push(ELLIPSIS);
    escape(Cow::Owned(kept))
}

/// A file path: control characters escaped, the beginning cut off beyond [`MAX_NAME_CHARS`], since the end says more.
pub fn path(text: &str) -> Cow<'_, str> {
    escape(keep_end(text, MAX_NAME_CHARS))
}

/// The last characters of a text, with an ellipsis in front where something is missing, and cut at a `/` where that
/// loses no more than half. At most `max_chars` characters.
pub fn keep_end(text: &str, max_chars: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= max_chars {
        return Cow::Borrowed(text);
    }
    let room = max_chars.saturating_sub(1);
    let tail: String = text.chars().skip(count - room).collect();
    let at_separator = tail
        .char_indices()
        .enumerate()
        .find(|(_, (_, character))| *character == '/')
        .filter(|(position, _)| *position <= room.div_ceil(2))
        .map(|(_, (byte, _))| byte);
    let tail = at_separator.and_then(|byte| tail.get(byte..)).unwrap_or(&tail);
    let mut kept = String::with_capacity(tail.len() + ELLIPSIS.len_utf8());
    if max_chars > 0 {
        kept.push(ELLIPSIS);
    }
    kept.push_str(tail);
    Cow::Owned(kept)
}

/// Control characters, and those that change the direction or the lines of what surrounds them, as `\u{…}`.
fn escape(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.chars().any(must_be_escaped) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if must_be_escaped(character) {
            // Writing to a String cannot fail.
            write!(escaped, "\\u{{{:x}}}", u32::from(character)).unwrap_or_default();
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Soft hyphen, zero width, direction marks and overrides, line and paragraph separators, byte order mark, tags.
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::fixture;

    #[test]
    fn plain_names_are_not_copied() {
        assert!(matches!(name("main.(*store).put"), Cow::Borrowed("main.(*store).put")));
        assert!(matches!(path("/src/größe.go"), Cow::Borrowed("/src/größe.go")));
    }

    #[test]
    fn control_and_direction_characters_become_visible() {
        assert_eq!(name("a\x1b[2Jb\nc\u{9b}d"), "a\\u{1b}[2Jb\\u{a}c\\u{9b}d");
        assert_eq!(path("/a\u{202e}og.niam"), "/a\\u{202e}og.niam");
    }

    #[test]
    fn long_names_lose_their_end_and_long_paths_their_beginning() {
        let long = format!("start{}end", "x".repeat(MAX_NAME_CHARS));
        assert!(name(&long).starts_with("startx") && name(&long).ends_with("x…"));
        assert!(path(&long).starts_with("…x") && path(&long).ends_with("xend"));
        assert_eq!(name(&long).chars().count(), MAX_NAME_CHARS);
        assert_eq!(path(&long).chars().count(), MAX_NAME_CHARS);
    }

    #[test]
    fn paths_are_cut_at_a_separator_where_one_is_near() {
        assert_eq!(keep_end("/builds/ci/work/shop/internal/store.go", 23), "…/internal/store.go");
        assert_eq!(keep_end("/builds/ci/work/shop/internal/store.go", 24), "…/shop/internal/store.go");
        assert_eq!(keep_end("a_long_name_without_separators.go", 10), "…rators.go");
        assert_eq!(keep_end("short.go", 10), "short.go");
        assert_eq!(keep_end("anything", 1), "…");
        assert_eq!(keep_end("anything", 0), "");
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_line_or_the_cap(text in fixture::any_text(), cap in 0_usize..40) {
            prop_assert!(!name(&text).chars().any(must_be_escaped));
            prop_assert!(!path(&text).chars().any(must_be_escaped));
            prop_assert!(keep_end(&text, cap).chars().count() <= cap);
        }
    }
}
