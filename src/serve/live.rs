//! A legacy session with its child: one task drives it, requests reach it by its handle.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stream::{self, Inbox, Outbox, Stuck};
use crate::{
    auth::Principal,
    framing::{
        queue::Room,
        writer::{Unwritable, Writer},
    },
    jsonrpc::{self, ErrorObject, Line, Message},
    logging,
    mcp::{self, LegacyRevision},
    session::{Delivery, EventId, Intake, Replay, Rest, Session, StreamId, StreamKind, StreamMap},
};

/// How much of a session id may be shown.
const SHORT_ID: usize = 8;

/// How a session's client reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Streamable HTTP.
    StreamableHttp,
    /// HTTP+SSE: one stream for everything, with which the session ends.
    HttpSse,
}

/// How long a session waits for a second message: its client may never have learnt of it.
const UNCLAIMED: Duration = Duration::from_secs(60);

/// The one stream of a session over HTTP+SSE.
const ONLY_STREAM: StreamId = StreamId(0);

/// A session that clients reach through its id.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: String,
    pub(super) principal: Principal,
    pub(super) transport: Transport,
    pub(super) stdin: Writer,
    state: Mutex<State>,
    streams: AtomicU64,
    /// Something changed that the driver must look at.
    pub(super) wake: Notify,
    /// The session is to end now.
    pub(super) end: CancellationToken,
    /// The session is to end when nothing is in flight.
    pub(super) drain: CancellationToken,
    this: Weak<Live>,
}

/// What the session's lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    /// Of the streams that a client reads.
    outboxes: StreamMap<Outbox>,
    replay: Replay,
    pub(super) last_active: Instant,
    /// The client has used the session.
    claimed: bool,
    /// When the driver looks again by itself.
    pub(super) looks_at: Option<Instant>,
    /// Why the session takes no more requests.
    ended: Option<ErrorObject>,
}

/// Why a GET stream was not opened.
#[derive(Debug)]
pub(super) enum Unresumable {
    /// The session has ended.
    Gone,
    /// What the client wants to take up again has ended, or is not known any more.
    Over,
}

/// Why a message was not taken in.
#[derive(Debug)]
pub(super) enum Refused {
    /// With an answer for the request's sender.
    Error(ErrorObject),
    /// The session has ended meanwhile.
    Gone,
}

impl Live {
    pub(super) fn new(
        id: String,
        principal: Principal,
        transport: Transport,
        stdin: Writer,
        session: Session,
        replay: Replay,
    ) -> Arc<Self> {
        let state = State {
            session,
            outboxes: StreamMap::default(),
            replay,
            last_active: Instant::now(),
            claimed: false,
            looks_at: None,
            ended: None,
        };
        Arc::new_cyclic(|this| Self {
            id,
            principal,
            transport,
            stdin,
            state: Mutex::new(state),
            streams: AtomicU64::new(ONLY_STREAM.0 + 1),
            wake: Notify::new(),
            end: CancellationToken::new(),
            drain: CancellationToken::new(),
            this: this.clone(),
        })
    }

