//! Routing of messages between one downstream client and one upstream server of a legacy session.
//!
//! A plain state machine: messages in, decisions out, no I/O and no clock of its own.

mod held;
mod in_flight;
mod replay;
mod stream_id;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use self::held::Held;
use self::in_flight::{Exchange, InFlight};
pub use self::{
    in_flight::Limits,
    replay::{EventId, Replay, Rest, StreamKind},
    stream_id::{StreamId, StreamMap},
};
use crate::{
    jsonrpc::{self, ErrorObject, Kind, Line, Message, RequestId},
    mcp,
    metrics::{self, Exchanges},
};

/// Most server-to-client requests that wait for the client's answer; the oldest is forgotten for a new one.
const MAX_ASKED: usize = 1024;
/// Most listening streams; the oldest is closed for a new one.
const MAX_LISTENERS: usize = 4;
/// Longest name of a revision that is remembered, in bytes.
const MAX_REVISION: usize = 64;
/// How long a server-to-client request waits for a stream that can carry it.
const HELD_FOR: Duration = Duration::from_secs(30);

/// A message for a stream.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where it goes.
    pub stream: StreamId,
    /// The message; `None` only ends the stream.
    pub line: Option<Line>,
    /// The id of the request that it answers; an answer may be sent as plain JSON.
    pub answers: Option<RequestId>,
    /// Whether the stream ends after it.
    pub last: bool,
}

impl Delivery {
    /// A message after which more may come.
    pub fn passing(stream: StreamId, line: Line) -> Self {
        Self { stream, line: Some(line), answers: None, last: false }
    }

    /// No message: the stream ends.
    pub fn end(stream: StreamId) -> Self {
        Self { stream, line: None, answers: None, last: true }
    }
}

/// What to do with a client's message.
#[derive(Debug)]
pub enum Intake {
    /// Pass it to the server, and deliver what comes with that.
    Forward(Vec<Delivery>),
    /// Nobody waits for it; why.
    Ignore(&'static str),
}

/// What to do with a server's message.
#[derive(Debug)]
pub enum Outcome {
    /// Put it on a stream.
    Deliver(Delivery),
    /// It waits until a stream can carry it. What it drove out is to be answered (requests) or is lost.
    Held(Vec<Message>),
    /// Nobody waits for it; why.
    Ignore(&'static str),
}

/// What became due.
#[derive(Debug, Default)]
pub struct Expired {
    /// For the client.
    pub deliveries: Vec<Delivery>,
    /// For the server.
    pub to_server: Vec<Line>,
}

/// One legacy session.
#[derive(Debug)]
pub struct Session {
    in_flight: InFlight,
    /// Server-to-client requests whose answer is awaited.
    asked: HashMap<RequestId, Asked>,
    /// How many there have been.
    asked_ever: u64,
    /// GET streams, newest last.
    listeners: Vec<StreamId>,
    held: Held,
    initialize: Option<RequestId>,
    /// What the server has answered `initialize` with.
    agreed: Option<String>,
    /// The server has answered `initialize`, and not with an error.
    opened: bool,
    /// It has answered `initialize` as servers do that speak modern revisions only.
    version_refused: bool,
}

/// A server-to-client request on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// What carried it.
    stream: StreamId,
    number: u64,
    /// The client has left that stream, perhaps without having seen the request, and has until then to come back.
    until: Option<Instant>,
}

impl Session {
    /// A session with nothing in flight, which counts its exchanges.
    pub fn new(limits: Limits, exchanges: Exchanges) -> Self {
        Self {
            in_flight: InFlight::new(limits, exchanges),
            asked: HashMap::new(),
            asked_ever: 0,
            listeners: Vec::new(),
            held: Held::default(),
            initialize: None,
            agreed: None,
            opened: false,
            version_refused: false,
        }
    }

    /// The revision that client and server agreed on, once the server has answered `initialize`; `None` also for one
    /// that the bridge does not know, which passes all the same.
    pub fn revision(&self) -> Option<mcp::LegacyRevision> {
        self.agreed.as_deref().and_then(mcp::LegacyRevision::parse)
    }

