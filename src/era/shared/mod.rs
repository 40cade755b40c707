//! One modern child that all clients share: their requests under ids of the child's own, its messages back under theirs.
//!
//! A number stands for each request on the child, as its id, its progress token and its subscription id, and is never
//! used again. What is not one of these passes byte for byte.

mod rewrite;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use self::rewrite::Told;
use super::{Refusal, Request};
use crate::{
    jsonrpc::{self, ErrorObject, Kind, Line, Message, RequestId},
    mcp,
    session::Limits,
};

/// Most requests in flight on one child, subscriptions among them. One owner has at most as many as are free, which is
/// half of them for the first.
const MAX_IN_FLIGHT: usize = 8192;
/// How long log messages of a request that was cancelled may still come: until then no other request gets any.
const LOG_ECHO: Duration = Duration::from_secs(5);

/// A request's number on its child.
pub type Number = u64;

/// Whom a request counts for: bytes that are equal for equal ones.
pub type Owner = Arc<[u8]>;

/// A message for the sender of a request.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The request.
    pub to: Number,
    /// The message; `None` only ends what the sender waits for.
    pub message: Option<Message>,
    /// Whether nothing follows.
    pub last: bool,
}

/// What to do with a message of the child's.
#[derive(Debug)]
pub enum Outcome {
    /// Give it to the sender of a request.
    Deliver(Delivery),
    /// It asks what no server may ask: this is the answer.
    Answer(Line),
    /// Nobody waits for it; why.
    Ignore(&'static str),
}

/// What ended without the child.
#[derive(Debug, Default)]
pub struct Ended {
    /// For the senders.
    pub deliveries: Vec<Delivery>,
    /// For the child.
    pub to_server: Vec<Line>,
}

/// The requests in flight on one child.
#[derive(Debug)]
pub struct Shared {
    limits: Limits,
    last: Number,
    in_flight: InFlight,
    logging: Option<Logging>,
    /// Nothing is due before; progress moves deadlines on without moving this, so a look may come too early.
    earliest: Option<Instant>,
}

/// Requests by number, none of which leaves without giving its place back.
#[derive(Debug, Default)]
struct InFlight {
    by_number: BTreeMap<Number, Exchange>,
    /// How many each owner has; none has 0.
    of_owners: HashMap<Owner, usize>,
}

impl InFlight {
    /// Whether there is a place for one more of this owner.
    fn has_place_for(&self, owner: &Owner) -> bool {
        let free = MAX_IN_FLIGHT.saturating_sub(self.by_number.len());
        self.of_owners.get(owner).copied().unwrap_or_default() < free
    }

    fn insert(&mut self, number: Number, exchange: Exchange) {
        *self.of_owners.entry(Arc::clone(&exchange.owner)).or_default() += 1;
        self.by_number.insert(number, exchange);
    }

    fn remove(&mut self, number: Number) -> Option<Exchange> {
        let exchange = self.by_number.remove(&number)?;
        if let Entry::Occupied(mut count) = self.of_owners.entry(Arc::clone(&exchange.owner)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(exchange)
    }
}

/// One request in flight.
#[derive(Debug)]
struct Exchange {
    owner: Owner,
    /// The id, as its sender has it.
    id: RequestId,
    token: Option<RequestId>,
    listens: bool,
    /// Those of when it came.
    limits: Limits,
    silent_until: Option<Instant>,
    until: Option<Instant>,
}

/// The one request whose log messages are wanted: they don't say whose they are.
#[derive(Debug, Clone, Copy)]
struct Logging {
    of: Number,
    /// It was cancelled, and this is when its last message has come.
    until: Option<Instant>,
}

impl Exchange {
    fn deadline(&self) -> Option<Instant> {
        self.silent_until.into_iter().chain(self.until).min()
    }
}

impl Shared {
    /// A child with nothing in flight.
    pub fn new(limits: Limits) -> Self {
        Self { limits, last: 0, in_flight: InFlight::default(), logging: None, earliest: None }
    }

    /// Requests from now on keep to these limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Requests in flight, subscriptions among them.
    pub fn len(&self) -> usize {
        self.in_flight.by_number.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight.by_number.is_empty()
    }

    /// Whether a request that wants log messages would get them.
    pub fn can_log(&self, now: Instant) -> bool {
        self.logging.is_none_or(|logging| logging.until.is_some_and(|until| until <= now))
    }

