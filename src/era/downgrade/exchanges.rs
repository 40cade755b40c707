//! The client's requests in flight: their calls, their questions to the client, and their time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    CallKey, Context,
    exchange::{Exchange, Phase},
    out::{Out, response},
    result::{self, Outcome},
};
use crate::{
    era::Request,
    jsonrpc::{ErrorObject, Kind, Message, RequestId},
    session::Limits,
};

/// Most requests in flight.
const MAX_IN_FLIGHT: usize = 1024;
/// Most bytes of requests in flight, which are kept to be sent again; one larger may be kept alone.
const MAX_KEPT: usize = 64 * 1024 * 1024;

/// All of them.
#[derive(Debug)]
pub(super) struct Exchanges {
    limits: Limits,
    pub(super) by_id: HashMap<RequestId, Exchange>,
    /// Which request a call is for.
    pub(super) calls: HashMap<CallKey, RequestId>,
    /// Which request a question is for.
    pub(super) asked: HashMap<RequestId, RequestId>,
    /// Bytes of the requests.
    kept: usize,
}

impl Exchanges {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, by_id: HashMap::new(), calls: HashMap::new(), asked: HashMap::new(), kept: 0 }
    }

    pub(super) fn contains(&self, id: &RequestId) -> bool {
        self.by_id.contains_key(id)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.calls.is_empty() && self.asked.is_empty() && self.kept == 0
    }

    /// Whether there is room for another request, besides `others` that wait elsewhere.
    pub(super) fn admit(&self, bytes: usize, others: usize) -> Result<(), ErrorObject> {
        let refused = |what: String| Err(ErrorObject::internal("too_many_requests", what));
        if self.by_id.len() + others >= MAX_IN_FLIGHT {
            return refused(format!("more than {MAX_IN_FLIGHT} requests of this session are in flight"));
        }
        if self.kept > 0 && self.kept + bytes > MAX_KEPT {
            return refused(format!("more than {MAX_KEPT} bytes of requests of this session are in flight"));
        }
        Ok(())
    }

    /// Begins a request with its first call.
    pub(super) fn begin(&mut self, asked: Message, key: CallKey, call: Request, now: Instant, out: &mut Out) {
        let Kind::Request { id, progress_token, .. } = asked.kind else { return };
        let phase = Phase::Running { key, silent_until: self.silence(now) };
        let until = now.checked_add(self.limits.total);
        self.kept += asked.line.len();
        self.calls.insert(key, id.clone());
        let exchange = Exchange::new(call.method.clone(), asked.line, progress_token, until, phase);
        self.by_id.insert(id, exchange);
        out.call(key, call);
    }

    pub(super) fn silence(&self, now: Instant) -> Option<Instant> {
        self.limits.silence.and_then(|silence| now.checked_add(silence))
    }

    /// A call has come to its end, with an answer or without: the request that it was for.
    pub(super) fn arrived(&mut self, key: CallKey) -> Option<RequestId> {
        self.calls.remove(&key)
    }

    /// The request that a call is for.
    pub(super) fn of_call(&self, key: CallKey) -> Option<&RequestId> {
        self.calls.get(&key)
    }

    /// A call brought something that is not its answer.
    pub(super) fn notified(&mut self, key: CallKey, message: &Message, now: Instant, out: &mut Out) {
        let heard = self.silence(now);
        let Some(id) = self.calls.get(&key) else { return };
        let Some(exchange) = self.by_id.get_mut(id) else { return };
        if let Phase::Running { silent_until, .. } = &mut exchange.phase {
            *silent_until = heard;
        }
        if matches!(message.kind, Kind::Notification { .. }) && exchange.passes(message) {
            out.tell(message.clone(), Some(id));
        }
    }

    /// The call of a request was answered: the request is, or the client is asked first.
    pub(super) fn answered(&mut self, id: &RequestId, answer: &Message, cx: &mut Context<'_>) {
        let Some(exchange) = self.by_id.get(id) else { return };
        let is_error = matches!(answer.kind, Kind::Response { is_error: true, .. });
        let end = match result::read(&exchange.method, &answer.line, id) {
            Ok(Outcome::Complete(line)) => Err(response(line, id, is_error)),
            Ok(Outcome::InputRequired(input)) => self.input_required(id, input, cx),
            Err(error) => Err(error.response(Some(id))),
        };
        if let Err(end) = end {
            self.end(id, end, cx.out);
        }
    }

    /// Answers a request, whatever it still waits for.
    pub(super) fn end(&mut self, id: &RequestId, answer: Message, out: &mut Out) {
        self.close(id, "the request has ended", out);
        out.answer(id, answer);
    }

    pub(super) fn fail(&mut self, id: &RequestId, error: &ErrorObject, out: &mut Out) {
        self.end(id, error.response(Some(id)), out);
    }

    /// Forgets a request: nothing more comes of its call, and nothing is asked for it.
    pub(super) fn close(&mut self, id: &RequestId, why: &str, out: &mut Out) {
        let Some(exchange) = self.by_id.remove(id) else { return };
        self.kept -= exchange.line.len();
        match exchange.phase {
            Phase::Running { key, .. } if self.calls.remove(&key).is_some() => out.cancel(key),
            Phase::Asking { questions, .. } => {
                for question in questions.iter().filter(|q| self.asked.remove(&q.id).is_some()) {
                    out.take_back(&question.id, why, id);
                }
            }
            _ => {}
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Exchange::deadline).min()
    }

    /// Ends what has waited too long.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Out) {
        for id in self.due(now) {
            let Some(exchange) = self.by_id.get(&id) else { continue };
            let in_all = exchange.until.is_some_and(|until| until <= now);
            if matches!(exchange.phase, Phase::Resting { .. }) && !in_all {
                continue;
            }
            let after = self.limits.silence.filter(|_| !in_all).unwrap_or(self.limits.total);
            self.fail(&id, &timed_out(after), out);
        }
    }

    /// Sends again what has rested.
    pub(super) fn wake(&mut self, cx: &mut Context<'_>) {
        for id in self.due(cx.now) {
            let Some(exchange) = self.by_id.get_mut(&id) else { continue };
            let Phase::Resting { state, .. } = &mut exchange.phase else { continue };
            let state = state.take();
            self.again(&id, &[], state, cx);
        }
    }

    fn due(&self, now: Instant) -> Vec<RequestId> {
        let due = self.by_id.iter().filter(|(_, e)| e.deadline().is_some_and(|due| due <= now));
        due.map(|(id, _)| id.clone()).collect()
    }
}

/// The error for a request that was not answered in time.
pub(super) fn timed_out(after: Duration) -> ErrorObject {
    ErrorObject::internal("timed_out", format!("the MCP server did not answer within {after:?}"))
}
