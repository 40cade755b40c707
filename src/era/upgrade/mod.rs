//! A modern client (2026-07-28) on a legacy server: the translation for one legacy session.
//!
//! Source: revision 2026-07-28, `basic/patterns`; revision 2025-11-25, `basic/lifecycle`.

mod asks;
mod calls;
mod capabilities;
mod handshake;
mod listens;
mod logs;
mod results;
mod rewrite;
mod suspension;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{json, value::RawValue};

use self::{
    asks::{Ask, HeldAsks},
    calls::Calls,
    handshake::Face,
    listens::Listens,
    logs::Level,
    results::Answer,
};
pub use self::{capabilities::Capabilities, suspension::not_good};
use super::{Refusal, Request, state::Sealer};
use crate::{
    jsonrpc::{self, ErrorObject, Kind, Message, RequestId},
    mcp,
    session::Limits,
    upstream::{FromServer, Item},
};

/// Most requests that wait for the server's `initialize`, in number.
const MAX_WAITING: usize = 1024;
/// Most requests that wait to be sent, in bytes.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// How long the server may take for a request of the bridge's own.
const OWN_WITHIN: Duration = Duration::from_secs(30);

/// The reason of a session's failure when its server speaks no legacy revision (any more).
pub const NOT_LEGACY: &str = "not_legacy";

/// A call of the client's, named by whoever passes it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey(pub u64);

/// How many calls run at once that the server may ask the client about: it does not say on whose account it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// One, so that each question reaches who caused it. A suspended call does not count.
    OneAsker,
    /// All: a question goes where the transport says, else to the newest call.
    Concurrent,
}

/// What a session is for.
#[derive(Debug)]
pub struct Setup {
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Who the server is told that its client is; `None` for the bridge itself.
    pub client_info: Option<Box<RawValue>>,
    /// How calls are kept apart.
    pub lanes: Lanes,
    /// How long a call may take.
    pub limits: Limits,
    /// For whom the session is.
    pub principal: Box<[u8]>,
    /// Makes and opens the states of suspended calls.
    pub sealer: Arc<Sealer>,
    /// The session's number, by which a state leads back to it.
    pub session: u64,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send a message to the server.
    ToServer(Message),
    /// Pass a message to a call.
    ToClient(CallKey, Item),
    /// A call has ended, and there is no answer to it.
    Ended(CallKey),
}

/// One legacy session, as modern clients use it.
#[derive(Debug)]
pub struct Upgrade {
    setup: Setup,
    opening: Opening,
    /// What came before the session was open.
    waiting: Vec<(CallKey, Request)>,
    calls: Calls,
    listens: Listens,
    /// What the server has asked while no call ran.
    held: HeldAsks,
    own: HashMap<u64, (Own, Instant)>,
    /// The level that the server was told last.
    level: Option<Level>,
    /// The last number that was given to a request, to a suspension, to a turn.
    numbers: u64,
    out: Vec<Output>,
}

/// How far the handshake is.
#[derive(Debug)]
enum Opening {
    Asked { number: u64, until: Option<Instant> },
    Open(Face),
    Failed(ErrorObject),
}

/// A request of the bridge's own.
#[derive(Debug)]
enum Own {
    Subscribe(Box<str>),
    /// The answer changes nothing.
    Other,
}

