//! One message on one line.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use bytes::{Buf, Bytes};
use memchr::memchr3;
use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;

use crate::{pieces::Pieces, word::Word};

/// From this length on, in bytes, a text goes over into another without being copied. A shorter one is copied sooner than
/// its piece is kept.
pub(super) const LONG: usize = 32 * 1024;

/// The text of one JSON value without anything that some reader could take for the end of a line.
///
/// JSON allows line breaks between tokens only, and U+0085, U+2028 and U+2029 inside strings only, so the first
/// are left out and the others written as escapes: neither changes the value.
///
/// The text may stand in several pieces. It is written as such, and put together only for who reads it.
#[derive(Debug, Clone)]
pub struct Line(Text);

#[derive(Debug, Clone)]
enum Text {
    Whole(Bytes),
    Spliced(Arc<Spliced>),
}

/// What a long text has become by changes to it.
#[derive(Debug)]
struct Spliced {
    pieces: Pieces,
    /// The pieces in one, once somebody has asked for that.
    joined: OnceLock<Bytes>,
    /// The text before the only change to it; the pieces share its memory.
    before: Option<Bytes>,
}

impl Line {
    /// Makes a line of `text`, which must be one valid JSON value. Text that is a line already is not copied, nor is one
    /// that ends with its line's end.
    pub(super) fn new(mut text: Bytes) -> Self {
        text.truncate(text.trim_ascii_end().len());
        match find_break(&text, 0) {
            None => Self(Text::Whole(text)),
            Some((at, _)) => Self(Text::Whole(rewrite(&text, at))),
        }
    }

    /// A value that is part of this one. It shares the memory of this one, if it [may](Self::lender_to), and is copied
    /// otherwise.
    #[must_use]
    pub fn part(&self, value: &RawValue) -> Self {
        match self.lender_to(value.get().len()).and_then(|lender| lender.share(value.get())) {
            Some(text) => Self(Text::Whole(text)),
            None => value.to_owned().into(),
        }
    }

    /// This one, if a text of this length may hold its memory: not if that is more than twice as much, since what waits is
    /// bounded by its own length.
    pub(super) fn lender_to(&self, length: usize) -> Option<&Self> {
        (length >= self.len() / 2).then_some(self)
    }

    /// The memory of a text, if that is part of this one's.
    fn share(&self, part: &str) -> Option<Bytes> {
        let (text, part) = (self.bytes(), part.as_bytes());
        let (all, place) = (text.as_ptr_range(), part.as_ptr_range());
        (all.start <= place.start && place.end <= all.end).then(|| text.slice_ref(part))
    }

    /// The same in one piece, for who will read it: the pieces that it stood in are let go.
    #[must_use]
    pub fn joined(self) -> Self {
        Self(Text::Whole(self.bytes().clone()))
    }

    /// The line that this one has become by one change, if that is known: a long one need not be put together to be read.
    pub fn before_change(&self) -> Option<Self> {
        match &self.0 {
            Text::Spliced(spliced) => spliced.before.clone().map(|text| Self(Text::Whole(text))),
            Text::Whole(_) => None,
        }
    }

    /// A copy that holds no more memory than the text needs: what was read together shares one buffer.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Text::Whole(copy(self.pieces())))
    }

    /// The text as it is written, without a line end.
    pub fn pieces(&self) -> Pieces {
        match &self.0 {
            Text::Whole(text) => text.clone().into(),
            Text::Spliced(spliced) => spliced.pieces.clone(),
        }
    }

    /// The text as it is read, without a line end. If it stands in pieces, they are copied, once for all clones.
    pub fn bytes(&self) -> &Bytes {
        match &self.0 {
            Text::Whole(text) => text,
            Text::Spliced(spliced) => spliced.joined.get_or_init(|| copy(spliced.pieces.clone())),
        }
    }

    /// As [`Self::bytes`]; a line is valid UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Text::Whole(text) => text.len(),
            Text::Spliced(spliced) => spliced.pieces.remaining(),
        }
    }

    /// Whether there is no text; never so for a message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Box<RawValue>> for Line {
    fn from(value: Box<RawValue>) -> Self {
        Self::new(String::from(Box::<str>::from(value)).into())
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_str(self.as_str()).map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Line {}

/// What a line is put together of.
#[derive(Debug)]
pub(super) struct Parts {
    done: Vec<Bytes>,
    /// What comes next, as far as it is copied.
    text: Vec<u8>,
}

impl Parts {
    /// No part yet of a line that will be of some `length` in bytes.
    pub(super) fn of_length(length: usize) -> Self {
        Self { done: Vec::new(), text: Vec::with_capacity(length.min(LONG)) }
    }

    /// Adds what need not be of a line.
    pub(super) fn copy(&mut self, part: &str) {
        self.text.extend_from_slice(part.as_bytes());
    }

    /// Adds what need not be copied, if it is long and part of `lender`.
    pub(super) fn add(&mut self, part: &str, lender: Option<&Line>) {
        let long = lender.filter(|_| part.len() >= LONG);
        match long.and_then(|lender| lender.share(part)) {
            Some(text) => self.share(text),
            None => self.copy(part),
        }
    }

    /// Adds what is part of a line.
    pub(super) fn share(&mut self, part: Bytes) {
        if part.len() < LONG {
            self.text.extend_from_slice(&part);
        } else {
            self.settle();
            self.done.push(part);
        }
    }

    fn settle(&mut self) {
        if !self.text.is_empty() {
            self.done.push(Line::new(mem::take(&mut self.text).into()).bytes().clone());
        }
    }

    /// The line, if the parts are one valid JSON value.
    pub(super) fn finish(self) -> Line {
        self.finish_after(None)
    }

    /// As [`Self::finish`], for the only change to `before`.
    pub(super) fn finish_after(mut self, before: Option<&Line>) -> Line {
        if self.done.is_empty() {
            return Line::new(self.text.into());
        }
        self.settle();
        let before = before.and_then(|line| match &line.0 {
            Text::Whole(text) => Some(text.clone()),
            Text::Spliced(_) => None,
        });
        let pieces = self.done.into_iter().collect();
        Line(Text::Spliced(Arc::new(Spliced { pieces, joined: OnceLock::new(), before })))
    }
}

/// All of it, in one piece of its own.
fn copy(mut pieces: Pieces) -> Bytes {
    pieces.copy_to_bytes(pieces.remaining())
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
    fn the_end_of_a_line_is_cut_off_without_a_copy() {
        let text = Bytes::from_static(b"{\"a\": 1} \r\n");
        let line = Line::new(text.clone());
        assert_eq!((line.as_str(), line.bytes().as_ptr()), ("{\"a\": 1}", text.as_ptr()));
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
