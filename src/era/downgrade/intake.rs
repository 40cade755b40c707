//! The client's requests: those that are answered here, and those that become calls.

use std::time::Instant;

use super::{
    Context, Downgrade,
    client::Client,
    handshake,
    out::response,
    result::{self, Outcome},
    rounds::prepare,
};
use crate::{
    era::{self, Refusal},
    jsonrpc::{ErrorObject, Kind, Message, Object, RequestId},
    mcp,
};

/// Why a request gets no further.
#[derive(Debug)]
pub(super) enum Rejected {
    /// In the words of the protocol.
    Refusal(Refusal),
    /// In the bridge's own.
    Error(ErrorObject),
}

impl Rejected {
    pub(super) fn response(&self, id: &RequestId) -> Message {
        match self {
            Self::Refusal(refusal) => refusal.response(Some(id)),
            Self::Error(error) => error.response(Some(id)),
        }
    }
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<ErrorObject> for Rejected {
    fn from(error: ErrorObject) -> Self {
        Self::Error(error)
    }
}

impl Downgrade {
    /// Takes a request in.
    pub(super) fn take_in(&mut self, id: &RequestId, message: Message, now: Instant) -> Result<(), Rejected> {
        if self.exchanges.contains(id) || self.subscriptions.contains(id) {
            return Err(ErrorObject::invalid("duplicate_id", "the id is that of a request in flight").into());
        }
        match message.method() {
            Some(mcp::PING) => self.out.done(id),
            Some(mcp::INITIALIZE) => self.enter(id, message, now)?,
            _ => self.act(id, message, now)?,
        }
        Ok(())
    }

    fn act(&mut self, id: &RequestId, message: Message, now: Instant) -> Result<(), Rejected> {
        let (Some(client), Some(method)) = (&mut self.client, message.method()) else {
            return Err(ErrorObject::invalid("not_initialized", "initialize comes first").into());
        };
        let params = era::params(&message.line).map_err(|e| unusable(&e))?;
        match method {
            mcp::SET_LEVEL if self.offers.logging => {
                if !client.set_level(&string(&params, "level")?) {
                    return Err(Refusal::InvalidParams("params.level is no log level".to_owned()).into());
                }
                self.out.done(id);
            }
            mcp::SUBSCRIBE | mcp::UNSUBSCRIBE if self.offers.subscribe => {
                let uri = string(&params, "uri")?;
                self.exchanges.admit(0, self.subscriptions.waiting())?;
                let mut cx = Context { client, out: &mut self.out, now };
                if method == mcp::SUBSCRIBE {
                    self.subscriptions.subscribe(id, &uri, &mut cx);
                } else {
                    self.subscriptions.unsubscribe(id, &uri, &mut cx);
                }
            }
            method if is_of_one_era(method) => return Err(Refusal::MethodNotFound(method.into()).into()),
            _ => self.call(message, now)?,
        }
        Ok(())
    }

    /// Passes a request on.
    fn call(&mut self, message: Message, now: Instant) -> Result<(), Rejected> {
        let (Some(client), Some(method)) = (&self.client, message.method()) else { return Ok(()) };
        self.exchanges.admit(message.line.len(), self.subscriptions.waiting())?;
        let mut params = era::params(&message.line).map_err(|e| unusable(&e))?;
        prepare(method, &mut params);
        let key = self.out.new_call();
        let call = client.request(key, method, params, true)?;
        self.exchanges.begin(message, key, call, now, &mut self.out);
        Ok(())
    }

    /// `initialize`: the server is asked who it is.
    fn enter(&mut self, id: &RequestId, message: Message, now: Instant) -> Result<(), Rejected> {
        if self.client.is_some() || self.entering.is_some() {
            let text = "the session has been initialized, or is being initialized";
            return Err(ErrorObject::invalid("already_initialized", text).into());
        }
        let mut params = era::params(&message.line).map_err(|e| unusable(&e))?;
        let client = Client::read(&params)?;
        params.retain(|name, _| name == "_meta");
        let key = self.out.new_call();
        let call = client.request(key, mcp::DISCOVER, params, true)?;
        self.exchanges.begin(message, key, call, now, &mut self.out);
        self.entering = Some((id.clone(), client));
        Ok(())
    }

    /// The server has said who it is, or that it will not.
    pub(super) fn let_in(&mut self, id: &RequestId, answer: &Message) {
        let Some((_, client)) = self.entering.take() else { return };
        let is_error = matches!(answer.kind, Kind::Response { is_error: true, .. });
        let answer = match result::read(mcp::DISCOVER, &answer.line, id) {
            Ok(Outcome::Complete(line)) if is_error => response(line, id, true),
            Ok(Outcome::Complete(line)) => match handshake::initialized(&line, client.revision) {
                Ok((line, offers)) => {
                    self.offers = offers;
                    self.client = Some(client);
                    response(line, id, false)
                }
                Err(e) => result::malformed(e).response(Some(id)),
            },
            Ok(Outcome::InputRequired(_)) => result::malformed("it asks for input").response(Some(id)),
            Err(error) => error.response(Some(id)),
        };
        self.exchanges.end(id, answer, &mut self.out);
    }
}

/// The refusal of a request whose parameters can't be read.
pub(super) fn unusable(e: &serde_json::Error) -> Refusal {
    Refusal::InvalidParams(format!("params: {e}"))
}

fn string(params: &Object<'_>, name: &str) -> Result<String, Refusal> {
    params.read(name).ok_or_else(|| Refusal::InvalidParams(format!("params.{name} must be a string")))
}

/// Whether one era only knows the method: what is left of the legacy ones here is not on offer, and modern ones a
/// legacy client does not have. Tasks are in both, and not the same.
fn is_of_one_era(method: &str) -> bool {
    const OF_ONE_ERA: [&str; 5] =
        [mcp::SET_LEVEL, mcp::SUBSCRIBE, mcp::UNSUBSCRIBE, mcp::DISCOVER, mcp::LISTEN];
    OF_ONE_ERA.contains(&method) || method.starts_with(mcp::TASKS_PREFIX)
}