    /// Whether a request of this session may name that revision: any that is known, and what was agreed on. In a
    /// session of a revision that does not have the header, it may say anything.
    pub fn admits_version(&self, named: &str) -> bool {
        mcp::LegacyRevision::parse(named).is_some()
            || self.agreed.as_deref() == Some(named)
            || self.revision().is_some_and(|revision| !revision.has_version_header())
    }

    /// Whether `initialize` has succeeded, or may yet; otherwise there is no session.
    pub fn may_be_used(&self) -> bool {
        self.opened || self.initialize.as_ref().is_some_and(|id| self.in_flight.contains(id))
    }

    /// Whether the server has answered `initialize` as servers do that speak modern revisions only.
    pub fn version_refused(&self) -> bool {
        self.version_refused
    }

    /// Whether nothing is in flight and no stream is open.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.listeners.is_empty()
    }

    /// Requests of the client that wait for an answer.
    pub fn exchanges(&self) -> usize {
        self.in_flight.len()
    }

    /// A client's message came in by a POST whose answer is `stream`; `streams` says whether that may become
    /// an event stream. An error is the answer to the request.
    pub fn from_client(
        &mut self,
        message: &Message,
        stream: StreamId,
        streams: bool,
        now: Instant,
    ) -> Result<Intake, ErrorObject> {
        match &message.kind {
            Kind::Request { id, method, progress_token } => {
                let exchange = Exchange::new(id.clone(), progress_token.clone(), stream, streams);
                self.in_flight.begin(exchange, method, now)?;
                if &**method == mcp::INITIALIZE {
                    self.initialize = Some(id.clone());
                }
                Ok(Intake::Forward(self.deliver_held(stream, streams)))
            }
            Kind::Notification { method, about: Some(id) } if &**method == mcp::CANCELLED => {
                Ok(self.cancelled(id, now))
            }
            Kind::Notification { .. } => Ok(Intake::Forward(Vec::new())),
            Kind::Response { id, .. } => Ok(match id.as_ref().and_then(|id| self.asked.remove(id)) {
                Some(Asked { stream, .. }) => {
                    self.in_flight.touch(stream, now);
                    Intake::Forward(Vec::new())
                }
                None => Intake::Ignore("it answers no request of the server's"),
            }),
        }
    }

    /// The messages of a batch follow, one `from_client` each; `stream` does not end before they are complete.
    pub fn begin_batch(&mut self, stream: StreamId) {
        self.in_flight.begin_batch(stream);
    }

    /// All messages of the batch have come; true when nothing of it waits for an answer.
    pub fn complete_batch(&mut self, stream: StreamId) -> bool {
        self.in_flight.complete_batch(stream)
    }

    /// Undoes `from_client` for a request that could not be passed on.
    pub fn withdraw(&mut self, id: &RequestId) {
        self.in_flight.finish(id);
    }

    /// What cancels nothing is kept from the server: it may have overtaken its request on a connection of its own, and
    /// the server would be told of requests out of their order.
    fn cancelled(&mut self, id: &RequestId, now: Instant) -> Intake {
        if self.initialize.as_ref() == Some(id) {
            return Intake::Ignore("`initialize` can't be cancelled");
        }
        match self.in_flight.finish(id) {
            Some((mut exchange, last)) => {
                exchange.ended(metrics::Outcome::Cancelled, now);
                Intake::Forward(if last { vec![Delivery::end(exchange.stream)] } else { Vec::new() })
            }
            None => Intake::Ignore("it cancels no request in flight"),
        }
    }

    /// What was held goes out on a new exchange's stream, unless a listening stream could have taken it.
    fn deliver_held(&mut self, stream: StreamId, streams: bool) -> Vec<Delivery> {
        if !streams || !self.listeners.is_empty() {
            return Vec::new();
        }
        self.release(stream)
    }

    fn release(&mut self, stream: StreamId) -> Vec<Delivery> {
        let messages = self.held.take();
        for message in &messages {
            self.note_asked(message, stream);
        }
        messages.into_iter().map(|m| Delivery::passing(stream, m.line)).collect()
    }

