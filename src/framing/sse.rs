//! Server-sent events, both ways.
//!
//! Source: the HTML standard, section "Server-sent events" (parsing and interpreting an event stream).

use std::iter;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::pieces::Pieces;

/// A comment that keeps a connection alive and means nothing.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// From this length on, in bytes, a line is not copied into its event: its pieces are.
const LONG: usize = 32 * 1024;

/// Writes one event whose data is `line`. Neither that nor the id holds a line break.
pub fn encode(id: Option<&str>, line: Pieces) -> Pieces {
    const BEFORE: &[u8] = b"event: message\ndata: ";
    const AFTER: &[u8] = b"\n\n";
    const ID: usize = 32;
    let long = line.remaining() >= LONG;
    let copied = if long { 0 } else { line.remaining() + AFTER.len() };
    let mut out = BytesMut::with_capacity(ID + BEFORE.len() + copied);
    if let Some(id) = id {
        out.put_slice(b"id: ");
        out.put_slice(id.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(BEFORE);
    if long {
        return iter::once(out.freeze()).chain(line).chain([Bytes::from_static(AFTER)]).collect();
    }
    out.put(line);
    out.put_slice(AFTER);
    out.freeze().into()
}

/// Writes an event without data that only gives the client an id to resume with, and how long to wait before it does,
/// in milliseconds.
pub fn encode_priming(id: &str, retry: u64) -> Bytes {
    format!("id: {id}\nretry: {retry}\ndata:\n\n").into()
}

/// Writes one event of another name than `message`. Neither name nor data holds a line break.
pub fn encode_named(name: &str, data: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat().into()
}

/// One event as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty when there was none, which means `message`.
    pub name: String,
    /// The `data` fields, joined by newlines.
    pub data: Bytes,
}

/// An event was larger than the decoder's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an event of more than {max} bytes")]
pub struct TooLarge {
    /// The bound, in bytes.
    pub max: usize,
}

/// Cuts a byte stream into events.
#[derive(Debug)]
pub struct Decoder {
    line: BytesMut,
    /// The last byte was `\r`, so that a `\n` now belongs to the same line end.
    after_cr: bool,
    first_line: bool,
    name: String,
    data: BytesMut,
    has_data: bool,
    max: usize,
    /// `id` of the event that is being received.
    id: Option<String>,
    /// `id` of the newest event that was received whole, to resume after.
    last_event_id: Option<String>,
    /// `retry`, in milliseconds.
    retry: Option<u64>,
}

impl Decoder {
    /// A decoder that takes events of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            line: BytesMut::new(),
            after_cr: false,
            first_line: true,
            name: String::new(),
            data: BytesMut::new(),
            has_data: false,
            max,
            id: None,
            last_event_id: None,
            retry: None,
        }
    }

    /// The id of the newest whole event that has one; an empty id takes earlier ones back.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref().filter(|id| !id.is_empty())
    }

    /// The reconnection time that the stream asked for, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Takes in `chunk` and appends the events that it completes to `events`.
    pub fn feed(&mut self, mut chunk: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let Some(at) = memchr::memchr2(b'\n', b'\r', chunk) else {
                return self.keep(chunk);
            };
            self.keep(&chunk[..at])?;
            self.after_cr = chunk[at] == b'\r';
            chunk = &chunk[at + 1..];
            let line = std::mem::take(&mut self.line);
            if let Some(event) = self.end_line(line) {
                events.push(event);
            }
        }
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + part.len() > self.max {
            return Err(TooLarge { max: self.max });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, mut line: BytesMut) -> Option<Event> {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        if std::mem::take(&mut self.first_line) && line.starts_with(MARK) {
            line.advance(MARK.len());
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = memchr::memchr(b':', &line);
        let name = colon.unwrap_or(line.len());
        let value = colon.map_or(name, |at| at + if line[at..].starts_with(b": ") { 2 } else { 1 });
        if &line[..name] == b"data" {
            line.advance(value);
            self.data(line);
        } else {
            self.field(&line[..name], &line[value..]);
        }
        None
    }

    fn data(&mut self, value: BytesMut) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.put_u8(b'\n');
            self.data.extend_from_slice(&value);
        } else {
            self.data = value; // a long one is not copied
        }
    }

    fn field(&mut self, field: &[u8], value: &[u8]) {
        match field {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry = String::from_utf8_lossy(value).parse().ok().or(self.retry);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id = self.id.take().or(self.last_event_id.take());
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data).freeze();
        std::mem::take(&mut self.has_data).then_some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> (Vec<Event>, Decoder) {
        decode_at_most(1000, parts)
    }

    fn decode_at_most(max: usize, parts: &[&[u8]]) -> (Vec<Event>, Decoder) {
        let mut decoder = Decoder::new(max);
        let mut events = Vec::new();
        for part in parts {
            decoder.feed(part, &mut events).unwrap();
        }
        (events, decoder)
    }

    fn whole(mut pieces: Pieces) -> Bytes {
        pieces.copy_to_bytes(pieces.remaining())
    }

    #[test]
    fn a_long_line_is_not_copied_into_its_event() {
        for length in [LONG - 1, LONG] {
            let text = Bytes::from(vec![b'x'; length]);
            let mut event = encode(None, text.clone().into());
            let (events, _) = decode_at_most(LONG + 100, &[&whole(event.clone())]);
            assert_eq!(events, [Event { name: "message".into(), data: text.clone() }]);
            let is_text = |piece: &Bytes| piece.as_ptr() == text.as_ptr();
            assert_eq!(iter::from_fn(|| event.next(usize::MAX)).any(|piece| is_text(&piece)), length == LONG);
        }
    }

    fn data(text: &str) -> Event {
        Event { name: String::new(), data: Bytes::from(text.to_owned()) }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let event = whole(encode(Some("e1-1"), Bytes::from_static(br#"{"a":1}"#).into()));
        let (events, decoder) = decode(&[&encode_priming("e1-0", 500), &event]);
        assert_eq!(events[1], Event { name: "message".into(), data: Bytes::from_static(br#"{"a":1}"#) });
        assert_eq!((events.len(), &events[0].data[..]), (2, &b""[..]));
        assert_eq!((decoder.last_event_id(), decoder.retry()), (Some("e1-1"), Some(500)));
    }

    #[test]
    fn fields_comments_and_every_line_end_are_understood() {
        let stream = b"\xEF\xBB\xBFid: 7\r\nretry: 250\rdata: one\ndata:two\r\n\r\n: comment\n\nevent: ping\ndata\n\nid\n\n";
        let (events, decoder) = decode(&[stream]);
        assert_eq!(events, [data("one\ntwo"), Event { name: "ping".into(), data: Bytes::new() }]);
        assert_eq!((decoder.last_event_id(), decoder.retry()), (None, Some(250)));
    }

    #[test]
    fn it_does_not_matter_where_the_chunks_fall() {
        let stream = b"data: one\r\n\r\ndata: two\r\ndata: three\n\n";
        let whole = decode(&[stream]).0;
        for at in 0..stream.len() {
            assert_eq!(decode(&[&stream[..at], &stream[at..]]).0, whole, "cut at {at}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_dropped_and_one_without_data_is_none() {
        assert_eq!(decode(&[b"data: half"]).0, []);
        assert_eq!(decode(&[b"id: 1\nevent: x\n\n"]).0, []);
    }

    #[test]
    fn an_event_that_did_not_arrive_whole_is_not_one_to_resume_after() {
        let (_, decoder) = decode(&[b"id: 6\ndata: whole\n\nid: 7\ndata: half"]);
        assert_eq!(decoder.last_event_id(), Some("6"));
        let (_, decoder) = decode(&[b"id: 6\n\n"]);
        assert_eq!(decoder.last_event_id(), Some("6"), "an event without data has an id too");
    }

    #[test]
    fn an_event_is_bounded() {
        let mut decoder = Decoder::new(20);
        let mut events = Vec::new();
        assert!(decoder.feed(b"data: 0123456789\n", &mut events).is_ok());
        assert_eq!(decoder.feed(b"data: 0123456789", &mut events), Err(TooLarge { max: 20 }));
    }
}
