//! One request to a modern server, until its answer.

use std::{
    fmt,
    task::{Context, Poll, ready},
};

use crate::{
    framing::queue::{self, NoRoom, Receiver, Sender},
    jsonrpc::Message,
};

/// Most bytes that wait in one call for its reader; one larger message may wait alone.
const MAX_QUEUED: u32 = 4 * 1024 * 1024;

/// What comes back: notifications, then the answer.
#[derive(Debug, Clone)]
pub struct Item {
    /// The message, under the ids and tokens of who asked.
    pub message: Message,
    /// Whether the call ends with it.
    pub last: bool,
}

/// The server's end of a call.
#[derive(Debug, Clone)]
pub struct Replies(Sender<Item>);

/// The end of who asked. Dropping it before the last item cancels the request.
pub struct Call {
    items: Receiver<Item>,
    ended: bool,
    left: Option<Box<dyn FnOnce() + Send>>,
}

/// Both ends of a call. `left` is called once if who asked leaves before the end.
pub fn call(left: impl FnOnce() + Send + 'static) -> (Replies, Call) {
    let (sender, items) = queue::bounded(MAX_QUEUED);
    (Replies(sender), Call { items, ended: false, left: Some(Box::new(left)) })
}

impl Replies {
    /// Passes an item on, if there is room now. The last item of a call always finds room.
    ///
    /// # Errors
    /// When the reader is too slow, or has left.
    pub fn push(&self, item: Item) -> Result<(), NoRoom> {
        let room = match self.0.try_reserve(item.message.line.len()) {
            Ok(room) => room,
            Err(NoRoom::Full) if item.last => queue::Room::default(),
            Err(e) => return Err(e),
        };
        if self.0.send(item, room) { Ok(()) } else { Err(NoRoom::Closed) }
    }

    /// Passes an item on as soon as there is room; false when the reader has left.
    pub async fn send(&self, item: Item) -> bool {
        match self.0.reserve(item.message.line.len()).await {
            Ok(room) => self.0.send(item, room),
            Err(_) => false,
        }
    }

    /// Waits until the reader has left.
    pub async fn left(&self) {
        self.0.closed().await;
    }
}

impl Call {
    /// A call that was answered before it was sent.
    pub fn answered(message: Message) -> Self {
        let (replies, call) = call(|| ());
        // An empty queue has room.
        let _ = replies.push(Item { message, last: true });
        call
    }

    /// The next item; `None` after the last, or when the call has ended without an answer. Cancel safe.
    pub async fn next(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.items.poll_recv(cx));
        self.ended = item.as_ref().is_none_or(|item| item.last);
        Poll::Ready(item)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended
            && let Some(left) = self.left.take()
        {
            left();
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::jsonrpc::ErrorObject;

    fn item(last: bool) -> Item {
        Item { message: ErrorObject::internal("test", "x".repeat(1024)).response(None), last }
    }

    fn watched() -> (Replies, Call, Arc<AtomicBool>) {
        let left = Arc::new(AtomicBool::new(false));
        let (replies, call) = call({
            let left = Arc::clone(&left);
            move || left.store(true, Ordering::SeqCst)
        });
        (replies, call, left)
    }

    #[tokio::test]
    async fn leaving_before_the_end_is_noticed_and_after_it_is_not() {
        let (replies, mut call, left) = watched();
        replies.push(item(true)).unwrap();
        assert!(call.next().await.unwrap().last && call.next().await.is_none());
        drop(call);
        assert!(!left.load(Ordering::SeqCst));

        let (replies, call, left) = watched();
        drop(call);
        assert!(left.load(Ordering::SeqCst));
        assert_eq!(replies.push(item(true)).unwrap_err(), NoRoom::Closed);
    }

    #[tokio::test]
    async fn a_slow_reader_is_noticed_and_still_gets_the_answer() {
        let (replies, mut call, _) = watched();
        while replies.push(item(false)).is_ok() {}
        assert_eq!(replies.push(item(false)).unwrap_err(), NoRoom::Full);
        replies.push(item(true)).unwrap();
        let mut last = false;
        while let Some(item) = call.next().await {
            last = item.last;
        }
        assert!(last);
    }

    #[tokio::test]
    async fn a_server_that_goes_away_ends_the_call() {
        let (replies, mut call, left) = watched();
        drop(replies);
        assert!(call.next().await.is_none());
        drop(call);
        assert!(!left.load(Ordering::SeqCst));
    }
}
