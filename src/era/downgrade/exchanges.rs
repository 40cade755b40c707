//! The client's requests in flight: their calls, their questions to the client, and their time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{json, value::RawValue};

use super::{
    CallKey, Context,
    exchange::{Exchange, Open, Phase},
    input::{self, InputRequired, Question, Reply, What},
    intake::unusable,
    out::{Out, response},
    result::{self, Outcome},
};
use crate::{
    crypto,
    era::{self, Request},
    jsonrpc::{ErrorObject, Kind, Message, Object, RequestId},
    mcp::{self, LegacyRevision},
    session::Limits,
};

/// Most requests in flight.
const MAX_IN_FLIGHT: usize = 1024;
/// Most bytes of requests in flight, which are kept to be sent again; one larger may be kept alone.
const MAX_KEPT: usize = 64 * 1024 * 1024;
/// How often one request is sent again.
const MAX_ROUNDS: u32 = 16;
/// Most questions at once of one request, and of all.
const MAX_QUESTIONS: usize = 64;
const MAX_ASKED: usize = 1024;
/// How long a server that gave nothing but its state is left alone: first, and at most.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(super) struct Exchanges {
    limits: Limits,
    by_id: HashMap<RequestId, Exchange>,
    /// Which request a call is for.
    calls: HashMap<CallKey, RequestId>,
    /// Which request a question is for.
    asked: HashMap<RequestId, RequestId>,
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

    fn silence(&self, now: Instant) -> Option<Instant> {
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
                    let params = json!({ "requestId": question.id, "reason": why });
                    out.tell_own(mcp::CANCELLED, &params, Some(id));
                }
            }
            _ => {}
        }
    }

    /// Asks the client what the server asks; the error is the answer to the request.
    fn input_required(
        &mut self,
        id: &RequestId,
        input: InputRequired,
        cx: &mut Context<'_>,
    ) -> Result<(), Message> {
        let Some(exchange) = self.by_id.get_mut(id) else { return Ok(()) };
        let fail = |error: ErrorObject| error.response(Some(id));
        exchange.rounds += 1;
        if exchange.rounds > MAX_ROUNDS {
            let text = format!("the MCP server asked for more in {MAX_ROUNDS} rounds and still does");
            return Err(fail(ErrorObject::internal("too_many_rounds", text)));
        }
        if input.questions.is_empty() {
            let rest = FIRST_REST.saturating_mul(1 << exchange.rests.min(16)).min(LONGEST_REST);
            exchange.rests += 1;
            exchange.phase = Phase::Resting { until: cx.now + rest, state: input.state };
            return Ok(());
        }
        if input.questions.len() > MAX_QUESTIONS || self.asked.len() + input.questions.len() > MAX_ASKED {
            let text = "the MCP server asks for too much at once";
            return Err(fail(ErrorObject::internal("too_many_questions", text)));
        }
        for question in &input.questions {
            cx.client.can.check(&question.what).map_err(fail)?;
        }
        let elicitations = visit_again(exchange, &input.questions, cx.client.revision).map_err(fail)?;
        if !elicitations.is_empty() {
            return Err(input::url_required(id, &elicitations));
        }
        exchange.rests = 0;
        let revision = cx.client.revision;
        let mut questions = Vec::with_capacity(input.questions.len());
        for question in input.questions {
            let elicitation = match &question.what {
                What::Url(url) => exchange.urls.get(url).map(String::as_str),
                _ => None,
            };
            let method = question.what.method();
            let asked = cx.out.ask(method, question.params(revision, elicitation), id);
            self.asked.insert(asked.clone(), id.clone());
            questions.push(Open { id: asked, key: question.key, method, answer: None });
        }
        exchange.phase = Phase::Asking { questions, state: input.state };
        Ok(())
    }

    /// The client answered a question; with the last of its request, the server is asked again.
    pub(super) fn client_answered(&mut self, question: &RequestId, answer: &Message, cx: &mut Context<'_>) {
        let Some(id) = self.asked.remove(question) else {
            return log::debug!("an answer of the client's is dropped: nobody waits for it");
        };
        let Some(exchange) = self.by_id.get_mut(&id) else { return };
        let Phase::Asking { questions, state } = &mut exchange.phase else { return };
        let Some(open) = questions.iter_mut().find(|open| open.id == *question) else { return };
        match input::reply(open.method, answer, &id) {
            Reply::End(end) => return self.end(&id, end, cx.out),
            Reply::Input(input) => open.answer = Some(input),
        }
        if questions.iter().all(|open| open.answer.is_some()) {
            let (questions, state) = (std::mem::take(questions), state.take());
            self.again(&id, &questions, state, cx);
        }
    }

    /// Sends a request again.
    fn again(
        &mut self,
        id: &RequestId,
        answers: &[Open],
        state: Option<Box<RawValue>>,
        cx: &mut Context<'_>,
    ) {
        let silent_until = self.silence(cx.now);
        let Some(exchange) = self.by_id.get_mut(id) else { return };
        let key = cx.out.new_call();
        let line = exchange.line.clone();
        let call = era::params(line.as_str()).map_err(|e| unusable(&e)).and_then(|mut params| {
            prepare(&exchange.method, &mut params);
            let mut responses = Object::default();
            for open in answers {
                if let Some(answer) = &open.answer {
                    responses.set(&open.key, answer.clone());
                }
            }
            if !responses.is_empty() {
                params.set("inputResponses", responses.to_raw());
            }
            if let Some(state) = state {
                params.set("requestState", state);
            }
            cx.client.request(key, &exchange.method, params, true)
        });
        match call {
            Ok(call) => {
                exchange.phase = Phase::Running { key, silent_until };
                self.calls.insert(key, id.clone());
                cx.out.call(key, call);
            }
            Err(refusal) => self.end(id, refusal.response(Some(id)), cx.out),
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

/// Takes out of a request's parameters what a legacy client has no use for, or means otherwise.
pub(super) fn prepare(method: &str, params: &mut Object<'_>) {
    if method == mcp::CALL_TOOL {
        params.remove("task");
    }
    if mcp::may_ask(method) {
        params.remove("inputResponses");
        params.remove("requestState");
    }
}

/// Gives each URL that is asked for an id. If the user was sent to one of them before and has not done there what the
/// server waits for, what is returned are the elicitations for him: asked again, he would be asked without end.
fn visit_again(
    exchange: &mut Exchange,
    questions: &[Question],
    revision: LegacyRevision,
) -> Result<Vec<Box<RawValue>>, ErrorObject> {
    let mut again = false;
    let mut elicitations = Vec::new();
    for question in questions {
        let What::Url(url) = &question.what else { continue };
        let id = match exchange.urls.get(url) {
            Some(id) => {
                again = true;
                id
            }
            None => exchange
                .urls
                .entry(url.clone())
                .or_insert(crypto::random_id().map_err(|e| ErrorObject::internal("random", e.to_string()))?),
        };
        elicitations.push(question.params(revision, Some(id)));
    }
    Ok(if again { elicitations } else { Vec::new() })
}
