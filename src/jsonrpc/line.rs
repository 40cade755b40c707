//! One message on one line.

use bytes::Bytes;
use memchr::memchr3;

use crate::word::Word;

/// The text of one JSON value without anything that some reader could take for the end of a line.
///
/// JSON allows line breaks between tokens only, and U+0085, U+2028 and U+2029 inside strings only, so the first
/// are left out and the others written as escapes: neither changes the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Bytes);

impl Line {
    /// Makes a line of `text`, which must be one valid JSON value. Text that is a line already is not copied.
    pub(super) fn new(text: Bytes) -> Self {
        match find_break(&text, 0) {
            None => Self(text),
            Some((at, _)) => Self(rewrite(&text, at)),
        }
    }

    /// A copy that holds no more memory than the text needs: what was read together shares one buffer.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The text, without a line end.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text; a line is valid UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text; never so for a message.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where the next line break is, and how many bytes it has.
fn find_break(text: &[u8], mut from: usize) -> Option<(usize, usize)> {
    static NEXT_LINE: Word = Word::new("\u{85}");
    loop {
        let ascii = memchr3(b'\n', b'\r', 0xE2, text.get(from..)?).map(|i| from + i);
        let nel = NEXT_LINE.find_in(&text[from..ascii.unwrap_or(text.len())]);
        if let Some(i) = nel {
            return Some((from + i, 2));
        }
        let at = ascii?;
        match &text[at..] {
            [b'\n' | b'\r', ..] => return Some((at, 1)),
            [0xE2, 0x80, 0xA8 | 0xA9, ..] => return Some((at, 3)),
            _ => from = at + 1,
        }
    }
}

fn rewrite(text: &[u8], first: usize) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut done, mut next) = (0, find_break(text, first));
    while let Some((at, length)) = next {
        out.extend_from_slice(&text[done..at]);
        out.extend_from_slice(match &text[at..at + length] {
            b"\xC2\x85" => b"\\u0085".as_slice(),
            b"\xE2\x80\xA8" => b"\\u2028",
            b"\xE2\x80\xA9" => b"\\u2029",
            _ => b"",
        });
        done = at + length;
        next = find_break(text, done);
    }
    out.extend_from_slice(&text[done..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_byte_for_byte_and_not_copied() {
        let text = Bytes::from_static(r#"{ "b":1.0, "a": "é € “" }"#.as_bytes());
        let line = Line::new(text.clone());
        assert_eq!(line.bytes(), &text);
        assert_eq!(line.bytes().as_ptr(), text.as_ptr());
    }

    #[test]
    fn pretty_printed_text_becomes_one_line() {
        let line = Line::new(Bytes::from_static(b"{\r\n  \"a\": [\n1,\n2]\n}\n"));
        assert_eq!(line.as_str(), "{  \"a\": [1,2]}");
    }

    #[test]
    fn unicode_line_breaks_in_strings_become_escapes() {
        let text = "{\"a\":\"x\u{2028}y\u{2029}z\u{85}€\"}";
        let line = Line::new(Bytes::from(text.to_owned()));
        assert_eq!(line.as_str(), r#"{"a":"x\u2028y\u2029z\u0085€"}"#);
        let (a, b): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(line.as_str()).unwrap());
        assert_eq!(a, b);
    }
}