    /// A client's request, which counts for `owner`: its number, and what the child gets.
    ///
    /// # Errors
    /// When it can't be passed on, with the answer for its sender.
    pub fn request(
        &mut self,
        request: &Request,
        owner: &Owner,
        now: Instant,
    ) -> Result<(Number, Line), ErrorObject> {
        if !self.in_flight.has_place_for(owner) {
            let message = "too many requests to the MCP server are in flight; try later";
            return Err(ErrorObject::internal("too_many_requests", message));
        }
        let listens = &*request.method == mcp::LISTEN;
        let logs = request.meta.log_level.is_some() && !listens && self.can_log(now);
        let number = self.last + 1;
        let sent = rewrite::to_server(&request.line, number, logs)
            .map_err(|e| ErrorObject::invalid("unreadable", format!("the request can't be read: {e}")))?;
        self.last = number;
        if logs {
            self.logging = Some(Logging { of: number, until: None });
        }
        let mut exchange = Exchange {
            owner: Arc::clone(owner),
            id: request.id.clone(),
            token: sent.token,
            listens,
            limits: self.limits,
            silent_until: None,
            until: None,
        };
        if !listens {
            exchange.until = now.checked_add(self.limits.total);
            exchange.silent_until = self.limits.silence.and_then(|d| now.checked_add(d));
        }
        self.earliest = self.earliest.into_iter().chain(exchange.deadline()).min();
        self.in_flight.insert(number, exchange);
        Ok((number, sent.line))
    }

    /// Undoes [`Self::request`] for a request that could not be passed on.
    pub fn withdraw(&mut self, number: Number) {
        self.finish(number);
    }

    /// The sender waits no more: what the child is told, if it has not answered yet.
    pub fn leave(&mut self, number: Number, now: Instant) -> Option<Line> {
        self.cancel(number, now)?;
        Some(cancellation(number, "the client has left"))
    }

    fn finish(&mut self, number: Number) -> Option<Exchange> {
        self.logging.take_if(|logging| logging.of == number);
        self.in_flight.remove(number)
    }

    /// Takes out a request that the child still works on.
    fn cancel(&mut self, number: Number, now: Instant) -> Option<Exchange> {
        let exchange = self.in_flight.remove(number)?;
        if let Some(logging) = self.logging.as_mut().filter(|logging| logging.of == number) {
            logging.until = now.checked_add(LOG_ECHO);
        }
        Some(exchange)
    }

    /// The child sent a message.
    pub fn from_server(&mut self, message: &Message, now: Instant) -> Outcome {
        match &message.kind {
            Kind::Response { id, .. } => self.answered(id.as_ref(), message),
            Kind::Request { id, method, .. } => {
                Outcome::Answer(Refusal::MethodNotFound(method.clone()).response(Some(id)).line)
            }
            Kind::Notification { method, about } => self.told(method, about.as_ref(), message, now),
        }
    }

    fn answered(&mut self, id: Option<&RequestId>, message: &Message) -> Outcome {
        let Some(number) = id.and_then(RequestId::as_u64) else {
            return Outcome::Ignore("it answers no request of the bridge's");
        };
        let Some(exchange) = self.finish(number) else {
            return Outcome::Ignore(
                "it answers no request in flight (cancelled, timed out or answered before)",
            );
        };
        let subscription = exchange.listens.then_some(&exchange.id);
        let Ok(line) = rewrite::response(&message.line, &exchange.id, subscription) else {
            let error = ErrorObject::internal("unreadable", "the MCP server's answer can't be read");
            return Outcome::Deliver(failed(number, &exchange, &error));
        };
        let mut message = message.clone();
        message.line = line;
        if let Kind::Response { id, .. } = &mut message.kind {
            *id = Some(exchange.id);
        }
        Outcome::Deliver(Delivery { to: number, message: Some(message), last: true })
    }

