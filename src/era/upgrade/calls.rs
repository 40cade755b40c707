//! The calls in flight, and which of them run.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    CallKey, Lanes, MAX_WAITING, MAX_WAITING_BYTES, Opening, Own, Upgrade,
    asks::{Ask, Asks},
    logs::Level,
    results::Answer,
    rewrite, too_many,
};
use crate::{
    era::{
        Refusal, Request,
        state::{self, Digest},
    },
    jsonrpc::{ErrorObject, Kind, Message, Object, RequestId},
    mcp,
    upstream::Item,
};

/// A request on its way through the server.
#[derive(Debug)]
pub(super) struct Call {
    /// Who waits; `None` while it is suspended.
    pub(super) key: Option<CallKey>,
    /// The client's id and progress token.
    pub(super) id: RequestId,
    pub(super) token: Option<RequestId>,
    /// The server has been asked for progress, which only its first request can do.
    pub(super) reports: bool,
    pub(super) level: Option<Level>,
    pub(super) method: Box<str>,
    /// By which a retry is known; of those calls that may be suspended.
    pub(super) digest: Option<Digest>,
    pub(super) stage: Stage,
    /// What the client is to be asked.
    pub(super) asks: Asks,
    /// What the server asked that the client can't answer, as capabilities.
    pub(super) lacks: Option<Value>,
    /// The answer, which has come too early.
    pub(super) early: Option<Answer>,
    /// The server works on it.
    pub(super) at_server: bool,
    /// When it last began to run, among the others.
    pub(super) turn: u64,
    pub(super) silent_until: Option<Instant>,
    pub(super) until: Option<Instant>,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits for its turn.
    Queued(Job),
    Running,
    /// It asks the client something, and may ask more until then.
    Gathering(Instant),
    /// Its client has been asked, and may come back until then with the state of this serial.
    Suspended {
        serial: u64,
        until: Instant,
    },
}

/// What is done at a call's turn.
#[derive(Debug)]
pub(super) enum Job {
    /// The request goes to the server.
    Forward(Message),
    /// The client's answers do; at the latest then, whatever else runs: the server may be waiting for nothing else.
    Resume(Vec<Message>, Instant),
}

impl Call {
    /// Whether it is one of those that the server may ask the client about.
    fn may_ask(&self) -> bool {
        mcp::may_ask(&self.method)
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Gathering(_))
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Queued(Job::Forward(_)) => self.until,
            Stage::Running => self.silent_until.into_iter().chain(self.until).min(),
            Stage::Queued(Job::Resume(_, until))
            | Stage::Gathering(until)
            | Stage::Suspended { until, .. } => Some(*until),
        }
    }

    fn queued_bytes(&self) -> usize {
        match &self.stage {
            Stage::Queued(Job::Forward(message)) => message.line.len(),
            Stage::Queued(Job::Resume(answers, _)) => answers.iter().map(|answer| answer.line.len()).sum(),
            _ => 0,
        }
    }
}

