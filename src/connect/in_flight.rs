//! The client's requests that wait for an answer. No I/O.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::session::Change;
use crate::{
    jsonrpc::{ErrorObject, Kind, Message, RequestId},
    mcp,
    metrics::{Exchanges, Outcome, Running},
};

/// Most requests in flight.
const MAX_IN_FLIGHT: usize = 1024;

/// All requests in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    entries: Mutex<HashMap<RequestId, Entry>>,
    counts: Exchanges,
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    running: Running,
    progress_token: Option<RequestId>,
    change: Change,
}

impl Entry {
    fn cancel(self) {
        self.waiting.cancelled.cancel();
        self.running.end(Outcome::Cancelled);
    }
}

/// What happens to a request while it waits. Clones are about the same request.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    /// The client has taken it back.
    pub(super) cancelled: CancellationToken,
    /// It has its answer, from wherever.
    pub(super) answered: CancellationToken,
    /// The server has said something that may be about it, on a stream that all requests share.
    pub(super) heard: Arc<Notify>,
}

impl InFlight {
    pub(super) fn new(counts: Exchanges) -> Self {
        Self { entries: Mutex::default(), counts }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<RequestId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request, unless there may be no more or its id is there already.
    pub(super) fn begin(&self, id: &RequestId, message: &Message) -> Result<Waiting, ErrorObject> {
        // A request that is refused counts too.
        let running = self.counts.begin(message.method().unwrap_or_default());
        let mut entries = self.entries();
        if entries.contains_key(id) {
            return Err(ErrorObject::invalid("duplicate_id", "the id is that of a request in flight"));
        }
        if entries.len() >= MAX_IN_FLIGHT {
            let text = format!("more than {MAX_IN_FLIGHT} requests are in flight");
            return Err(ErrorObject::internal("too_many_requests", text));
        }
        let waiting = Waiting::default();
        let progress_token = match &message.kind {
            Kind::Request { progress_token, .. } => progress_token.clone(),
            _ => None,
        };
        let entry =
            Entry { waiting: waiting.clone(), running, progress_token, change: Change::asked_by(message) };
        entries.insert(id.clone(), entry);
        Ok(waiting)
    }

    pub(super) fn contains(&self, id: &RequestId) -> bool {
        self.entries().contains_key(id)
    }

    /// Ends the wait for an answer that is there, and says what the request changes in the session; `None` if nobody
    /// waits for it.
    pub(super) fn answered(&self, id: &RequestId, outcome: Outcome) -> Option<Change> {
        let entry = self.entries().remove(id)?;
        entry.running.end(outcome);
        entry.waiting.answered.cancel();
        Some(entry.change)
    }

    /// A request goes on elsewhere, and is counted there.
    pub(super) fn forget(&self, id: &RequestId) {
        if let Some(entry) = self.entries().remove(id) {
            entry.running.disown();
        }
    }

    /// A cancelled request gets no answer.
    pub(super) fn cancel(&self, id: &RequestId) {
        if let Some(entry) = self.entries().remove(id) {
            entry.cancel();
        }
    }

    pub(super) fn cancel_all(&self) {
        self.entries().drain().for_each(|(_, entry)| entry.cancel());
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.entries().keys().cloned().collect()
    }

    /// A message on a stream that all requests share: progress is about the request of its token, an answer ends its own
    /// wait, and anything else may be about each of them.
    pub(super) fn heard(&self, message: &Message) {
        let entries = self.entries();
        let about = match &message.kind {
            Kind::Response { .. } => return,
            Kind::Notification { method, about } if &**method == mcp::PROGRESS => Some(about),
            _ => None,
        };
        let heard = entries.values().filter(|entry| about.is_none_or(|token| *token == entry.progress_token));
        heard.for_each(|entry| entry.waiting.heard.notify_one());
    }
}