    fn note_asked(&mut self, message: &Message, stream: StreamId) {
        let Some(id) = message.request_id() else { return };
        if self.asked.len() >= MAX_ASKED {
            let oldest = self.asked.iter().min_by_key(|(_, asked)| asked.number).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.asked.remove(&id));
        }
        self.asked_ever += 1;
        self.asked.insert(id.clone(), Asked { stream, number: self.asked_ever, until: None });
    }

    /// A GET stream opened. What was held goes out on it; the oldest stream may end for it.
    pub fn open_listener(&mut self, stream: StreamId) -> Vec<Delivery> {
        let mut out = Vec::new();
        self.listeners.retain(|s| *s != stream);
        if self.listeners.len() >= MAX_LISTENERS {
            out.push(Delivery::end(self.listeners.remove(0)));
        }
        self.listeners.push(stream);
        out.extend(self.release(stream));
        out
    }

    /// Everything for the client goes on this stream, which never ends before the session does.
    pub fn open_only_stream(&mut self, stream: StreamId) {
        self.in_flight.begin_batch(stream);
        self.listeners.push(stream);
    }

    /// The client has left a stream, which it can take up again or not. Its exchanges go on: a legacy client's
    /// disconnect never cancels. What names one of them goes to the stream still if it can be taken up again;
    /// everything else takes another way. Returned is what the server must be told: requests of its own on a stream
    /// that nobody has seen and nobody can take up again have no answer to wait for.
    pub fn stream_left(&mut self, stream: StreamId, resumable: bool, now: Instant) -> Vec<Line> {
        self.listeners.retain(|s| *s != stream);
        self.in_flight.stream_left(stream, resumable);
        if resumable {
            self.asked_on(stream).for_each(|asked| asked.until = Some(now + HELD_FOR));
            return Vec::new();
        }
        self.take_back(|asked| asked.stream == stream)
    }

    fn asked_on(&mut self, stream: StreamId) -> impl Iterator<Item = &mut Asked> {
        self.asked.values_mut().filter(move |asked| asked.stream == stream)
    }

    /// Waits no longer for the client's answers to these, and says so to the server.
    fn take_back(&mut self, lost: impl Fn(&Asked) -> bool) -> Vec<Line> {
        let lost = self.asked.extract_if(|_, asked| lost(asked));
        lost.map(|(id, _)| no_stream().response(Some(&id)).line).collect()
    }

    /// The client has taken up a stream again that it had left; what waits for a listener goes out on one.
    pub fn stream_resumed(&mut self, stream: StreamId, kind: StreamKind) -> Vec<Delivery> {
        self.asked_on(stream).for_each(|asked| asked.until = None);
        match kind {
            StreamKind::Exchange => {
                self.in_flight.stream_resumed(stream);
                Vec::new()
            }
            StreamKind::Listener => self.open_listener(stream),
        }
    }

    /// The server sent a message; `about` is the client's request that it belongs to, where the server says so.
    pub fn from_server(&mut self, message: Message, about: Option<&RequestId>, now: Instant) -> Outcome {
        let told = about.and_then(|id| self.in_flight.stream_of(id));
        match &message.kind {
            Kind::Response { id, is_error } => self.answered(id.clone(), *is_error, message.line, now),
            // The client's progress on a request of the server's comes by POST and needs no routing.
            Kind::Request { .. } => {
                let route = told.or_else(|| self.unattributed(false));
                self.pass(message, route, now)
            }
            Kind::Notification { method, about } => {
                let route = match (&**method, about) {
                    (mcp::PROGRESS, Some(token)) => self.in_flight.progressed(token, now),
                    (mcp::CANCELLED, Some(id)) => self.withdrawn(id),
                    _ => None,
                };
                let route = route.or(told).or_else(|| self.unattributed(mcp::is_about_the_server(method)));
                self.pass(message, route, now)
            }
        }
    }

    fn answered(&mut self, id: Option<RequestId>, is_error: bool, line: Line, now: Instant) -> Outcome {
        let Some(id) = id else { return Outcome::Ignore("an error without an id") };
        let Some((mut exchange, last)) = self.in_flight.finish(&id) else {
            return Outcome::Ignore(
                "it answers no request in flight (cancelled, timed out, answered before or never asked)",
            );
        };
        exchange.ended(if is_error { metrics::Outcome::Error } else { metrics::Outcome::Ok }, now);
        if self.initialize.as_ref() == Some(&id) && self.agreed.is_none() {
            self.opened = !is_error;
            self.version_refused = jsonrpc::error_code(&line) == Some(mcp::code::UNSUPPORTED_VERSION);
            self.agreed = protocol_version(&line).filter(|name| name.len() <= MAX_REVISION);
        }
        Outcome::Deliver(Delivery { stream: exchange.stream, line: Some(line), answers: Some(id), last })
    }

    /// The server takes back a request of its own: the word goes where the request went.
    fn withdrawn(&mut self, id: &RequestId) -> Option<StreamId> {
        self.held.forget(id);
        let stream = self.asked.remove(id)?.stream;
        (self.listeners.contains(&stream) || self.in_flight.carries(stream)).then_some(stream)
    }

    /// Where a message goes that names no exchange: the only one in flight, else the newest GET stream, else
    /// the newest exchange.
    fn unattributed(&self, about_the_server: bool) -> Option<StreamId> {
        let only = if about_the_server { None } else { self.in_flight.only() };
        only.or(self.listeners.last().copied()).or_else(|| self.in_flight.newest())
    }

    fn pass(&mut self, message: Message, route: Option<StreamId>, now: Instant) -> Outcome {
        let Some(stream) = route else {
            return Outcome::Held(self.held.push(message, now + HELD_FOR));
        };
        self.note_asked(&message, stream);
        self.in_flight.touch(stream, now);
        Outcome::Deliver(Delivery::passing(stream, message.line))
    }

    /// The server is gone: each request in flight is answered with `error`, and each stream ends.
    pub fn server_ended(&mut self, error: &ErrorObject) -> Vec<Delivery> {
        let mut out = self.fail_all(error);
        out.extend(self.end_listeners());
        out
    }

    /// Answers each request in flight with `error`.
    pub fn fail_all(&mut self, error: &ErrorObject) -> Vec<Delivery> {
        self.in_flight.drain().map(|(exchange, last)| failed(exchange, error, last)).collect()
    }

    /// Ends each GET stream.
    pub fn end_listeners(&mut self) -> Vec<Delivery> {
        self.listeners.drain(..).map(Delivery::end).collect()
    }

    /// When something next may become due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let asked = self.asked.values().filter_map(|asked| asked.until).min();
        self.in_flight.next_deadline().into_iter().chain(self.held.next_deadline()).chain(asked).min()
    }

    /// Ends what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Expired {
        let to_server = self.take_back(|asked| asked.until.is_some_and(|until| until <= now));
        let mut out = Expired { deliveries: Vec::new(), to_server };
        // While the client is asked something, the server has nothing to say.
        self.asked.values().for_each(|asked| self.in_flight.touch(asked.stream, now));
        for (exchange, after, last) in self.in_flight.expire(now) {
            let message = format!("the MCP server did not answer within {after:?}");
            if self.initialize.as_ref() != Some(&exchange.id) {
                out.to_server.push(cancellation(&exchange.id));
            }
            out.deliveries.push(failed(exchange, &ErrorObject::internal("timed_out", message), last));
        }
        for message in self.held.expire(now) {
            out.to_server.push(no_stream().response(message.request_id()).line);
        }
        out
    }
}

/// The answer to a request of the server's that can't be put to the client.
pub fn no_stream() -> ErrorObject {
    ErrorObject::internal("no_stream", "the client has no stream open that could carry the request")
}

fn failed(exchange: Exchange, error: &ErrorObject, last: bool) -> Delivery {
    let line = error.response(Some(&exchange.id)).line;
    Delivery { stream: exchange.stream, line: Some(line), answers: Some(exchange.id), last }
}

/// The word that a request of ours is not waited for any more.
pub fn cancellation(id: &RequestId) -> Line {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Cancelled<'a> {
        request_id: &'a RequestId,
        reason: &'static str,
    }
    jsonrpc::notification(mcp::CANCELLED, &Cancelled { request_id: id, reason: "timed out" })
}

/// `result.protocolVersion` of the answer to `initialize`.
pub fn protocol_version(answer: &Line) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        result: InitializeResult,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct InitializeResult {
        protocol_version: String,
    }
    let answer: Answer = serde_json::from_str(answer.as_str()).ok()?;
    Some(answer.result.protocol_version)
}
