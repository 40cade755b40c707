//! One request of the client's, over all the rounds that it takes.

use std::{collections::HashMap, time::Instant};

use serde_json::value::RawValue;

use super::CallKey;
use crate::{
    jsonrpc::{Kind, Line, Message, Object, RequestId},
    mcp,
};

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The method of its calls.
    pub(super) method: Box<str>,
    /// As the client sent it.
    pub(super) line: Line,
    token: Option<RequestId>,
    /// How far it has come, over all rounds.
    progress: Option<f64>,
    /// How often it has been sent again.
    pub(super) rounds: u32,
    /// How often in a row without anything new.
    pub(super) rests: u32,
    /// The URLs that the user was sent to, each with the id of its elicitation.
    pub(super) urls: HashMap<Box<str>, String>,
    pub(super) until: Option<Instant>,
    pub(super) phase: Phase,
}

/// What an exchange waits for.
#[derive(Debug)]
pub(super) enum Phase {
    /// The server.
    Running { key: CallKey, silent_until: Option<Instant> },
    /// The client, which may take its time.
    Asking { questions: Vec<Open>, state: Option<Box<RawValue>> },
    /// The time to ask the server again, which had nothing to ask itself.
    Resting { until: Instant, state: Option<Box<RawValue>> },
}

/// A question that the client was asked.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: RequestId,
    /// The server's name for it.
    pub(super) key: Box<str>,
    pub(super) method: &'static str,
    pub(super) answer: Option<Line>,
}

impl Exchange {
    pub(super) fn new(
        method: Box<str>,
        line: Line,
        token: Option<RequestId>,
        until: Option<Instant>,
        phase: Phase,
    ) -> Self {
        let urls = HashMap::new();
        Self { method, line, token, progress: None, rounds: 0, rests: 0, urls, until, phase }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match &self.phase {
            Phase::Running { silent_until, .. } => *silent_until,
            Phase::Asking { .. } => None,
            Phase::Resting { until, .. } => Some(*until),
        };
        next.into_iter().chain(self.until).min()
    }

    /// Whether a notification of its call is for the client. Progress has to rise over all rounds
    /// (`basic/patterns/progress`), and only `subscriptions/listen` is ever cancelled by a server.
    pub(super) fn passes(&mut self, message: &Message) -> bool {
        match message.method() {
            Some(mcp::PROGRESS) => self.progresses(message),
            Some(mcp::CANCELLED) | None => false,
            Some(_) => true,
        }
    }

    fn progresses(&mut self, message: &Message) -> bool {
        let Kind::Notification { about, .. } = &message.kind else { return false };
        let progress = Object::parse(message.line.as_str()).ok();
        let progress = progress.and_then(|line| line.object("params").ok()?.read::<f64>("progress"));
        let rises = progress.is_some_and(|now| self.progress.is_none_or(|before| now > before));
        if about.is_none() || *about != self.token || !rises {
            return false;
        }
        self.progress = progress;
        true
    }
}
