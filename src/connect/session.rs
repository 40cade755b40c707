//! What `connect` remembers of its session, so that it can be opened again. No I/O.

use std::{collections::BTreeMap, sync::Arc};

use hyper::header::HeaderValue;
use serde::Deserialize;

use super::transport::Channel;
use crate::{
    config,
    jsonrpc::{Line, Message, RequestId},
    mcp,
    session::protocol_version,
};

/// Most subscriptions that are made again in a new session.
const MAX_SUBSCRIPTIONS: usize = 1000;

/// A legacy session with the remote server.
#[derive(Debug)]
pub(super) struct Session {
    choice: config::Transport,
    /// The way of its messages.
    channel: Option<Arc<Channel>>,
    /// Counts the sessions, so that one that was lost is opened again once.
    epoch: u64,
    initialize: Option<Request>,
    initialized: Option<Line>,
    level: Option<Request>,
    subscriptions: BTreeMap<String, Request>,
}

/// A request of the client's that is sent again to a new session.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) line: Line,
}

impl Request {
    /// Does not hold on to what was read together with the message.
    fn of(message: &Message) -> Option<Self> {
        Some(Self { id: message.request_id()?.clone(), line: message.line.detached() })
    }
}

/// What a request changes in the session if the server grants it.
#[derive(Debug)]
pub(super) enum Change {
    /// Nothing that is remembered.
    Nothing,
    /// `initialize`: from now on a revision is spoken.
    Open,
    /// Another log level.
    Level(Request),
    /// A resource is subscribed to.
    Subscribe(String, Request),
    /// A resource is subscribed to no more.
    Unsubscribe(String),
}

impl Change {
    pub(super) fn asked_by(message: &Message) -> Self {
        let change = match message.method() {
            Some(mcp::INITIALIZE) => Some(Self::Open),
            Some(mcp::SET_LEVEL) => Request::of(message).map(Self::Level),
            Some(mcp::SUBSCRIBE) => {
                uri(message).zip(Request::of(message)).map(|(uri, request)| Self::Subscribe(uri, request))
            }
            Some(mcp::UNSUBSCRIBE) => uri(message).map(Self::Unsubscribe),
            _ => None,
        };
        change.unwrap_or(Self::Nothing)
    }
}

/// What makes a new session like the lost one.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// The channel that was lost.
    pub(super) channel: Arc<Channel>,
    pub(super) initialize: Request,
    pub(super) version: HeaderValue,
    pub(super) initialized: Option<Line>,
    /// The log level and the subscriptions, as far as the server has granted them.
    pub(super) requests: Vec<Request>,
}

impl Session {
    pub(super) fn new(choice: config::Transport) -> Self {
        Self::numbered(0, choice)
    }

    fn numbered(epoch: u64, choice: config::Transport) -> Self {
        Self {
            choice,
            channel: Channel::without_session(choice).map(Arc::new),
            epoch,
            initialize: None,
            initialized: None,
            level: None,
            subscriptions: BTreeMap::new(),
        }
    }

    /// The number of the session, and the way of its messages; `None` when there is none before one is opened.
    pub(super) fn channel(&self) -> (u64, Option<Arc<Channel>>) {
        (self.epoch, self.channel.clone())
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A new session begins with the client's `initialize`. Returns the channel of the one before.
    pub(super) fn begin(&mut self, initialize: &Message) -> Option<Arc<Channel>> {
        let mut new = Self::numbered(self.epoch + 1, self.choice);
        new.initialize = Request::of(initialize);
        std::mem::replace(self, new).channel
    }

    /// Messages of the session take this channel.
    pub(super) fn takes(&mut self, channel: Arc<Channel>) {
        self.channel = Some(channel);
    }

    /// The client has confirmed `initialize`.
    pub(super) fn confirmed(&mut self, initialized: &Line) {
        self.initialized = Some(initialized.detached());
    }

    /// Whether `id` is that of the client's `initialize`.
    pub(super) fn is_initialize(&self, id: &RequestId) -> bool {
        self.initialize.as_ref().is_some_and(|initialize| initialize.id == *id)
    }

    /// The server has granted a change with `answer`.
    pub(super) fn granted(&mut self, change: Change, answer: &Line) {
        match change {
            Change::Nothing => {}
            Change::Open => {
                if let (Some(channel), Some(version)) = (&self.channel, version(answer)) {
                    channel.speaks(version);
                }
            }
            Change::Level(request) => self.level = Some(request),
            Change::Subscribe(uri, request) => {
                if self.subscriptions.len() < MAX_SUBSCRIPTIONS {
                    self.subscriptions.insert(uri, request);
                }
            }
            Change::Unsubscribe(uri) => drop(self.subscriptions.remove(&uri)),
        }
    }

    /// What a new session needs; `None` when there never was one.
    pub(super) fn memory(&self) -> Option<Memory> {
        let channel = self.channel.clone()?;
        Some(Memory {
            version: channel.version()?.clone(),
            channel,
            initialize: self.initialize.clone()?,
            initialized: self.initialized.clone(),
            requests: self.level.iter().chain(self.subscriptions.values()).cloned().collect(),
        })
    }

    /// A new session has taken the place of `epoch`, the lost one; false when the client has begun another meanwhile.
    pub(super) fn reopened(&mut self, epoch: u64, channel: Arc<Channel>) -> bool {
        let lasts = self.epoch == epoch;
        if lasts {
            self.epoch += 1;
            self.channel = Some(channel);
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

    const OPENED: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#;
    const GRANTED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    fn message(text: &str) -> Message {
        let Ok(Payload::Single(message)) = parse(text.to_owned().into()) else { panic!("{text}") };
        message
    }

    fn opened() -> Session {
        let mut session = Session::new(config::Transport::Auto);
        let initialize = message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":1}}"#);
        session.begin(&initialize);
        assert!(session.memory().is_none(), "it is not open yet");
        session.granted(Change::asked_by(&initialize), &message(OPENED).line);
        session
    }

    #[test]
    fn a_session_is_remembered_as_the_client_made_it() {
        let mut session = opened();
        session.confirmed(&message(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).line);
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":4,"method":"resources/subscribe","params":{"uri":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"resources/unsubscribe","params":{"uri":"a"}}"#,
        ] {
            session.granted(Change::asked_by(&message(text)), &message(GRANTED).line);
        }
        let memory = session.memory().unwrap();
        assert_eq!(memory.version, "2025-06-18");
        assert!(memory.initialize.line.as_str().contains(r#""params":{"x":1}"#));
        assert!(memory.initialized.is_some());
        let requests: Vec<_> = memory.requests.iter().map(|request| request.line.as_str()).collect();
        assert!(requests[0].contains("debug") && requests[1].contains(r#""uri":"b""#), "{requests:?}");
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_new_initialize_forgets_the_old_session() {
        let mut session = opened();
        let old = session.channel().1.unwrap();
        let again = message(r#"{"jsonrpc":"2.0","id":9,"method":"initialize"}"#);
        assert!(Arc::ptr_eq(&session.begin(&again).unwrap(), &old));
        assert!(!session.reopened(1, old), "the lost session is not the client's any more");
        assert_eq!(session.epoch(), 2);
        assert!(session.memory().is_none());
    }

    #[test]
    fn nothing_is_sent_by_http_sse_before_initialize() {
        assert!(Session::new(config::Transport::Sse).channel().1.is_none());
        assert!(Session::new(config::Transport::Auto).channel().1.is_some());
    }
}
