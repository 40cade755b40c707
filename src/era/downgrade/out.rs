//! What the machine wants done.

use super::CallKey;
use crate::{
    era::{Refusal, Request},
    jsonrpc::{self, ErrorObject, Kind, Line, Message, Object, RequestId},
    mcp,
};

/// One thing to do.
#[derive(Debug)]
pub enum Output {
    /// Give the client a message.
    ToClient {
        /// The message.
        message: Message,
        /// The client's request that it belongs to, on whose stream it goes.
        about: Option<RequestId>,
    },
    /// Begin a call; what comes of it is given to the machine under this key.
    Call {
        /// The machine's name for it.
        key: CallKey,
        /// The request, whose id is the key's number.
        request: Request,
    },
    /// End a call before its end. What has come of it already is still given to the machine.
    Cancel(CallKey),
    /// Give the server a message that wants no answer.
    Notify(Message),
}

/// Collects what is to be done, and gives out numbers.
#[derive(Debug, Default)]
pub(super) struct Out {
    list: Vec<Output>,
    calls: u64,
    questions: u64,
}

impl Out {
    pub(super) fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.list)
    }

    pub(super) fn new_call(&mut self) -> CallKey {
        self.calls += 1;
        CallKey(self.calls)
    }

    pub(super) fn call(&mut self, key: CallKey, request: Request) {
        self.list.push(Output::Call { key, request });
    }

    pub(super) fn cancel(&mut self, key: CallKey) {
        self.list.push(Output::Cancel(key));
    }

    pub(super) fn notify(&mut self, message: Message) {
        self.list.push(Output::Notify(message));
    }

    /// Answers the client's request `id`.
    pub(super) fn answer(&mut self, id: &RequestId, message: Message) {
        self.list.push(Output::ToClient { message, about: Some(id.clone()) });
    }

    pub(super) fn fail(&mut self, id: &RequestId, error: &ErrorObject) {
        self.answer(id, error.response(Some(id)));
    }

    pub(super) fn refuse(&mut self, id: &RequestId, refusal: &Refusal) {
        self.answer(id, refusal.response(Some(id)));
    }

    /// Answers with an empty result.
    pub(super) fn done(&mut self, id: &RequestId) {
        self.answer(id, jsonrpc::result(id, &Object::default()));
    }

    /// Tells the client something.
    pub(super) fn tell(&mut self, message: Message, about: Option<&RequestId>) {
        self.list.push(Output::ToClient { message, about: about.cloned() });
    }

    /// As [`Self::tell`], in the machine's own words.
    pub(super) fn tell_own(&mut self, method: &str, params: &serde_json::Value) {
        self.tell(Message::notification(method, params, None), None);
    }

    /// Takes a question back that was asked for the client's request `about`.
    pub(super) fn take_back(&mut self, question: &RequestId, why: &str, about: &RequestId) {
        let mut params = Object::default();
        params.put("requestId", question);
        params.put("reason", &why);
        self.tell(Message::notification(mcp::CANCELLED, &params, Some(question.clone())), Some(about));
    }

    /// Asks the client something for its own request `about`; under which id.
    pub(super) fn ask(&mut self, method: &str, params: Line, about: &RequestId) -> RequestId {
        self.questions += 1;
        let id = RequestId::from(self.questions);
        self.tell(Message::request(&id, method, params), Some(about));
        id
    }
}

pub(super) fn response(line: Line, id: &RequestId, is_error: bool) -> Message {
    Message { line, kind: Kind::Response { id: Some(id.clone()), is_error } }
}
