//! Whole answers over HTTP/2 that their client does not read. Each is held until its window opens, which keeps up
//! neither the connection's bytes nor its other requests, and so nothing else that has a limit.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{Instant, sleep_until};

use super::watched::WRITE_PATIENCE;

/// The whole answers on one connection of which the client has more to take.
#[derive(Debug, Default)]
pub(super) struct Unread {
    begun: AtomicU64,
    /// When something was last taken of each.
    taken: Mutex<HashMap<u64, Instant>>,
}

/// One such answer, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    unread: Arc<Unread>,
    number: u64,
}

impl Unread {
    pub(super) fn begin(self: &Arc<Self>) -> Waiting {
        let waiting =
            Waiting { unread: Arc::clone(self), number: self.begun.fetch_add(1, Ordering::Relaxed) };
        waiting.taken();
        waiting
    }

    /// Returns when the client has taken nothing of one of the answers for [`WRITE_PATIENCE`].
    pub(super) async fn overdue(&self) {
        loop {
            let now = Instant::now();
            // One that begins from now on is not due before.
            let oldest = self.all().values().min().copied().unwrap_or(now);
            let due = oldest + WRITE_PATIENCE;
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The client has taken something.
    pub(super) fn taken(&self) {
        self.unread.all().insert(self.number, Instant::now());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unread.all().remove(&self.number);
    }
}
