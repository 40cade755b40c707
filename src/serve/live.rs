//! A legacy session with its child: one task drives it, requests reach it by its handle.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stream::{self, Inbox, Outbox};
use crate::{
    auth::Principal,
    framing::writer::{Unwritable, Writer},
    jsonrpc::{ErrorObject, Line, Message},
    mcp::LegacyRevision,
    session::{Delivery, Intake, Session, StreamId},
};

/// How much of a session id may be shown.
const SHORT_ID: usize = 8;

/// A session that clients reach through its id.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: String,
    pub(super) principal: Principal,
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
    outboxes: HashMap<StreamId, Outbox>,
    pub(super) last_active: Instant,
    /// When the driver looks again by itself.
    pub(super) looks_at: Option<Instant>,
    /// Why the session takes no more requests.
    ended: Option<ErrorObject>,
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
    pub(super) fn new(id: String, principal: Principal, stdin: Writer, session: Session) -> Arc<Self> {
        let state = State {
            session,
            outboxes: HashMap::new(),
            last_active: Instant::now(),
            looks_at: None,
            ended: None,
        };
        Arc::new_cyclic(|this| Self {
            id,
            principal,
            stdin,
            state: Mutex::new(state),
            streams: AtomicU64::new(0),
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

    fn new_stream(&self) -> (StreamId, Outbox, Inbox) {
        let id = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let (outbox, inbox) = stream::new(id, self.this.clone());
        (id, outbox, inbox)
    }

    /// Takes in one message that wants no answer.
    pub(super) async fn accept(&self, message: Message) -> Result<(), Refused> {
        self.pass(&message, StreamId(u64::MAX), false, None).await
    }

    /// Takes in requests that came together; their answers come by the stream that is returned.
    pub(super) async fn exchange(&self, messages: Vec<Message>, streams: bool) -> Result<Inbox, Refused> {
        let (id, outbox, inbox) = self.new_stream();
        let single = messages.len() == 1;
        if !single {
            self.state().session.begin_batch(id);
        }
        for message in messages {
            match self.pass(&message, id, streams, Some(&outbox)).await {
                Ok(()) => {}
                Err(Refused::Error(error)) if !single => {
                    let line = Some(error.response(message.request_id()).line);
                    outbox.push_now(Delivery { stream: id, line, response: true, last: false });
                }
                Err(refused) => return Err(refused),
            }
        }
        if !single {
            let mut state = self.state();
            if state.session.complete_batch(id) {
                state.outboxes.remove(&id);
                outbox.push_now(Delivery { stream: id, line: None, response: false, last: true });
            }
        }
        Ok(inbox)
    }

    /// Judges a message and gives it to the child.
    async fn pass(
        &self,
        message: &Message,
        stream: StreamId,
        streams: bool,
        outbox: Option<&Outbox>,
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
        let intake = state.session.from_client(message, stream, streams, now).map_err(Refused::Error)?;
        if let (Some(outbox), Some(_)) = (outbox, message.request_id()) {
            state.outboxes.insert(stream, outbox.clone());
        }
        match intake {
            Intake::Ignore(why) => {
                log::debug!("session {}: a client's message is dropped: {why}", self.short_id());
            }
            Intake::Forward(deliveries) => {
                if let Err(e) = reserved.send(message.line.clone()) {
                    message.request_id().inspect(|id| state.session.withdraw(id));
                    return Err(unwritable(e));
                }
                state.deliver_now(deliveries);
            }
        }
        let due = state.session.next_deadline();
        if due.is_some_and(|due| state.looks_at.is_none_or(|looks_at| due < looks_at)) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Opens a GET stream.
    pub(super) fn listen(&self) -> Result<Inbox, Refused> {
        let (id, outbox, inbox) = self.new_stream();
        let mut state = self.state();
        if state.ended.is_some() || self.drain.is_cancelled() {
            return Err(Refused::Gone);
        }
        state.outboxes.insert(id, outbox);
        let deliveries = state.session.open_listener(id);
        state.deliver_now(deliveries);
        Ok(inbox)
    }

    /// Ends the GET streams; no new one opens.
    pub(super) fn end_listeners(&self) {
        let mut state = self.state();
        let deliveries = state.session.end_listeners();
        state.deliver_now(deliveries);
    }

    /// The client has left a stream before its end.
    pub(super) fn stream_closed(&self, stream: StreamId) {
        let mut state = self.state();
        state.outboxes.remove(&stream);
        state.session.stream_closed(stream);
        state.last_active = Instant::now();
        self.wake.notify_one();
    }

    /// Puts a message of the child's on its stream; waits for a client that is slow to read.
    pub(super) async fn deliver(&self, delivery: Delivery) {
        let stream = delivery.stream;
        let outbox = self.state().outbox(&delivery);
        let Some(outbox) = outbox else {
            log::info!("session {}: a message is lost: its client has left", self.short_id());
            return;
        };
        if outbox.push(delivery).await.is_err() {
            log::warn!("session {}: a stream is cut: its client does not read it", self.short_id());
            // Without an outbox the client's end finds its queue at an end.
            self.stream_closed(stream);
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

    /// Gives the child a line of the bridge's own.
    pub(super) fn tell_child(&self, line: Line) {
        if let Err(e) = self.stdin.try_send(line) {
            log::warn!("session {}: a message to the child is lost: {e}", self.short_id());
        }
    }
}

impl State {
    /// The outbox of a delivery's stream; taken out when it is the last.
    fn outbox(&mut self, delivery: &Delivery) -> Option<Outbox> {
        if delivery.last {
            self.last_active = Instant::now();
            return self.outboxes.remove(&delivery.stream);
        }
        self.outboxes.get(&delivery.stream).cloned()
    }

    pub(super) fn deliver_now(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if let Some(outbox) = self.outbox(&delivery) {
                outbox.push_now(delivery);
            }
        }
    }

    /// When the session has been idle for `timeout`; `None` while something is open.
    pub(super) fn idle_at(&self, timeout: Duration) -> Option<Instant> {
        if self.session.is_idle() { self.last_active.checked_add(timeout) } else { None }
    }
}

fn unwritable(e: Unwritable) -> Refused {
    Refused::Error(ErrorObject::internal("child_unwritable", format!("the MCP server takes no message: {e}")))
}

/// What may be shown of a session id.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}
