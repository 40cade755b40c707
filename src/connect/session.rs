//! What `connect` remembers of its session, so that it can be opened again. No I/O.

use std::collections::BTreeMap;

use hyper::header::HeaderValue;
use serde::Deserialize;

use crate::{
    jsonrpc::{Kind, Line, Message, RequestId},
    mcp,
    session::protocol_version,
};

/// Most subscriptions that are made again in a new session.
const MAX_SUBSCRIPTIONS: usize = 1000;

/// The headers of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) id: Option<HeaderValue>,
    pub(super) version: Option<HeaderValue>,
}

/// A legacy session with the remote server.
#[derive(Debug, Default)]
pub(super) struct Session {
    headers: Headers,
    /// Counts the sessions, so that one that was lost is opened again once.
    epoch: u64,
    initialize: Option<Message>,
    initialized: Option<Line>,
    level: Option<Line>,
    subscriptions: BTreeMap<String, Line>,
}

/// What makes a new session like the lost one.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) initialize: Line,
    pub(super) id: RequestId,
    pub(super) version: Option<HeaderValue>,
    pub(super) initialized: Option<Line>,
    /// The log level and the subscriptions.
    pub(super) requests: Vec<Line>,
}

impl Session {
    pub(super) fn headers(&self) -> (u64, Headers) {
        (self.epoch, self.headers.clone())
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes what the client sends. When a new session begins with it, returned are the headers of the one before.
    pub(super) fn note(&mut self, message: &Message) -> Option<Headers> {
        let line = || message.line.clone();
        match (message.method(), &message.kind) {
            (Some(mcp::INITIALIZE), Kind::Request { .. }) => {
                let epoch = self.epoch + 1;
                let new = Self { epoch, initialize: Some(message.clone()), ..Self::default() };
                return Some(std::mem::replace(self, new).headers);
            }
            (Some(mcp::INITIALIZED), Kind::Notification { .. }) => self.initialized = Some(line()),
            (Some(mcp::SET_LEVEL), _) => self.level = Some(line()),
            (Some(mcp::SUBSCRIBE), _) if self.subscriptions.len() < MAX_SUBSCRIPTIONS => {
                uri(message).and_then(|uri| self.subscriptions.insert(uri, line()));
            }
            (Some(mcp::UNSUBSCRIBE), _) => {
                uri(message).and_then(|uri| self.subscriptions.remove(&uri));
            }
            _ => {}
        }
        None
    }

    /// The server has named the session.
    pub(super) fn named(&mut self, id: Option<HeaderValue>) {
        self.headers.id = id;
    }

    /// Whether `id` is that of the client's `initialize`.
    pub(super) fn is_initialize(&self, id: &RequestId) -> bool {
        self.initialize.as_ref().and_then(Message::request_id) == Some(id)
    }

    /// The server has answered `initialize`.
    pub(super) fn answered(&mut self, answer: &Line) {
        self.headers.version = version(answer);
    }

    /// What a new session needs; `None` when there never was one.
    pub(super) fn memory(&self) -> Option<Memory> {
        let initialize = self.initialize.as_ref()?;
        Some(Memory {
            initialize: initialize.line.clone(),
            id: initialize.request_id()?.clone(),
            version: self.headers.version.clone(),
            initialized: self.initialized.clone(),
            requests: self.level.iter().chain(self.subscriptions.values()).cloned().collect(),
        })
    }

    /// A new session has taken the place of `epoch`, the lost one; false when the client has begun another meanwhile.
    pub(super) fn reopened(&mut self, epoch: u64, id: Option<HeaderValue>) -> bool {
        let lasts = self.epoch == epoch;
        if lasts {
            self.epoch += 1;
            self.headers.id = id;
        }
        lasts
    }
}

/// The revision in the answer to `initialize`, whatever it is, as it goes into a header.
pub(super) fn version(answer: &Line) -> Option<HeaderValue> {
    HeaderValue::from_str(&protocol_version(answer)?).ok()
}

fn uri(message: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct Request {
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    serde_json::from_str::<Request>(message.line.as_str()).ok().map(|request| request.params.uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    fn message(text: &str) -> Message {
        let Ok(Payload::Single(message)) = parse(text.to_owned().into()) else { panic!("{text}") };
        message
    }

    #[test]
    fn a_session_is_remembered_as_the_client_made_it() {
        let mut session = Session::default();
        assert!(session.memory().is_none());
        assert!(
            session
                .note(&message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":1}}"#))
                .is_some()
        );
        session.named(Some(HeaderValue::from_static("s1")));
        session
            .answered(&message(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#).line);
        for text in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":4,"method":"resources/subscribe","params":{"uri":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"resources/unsubscribe","params":{"uri":"a"}}"#,
        ] {
            assert!(session.note(&message(text)).is_none());
        }
        let memory = session.memory().unwrap();
        assert_eq!(memory.version.unwrap(), "2025-06-18");
        assert!(memory.initialize.as_str().contains(r#""params":{"x":1}"#));
        let requests: Vec<_> = memory.requests.iter().map(Line::as_str).collect();
        assert!(requests[0].contains("debug") && requests[1].contains(r#""uri":"b""#), "{requests:?}");
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_new_initialize_forgets_the_old_session() {
        let mut session = Session::default();
        session.note(&message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#));
        session.named(Some(HeaderValue::from_static("s1")));
        let old = session.note(&message(r#"{"jsonrpc":"2.0","id":9,"method":"initialize"}"#)).unwrap();
        assert_eq!(old.id.unwrap(), "s1");
        assert!(!session.reopened(1, None), "the lost session is not the client's any more");
        assert_eq!(session.headers(), (2, Headers::default()));
        assert!(session.memory().unwrap().initialized.is_none());
    }
}
