//! Calls that wait for their client's answers.
//!
//! Source: revision 2026-07-28, `basic/patterns/mrtr`.

use std::time::{Duration, Instant};

use super::{
    CallKey, Output, Upgrade,
    asks::Ask,
    calls::{Job, Stage, no_digest},
    capabilities::Verdict,
    results::{self, Answer},
    rewrite,
};
use crate::{
    era::{
        Refusal, Request,
        state::{self, Holder, Ticket},
    },
    jsonrpc::{ErrorObject, Line, Message, Object, RequestId},
    mcp,
    upstream::Item,
};

/// How long questions are gathered that are put to the client together.
pub(super) const TOGETHER: Duration = Duration::from_millis(20);
/// How long a client may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long a call that goes on waits for its turn: what runs may itself be waiting for it.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// Most calls that are suspended at once; the oldest is given up for a new one.
const MAX_SUSPENDED: usize = 256;
/// Most bytes of answers that are held for suspended calls.
const MAX_EARLY_BYTES: usize = 64 * 1024 * 1024;

impl Upgrade {
    /// The server asks the client something.
    pub(super) fn asked(&mut self, message: &Message, about: Option<&RequestId>, now: Instant) {
        let (Some(id), Some(method)) = (message.request_id(), message.method()) else { return };
        let outer = Object::of(&message.line).unwrap_or_default();
        let has_params = outer.get("params").is_some();
        let params = outer.object("params").unwrap_or_default();
        let verdict = self.setup.capabilities.judge(method, &params);
        let ask = Ask::new(Some(id.clone()), method, has_params.then_some(params));
        match verdict {
            Verdict::Declared => match self.whose(about) {
                Some((number, _)) => self.ask(number, ask, now),
                None => self.hold(vec![ask], now),
            },
            Verdict::Lacking(required) => {
                self.refuse_ask(&ask);
                let whose = self.whose(about).filter(|(_, certain)| *certain);
                if let Some(call) = whose.and_then(|(number, _)| self.calls.get_mut(number)) {
                    results::merge(call.lacks.get_or_insert_default(), &required);
                }
            }
            Verdict::NoSuchMethod => self.refuse_ask(&ask),
        }
    }

    /// On whose account the server asks, and whether that is certain: the call that the transport names; else the only
    /// or newest that runs; else the newest that is suspended.
    fn whose(&self, about: Option<&RequestId>) -> Option<(u64, bool)> {
        if let Some(about) = about {
            let number = about.as_u64()?;
            return self.calls.askers(|_| true).contains(&number).then_some((number, true));
        }
        let running = self.calls.askers(super::calls::Call::runs);
        match running[..] {
            [] => self.calls.askers(|_| true).last().map(|number| (*number, false)),
            [.., newest] => Some((newest, running.len() == 1)),
        }
    }

    fn ask(&mut self, number: u64, ask: Ask, now: Instant) {
        let Some(call) = self.calls.get_mut(number) else { return };
        if let Err(ask) = call.asks.push(ask) {
            return self.fail_ask(&ask, &too_many_asks());
        }
        if matches!(call.stage, Stage::Running) {
            call.stage = Stage::Gathering(now + TOGETHER);
        }
    }

    /// Keeps questions for the next call that can carry them.
    pub(super) fn hold(&mut self, asks: Vec<Ask>, now: Instant) {
        for ask in asks.into_iter().filter(|ask| ask.request.is_some()) {
            if let Err(ask) = self.held.push(ask, now) {
                self.fail_ask(&ask, &too_many_asks());
            }
        }
    }

    /// Puts what is held to the client of a call that is about to be sent; false when there is nothing.
    pub(super) fn ask_held(&mut self, number: u64, now: Instant) -> bool {
        let held: Vec<_> = self.held.take().collect();
        let any = !held.is_empty();
        for ask in held {
            self.ask(number, ask, now);
        }
        if any {
            self.suspend(number, now);
        }
        any
    }

    /// The client must visit these URLs before the call can succeed; then it is sent again.
    pub(super) fn ask_visits(&mut self, number: u64, visits: &[Line], now: Instant) {
        for params in visits {
            let params = Object::of(params).unwrap_or_default();
            self.ask(number, Ask::new(None, mcp::ELICIT, Some(params)), now);
        }
        self.suspend(number, now);
    }

    /// The server has taken back a question.
    pub(super) fn withdrawn(&mut self, request: &RequestId) {
        self.held.withdraw(request);
        for (_, call) in self.calls.iter_mut() {
            if call.asks.withdraw(request)
                && call.asks.is_empty()
                && matches!(call.stage, Stage::Gathering(_))
            {
                call.stage = Stage::Running;
            }
        }
    }

    /// Answers a call with its questions.
    pub(super) fn suspend(&mut self, number: u64, now: Instant) {
        let (serial, until) = (self.next_number(), now + ANSWER_WITHIN);
        let Some(call) = self.calls.get_mut(number) else { return };
        let Some(digest) = &call.digest else { return };
        let ticket = Ticket { session: self.setup.session, serial };
        let holder = Holder { principal: &self.setup.principal, request: digest };
        let sealed = self.setup.sealer.seal(ticket, until, holder);
        let state = match sealed {
            Ok(state) => state,
            Err(e) => return self.fail_suspension(number, &e, now),
        };
        call.stage = Stage::Suspended { serial, until };
        let mut result = Object::default();
        result.put("resultType", &"input_required");
        result.set("inputRequests", call.asks.to_line());
        result.put(mcp::REQUEST_STATE, &state);
        let answer = rewrite::result(&call.id, result.to_line());
        if let Some(key) = self.calls.detach(number) {
            self.out.push(Output::ToClient(key, Item { message: answer, last: true }));
        }
        self.bound_suspended(now);
        self.take_turns(now);
    }

