//! A queue that is bounded by the bytes that wait in it.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, TryAcquireError},
    task::coop::poll_proceed,
    time::timeout,
};

/// What an item counts besides its own bytes, so that their number is bounded too.
const OVERHEAD: usize = 256;

/// The room that an item takes until it is dropped, which is when its bytes have gone on. An item that is bounded
/// elsewhere takes none.
#[derive(Debug, Default)]
pub struct Room {
    _permit: Option<Permit>,
}

/// So many bytes of a queue's.
#[derive(Debug)]
struct Permit {
    of: Arc<dyn Bounded>,
    bytes: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.give_back(self.bytes);
    }
}

/// A queue of whatever it may be.
trait Bounded: fmt::Debug + Send + Sync {
    fn give_back(&self, bytes: u32);
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The queue is full, and stayed so.
    Full,
    /// One of the ends is closed.
    Closed,
}

/// What both ends share.
///
/// Not tokio's channel: that has room for 32 items from the beginning, and most queues carry one answer in their life.
#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// One permit for each byte.
    room: Semaphore,
    /// Heard by those who wait for the end.
    ended: Notify,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, Room)>,
    senders: usize,
    /// Takes nothing more in.
    closed: bool,
    reader: Option<Waker>,
}

impl<T: fmt::Debug + Send> Bounded for Shared<T> {
    fn give_back(&self, bytes: u32) {
        self.room.add_permits(bytes as usize);
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that puts items in. Its clones share one queue.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// In bytes.
    max: u32,
}

/// The end that takes items out. Dropping it closes the queue.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// A queue of at most `max` bytes; one larger item may wait alone.
pub fn bounded<T>(max: u32) -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), senders: 1, closed: false, reader: None };
    let room = Semaphore::new(max as usize);
    let shared = Arc::new(Shared { state: Mutex::new(state), room, ended: Notify::new() });
    (Sender { shared: Arc::clone(&shared), max }, Receiver { shared })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state().senders += 1;
        Self { shared: Arc::clone(&self.shared), max: self.max }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.senders -= 1;
        let reader = if state.senders == 0 { state.reader.take() } else { None };
        drop(state);
        reader.inspect(Waker::wake_by_ref);
    }
}

impl<T: fmt::Debug + Send + 'static> Sender<T> {
    /// Room for an item of `bytes`, if there is some now.
    pub fn try_reserve(&self, bytes: usize) -> Result<Room, NoRoom> {
        let cost = self.cost(bytes);
        match self.shared.room.try_acquire_many(cost) {
            Ok(permit) => {
                permit.forget();
                Ok(self.room_of(cost))
            }
            Err(TryAcquireError::Closed) => Err(NoRoom::Closed),
            Err(TryAcquireError::NoPermits) => Err(NoRoom::Full),
        }
    }

    /// Waits, in turn, for room for an item of `bytes`.
    pub async fn reserve(&self, bytes: usize) -> Result<Room, NoRoom> {
        let cost = self.cost(bytes);
        self.shared.room.acquire_many(cost).await.map_err(|_| NoRoom::Closed)?.forget();
        Ok(self.room_of(cost))
    }

    /// Who drops it gives the permits back that were taken for it.
    fn room_of(&self, bytes: u32) -> Room {
        let of: Arc<dyn Bounded> = Arc::clone(&self.shared) as _;
        Room { _permit: Some(Permit { of, bytes }) }
    }

    /// As [`Self::reserve`], for at most `patience`.
    pub async fn reserve_within(&self, bytes: usize, patience: Duration) -> Result<Room, NoRoom> {
        // Mostly there is room, and then no timer is needed.
        match self.try_reserve(bytes) {
            Err(NoRoom::Full) => timeout(patience, self.reserve(bytes)).await.unwrap_or(Err(NoRoom::Full)),
            done => done,
        }
    }
}

impl<T> Sender<T> {
    /// Puts an item in, in the room that was made for it; false when nobody will take it out.
    pub fn send(&self, item: T, room: Room) -> bool {
        let mut state = self.shared.state();
        if state.closed {
            return false;
        }
        state.items.push_back((item, room));
        let reader = state.reader.take();
        drop(state);
        reader.inspect(Waker::wake_by_ref);
        true
    }