impl Upgrade {
    /// Opens a session: `initialize` is the first output.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let number = 1;
        let client = setup.client_info.as_deref();
        let initialize = handshake::initialize(&number.into(), &setup.capabilities, client);
        let patience = setup.limits.silence.unwrap_or(setup.limits.total).min(setup.limits.total);
        Self {
            setup,
            opening: Opening::Asked { number, until: now.checked_add(patience) },
            waiting: Vec::new(),
            calls: Calls::default(),
            listens: Listens::default(),
            held: HeldAsks::default(),
            own: HashMap::new(),
            level: None,
            numbers: number,
            out: vec![Output::ToServer(initialize)],
        }
    }

    /// What is to be done since this was last asked, in order.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Why the session can't be used; `None` while it can.
    pub fn failure(&self) -> Option<&ErrorObject> {
        if let Opening::Failed(error) = &self.opening { Some(error) } else { None }
    }

    /// Whether nobody waits for anything, and nobody may come back to a suspended call.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.calls.is_empty() && self.listens.is_empty()
    }

    /// Whether a client waits for an answer.
    pub fn has_running(&self) -> bool {
        !self.waiting.is_empty() || self.calls.has_running()
    }

    /// A client's request. Each gets one answer or an end, unless its client leaves.
    pub fn call(&mut self, key: CallKey, request: Request, now: Instant) {
        if let Err(refusal) = judge(&request) {
            return self.refuse(key, &request.id, &refusal);
        }
        match &self.opening {
            Opening::Open(_) => self.admit(key, request, now),
            Opening::Failed(error) => {
                let answer = error.response(Some(&request.id));
                self.answer(key, answer);
            }
            Opening::Asked { .. } => {
                let bytes: usize = self.waiting.iter().map(|(_, request)| request.line.len()).sum();
                if self.waiting.len() >= MAX_WAITING || bytes + request.line.len() > MAX_WAITING_BYTES {
                    return self.answer(key, too_many().response(Some(&request.id)));
                }
                self.waiting.push((key, request));
            }
        }
    }

    fn admit(&mut self, key: CallKey, request: Request, now: Instant) {
        match (&*request.method, &self.opening) {
            (mcp::DISCOVER, Opening::Open(face)) => {
                let answer = rewrite::result(&request.id, face.discovered.clone());
                self.answer(key, answer);
            }
            (mcp::LISTEN, _) => self.listen(key, &request, now),
            _ => self.begin(key, request, now),
        }
    }

    /// The client of a call has left.
    pub fn left(&mut self, key: CallKey, now: Instant) {
        self.waiting.retain(|(waiting, _)| *waiting != key);
        self.unlisten(key, now);
        self.call_left(key, now);
    }

    /// A message of the server's.
    pub fn from_server(&mut self, from: FromServer, now: Instant) {
        if self.failure().is_some() {
            return;
        }
        let FromServer { message, about } = from;
        match &message.kind {
            Kind::Response { id, .. } => match id.as_ref().and_then(RequestId::as_u64) {
                Some(number) => self.answered(number, &message, now),
                None => log::debug!("an answer of the MCP server's to no request is dropped"),
            },
            Kind::Request { id, method, .. } if &**method == mcp::PING => {
                let pong = jsonrpc::result(id, &json!({}));
                self.tell(pong);
            }
            Kind::Request { .. } => self.asked(&message, about.as_ref(), now),
            Kind::Notification { method, about: subject } => match (&**method, subject) {
                (mcp::PROGRESS, Some(token)) => self.progressed(&message, token, now),
                (mcp::CANCELLED, Some(id)) => self.withdrawn(id),
                (mcp::MESSAGE, _) => self.logged(message, about.as_ref()),
                (method, _) if mcp::is_about_the_server(method) => self.changed(&message),
                (mcp::ELICITATION_COMPLETE, _) => {}
                _ => self.told(message, about.as_ref()),
            },
        }
    }

    /// The server has not taken a message of this kind, and `error` is the answer for whoever waits for one.
    pub fn unsent(&mut self, kind: &Kind, error: &ErrorObject, now: Instant) {
        match kind {
            Kind::Request { id, .. } => {
                let Some(number) = id.as_u64() else { return };
                let Some(call) = self.calls.get_mut(number) else {
                    return self.answered(number, &error.response(Some(id)), now);
                };
                call.at_server = false;
                self.fail_call(number, error, now);
            }
            // The server would wait for it for ever.
            Kind::Response { .. } => self.server_ended(error),
            Kind::Notification { method, .. } => log::warn!("{method} can't be sent: {}", error.message),
        }
    }

    fn answered(&mut self, number: u64, message: &Message, now: Instant) {
        let answer = Answer::read(&message.line);
        if matches!(self.opening, Opening::Asked { number: initialize, .. } if initialize == number) {
            return self.opened(&answer, now);
        }
        match self.own.remove(&number) {
            Some((Own::Subscribe(uri), _)) => {
                self.subscribed(&uri, matches!(answer, Answer::Result(_)), now);
            }
            Some((Own::Other, _)) => {}
            None => self.call_answered(number, &answer, now),
        }
    }

    fn opened(&mut self, answer: &Answer, now: Instant) {
        let face = match answer {
            Answer::Result(result) => Face::read(result.as_str()),
            Answer::Error(error) => Err(format!("it refuses initialize: {}", error.as_str())),
        };
        let reason = if answer.code() == Some(i64::from(mcp::code::UNSUPPORTED_VERSION)) {
            NOT_LEGACY
        } else {
            "initialize_failed"
        };
        match face {
            Ok(face) => {
                self.opening = Opening::Open(face);
                self.tell(Message::notification(mcp::INITIALIZED, &json!({}), None));
                for (key, request) in std::mem::take(&mut self.waiting) {
                    self.admit(key, request, now);
                }
            }
            Err(why) => {
                let error = format!("the MCP server can't be used: {why}");
                self.server_ended(&ErrorObject::internal(reason, error));
            }
        }
    }

    /// The server is gone: who waits for an answer gets `error`, and streams end.
    pub fn server_ended(&mut self, error: &ErrorObject) {
        if self.failure().is_some() {
            return;
        }
        self.opening = Opening::Failed(error.clone());
        for (key, request) in std::mem::take(&mut self.waiting) {
            self.answer(key, error.response(Some(&request.id)));
        }
        self.fail_calls(error);
        self.cut_listens();
        self.held = HeldAsks::default();
        self.own.clear();
    }

    /// When something next becomes due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let opening = match &self.opening {
            Opening::Asked { until, .. } => *until,
            _ => None,
        };
        let own = self.own.values().map(|(_, until)| *until).min();
        [opening, own, self.calls.next_deadline(), self.held.next_deadline()].into_iter().flatten().min()
    }

    /// Does what has become due.
    pub fn expire(&mut self, now: Instant) {
        if matches!(self.opening, Opening::Asked { until: Some(until), .. } if until <= now) {
            let error = "the MCP server has not answered initialize in time";
            return self.server_ended(&ErrorObject::internal("timed_out", error));
        }
        let due: Vec<_> = self.own.iter().filter(|(_, (_, until))| *until <= now).map(|(n, _)| *n).collect();
        for number in due {
            if let Some((Own::Subscribe(uri), _)) = self.own.remove(&number) {
                self.subscription_timed_out(&uri, now);
            }
        }
        for ask in self.held.expire(now) {
            self.refuse_ask(&ask);
        }
        self.expire_calls(now);
    }

    fn face(&self) -> Option<&Face> {
        if let Opening::Open(face) = &self.opening { Some(face) } else { None }
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn tell(&mut self, message: Message) {
        self.out.push(Output::ToServer(message));
    }

    fn tell_all(&mut self, messages: Vec<Message>) {
        self.out.extend(messages.into_iter().map(Output::ToServer));
    }

    /// Asks the server something of the bridge's own.
    fn ask_server(&mut self, own: Own, method: &str, params: &serde_json::Value, now: Instant) {
        let number = self.next_number();
        self.own.insert(number, (own, now + OWN_WITHIN));
        let id = RequestId::from(number);
        let line = jsonrpc::request(&id, method, params);
        self.tell(Message { line, kind: Kind::Request { id, method: method.into(), progress_token: None } });
    }

    fn pass(&mut self, key: CallKey, message: Message) {
        self.out.push(Output::ToClient(key, Item { message, last: false }));
    }

    fn answer(&mut self, key: CallKey, message: Message) {
        self.out.push(Output::ToClient(key, Item { message, last: true }));
    }

    fn refuse(&mut self, key: CallKey, id: &RequestId, refusal: &Refusal) {
        self.answer(key, refusal.response(Some(id)));
    }

    /// No client answers what the server asks.
    fn refuse_ask(&mut self, ask: &Ask) {
        if let Some(id) = &ask.request {
            self.tell(Refusal::MethodNotFound(ask.method.clone()).response(Some(id)));
        }
    }
}

/// What can be said of a request whatever the server is.
fn judge(request: &Request) -> Result<(), Refusal> {
    if is_legacy_only(&request.method) {
        return Err(Refusal::MethodNotFound(request.method.clone()));
    }
    request.meta.log_level.as_deref().map_or(Ok(()), |level| Level::asked(level).map(drop))
}

/// Methods that a modern client does not have, or that can't be bridged.
fn is_legacy_only(method: &str) -> bool {
    const GONE: [&str; 8] = [
        mcp::INITIALIZE,
        mcp::PING,
        mcp::SET_LEVEL,
        mcp::SUBSCRIBE,
        mcp::UNSUBSCRIBE,
        mcp::ELICIT,
        mcp::SAMPLE,
        mcp::LIST_ROOTS,
    ];
    GONE.contains(&method) || method.starts_with(mcp::TASKS_PREFIX)
}

fn too_many() -> ErrorObject {
    ErrorObject::internal("too_many_requests", "too many requests of this client are in flight")
}