    /// The beginning of the session's id: enough to tell sessions apart, too little to use.
    pub(super) fn short_id(&self) -> &str {
        short_id(&self.id)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision that client and server agreed on.
    pub(super) fn revision(&self) -> Option<LegacyRevision> {
        self.state().session.revision()
    }

    /// Whether a request may name that revision.
    pub(super) fn admits_version(&self, named: &str) -> bool {
        self.state().session.admits_version(named)
    }

    fn new_stream(&self) -> (StreamId, Outbox, Inbox) {
        let id = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let (outbox, inbox) = self.ends_of(id);
        (id, outbox, inbox)
    }

    fn ends_of(&self, id: StreamId) -> (Outbox, Inbox) {
        stream::new(id, self.this.clone())
    }

    /// Takes in one message that wants no answer.
    pub(super) async fn accept(&self, message: Message) -> Result<(), Refused> {
        self.pass(&message, StreamId(u64::MAX), false, None).await
    }

    /// Takes in a request; its answer comes by the stream that is returned.
    pub(super) async fn ask(&self, message: &Message, streams: bool) -> Result<Inbox, Refused> {
        let (id, outbox, inbox) = self.new_stream();
        self.pass(message, id, streams, Some(outbox)).await?;
        Ok(inbox)
    }

    /// Takes in what came as one batch; its answers come by the stream that is returned.
    pub(super) async fn ask_all(&self, messages: Vec<Message>, streams: bool) -> Result<Inbox, Refused> {
        let (id, outbox, inbox) = self.new_stream();
        self.state().session.begin_batch(id);
        for message in messages {
            match self.pass(&message, id, streams, Some(outbox.clone())).await {
                Ok(()) => {}
                Err(Refused::Error(error)) => {
                    let answers = message.request_id().cloned();
                    let line = Some(error.response(answers.as_ref()).line);
                    outbox.push_now(Delivery { stream: id, line, answers, last: false }, None);
                }
                Err(Refused::Gone) => return Err(Refused::Gone),
            }
        }
        let mut state = self.state();
        if state.session.complete_batch(id) {
            // All has been answered before the last was passed on, or nothing was let in.
            state.outboxes.entry(id).or_insert(outbox);
            state.deliver_now(vec![Delivery::end(id)]);
        }
        drop(state);
        Ok(inbox)
    }

    /// Judges a message and gives it to the child.
    async fn pass(
        &self,
        message: &Message,
        stream: StreamId,
        streams: bool,
        outbox: Option<Outbox>,
    ) -> Result<(), Refused> {
        // Room first: after it, nothing waits between the session's decision and the child's queue.
        let reserved = self.stdin.reserve(&message.line).await;
        let mut state = self.state();
        if let Some(error) = &state.ended {
            let answered = message.request_id().is_some();
            return Err(if answered { Refused::Error(error.clone()) } else { Refused::Gone });
        }
        let reserved = reserved.map_err(unwritable)?;
        let now = Instant::now();
        state.last_active = now;
        state.claimed |= message.method() != Some(mcp::INITIALIZE);
        let intake = state.session.from_client(message, stream, streams, now).map_err(Refused::Error)?;
        if let (Some(outbox), Some(_)) = (outbox, message.request_id()) {
            let known = state.outboxes.insert(stream, outbox).is_some();
            if streams && !known {
                state.replay.open(stream, StreamKind::Exchange, false);
            }
        }
        match intake {
            Intake::Ignore(why) => {
                log::debug!("session {}: a client's message is dropped: {why}", self.short_id());
            }
            Intake::Forward(deliveries) => {
                let sent = reserved.send(message.line.clone());
                if sent.is_err() {
                    message.request_id().inspect(|id| state.session.withdraw(id));
                }
                // Also when the child takes nothing any more: what was cancelled has ended.
                state.deliver_now(deliveries);
                sent.map_err(unwritable)?;
                logging::body(Some(self.short_id()), "from the client", &message.line);
            }
        }
        let due = state.session.next_deadline();
        if due.is_some_and(|due| state.looks_at.is_none_or(|looks_at| due < looks_at)) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Opens the one stream of a session over HTTP+SSE.
    pub(super) fn open_only_stream(&self) -> Inbox {
        let (outbox, inbox) = self.ends_of(ONLY_STREAM);
        let mut state = self.state();
        state.outboxes.insert(ONLY_STREAM, outbox);
        state.session.open_only_stream(ONLY_STREAM);
        inbox
    }

    /// Takes in a message whose answer goes on the one stream.
    pub(super) async fn take_on_only_stream(&self, message: &Message) -> Result<(), Refused> {
        self.pass(message, ONLY_STREAM, true, None).await
    }

    /// Puts an answer of the bridge's own on the one stream.
    pub(super) fn answer_on_only_stream(&self, answer: &Message) {
        self.state().deliver_now(vec![Delivery::passing(ONLY_STREAM, answer.line.clone())]);
    }

    /// The answer on a stream is sent as events. The id to prime it with, for clients of revisions that know of it.
    pub(super) fn begin_events(&self, stream: StreamId) -> Option<EventId> {
        let mut state = self.state();
        let id = state.replay.begin(stream);
        id.filter(|_| state.session.revision().is_some_and(LegacyRevision::has_priming))
    }

    /// The answer on a stream was sent as JSON: nobody can ask for its events.
    pub(super) fn answered_whole(&self, stream: StreamId) {
        self.state().replay.forget(stream);
    }

    /// Opens a GET stream, or takes one up again after `last`.
    pub(super) fn listen(&self, last: Option<EventId>) -> Result<Inbox, Unresumable> {
        let mut state = self.state();
        // While the session drains, streams of exchanges in flight may still be taken up.
        let listens = last.is_none_or(|last| last.kind == StreamKind::Listener);
        if state.ended.is_some() || (listens && self.drain.is_cancelled()) {
            return Err(Unresumable::Gone);
        }
        state.claimed = true;
        let rest = last.map(|last| (last, state.replay.after(last)));
        let missed_on = |last: EventId, missed| {
            let (outbox, inbox) = self.ends_of(last.stream);
            for (event, line) in missed {
                outbox.push_now(Delivery::passing(last.stream, line), Some(event));
            }
            (outbox, inbox)
        };
        match rest {
            Some((last, Rest::Open(missed))) => {
                let (outbox, inbox) = missed_on(last, missed);
                // Whoever still reads the stream finds it at its end.
                let older = state.outboxes.insert(last.stream, outbox);
                older.inspect(Outbox::supersede);
                let deliveries = state.session.stream_resumed(last.stream, last.kind);
                state.deliver_now(deliveries);
                Ok(inbox)
            }
            Some((last, Rest::Last(missed))) => {
                let (outbox, inbox) = missed_on(last, missed);
                outbox.push_now(Delivery::end(last.stream), None);
                Ok(inbox)
            }
            // Nobody waits for an answer on a GET stream, so that another serves as well.
            None | Some((_, Rest::Over | Rest::Unknown)) if listens => {
                let (id, outbox, inbox) = self.new_stream();
                state.outboxes.insert(id, outbox);
                state.replay.open(id, StreamKind::Listener, true);
                if matches!(rest, Some((_, Rest::Unknown))) {
                    log::warn!("session {}: messages of a listening stream are lost", self.short_id());
                    state.deliver_now(vec![Delivery::passing(id, messages_lost())]);
                }
                let deliveries = state.session.open_listener(id);
                state.deliver_now(deliveries);
                Ok(inbox)
            }
            // Whoever got the same end again would come again for what it has not got: an answer that is never given.
            Some((_, Rest::Over)) => Err(Unresumable::Over),
            _ => {
                log::warn!(
                    "session {}: a stream can't be taken up again: its events are not kept any more",
                    self.short_id()
                );
                Err(Unresumable::Over)
            }
        }
    }

    /// How many messages were not kept for clients that lose their stream, or no longer.
    pub(super) fn replay_dropped(&self) -> u64 {
        self.state().replay.dropped()
    }

    /// Ends the GET streams; no new one opens. The one stream of HTTP+SSE is needed for the answers.
    pub(super) fn end_listeners(&self) {
        if self.transport == Transport::HttpSse {
            return;
        }
        let mut state = self.state();
        let deliveries = state.session.end_listeners();
        state.deliver_now(deliveries);
    }

    /// The client has left a stream before its end.
    pub(super) fn stream_left(&self, stream: StreamId) {
        let mut state = self.state();
        if state.outboxes.get(&stream).is_some_and(|outbox| !outbox.is_closed()) {
            return; // it has been taken up again
        }
        let lines = state.leave(stream);
        drop(state);
        self.tell_child_all(lines);
        self.wake.notify_one();
        if self.transport == Transport::HttpSse {
            self.end.cancel();
        }
    }

    /// Puts a message of the child's on its stream, unless it must wait for a client that is slow to read: then it is
    /// returned.
    pub(super) fn try_deliver(&self, delivery: Delivery, now: Instant) -> Result<(), Delivery> {
        let mut state = self.state();
        // Room first: numbers are given in the order in which messages go out.
        let room = state.outboxes.get(&delivery.stream).map(|outbox| outbox.try_reserve(&delivery));
        match room.transpose() {
            Ok(room) => {
                self.put(&mut state, delivery, room.unwrap_or_default(), now);
                Ok(())
            }
            Err(Stuck) => Err(delivery),
        }
    }

    /// Puts a message of the child's on its stream; waits for a client that is slow to read.
    pub(super) async fn deliver(&self, delivery: Delivery) {
        let stream = delivery.stream;
        let reader = self.state().outboxes.get(&stream).cloned();
        let room = match reader {
            None => Ok(Room::default()),
            Some(outbox) => outbox.reserve(&delivery).await,
        };
        let mut state = self.state();
        if room.is_err() {
            log::warn!("session {}: a stream is cut: its client does not read it", self.short_id());
            // Without an outbox the client's end finds its queue at an end.
            let lines = state.leave(stream);
            self.tell_child_all(lines);
        }
        self.put(&mut state, delivery, room.unwrap_or_default(), Instant::now());
    }

    fn put(&self, state: &mut State, delivery: Delivery, room: Room, now: Instant) {
        let (outbox, event) = state.record(&delivery, now);
        match outbox {
            Some(outbox) => outbox.push(delivery, event, room),
            None if event.is_some_and(|event| state.replay.keeps(event)) => {
                log::info!("session {}: a message waits for its client to come back", self.short_id());
            }
            None if delivery.line.is_none() => {}
            None => log::warn!("session {}: a message is lost: its client has left", self.short_id()),
        }
    }

    /// Takes no more requests, and answers those in flight with `error`.
    pub(super) fn finish(&self, error: ErrorObject) {
        let mut state = self.state();
        let deliveries = state.session.server_ended(&error);
        state.deliver_now(deliveries);
        state.ended = Some(error);
        state.outboxes.clear();
    }

    /// Gives the child lines of the bridge's own.
    pub(super) fn tell_child_all(&self, lines: Vec<Line>) {
        for line in lines {
            self.tell_child(line);
        }
    }

    /// Gives the child a line of the bridge's own.
    pub(super) fn tell_child(&self, line: Line) {
        if let Err(e) = self.stdin.try_send(line) {
            log::warn!("session {}: a message to the child is lost: {e}", self.short_id());
        }
    }
}

impl State {
    /// Notes a delivery, and says on which outbox it goes (taken out when it is the last) and under which id.
    fn record(&mut self, delivery: &Delivery, now: Instant) -> (Option<Outbox>, Option<EventId>) {
        let line = delivery.line.as_ref();
        let event = line.and_then(|line| {
            self.replay.record(delivery.stream, line, delivery.answers.as_ref(), delivery.last)
        });
        if line.is_none() {
            self.replay.end(delivery.stream);
        }
        if delivery.last {
            self.last_active = now;
            return (self.outboxes.remove(&delivery.stream), event);
        }
        (self.outboxes.get(&delivery.stream).cloned(), event)
    }

    pub(super) fn deliver_now(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if let (Some(outbox), event) = self.record(&delivery, Instant::now()) {
                outbox.push_now(delivery, event);
            }
        }
    }

    /// Nobody reads a stream any more; its client may take it up again if it may know an id of it. Returned is what
    /// the child must be told.
    fn leave(&mut self, stream: StreamId) -> Vec<Line> {
        self.outboxes.remove(&stream);
        let resumable = self.replay.can_resume(stream);
        if !resumable {
            self.replay.forget(stream);
        }
        let now = Instant::now();
        self.last_active = now;
        self.session.stream_left(stream, resumable, now)
    }

    /// When the session has been idle for `timeout`, or, when its client was never heard of again after `initialize`,
    /// for [`UNCLAIMED`]; `None` while something is open.
    pub(super) fn idle_at(&self, timeout: Duration) -> Option<Instant> {
        let timeout = if self.claimed { timeout } else { timeout.min(UNCLAIMED) };
        if self.session.is_idle() { self.last_active.checked_add(timeout) } else { None }
    }
}

/// What a client is told that listens again, since no answer could tell it.
fn messages_lost() -> Line {
    let data = "messages were lost while the stream was broken";
    let params = serde_json::json!({ "level": "warning", "logger": env!("CARGO_PKG_NAME"), "data": data });
    jsonrpc::notification(mcp::MESSAGE, &params)
}

fn unwritable(e: Unwritable) -> Refused {
    Refused::Error(ErrorObject::internal("child_unwritable", format!("the MCP server takes no message: {e}")))
}

/// What may be shown of a session id.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}