    /// Makes no more room, also for those who wait for some. What is in the queue stays there.
    pub fn close(&self) {
        self.shared.room.close();
    }

    /// Whether nobody takes items out any more.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Waits until nobody takes items out any more.
    pub async fn closed(&self) {
        let mut ended = pin!(self.shared.ended.notified());
        // Heard from here on, so that the end can't come between the look and the wait.
        ended.as_mut().enable();
        if !self.is_closed() {
            ended.await;
        }
    }

    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX).min(self.max)
    }
}

impl<T> Receiver<T> {
    /// The next item, with its room; `None` when every sender is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<(T, Room)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next item, with its room, if there is one now.
    pub fn try_recv(&mut self) -> Option<(T, Room)> {
        self.shared.state().items.pop_front()
    }

    /// As [`Self::recv`], for an item whose bytes go on at once.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|(item, _room)| item))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(T, Room)>> {
        // Who always finds something here lets other tasks work all the same.
        let budget = ready!(poll_proceed(cx));
        let mut state = self.shared.state();
        let next = state.items.pop_front();
        if next.is_none() && !state.closed && state.senders > 0 {
            match &mut state.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        budget.made_progress();
        Poll::Ready(next)
    }

    /// Takes nothing more in.
    pub fn close(&mut self) {
        self.shared.state().closed = true;
        self.shared.ended.notify_waiters();
        self.shared.room.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // Their rooms are given back outside of the lock.
        let left = std::mem::take(&mut self.shared.state().items);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 10_000;

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_in_number() {
        let (sender, mut receiver) = bounded(MAX);
        let half = || sender.try_reserve(4_000);
        let (one, two) = (half().unwrap(), half().unwrap());
        assert_eq!(half().unwrap_err(), NoRoom::Full);
        assert!(sender.send('a', one) && sender.send('b', two));
        assert_eq!(receiver.recv().await.unwrap().0, 'a');
        drop(half().unwrap());
        assert_eq!(receiver.recv().await.unwrap().0, 'b');
        let rooms: Vec<_> = std::iter::from_fn(|| sender.try_reserve(0).ok()).collect();
        assert_eq!(rooms.len(), MAX as usize / OVERHEAD);
    }

    #[tokio::test]
    async fn an_item_larger_than_the_queue_waits_alone() {
        let (sender, receiver) = bounded::<()>(MAX);
        let room = sender.try_reserve(1 << 40).unwrap();
        assert_eq!(sender.try_reserve(0).unwrap_err(), NoRoom::Full);
        drop(room);
        let small = sender.try_reserve(0).unwrap();
        assert_eq!(sender.try_reserve(1 << 40).unwrap_err(), NoRoom::Full);
        drop((small, receiver));
        assert_eq!(sender.try_reserve(0).unwrap_err(), NoRoom::Closed);
    }

    #[tokio::test]
    async fn who_waits_for_room_learns_that_there_will_be_none() {
        let (sender, receiver) = bounded::<()>(MAX);
        let _all = sender.try_reserve(1 << 40).unwrap();
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.reserve(0).await.unwrap_err() }
        });
        tokio::task::yield_now().await;
        let ended = tokio::spawn({
            let sender = sender.clone();
            async move { sender.closed().await }
        });
        tokio::task::yield_now().await;
        drop(receiver);
        ended.await.unwrap();
        assert_eq!(waiting.await.unwrap(), NoRoom::Closed);
        sender.closed().await;
        assert!(sender.is_closed() && !sender.send((), Room::default()));
    }

    #[tokio::test]
    async fn who_reads_learns_that_nothing_more_can_come() {
        let (sender, mut receiver) = bounded(MAX);
        let reading =
            tokio::spawn(async move { (receiver.recv().await.is_some(), receiver.recv().await.is_none()) });
        tokio::task::yield_now().await;
        let other = sender.clone();
        drop(sender);
        assert!(other.send((), Room::default()));
        tokio::task::yield_now().await;
        drop(other);
        assert_eq!(reading.await.unwrap(), (true, true));
    }
}
