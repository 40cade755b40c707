//! Event ids, and what was sent on event streams, so that a broken one can be taken up again.
//!
//! Source: the MCP specification, `basic/transports`, "Resumability and Redelivery".

use std::{collections::VecDeque, fmt, str::FromStr};

use prometheus_client::metrics::counter::Counter;

use super::{StreamId, StreamMap};
use crate::jsonrpc::{ErrorObject, Line, RequestId};

/// Most events that a session keeps, of all its streams.
const MAX_EVENTS: usize = 1024;
/// Most bytes that it keeps, and so of one event: a larger one drives out none of the others.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// What a stream is for; part of its events' ids, so that it is known when all else about it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// The answer to a POST.
    Exchange,
    /// A GET stream.
    Listener,
}

/// The id of one event: its stream and its place there, from 1; 0 is the event that only primes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// What the stream is for.
    pub kind: StreamKind,
    /// The stream.
    pub stream: StreamId,
    /// The event's place.
    pub place: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StreamKind::Exchange => 'e',
            StreamKind::Listener => 'l',
        };
        write!(f, "{kind}{}-{}", self.stream.0, self.place)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, rest) = match text.as_bytes().first() {
            Some(b'e') => (StreamKind::Exchange, &text[1..]),
            Some(b'l') => (StreamKind::Listener, &text[1..]),
            _ => return Err(()),
        };
        let (stream, place) = rest.split_once('-').ok_or(())?;
        let number = |digits: &str| digits.parse().map_err(|_| ());
        Ok(Self { kind, stream: StreamId(number(stream)?), place: number(place)? })
    }
}

/// How a stream goes on after an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Rest {
    /// With these, and then with what is yet to come.
    Open(Vec<(EventId, Line)>),
    /// With these, which are its last.
    Last(Vec<(EventId, Line)>),
    /// Not at all: it has ended.
    Over,
    /// Not all of that is known any more.
    Unknown,
}

/// What a session's streams have sent, newest last and bounded.
#[derive(Debug, Default)]
pub struct Replay {
    streams: StreamMap<Log>,
    events: VecDeque<(EventId, Line)>,
    bytes: usize,
    /// How many events made room for newer ones.
    dropped: u64,
    /// Counts these, of all sessions.
    counter: Counter,
}

#[derive(Debug)]
struct Log {
    kind: StreamKind,
    /// The place of the newest event.
    newest: u64,
    /// The place of the newest event that was dropped to make room.
    dropped: u64,
    /// It is sent as events, so that a client may have seen an id of it.
    begun: bool,
    ended: bool,
}

impl Replay {
    /// An empty one, which counts what it drops.
    pub fn new(counter: Counter) -> Self {
        Self { counter, ..Self::default() }
    }

    fn count_dropped(&mut self, events: u64) {
        self.dropped += events;
        self.counter.inc_by(events);
    }

    /// A new stream. One that has not begun may yet be answered with plain JSON.
    pub fn open(&mut self, stream: StreamId, kind: StreamKind, begun: bool) {
        self.streams.insert(stream, Log { kind, newest: 0, dropped: 0, begun, ended: false });
    }

    /// The stream is sent as events from now on; the id to prime it with.
    pub fn begin(&mut self, stream: StreamId) -> Option<EventId> {
        let log = self.streams.get_mut(&stream)?;
        log.begun = true;
        Some(EventId { kind: log.kind, stream, place: 0 })
    }

