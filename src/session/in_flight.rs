//! The client's requests that wait for an answer.

use std::{
    collections::{HashMap, HashSet, hash_map},
    time::{Duration, Instant},
};

use super::{StreamId, StreamMap};
use crate::{
    jsonrpc::{ErrorObject, RequestId},
    metrics::{Exchanges, Outcome, Running},
};

/// Most requests of one session in flight.
const MAX_IN_FLIGHT: usize = 1024;

/// How long an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a message for it (`mcp.request_timeout`); `None` is for ever.
    pub silence: Option<Duration>,
    /// In all (`mcp.max_request_time`).
    pub total: Duration,
}

impl Limits {
    /// For exchanges whose time another keeps.
    pub const NONE: Self = Self { silence: None, total: Duration::MAX };
}

/// What the stream of an exchange can carry before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    /// The client has left it and may take it up again: what is the exchange's own.
    ItsOwn,
    Anything,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: RequestId,
    token: Option<RequestId>,
    /// Where its messages go.
    pub(super) stream: StreamId,
    carries: Carries,
    /// Its place in the order of arrival.
    number: u64,
    silent_until: Option<Instant>,
    until: Option<Instant>,
    running: Option<Running>,
}

impl Exchange {
    pub(super) fn new(id: RequestId, token: Option<RequestId>, stream: StreamId, streams: bool) -> Self {
        let carries = if streams { Carries::Anything } else { Carries::Nothing };
        Self { id, token, stream, carries, number: 0, silent_until: None, until: None, running: None }
    }

