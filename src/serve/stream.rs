//! One stream to the client: from the session to the body of an answer.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep, sleep, timeout},
};

use super::live::Live;
use crate::{
    framing::sse,
    http::EventSource,
    jsonrpc::Line,
    session::{Delivery, StreamId},
};

/// Most bytes that wait on one stream for its client to read them; one larger message may wait alone.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// What a message counts besides its text, so that their number is bounded too.
const OVERHEAD: usize = 256;
/// How long the child's output waits for a client that does not read its stream, before that stream is cut.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message on its way to the client.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: Option<Line>,
    pub(super) response: bool,
    pub(super) last: bool,
    _room: Option<OwnedSemaphorePermit>,
}

/// The session's end of a stream.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
}

/// The client does not read its stream.
#[derive(Debug)]
pub(super) struct Stuck;

impl Outbox {
    /// Puts a message on the stream, when the client has made room for it. A client that has left is no error.
    pub(super) async fn push(&self, delivery: Delivery) -> Result<(), Stuck> {
        let cost = delivery.line.as_ref().map_or(0, Line::len) + OVERHEAD;
        let cost = u32::try_from(cost.min(MAX_QUEUED)).unwrap_or(u32::MAX);
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(cost) {
            Ok(permit) => permit,
            Err(_) => match timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(cost)).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Stuck),
            },
        };
        self.send(delivery, Some(permit));
        Ok(())
    }

    /// Puts a message on the stream that is bounded elsewhere: it was held, or ends the stream.
    pub(super) fn push_now(&self, delivery: Delivery) {
        self.send(delivery, None);
    }

    fn send(&self, delivery: Delivery, room: Option<OwnedSemaphorePermit>) {
        let Delivery { line, response, last, .. } = delivery;
        let _ = self.queue.send(Item { line, response, last, _room: room });
    }
}

/// The client's end of a stream. Dropping it tells the session that the client has left.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::UnboundedReceiver<Item>,
    room: Arc<Semaphore>,
    id: StreamId,
    owner: Weak<Live>,
    ended: bool,
}

/// Both ends of a new stream.
pub(super) fn new(id: StreamId, owner: Weak<Live>) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(MAX_QUEUED));
    let outbox = Outbox { queue: sender, room: Arc::clone(&room) };
    (outbox, Inbox { queue: receiver, room, id, owner, ended: false })
}

impl Inbox {
    /// The next message; `None` when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.queue.poll_recv(cx));
        self.ended = item.as_ref().is_none_or(|item| item.last);
        Poll::Ready(item)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.room.close();
        if let Some(owner) = self.owner.upgrade().filter(|_| !self.ended) {
            owner.stream_closed(self.id);
        }
    }
}

/// A stream as server-sent events.
pub(super) struct Events {
    /// What had come before the stream began.
    first: VecDeque<Line>,
    /// `None`: nothing more comes.
    inbox: Option<Inbox>,
    interval: Duration,
    keep_alive: Pin<Box<Sleep>>,
}

impl Events {
    pub(super) fn new(first: impl Into<VecDeque<Line>>, inbox: Inbox, interval: Duration) -> Self {
        Self { first: first.into(), inbox: Some(inbox), interval, keep_alive: Box::pin(sleep(interval)) }
    }

    /// A stream that ends at once.
    pub(super) fn ended() -> Self {
        let interval = Duration::ZERO;
        Self { first: VecDeque::new(), inbox: None, interval, keep_alive: Box::pin(sleep(interval)) }
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        if let Some(line) = self.first.pop_front() {
            return Poll::Ready(Some(line));
        }
        let Some(inbox) = &mut self.inbox else { return Poll::Ready(None) };
        loop {
            match ready!(inbox.poll_next(cx)) {
                Some(Item { line: Some(line), .. }) => return Poll::Ready(Some(line)),
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl EventSource for Events {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = match self.poll_line(cx) {
            Poll::Ready(line) => line.map(|line| sse::encode(line.bytes())),
            Poll::Pending => {
                ready!(self.keep_alive.as_mut().poll(cx));
                Some(sse::KEEP_ALIVE)
            }
        };
        let next = Instant::now() + self.interval;
        self.keep_alive.as_mut().reset(next);
        Poll::Ready(piece)
    }
}