    /// Whether a client that lost the stream could ask for it again.
    pub fn can_resume(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|log| log.begun)
    }

    /// Numbers a message, and keeps it unless it is a whole answer that nothing came before. A message that is too
    /// large is not kept: in the place of the answer to `answers` stands an error, and else a gap that
    /// [`Self::after`] knows of.
    pub fn record(
        &mut self,
        stream: StreamId,
        line: &Line,
        answers: Option<&RequestId>,
        last: bool,
    ) -> Option<EventId> {
        let log = self.streams.get_mut(&stream)?;
        if last && !log.begun && log.newest == 0 {
            self.streams.remove(&stream);
            return None;
        }
        log.newest += 1;
        log.ended |= last;
        let id = EventId { kind: log.kind, stream, place: log.newest };
        if line.len() <= MAX_BYTES {
            self.keep(id, line.detached());
        } else if let Some(request) = answers {
            self.count_dropped(1);
            self.keep(id, too_large(line.len()).response(Some(request)).line);
        } else {
            self.drop_through(id);
        }
        Some(id)
    }

    fn keep(&mut self, id: EventId, line: Line) {
        self.bytes += line.len();
        self.events.push_back((id, line));
        self.make_room();
    }

    /// An event is not kept, and those before it on its stream need not be any more.
    fn drop_through(&mut self, id: EventId) {
        let before = self.events.len();
        self.remove(id.stream);
        self.count_dropped(1 + (before - self.events.len()) as u64);
        if let Some(log) = self.streams.get_mut(&id.stream) {
            log.dropped = id.place;
        }
        self.forget_if_done(id.stream);
    }

    /// How many messages were not kept, or no longer: they were too large, or had to make room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether an event is still kept.
    pub fn keeps(&self, id: EventId) -> bool {
        self.streams.get(&id.stream).is_some_and(|log| log.dropped < id.place && id.place <= log.newest)
    }

    /// The stream has ended without a last message.
    pub fn end(&mut self, stream: StreamId) {
        if let Some(log) = self.streams.get_mut(&stream) {
            log.ended = true;
        }
        self.forget_if_done(stream);
    }

    /// Nobody can ask for the stream again: it was answered as JSON, or its client has left too early.
    pub fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.remove(stream);
    }

    fn remove(&mut self, stream: StreamId) {
        self.events.retain(|(id, _)| id.stream != stream);
        self.bytes = self.events.iter().map(|(_, line)| line.len()).sum();
    }

    /// What came after `last` on its stream.
    pub fn after(&self, last: EventId) -> Rest {
        let log = self.streams.get(&last.stream).filter(|log| log.kind == last.kind && log.begun);
        let Some(log) = log.filter(|log| last.place >= log.dropped) else { return Rest::Unknown };
        let missed = self.events.iter().filter(|(id, _)| id.stream == last.stream && id.place > last.place);
        let missed: Vec<_> = missed.cloned().collect();
        match log.ended {
            false => Rest::Open(missed),
            true if missed.is_empty() => Rest::Over,
            true => Rest::Last(missed),
        }
    }

    fn make_room(&mut self) {
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some((id, line)) = self.events.pop_front() else { return };
            self.bytes -= line.len();
            self.count_dropped(1);
            if let Some(log) = self.streams.get_mut(&id.stream) {
                log.dropped = id.place;
            }
            self.forget_if_done(id.stream);
        }
    }

    fn forget_if_done(&mut self, stream: StreamId) {
        let ended = self.streams.get(&stream).is_some_and(|log| log.ended);
        if ended && !self.events.iter().any(|(id, _)| id.stream == stream) {
            self.streams.remove(&stream);
        }
    }
}

