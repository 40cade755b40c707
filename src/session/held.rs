//! Messages of the server's that wait for a stream.

use std::{collections::VecDeque, time::Instant};

use crate::jsonrpc::{Message, RequestId};

/// Most messages held.
const MAX_MESSAGES: usize = 256;
/// Most bytes held.
const MAX_BYTES: usize = 1024 * 1024;

/// A bounded queue; requests in it run out.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: VecDeque<(Message, Instant)>,
    bytes: usize,
}

impl Held {
    /// Adds a message and returns what it drove out, oldest first: itself, when it is too large.
    pub(super) fn push(&mut self, mut message: Message, until: Instant) -> Vec<Message> {
        message.line = message.line.detached();
        self.bytes += message.line.len();
        self.messages.push_back((message, until));
        let mut out = Vec::new();
        while self.bytes > MAX_BYTES || self.messages.len() > MAX_MESSAGES {
            let Some((oldest, _)) = self.messages.pop_front() else { break };
            self.bytes -= oldest.line.len();
            out.push(oldest);
        }
        out
    }

    pub(super) fn take(&mut self) -> Vec<Message> {
        self.bytes = 0;
        self.messages.drain(..).map(|(message, _)| message).collect()
    }

    /// Drops a request that the server has taken back.
    pub(super) fn forget(&mut self, id: &RequestId) {
        self.remove(|message, _| message.request_id() == Some(id));
    }

    /// When the next request runs out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.messages.iter().find(|(m, _)| m.request_id().is_some()).map(|(_, until)| *until)
    }

    /// Takes out the requests that have run out; notifications wait on.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Message> {
        self.remove(|message, until| until <= now && message.request_id().is_some())
    }

    fn remove(&mut self, unwanted: impl Fn(&Message, Instant) -> bool) -> Vec<Message> {
        let all = std::mem::take(&mut self.messages);
        let (out, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(m, until)| unwanted(m, *until));
        self.messages = kept.into();
        self.bytes = self.messages.iter().map(|(m, _)| m.line.len()).sum();
        out.into_iter().map(|(message, _)| message).collect()
    }
}