/// All calls, by the number under which the server knows them.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_number: BTreeMap<u64, Call>,
    by_key: HashMap<CallKey, u64>,
    /// Calls that wait for their turn.
    queue: VecDeque<u64>,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn has_running(&self) -> bool {
        !self.by_key.is_empty()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Call> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Call> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Call)> {
        self.by_number.iter_mut().map(|(number, call)| (*number, call))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Call)> {
        self.by_number.iter().map(|(number, call)| (*number, call))
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Call> {
        let call = self.by_number.remove(&number)?;
        call.key.and_then(|key| self.by_key.remove(&key));
        self.queue.retain(|queued| *queued != number);
        Some(call)
    }

    /// Nobody waits for a call any more.
    pub(super) fn detach(&mut self, number: u64) -> Option<CallKey> {
        let key = self.by_number.get_mut(&number)?.key.take()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// Somebody waits for a call again.
    pub(super) fn attach(&mut self, number: u64, key: CallKey) {
        if let Some(call) = self.by_number.get_mut(&number) {
            call.key = Some(key);
            self.by_key.insert(key, number);
        }
    }

    /// Puts a call in the queue: what resumes goes before what has not begun.
    pub(super) fn enqueue(&mut self, number: u64, job: Job) {
        let resumes = |number: &u64| {
            self.by_number.get(number).is_some_and(|c| matches!(c.stage, Stage::Queued(Job::Resume(..))))
        };
        let at = match job {
            Job::Forward(_) => self.queue.len(),
            Job::Resume(..) => self.queue.iter().take_while(|number| resumes(number)).count(),
        };
        self.queue.insert(at, number);
        if let Some(call) = self.by_number.get_mut(&number) {
            call.stage = Stage::Queued(job);
        }
    }

    /// The next call whose turn it is.
    fn next_turn(&mut self, lanes: Lanes) -> Option<u64> {
        let may_ask = |number: &u64| self.by_number.get(number).is_some_and(Call::may_ask);
        let taken =
            lanes == Lanes::OneAsker && self.by_number.values().any(|call| call.may_ask() && call.runs());
        let at = self.queue.iter().position(|number| !taken || !may_ask(number))?;
        self.queue.remove(at)
    }

    /// The calls that the server works on and may ask about, the newest last.
    pub(super) fn askers(&self, which: impl Fn(&Call) -> bool) -> Vec<u64> {
        let askers =
            self.by_number.iter().filter(|(_, call)| call.at_server && call.may_ask() && which(call));
        let mut askers: Vec<_> = askers.map(|(number, call)| (call.turn, *number)).collect();
        askers.sort_unstable();
        askers.into_iter().map(|(_, number)| number).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_number.values().filter_map(Call::deadline).min()
    }
}

impl Upgrade {
    /// Takes in a request that goes to the server.
    pub(super) fn begin(&mut self, key: CallKey, request: Request, now: Instant) {
        match state::presented(&request) {
            Err(refusal) => self.refuse(key, &request.id, &refusal),
            Ok(Some(state)) => self.retry(key, request, &state, now),
            Ok(None) => self.enter(key, request, now),
        }
    }

    /// Takes in a request that the server has not seen.
    pub(super) fn enter(&mut self, key: CallKey, request: Request, now: Instant) {
        let number = self.next_number();
        let message = match rewrite::to_legacy(&request, &number.into()) {
            Ok(message) => message,
            Err(refusal) => return self.refuse(key, &request.id, &refusal),
        };
        let queued: usize = self.calls.iter().map(|(_, call)| call.queued_bytes()).sum();
        if self.calls.by_number.len() >= MAX_WAITING || queued + message.line.len() > MAX_WAITING_BYTES {
            return self.answer(key, too_many().response(Some(&request.id)));
        }
        let suspends = mcp::may_ask(&request.method) && self.setup.capabilities.answers();
        let digest = match suspends.then(|| state::digest(&request)).transpose() {
            Ok(digest) => digest,
            Err(e) => return self.answer(key, no_digest(&e).response(Some(&request.id))),
        };
        let call = Call {
            key: None,
            id: request.id,
            reports: request.meta.progress_token.is_some(),
            token: request.meta.progress_token,
            level: request.meta.log_level.and_then(|level| Level::asked(&level).ok()),
            method: request.method,
            digest,
            stage: Stage::Running,
            asks: Asks::default(),
            lacks: None,
            early: None,
            at_server: false,
            turn: 0,
            silent_until: None,
            until: now.checked_add(self.setup.limits.total),
        };
        self.calls.by_number.insert(number, call);
        self.calls.attach(number, key);
        self.calls.enqueue(number, Job::Forward(message));
        self.take_turns(now);
    }

    /// Lets each call run whose turn has come.
    pub(super) fn take_turns(&mut self, now: Instant) {
        while let Some(number) = self.calls.next_turn(self.setup.lanes) {
            self.take_turn(number, now);
        }
    }

    fn take_turn(&mut self, number: u64, now: Instant) {
        let turn = self.next_number();
        let silent_until = self.silent_until(now);
        let Some(call) = self.calls.get_mut(number) else { return };
        call.turn = turn;
        call.silent_until = silent_until;
        match std::mem::replace(&mut call.stage, Stage::Running) {
            Stage::Queued(Job::Forward(message)) => {
                if call.digest.is_some() && self.ask_held(number, now) {
                    return;
                }
                self.tell_level(now);
                if let Some(call) = self.calls.get_mut(number) {
                    call.at_server = true;
                }
                self.tell(message);
            }
            Stage::Queued(Job::Resume(answers, _)) => {
                if !call.asks.is_empty() {
                    call.stage = Stage::Gathering(now + super::suspension::TOGETHER);
                }
                self.tell_level(now);
                self.tell_all(answers);
            }
            other => call.stage = other,
        }
    }

    pub(super) fn silent_until(&self, now: Instant) -> Option<Instant> {
        self.setup.limits.silence.and_then(|silence| now.checked_add(silence))
    }

    /// Tells the server the most verbose level in use, if it has not been told.
    fn tell_level(&mut self, now: Instant) {
        let wanted =
            self.calls.iter().filter(|(_, call)| call.runs()).filter_map(|(_, call)| call.level).min();
        if wanted.is_some() && wanted != self.level && self.face().is_some_and(|face| face.logs) {
            self.level = wanted;
            let level = wanted.map(Level::name);
            self.ask_server(Own::Other, mcp::SET_LEVEL, &serde_json::json!({ "level": level }), now);
        }
    }

    /// The server has answered a call.
    pub(super) fn call_answered(&mut self, number: u64, answer: &Answer, now: Instant) {
        let Some(call) = self.calls.get_mut(number).filter(|call| call.at_server) else {
            log::debug!("an answer of the MCP server's is dropped: nobody waits for it any more");
            return;
        };
        match std::mem::replace(&mut call.stage, Stage::Running) {
            Stage::Suspended { serial, until } => {
                call.stage = Stage::Suspended { serial, until };
                return self.keep_early(number, answer);
            }
            Stage::Queued(Job::Resume(answers, _)) => self.tell_all(answers),
            _ => {}
        }
        self.conclude(number, answer, now);
    }

    /// Answers a call, unless the answer is a question.
    pub(super) fn conclude(&mut self, number: u64, answer: &Answer, now: Instant) {
        let Some(call) = self.calls.get_mut(number) else { return };
        call.at_server = false;
        // What it has asked and waits for no longer was not asked on its account.
        let left: Vec<_> = call.asks.take();
        if let Some(visits) = answer.visits().filter(|_| call.may_ask()) {
            if self.setup.capabilities.visits_urls() {
                self.ask_visits(number, &visits, now);
                return self.hold(left, now);
            }
            super::results::merge(
                call.lacks.get_or_insert_default(),
                &serde_json::json!({ "elicitation": { "url": {} } }),
            );
        }
        self.hold(left, now);
        let server = if let Opening::Open(face) = &self.opening { face.info.as_deref() } else { None };
        let Some(call) = self.calls.get(number) else { return };
        let message = match &call.lacks {
            Some(lacks) if answer.is_failure() => {
                Refusal::MissingCapability(lacks.clone()).response(Some(&call.id))
            }
            _ => answer.to_modern(&call.id, &call.method, server),
        };
        self.finish(number, message, now);
    }

    fn finish(&mut self, number: u64, message: Message, now: Instant) {
        let key = self.calls.remove(number).and_then(|call| call.key);
        if let Some(key) = key {
            self.out.push(super::Output::ToClient(key, Item { message, last: true }));
        }
        self.take_turns(now);
    }

    /// Ends a call that nobody waits for: what the server asks on its account fails, and so does the call.
    pub(super) fn drop_call(&mut self, number: u64, why: &ErrorObject, now: Instant) {
        let Some(mut call) = self.calls.remove(number) else { return };
        if let Stage::Queued(Job::Resume(answers, _)) = call.stage {
            self.tell_all(answers);
        }
        for ask in call.asks.take() {
            self.fail_ask(&ask, why);
        }
        if call.at_server && call.early.is_none() {
            let mut params = Object::default();
            params.put("requestId", &number);
            params.put("reason", &why.message);
            self.tell(Message::notification(mcp::CANCELLED, &params, Some(number.into())));
        }
        self.take_turns(now);
    }

    pub(super) fn fail_ask(&mut self, ask: &Ask, why: &ErrorObject) {
        if let Some(id) = &ask.request {
            self.tell(why.response(Some(id)));
        }
    }

    pub(super) fn call_left(&mut self, key: CallKey, now: Instant) {
        if let Some(number) = self.calls.by_key.get(&key).copied() {
            self.drop_call(
                number,
                &ErrorObject::internal("cancelled", "the client has cancelled the request"),
                now,
            );
        }
    }

    /// The server is gone.
    pub(super) fn fail_calls(&mut self, error: &ErrorObject) {
        for call in std::mem::take(&mut self.calls).by_number.into_values() {
            if let Some(key) = call.key {
                self.answer(key, error.response(Some(&call.id)));
            }
        }
    }

    /// The server has made progress on a call.
    pub(super) fn progressed(&mut self, message: &Message, token: &RequestId, now: Instant) {
        let silent_until = self.silent_until(now);
        let call = token.as_u64().and_then(|number| self.calls.get_mut(number));
        let Some(call) = call.filter(|call| call.runs()) else { return };
        call.silent_until = silent_until;
        let (Some(key), Some(token)) = (call.key, call.token.clone()) else { return };
        let restored = rewrite::notification(message, |params| params.put("progressToken", &token));
        if let Some(Message { line, .. }) = restored {
            let kind = Kind::Notification { method: mcp::PROGRESS.into(), about: Some(token) };
            self.pass(key, Message { line, kind });
        }
    }

    /// The server has something to say; whoever has asked for it hears it.
    pub(super) fn logged(&mut self, message: Message, about: Option<&RequestId>) {
        let level = Level::of(&message);
        let wants = |call: &Call| {
            call.runs() && call.level.is_some_and(|wanted| level.is_none_or(|level| level >= wanted))
        };
        let call = match about {
            Some(about) => about.as_u64().and_then(|n| self.calls.get(n)).filter(|call| wants(call)),
            None => self.calls.iter().map(|(_, c)| c).filter(|call| wants(call)).max_by_key(|call| call.turn),
        };
        if let Some(key) = call.and_then(|call| call.key) {
            self.pass(key, message);
        }
    }

    /// A notification that the protocol does not know: the call's whose it is for certain.
    pub(super) fn told(&mut self, message: Message, about: Option<&RequestId>) {
        let running: Vec<_> = self.calls.iter().map(|(_, call)| call).filter(|call| call.runs()).collect();
        let call = match (about, &running[..]) {
            (Some(about), _) => about.as_u64().and_then(|n| self.calls.get(n)).filter(|call| call.runs()),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        match call.and_then(|call| call.key) {
            Some(key) => self.pass(key, message),
            None => log::debug!("a notification of the MCP server's is dropped: it may be any call's"),
        }
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        let due = |call: &Call| call.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.calls.iter().filter(|(_, call)| due(call)).map(|(number, _)| number).collect();
        for number in due {
            let Some(call) = self.calls.get(number) else { continue };
            match &call.stage {
                Stage::Suspended { .. } => self.give_up(number, now),
                Stage::Gathering(_) => self.suspend(number, now),
                Stage::Queued(Job::Resume(..)) => {
                    self.calls.queue.retain(|queued| *queued != number);
                    self.take_turn(number, now);
                }
                // What is due may have got its turn meanwhile.
                Stage::Queued(Job::Forward(_)) | Stage::Running => self.time_out(number, now),
            }
        }
    }

    fn time_out(&mut self, number: u64, now: Instant) {
        let in_all = self.calls.get(number).and_then(|call| call.until).is_some_and(|until| until <= now);
        let limits = self.setup.limits;
        let after: Duration = limits.silence.filter(|_| !in_all).unwrap_or(limits.total);
        let error =
            ErrorObject::internal("timed_out", format!("the MCP server did not answer within {after:?}"));
        self.fail_call(number, &error, now);
    }

    /// Answers a call with an error of the bridge's own, and ends it.
    pub(super) fn fail_call(&mut self, number: u64, error: &ErrorObject, now: Instant) {
        let answer = self.calls.get(number).map(|call| error.response(Some(&call.id)));
        if let (Some(answer), Some(key)) = (answer, self.calls.detach(number)) {
            self.answer(key, answer);
        }
        self.drop_call(number, error, now);
    }
}

pub(super) fn no_digest(e: &openssl::error::ErrorStack) -> ErrorObject {
    ErrorObject::internal("internal", format!("the request can't be digested: {e}"))
}