/// What a client gets that missed an answer of `bytes`.
fn too_large(bytes: usize) -> ErrorObject {
    let message = format!(
        "the answer of {bytes} bytes was sent while the stream was broken; at most {MAX_BYTES} are kept for that"
    );
    ErrorObject::internal("answer_lost", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::notification;

    const STREAM: StreamId = StreamId(3);

    fn line(n: usize) -> Line {
        notification("x", &n)
    }

    fn listener() -> Replay {
        let mut replay = Replay::default();
        replay.open(STREAM, StreamKind::Listener, true);
        replay
    }

    fn places(replay: &Replay, after: u64) -> Vec<u64> {
        let last = EventId { kind: StreamKind::Listener, stream: STREAM, place: after };
        let Rest::Open(missed) = replay.after(last) else { panic!("not open") };
        missed.iter().map(|(id, _)| id.place).collect()
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = EventId { kind: StreamKind::Exchange, stream: STREAM, place: 7 };
        assert_eq!(id.to_string(), "e3-7");
        assert_eq!("e3-7".parse(), Ok(id));
        for text in ["", "3-7", "e3", "e-7", "x3-7", "e3-7-8", "e3--7", "é3-7"] {
            assert_eq!(text.parse::<EventId>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_came_after_an_event_is_given_again_for_its_stream_alone() {
        let mut replay = listener();
        replay.open(StreamId(4), StreamKind::Exchange, true);
        for n in 0..3 {
            replay.record(STREAM, &line(n), None, false);
            replay.record(StreamId(4), &line(n), None, false);
        }
        assert_eq!(places(&replay, 0), [1, 2, 3]);
        assert_eq!(places(&replay, 2), [3]);
        assert_eq!(places(&replay, 9), [0u64; 0]);
        let other_kind = EventId { kind: StreamKind::Exchange, stream: STREAM, place: 0 };
        assert_eq!(replay.after(other_kind), Rest::Unknown);
    }

    #[test]
    fn the_oldest_events_make_room_and_what_is_lost_is_not_passed_over() {
        let mut replay = listener();
        for n in 0..MAX_EVENTS + 10 {
            replay.record(STREAM, &line(n), None, false);
        }
        let id = |place| EventId { kind: StreamKind::Listener, stream: STREAM, place };
        assert_eq!(replay.after(id(9)), Rest::Unknown);
        assert!(!replay.keeps(id(10)) && replay.keeps(id(11)));
        assert_eq!((places(&replay, 10)[0], replay.dropped()), (11, 10));
    }

    #[test]
    fn a_message_that_is_too_large_leaves_a_gap_in_its_own_stream_alone() {
        let mut replay = listener();
        replay.open(StreamId(4), StreamKind::Listener, true);
        replay.record(STREAM, &line(1), None, false);
        replay.record(StreamId(4), &line(1), None, false);
        let big = notification("x", &"y".repeat(MAX_BYTES));
        let id = replay.record(STREAM, &big, None, false).unwrap();
        replay.record(STREAM, &line(3), None, false);
        assert_eq!(replay.after(EventId { place: 1, ..id }), Rest::Unknown);
        assert_eq!(places(&replay, 2), [3]);
        assert_eq!((replay.events.len(), replay.dropped()), (2, 2), "the other stream has lost nothing");
        assert_eq!(replay.bytes, 2 * line(1).len());
    }

    #[test]
    fn an_answer_that_is_too_large_is_given_again_as_an_error() {
        let mut replay = Replay::default();
        replay.open(STREAM, StreamKind::Exchange, true);
        let big = notification("x", &"y".repeat(MAX_BYTES));
        let id = replay.record(STREAM, &big, Some(&RequestId::from(7)), true).unwrap();
        let Rest::Last(missed) = replay.after(EventId { place: 0, ..id }) else { panic!("not ended") };
        assert_eq!(missed.len(), 1);
        let text = missed[0].1.as_str();
        assert!(text.contains(r#""id":7"#) && text.contains("answer_lost"), "{text}");
    }

    #[test]
    fn a_whole_answer_is_not_kept_but_the_end_of_a_stream_is() {
        let mut replay = Replay::default();
        replay.open(STREAM, StreamKind::Exchange, false);
        assert_eq!(replay.record(STREAM, &line(1), None, true), None);
        assert!(replay.streams.is_empty() && replay.events.is_empty());
        replay.open(STREAM, StreamKind::Exchange, false);
        replay.begin(STREAM);
        let id = replay.record(STREAM, &line(1), None, true).unwrap();
        assert_eq!(replay.after(EventId { place: 0, ..id }), Rest::Last(vec![(id, line(1))]));
        assert_eq!(replay.after(id), Rest::Over);
    }

    #[test]
    fn a_stream_that_has_ended_without_an_answer_goes_on_for_who_missed_something() {
        let mut replay = Replay::default();
        replay.open(STREAM, StreamKind::Exchange, true);
        let id = replay.record(STREAM, &line(1), None, false).unwrap();
        replay.end(STREAM);
        assert_eq!(replay.after(EventId { place: 0, ..id }), Rest::Last(vec![(id, line(1))]));
        assert_eq!(replay.after(id), Rest::Over);
    }

    #[test]
    fn an_ended_stream_is_forgotten_with_its_last_event() {
        let mut replay = listener();
        replay.record(STREAM, &line(1), None, true);
        replay.open(StreamId(4), StreamKind::Listener, true);
        for n in 0..MAX_EVENTS {
            replay.record(StreamId(4), &line(n), None, false);
        }
        assert!(!replay.can_resume(STREAM));
        assert!(replay.can_resume(StreamId(4)));
    }
}
