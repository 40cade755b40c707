//! One stream to the client: from the session to the body of an answer.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::live::Live;
use crate::{
    framing::{
        queue::{self, NoRoom, Receiver, Room, Sender},
        sse,
    },
    http::EventSource,
    jsonrpc::Line,
    pieces::Pieces,
    session::{Delivery, EventId, StreamId},
};

/// Most bytes that wait on one stream for its client to read them; one larger message may wait alone.
const MAX_QUEUED: u32 = 4 * 1024 * 1024;
/// How long the child's output waits for a client that does not read its stream, before that stream is cut.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message on its way to the client.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: Option<Line>,
    /// The message's id as an event.
    pub(super) event: Option<EventId>,
    pub(super) response: bool,
    pub(super) last: bool,
}

/// The session's end of a stream.
#[derive(Debug, Clone)]
pub(super) struct Outbox(Sender<Item>);

/// The client does not read its stream, or not yet.
#[derive(Debug)]
pub(super) struct Stuck;

impl Outbox {
    /// Room for a message, if the client has made some. A client that has left is no error.
    pub(super) fn try_reserve(&self, delivery: &Delivery) -> Result<Room, Stuck> {
        room_for_present(self.0.try_reserve(length(delivery)))
    }

    /// Waits until the client has made room for a message. A client that has left is no error.
    pub(super) async fn reserve(&self, delivery: &Delivery) -> Result<Room, Stuck> {
        room_for_present(self.0.reserve_within(length(delivery), PATIENCE).await)
    }

    /// Puts a message on the stream, in the room that was made for it.
    pub(super) fn push(&self, delivery: Delivery, event: Option<EventId>, room: Room) {
        let Delivery { line, answers, last, .. } = delivery;
        self.0.send(Item { line, event, response: answers.is_some(), last }, room);
    }

    /// Puts a message on the stream that is bounded elsewhere: it was held, is sent again, or ends the stream.
    pub(super) fn push_now(&self, delivery: Delivery, event: Option<EventId>) {
        self.push(delivery, event, Room::default());
    }

    /// Whether the client has left.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Another one has taken its place: nobody need wait for its client.
    pub(super) fn supersede(&self) {
        self.0.close();
    }
}

fn length(delivery: &Delivery) -> usize {
    delivery.line.as_ref().map_or(0, Line::len)
}

/// Whoever has left needs none.
fn room_for_present(room: Result<Room, NoRoom>) -> Result<Room, Stuck> {
    match room {
        Ok(room) => Ok(room),
        Err(NoRoom::Closed) => Ok(Room::default()),
        Err(NoRoom::Full) => Err(Stuck),
    }
}

/// The client's end of a stream. Dropping it tells the session that the client has left.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Receiver<Item>,
    id: StreamId,
    owner: Weak<Live>,
    ended: bool,
}

/// Both ends of a new stream.
pub(super) fn new(id: StreamId, owner: Weak<Live>) -> (Outbox, Inbox) {
    let (sender, receiver) = queue::bounded(MAX_QUEUED);
    (Outbox(sender), Inbox { queue: receiver, id, owner, ended: false })
}

impl Inbox {
    /// The stream's number in its session.
    pub(super) fn id(&self) -> StreamId {
        self.id
    }

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
        self.queue.close();
        if let Some(owner) = self.owner.upgrade().filter(|_| !self.ended) {
            owner.stream_left(self.id);
        }
    }
}

/// How long a client may wait before it takes up a stream again that broke, in milliseconds.
const RETRY: u64 = 1000;

/// A stream as server-sent events.
pub(super) struct Events {
    /// What had come before the stream began, ready to send.
    first: VecDeque<Pieces>,
    /// `None`: nothing more comes.
    inbox: Option<Inbox>,
    /// It is no answer, but what a client listens to.
    listening: bool,
    keep_alive: KeepAlive,
}

/// Comments where nothing else comes for a while.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, timer: Box::pin(sleep(interval)) }
    }

    /// The next piece of a stream that has `next` to send.
    pub(super) fn fill(&mut self, next: Poll<Option<Pieces>>, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        let piece = match next {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                Some(sse::KEEP_ALIVE.into())
            }
        };
        let next = Instant::now() + self.interval;
        self.timer.as_mut().reset(next);
        Poll::Ready(piece)
    }
}

impl Events {
    /// `prime` is the id of an event without data, for clients that know what to make of it.
    pub(super) fn new(prime: Option<EventId>, first: &[Item], inbox: Inbox, interval: Duration) -> Self {
        let prime = prime.map(|id| sse::encode_priming(&id.to_string(), RETRY).into());
        let first = prime.into_iter().chain(first.iter().filter_map(encode)).collect();
        Self { first, inbox: Some(inbox), listening: false, keep_alive: KeepAlive::new(interval) }
    }

    /// The stream of a client that listens.
    pub(super) fn listening(self) -> Self {
        Self { listening: true, ..self }
    }

    /// A stream that begins with an event of its own.
    pub(super) fn beginning_with(event: Bytes, inbox: Inbox, interval: Duration) -> Self {
        Self { first: [event.into()].into(), ..Self::new(None, &[], inbox, interval) }.listening()
    }

    /// A stream that ends at once.
    pub(super) fn ended() -> Self {
        let keep_alive = KeepAlive::new(Duration::ZERO);
        Self { first: VecDeque::new(), inbox: None, listening: false, keep_alive }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        if let Some(event) = self.first.pop_front() {
            return Poll::Ready(Some(event));
        }
        let Some(inbox) = &mut self.inbox else { return Poll::Ready(None) };
        loop {
            match ready!(inbox.poll_next(cx)) {
                Some(item) => {
                    if let Some(event) = encode(&item) {
                        return Poll::Ready(Some(event));
                    }
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

fn encode(item: &Item) -> Option<Pieces> {
    let id = item.event.map(|id| id.to_string());
    item.line.as_ref().map(|line| sse::encode(id.as_deref(), line.pieces()))
}

impl EventSource for Events {
    fn ends_with_peer(&self) -> bool {
        self.listening
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        let next = self.poll_event(cx);
        self.keep_alive.fill(next, cx)
    }
}