    fn told(&mut self, method: &str, about: Option<&RequestId>, message: &Message, now: Instant) -> Outcome {
        let Ok(subscription) = rewrite::subscription(&message.line) else {
            return Outcome::Ignore("it can't be read");
        };
        let about = about.and_then(RequestId::as_u64);
        let of = match (method, subscription) {
            (mcp::CANCELLED, _) => {
                about.filter(|n| self.in_flight.by_number.get(n).is_some_and(|e| e.listens))
            }
            (_, Some(id)) => id.as_u64(),
            (mcp::PROGRESS, None) => {
                about.filter(|n| self.in_flight.by_number.get(n).is_some_and(|e| e.token.is_some()))
            }
            (mcp::MESSAGE, None) => self.logging.filter(|logging| logging.until.is_none()).map(|l| l.of),
            _ => None,
        };
        let Some((to, exchange)) = of.and_then(|n| Some((n, self.in_flight.by_number.get_mut(&n)?))) else {
            return Outcome::Ignore("it says of no request in flight that it is about it");
        };
        if !exchange.listens {
            exchange.silent_until = exchange.limits.silence.and_then(|d| now.checked_add(d));
        }
        let told = Told { method, subscription: &exchange.id, token: exchange.token.as_ref(), number: to };
        let Ok(line) = rewrite::notification(&message.line, &told) else {
            return Outcome::Ignore("it can't be read");
        };
        let about = match method {
            mcp::PROGRESS => exchange.token.clone(),
            mcp::CANCELLED => Some(exchange.id.clone()),
            _ => None,
        };
        let kind = Kind::Notification { method: method.into(), about };
        let message = Message { line, kind };
        let last = method == mcp::CANCELLED;
        if last {
            self.finish(to);
        }
        Outcome::Deliver(Delivery { to, message: Some(message), last })
    }

    /// The child is gone: each request is answered with `error`, and each subscription ends without a result.
    pub fn server_ended(&mut self, error: &ErrorObject) -> Vec<Delivery> {
        self.logging = None;
        let all = std::mem::take(&mut self.in_flight);
        all.by_number.iter().map(|(number, exchange)| unanswered(*number, exchange, error)).collect()
    }

    /// Nobody can say whose answer it was that got lost: each request is answered with `error`. `of` says if it can.
    pub fn answer_lost(&mut self, of: Option<&RequestId>, error: &ErrorObject) -> Vec<Delivery> {
        let numbers: Vec<_> = match of.and_then(RequestId::as_u64) {
            Some(number) => vec![number],
            None => self
                .in_flight
                .by_number
                .iter()
                .filter(|(_, e)| !e.listens)
                .map(|(number, _)| *number)
                .collect(),
        };
        let lost = numbers.into_iter().filter_map(|number| Some((number, self.finish(number)?)));
        lost.map(|(number, exchange)| unanswered(number, &exchange, error)).collect()
    }

    /// Ends the subscriptions in good order, each with its result.
    pub fn complete_subscriptions(&mut self) -> Ended {
        let mut out = Ended::default();
        let numbers: Vec<_> =
            self.in_flight.by_number.iter().filter(|(_, e)| e.listens).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(exchange) = self.finish(number) else { continue };
            let message = Some(rewrite::completion(&exchange.id));
            out.deliveries.push(Delivery { to: number, message, last: true });
            out.to_server.push(cancellation(number, "the bridge is shutting down"));
        }
        out
    }

    /// When something next may become due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Ended {
        let mut out = Ended::default();
        let due = |e: &Exchange| e.deadline().is_some_and(|deadline| deadline <= now);
        let numbers: Vec<_> =
            self.in_flight.by_number.iter().filter(|(_, e)| due(e)).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(exchange) = self.cancel(number, now) else { continue };
            let in_all = exchange.until.is_some_and(|until| until <= now);
            let after = exchange.limits.silence.filter(|_| !in_all).unwrap_or(exchange.limits.total);
            let message = format!("the MCP server did not answer within {after:?}");
            out.deliveries.push(failed(number, &exchange, &ErrorObject::internal("timed_out", message)));
            out.to_server.push(cancellation(number, "timed out"));
        }
        self.earliest = self.in_flight.by_number.values().filter_map(Exchange::deadline).min();
        out
    }
}

fn failed(to: Number, exchange: &Exchange, error: &ErrorObject) -> Delivery {
    Delivery { to, message: Some(error.response(Some(&exchange.id))), last: true }
}

/// How a request ends that the child will not answer any more.
fn unanswered(to: Number, exchange: &Exchange, error: &ErrorObject) -> Delivery {
    if exchange.listens { Delivery { to, message: None, last: true } } else { failed(to, exchange, error) }
}

fn cancellation(number: Number, reason: &str) -> Line {
    jsonrpc::notification(mcp::CANCELLED, &serde_json::json!({ "requestId": number, "reason": reason }))
}
