//! The rounds of a request: what the server asks goes to the client, and its answers go to the server.
//!
//! Source: revision 2026-07-28, `basic/patterns/mrtr`.

use std::{collections::hash_map::Entry, time::Duration};

use serde_json::value::RawValue;

use super::{
    Context,
    exchange::{Exchange, Open, Phase},
    exchanges::Exchanges,
    input::{self, InputRequired, Question, Reply, What},
    intake::unusable,
};
use crate::{
    crypto, era,
    jsonrpc::{ErrorObject, Line, Message, Object, RequestId},
    mcp::{self, LegacyRevision},
};

/// How often one request is sent again.
const MAX_ROUNDS: u32 = 16;
/// Most questions at once of one request, and of all.
const MAX_QUESTIONS: usize = 64;
const MAX_ASKED: usize = 1024;
/// How long a server that gave nothing but its state is left alone: first, and at most.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(10);

impl Exchanges {
    /// Asks the client what the server asks; the error is the answer to the request.
    pub(super) fn input_required(
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
    pub(super) fn again(
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
        let call = era::params(&line).map_err(|e| unusable(&e)).and_then(|mut params| {
            prepare(&exchange.method, &mut params);
            let mut responses = Object::default();
            for open in answers {
                if let Some(answer) = &open.answer {
                    responses.set(&open.key, answer.clone());
                }
            }
            if !responses.is_empty() {
                params.set(mcp::INPUT_RESPONSES, responses.to_line());
            }
            if let Some(state) = state {
                params.set(mcp::REQUEST_STATE, state);
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
}

/// Takes out of a request's parameters what a legacy client has no use for, or means otherwise.
pub(super) fn prepare(method: &str, params: &mut Object<'_>) {
    if method == mcp::CALL_TOOL {
        params.remove("task");
    }
    if mcp::may_ask(method) {
        params.remove(mcp::INPUT_RESPONSES);
        params.remove(mcp::REQUEST_STATE);
    }
}

/// Gives each URL that is asked for an id. If the user was sent to one of them before and has not done there what the
/// server waits for, what is returned are the elicitations for him: asked again, he would be asked without end.
fn visit_again(
    exchange: &mut Exchange,
    questions: &[Question],
    revision: LegacyRevision,
) -> Result<Vec<Line>, ErrorObject> {
    let urls = |question: &Question| match &question.what {
        What::Url(url) => Some(url.clone()),
        _ => None,
    };
    let again = questions.iter().filter_map(urls).any(|url| exchange.urls.contains_key(&url));
    for url in questions.iter().filter_map(urls) {
        if let Entry::Vacant(entry) = exchange.urls.entry(url) {
            let id = crypto::random_id();
            entry.insert(id.map_err(|e| ErrorObject::internal("random", e.to_string()))?);
        }
    }
    let elicitation = |question| {
        let id = exchange.urls.get(&urls(question)?)?;
        Some(question.params(revision, Some(id)))
    };
    Ok(if again { questions.iter().filter_map(elicitation).collect() } else { Vec::new() })
}