    fn fail_suspension(&mut self, number: u64, e: &openssl::error::ErrorStack, now: Instant) {
        let error = ErrorObject::internal("internal", format!("no requestState can be made: {e}"));
        self.fail_call(number, &error, now);
    }

    fn bound_suspended(&mut self, now: Instant) {
        let suspended = self.calls.iter().filter_map(|(number, call)| match call.stage {
            Stage::Suspended { serial, .. } => Some((serial, number)),
            _ => None,
        });
        let suspended: Vec<_> = suspended.collect();
        if suspended.len() > MAX_SUSPENDED
            && let Some((_, oldest)) = suspended.into_iter().min()
        {
            self.give_up(oldest, now);
        }
    }

    /// The client of a suspended call has not come back.
    pub(super) fn give_up(&mut self, number: u64, now: Instant) {
        let error = ErrorObject::internal("no_answer", "the client has not answered in time");
        self.drop_call(number, &error, now);
    }

    /// The answer to a suspended call waits for its client, too.
    pub(super) fn keep_early(&mut self, number: u64, answer: &Answer) {
        let size = |answer: &Answer| match answer {
            Answer::Result(text) | Answer::Error(text) => text.len(),
        };
        let kept: usize = self.calls.iter().filter_map(|(_, call)| call.early.as_ref()).map(size).sum();
        let answer = if kept + size(answer) > MAX_EARLY_BYTES {
            let text = "too much waits for clients that do not come back";
            Answer::read(&ErrorObject::internal("too_large", text).response(None).line)
        } else {
            answer.detached()
        };
        if let Some(call) = self.calls.get_mut(number) {
            call.early = Some(answer);
        }
    }

    /// A client comes back with answers.
    pub(super) fn retry(&mut self, key: CallKey, request: Request, state: &str, now: Instant) {
        match self.take_answers(&request, state, now) {
            Ok((number, answers)) => self.go_on(number, answers, key, request, now),
            Err(refusal) => self.refuse(key, &request.id, &refusal),
        }
    }

    /// Finds the call that a retry is for, and takes the answers for the server. Until that has succeeded, nothing has
    /// happened and the state is good.
    fn take_answers(
        &mut self,
        request: &Request,
        state: &str,
        now: Instant,
    ) -> Result<(u64, Vec<Message>), Refusal> {
        let digest = state::digest(request).map_err(|e| Refusal::InvalidParams(no_digest(&e).message))?;
        let holder = Holder { principal: &self.setup.principal, request: &digest };
        let ticket = self.setup.sealer.open(state, now, holder);
        let ticket = ticket.filter(|ticket| ticket.session == self.setup.session).ok_or_else(not_good)?;
        let is_meant =
            |stage: &Stage| matches!(stage, Stage::Suspended { serial, .. } if *serial == ticket.serial);
        let found = self.calls.iter_mut().find(|(_, call)| is_meant(&call.stage));
        let (number, call) = found.ok_or_else(not_good)?;
        let unusable =
            |e: serde_json::Error| Refusal::InvalidParams(format!("{}: {e}", mcp::INPUT_RESPONSES));
        let outer = Object::of(&request.line).map_err(unusable)?;
        let params = outer.object("params").map_err(unusable)?;
        let responses = params.object(mcp::INPUT_RESPONSES).map_err(unusable)?;
        let answers = call.asks.take_answered(&responses).map_err(Refusal::InvalidParams)?;
        Ok((number, answers))
    }

    fn go_on(&mut self, number: u64, answers: Vec<Message>, key: CallKey, request: Request, now: Instant) {
        let until = now.checked_add(self.setup.limits.total);
        let Some(call) = self.calls.get_mut(number) else { return };
        let at_server = call.at_server;
        if call.asks.is_empty() && !at_server {
            self.calls.remove(number);
            self.tell_all(answers);
            return self.enter(key, request, now);
        }
        call.id = request.id;
        call.token = request.meta.progress_token.filter(|_| call.reports);
        call.level = request.meta.log_level.and_then(|level| super::Level::asked(&level).ok());
        call.until = until;
        let early = call.early.take_if(|_| call.asks.is_empty());
        let asks_more = !call.asks.is_empty();
        self.calls.attach(number, key);
        if let Some(answer) = early {
            self.tell_all(answers);
            self.conclude(number, &answer, now);
        } else if asks_more {
            self.tell_all(answers);
            self.suspend(number, now);
        } else {
            self.calls.enqueue(number, Job::Resume(answers, now + TURN_WITHIN));
            self.take_turns(now);
        }
    }
}

/// Who forges states learns no more than who comes too late.
pub fn not_good() -> Refusal {
    let why = "is not good: it has expired or been used, or belongs to another request";
    Refusal::InvalidParams(format!("{} {why}", mcp::REQUEST_STATE))
}

fn too_many_asks() -> ErrorObject {
    ErrorObject::internal("too_many_requests", "too many questions wait for the client's answers")
}
