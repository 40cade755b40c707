//! Text that came from outside, for people to see.

use std::fmt::{self, Write};

/// Whether a character changes how the text around it reads: control and direction characters, and those without width.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text on one line, with hidden characters as escapes.
pub fn write_visible(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut done = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_hidden(*c)) {
        out.write_str(&text[done..at])?;
        write!(out, "{}", c.escape_default())?;
        done = at + c.len_utf8();
    }
    out.write_str(&text[done..])
}

/// The beginning of the text, of at most `max` bytes.
pub fn head(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &str) -> String {
        let mut out = String::new();
        write_visible(&mut out, text).unwrap();
        out
    }

    #[test]
    fn what_could_pass_for_another_line_is_an_escape() {
        assert_eq!(visible("a\r\n2026 INFO b\u{1b}[2J é"), "a\\r\\n2026 INFO b\\u{1b}[2J é");
        assert_eq!((visible("").as_str(), visible("é").as_str(), visible("\n").as_str()), ("", "é", "\\n"));
        assert_eq!(visible("a\u{2028}b\u{202e}c\u{feff}"), "a\\u{2028}b\\u{202e}c\\u{feff}");
    }

    #[test]
    fn a_head_is_cut_between_characters() {
        assert_eq!((head("aé", 3), head("aé", 2), head("", 2)), ("aé", "a", ""));
    }
}
