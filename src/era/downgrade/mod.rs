//! A legacy client on a modern server: what stands in place of the session that such a server does not keep.
//!
//! A plain state machine for one client: messages and time in, [`Output`]s out, no I/O and no clock of its own. A request
//! of the client's becomes a call; what the server asks in return is put to the client as a request of the machine's
//! own, and the call is sent again with the answers.

mod client;
mod exchange;
mod exchanges;
mod handshake;
mod input;
mod intake;
mod out;
mod result;
mod rounds;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tools;

use std::time::Instant;

pub use self::out::Output;
use self::{client::Client, exchanges::Exchanges, handshake::Offers, out::Out, subscriptions::Subscriptions};
use crate::{
    jsonrpc::{ErrorObject, Kind, Message, RequestId},
    mcp,
    session::Limits,
};

/// The machine's name for one call to the modern server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey(u64);

impl CallKey {
    /// The id of its request.
    pub fn request_id(self) -> RequestId {
        self.0.into()
    }
}

/// One legacy client.
#[derive(Debug)]
pub struct Downgrade {
    /// Once it has been let in.
    client: Option<Client>,
    /// Who is being let in, under which request.
    entering: Option<(RequestId, Client)>,
    offers: Offers,
    exchanges: Exchanges,
    subscriptions: Subscriptions,
    out: Out,
}

/// What the parts need to act.
#[derive(Debug)]
struct Context<'a> {
    client: &'a Client,
    out: &'a mut Out,
    now: Instant,
}

impl Downgrade {
    /// A client of which nothing is known. `limits` are those of each of its requests; while the client is asked
    /// something, silence does not count.
    pub fn new(limits: Limits) -> Self {
        Self {
            client: None,
            entering: None,
            offers: Offers::default(),
            exchanges: Exchanges::new(limits),
            subscriptions: Subscriptions::new(limits),
            out: Out::default(),
        }
    }

    /// What is to be done since this was last asked, in its order.
    pub fn drain(&mut self) -> Vec<Output> {
        self.out.drain()
    }

    /// The client sent a message.
    pub fn from_client(&mut self, message: Message, now: Instant) {
        match &message.kind {
            Kind::Request { id, .. } => {
                let id = id.clone();
                if let Err(rejected) = self.take_in(&id, message, now) {
                    self.out.answer(&id, rejected.response(&id));
                }
            }
            Kind::Notification { method, about } => match &**method {
                mcp::INITIALIZED => self.listen(now),
                mcp::CANCELLED => self.cancelled(about.as_ref()),
                // Of the client's roots and progress a server learns only what it has asked for.
                mcp::ROOTS_CHANGED | mcp::PROGRESS => {}
                _ if self.client.is_some() => self.out.notify(message),
                _ => {}
            },
            Kind::Response { id, .. } => {
                let (Some(client), Some(id)) = (&self.client, id) else { return };
                let mut cx = Context { client, out: &mut self.out, now };
                self.exchanges.client_answered(id, &message, &mut cx);
            }
        }
    }

    /// The client wants to hear what changes.
    fn listen(&mut self, now: Instant) {
        let Some(client) = &self.client else { return };
        self.subscriptions.begin(self.offers.lists, &mut Context { client, out: &mut self.out, now });
    }

    /// The client does not wait for a request any more; `initialize` can't be cancelled.
    fn cancelled(&mut self, id: Option<&RequestId>) {
        let Some(id) = id.filter(|id| !self.is_entering(id)) else { return };
        self.exchanges.close(id, "the client has cancelled the request", &mut self.out);
        self.subscriptions.forget(id);
    }

    fn is_entering(&self, id: &RequestId) -> bool {
        self.entering.as_ref().is_some_and(|(entering, _)| entering == id)
    }

    /// A call brought a message.
    pub fn from_server(&mut self, key: CallKey, message: &Message, now: Instant) {
        let is_answer = matches!(message.kind, Kind::Response { .. });
        if !is_answer && self.exchanges.of_call(key).is_some() {
            return self.exchanges.notified(key, message, now, &mut self.out);
        }
        let answered = if is_answer { self.exchanges.arrived(key) } else { None };
        if let Some(id) = answered.as_ref().filter(|id| self.is_entering(id)) {
            return self.let_in(id, message);
        }
        let Some(client) = &self.client else { return };
        let mut cx = Context { client, out: &mut self.out, now };
        match answered {
            Some(id) => self.exchanges.answered(&id, message, &mut cx),
            None => self.subscriptions.heard(key, message, &mut cx),
        }
    }

    /// A call has ended, and if it was not answered before, it never will be.
    pub fn call_ended(&mut self, key: CallKey, now: Instant) {
        if let Some(id) = self.exchanges.arrived(key) {
            self.entering.take_if(|(entering, _)| *entering == id);
            return self.exchanges.fail(&id, &no_answer(), &mut self.out);
        }
        if let Some(client) = &self.client {
            self.subscriptions.over(key, None, &mut Context { client, out: &mut self.out, now });
        }
    }

    /// When something next may become due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.exchanges.next_deadline().into_iter().chain(self.subscriptions.next_deadline()).min()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Instant) {
        self.exchanges.expire(now, &mut self.out);
        self.entering.take_if(|(id, _)| !self.exchanges.contains(id));
        let Some(client) = &self.client else { return };
        let mut cx = Context { client, out: &mut self.out, now };
        self.exchanges.wake(&mut cx);
        self.subscriptions.expire(&mut cx);
    }
}

/// The error for who waits for a call that has ended without an answer.
fn no_answer() -> ErrorObject {
    let text = "the MCP server ended the call without an answer: it has failed, or its messages were not read in time";
    ErrorObject::internal("no_answer", text)
}