    /// Says how it has ended.
    pub(super) fn ended(&mut self, outcome: Outcome, now: Instant) {
        if let Some(running) = self.running.take() {
            running.end_at(outcome, now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.silent_until.into_iter().chain(self.until).min()
    }
}

/// All requests in flight of a session.
#[derive(Debug)]
pub(super) struct InFlight {
    limits: Limits,
    exchanges: Exchanges,
    by_id: HashMap<RequestId, Exchange>,
    /// Progress token → id; of two requests with one token, which no client may send, the newer.
    by_token: HashMap<RequestId, RequestId>,
    /// How many exchanges each stream carries: more than one for a batch.
    per_stream: StreamMap<usize>,
    /// Streams of batches of which more is to come: an answer is not their last, though nothing else waits yet.
    growing: HashSet<StreamId>,
    begun: u64,
    /// Nothing is due before; progress moves deadlines on without moving this, so a look may come too early.
    earliest: Option<Instant>,
}

impl InFlight {
    pub(super) fn new(limits: Limits, exchanges: Exchanges) -> Self {
        Self {
            limits,
            exchanges,
            by_id: HashMap::new(),
            by_token: HashMap::new(),
            per_stream: StreamMap::default(),
            growing: HashSet::new(),
            begun: 0,
            earliest: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn contains(&self, id: &RequestId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn begin(
        &mut self,
        mut exchange: Exchange,
        method: &str,
        now: Instant,
    ) -> Result<(), ErrorObject> {
        let running = self.exchanges.begin_at(method, now);
        let full = self.by_id.len() >= MAX_IN_FLIGHT;
        let hash_map::Entry::Vacant(place) = self.by_id.entry(exchange.id.clone()) else {
            let message = format!("the id {} is that of a request in flight", exchange.id.shown());
            return Err(ErrorObject::invalid("duplicate_id", message));
        };
        if full {
            let message = format!("more than {MAX_IN_FLIGHT} requests of this session are in flight");
            return Err(ErrorObject::internal("too_many_requests", message));
        }
        exchange.running = Some(running);
        self.begun += 1;
        exchange.number = self.begun;
        exchange.until = now.checked_add(self.limits.total);
        exchange.silent_until = self.limits.silence.and_then(|d| now.checked_add(d));
        self.earliest = self.earliest.into_iter().chain(exchange.deadline()).min();
        if let Some(token) = &exchange.token {
            self.by_token.insert(token.clone(), exchange.id.clone());
        }
        *self.per_stream.entry(exchange.stream).or_default() += 1;
        place.insert(exchange);
        Ok(())
    }

    /// Takes an exchange out; true when it was the last of its stream.
    pub(super) fn finish(&mut self, id: &RequestId) -> Option<(Exchange, bool)> {
        let exchange = self.by_id.remove(id)?;
        if let Some(token) = exchange.token.as_ref().filter(|token| self.by_token.get(token) == Some(id)) {
            self.by_token.remove(token);
        }
        let mut last = true;
        if let hash_map::Entry::Occupied(mut others) = self.per_stream.entry(exchange.stream) {
            *others.get_mut() -= 1;
            last = *others.get() == 0;
            if last {
                others.remove();
            }
        }
        let last = last && !self.growing.contains(&exchange.stream);
        Some((exchange, last))
    }

    /// The requests of a batch begin, one after the other.
    pub(super) fn begin_batch(&mut self, stream: StreamId) {
        self.growing.insert(stream);
    }

    /// The batch is complete; true when nothing of it waits any more.
    pub(super) fn complete_batch(&mut self, stream: StreamId) -> bool {
        self.growing.remove(&stream);
        !self.carries(stream)
    }

    /// Takes all out, oldest first.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Exchange, bool)> + use<> {
        let mut ids: Vec<_> = self.by_id.values().map(|e| (e.number, e.id.clone())).collect();
        ids.sort_unstable_by_key(|(number, _)| *number);
        let all: Vec<_> = ids.iter().filter_map(|(_, id)| self.finish(id)).collect();
        all.into_iter()
    }

    /// The stream of the exchange whose progress token this is, if it can carry the message.
    pub(super) fn progressed(&mut self, token: &RequestId, now: Instant) -> Option<StreamId> {
        let exchange = self.by_id.get_mut(self.by_token.get(token)?)?;
        exchange.silent_until = self.limits.silence.and_then(|d| now.checked_add(d));
        (exchange.carries != Carries::Nothing).then_some(exchange.stream)
    }

    /// A message went out on `stream`: its exchanges are not silent.
    pub(super) fn touch(&mut self, stream: StreamId, now: Instant) {
        if !self.carries(stream) {
            return;
        }
        let silent_until = self.limits.silence.and_then(|d| now.checked_add(d));
        self.by_id.values_mut().filter(|e| e.stream == stream).for_each(|e| e.silent_until = silent_until);
    }

    pub(super) fn carries(&self, stream: StreamId) -> bool {
        self.per_stream.contains_key(&stream)
    }

    /// The stream of an exchange, if it can carry what is the exchange's own.
    pub(super) fn stream_of(&self, id: &RequestId) -> Option<StreamId> {
        self.by_id
            .get(id)
            .filter(|exchange| exchange.carries != Carries::Nothing)
            .map(|exchange| exchange.stream)
    }

    /// The stream of the only exchange in flight.
    pub(super) fn only(&self) -> Option<StreamId> {
        let exchange = self.by_id.values().next().filter(|_| self.by_id.len() == 1)?;
        (exchange.carries == Carries::Anything).then_some(exchange.stream)
    }

    /// The stream of the newest exchange that can carry a message.
    pub(super) fn newest(&self) -> Option<StreamId> {
        let able = self.by_id.values().filter(|e| e.carries == Carries::Anything);
        able.max_by_key(|e| e.number).map(|e| e.stream)
    }

    pub(super) fn stream_left(&mut self, stream: StreamId, resumable: bool) {
        self.growing.remove(&stream);
        self.set_carries(stream, if resumable { Carries::ItsOwn } else { Carries::Nothing });
    }

    pub(super) fn stream_resumed(&mut self, stream: StreamId) {
        self.set_carries(stream, Carries::Anything);
    }

    fn set_carries(&mut self, stream: StreamId, carries: Carries) {
        self.by_id.values_mut().filter(|e| e.stream == stream).for_each(|e| e.carries = carries);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.by_id.is_empty() { None } else { self.earliest }
    }

    /// Takes out what is due, with the time that it was given.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Exchange, Duration, bool)> {
        let due: Vec<_> = self
            .by_id
            .values()
            .filter(|e| e.deadline().is_some_and(|d| d <= now))
            .map(|e| e.id.clone())
            .collect();
        let out = due.iter().filter_map(|id| {
            let (exchange, last) = self.finish(id)?;
            let in_all = exchange.until.is_some_and(|until| until <= now);
            let after = self.limits.silence.filter(|_| !in_all).unwrap_or(self.limits.total);
            Some((exchange, after, last))
        });
        let out = out.collect();
        self.earliest = self.by_id.values().filter_map(Exchange::deadline).min();
        out
    }
}
