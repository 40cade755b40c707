//! The seam between what messages mean and how they reach the server.
//!
//! Above it are the session and its requests, which know lines and answers; below it each transport's requests, headers
//! and streams. A transport is a variant of [`Transport`] and a module beside this one.

pub(super) mod http_sse;
mod streamable_http;

use std::sync::OnceLock;

use hyper::{StatusCode, header::HeaderValue};

use self::{
    http_sse::{HttpSse, Stream},
    streamable_http::StreamableHttp,
};
use super::{
    answer::{self, Answer},
    failure::Failure,
    remote::Remote,
};
use crate::{
    config,
    jsonrpc::{Line, Message, RequestId},
    mcp,
};

/// The way of one session's messages to the server and back, from `initialize` on.
#[derive(Debug)]
pub(super) struct Channel {
    transport: Transport,
    /// What the server has answered to `initialize`.
    version: OnceLock<HeaderValue>,
}

#[derive(Debug)]
enum Transport {
    StreamableHttp(StreamableHttp),
    HttpSse(HttpSse),
}

impl Channel {
    fn new(transport: Transport) -> Self {
        Self { transport, version: OnceLock::new() }
    }

    /// A channel of Streamable HTTP; nothing is sent yet.
    pub(super) fn streamable_http() -> Self {
        Self::new(Transport::StreamableHttp(StreamableHttp::default()))
    }

    /// Opens a channel of HTTP+SSE, and gives its stream, which somebody must read.
    pub(super) async fn http_sse(remote: &Remote) -> Result<(Self, Stream), Failure> {
        let (transport, stream) = HttpSse::open(remote).await?;
        Ok((Self::new(Transport::HttpSse(transport)), stream))
    }

    /// What messages take before any session is open; `None` when one must be opened first.
    pub(super) fn without_session(choice: config::Transport) -> Option<Self> {
        (choice != config::Transport::Sse).then(Self::streamable_http)
    }

    pub(super) fn is_http_sse(&self) -> bool {
        matches!(self.transport, Transport::HttpSse(_))
    }

    /// The revision that is spoken, once it is known.
    pub(super) fn version(&self) -> Option<&HeaderValue> {
        self.version.get()
    }

    /// The server has answered `initialize`.
    pub(super) fn speaks(&self, version: HeaderValue) {
        // A server that answers twice does not change what has been agreed.
        let _ = self.version.set(version);
    }

    /// Sends a message.
    pub(super) async fn send(&self, remote: &Remote, line: &Line) -> Result<Answer, Failure> {
        match &self.transport {
            Transport::StreamableHttp(transport) => transport.send(remote, self.version(), line).await,
            Transport::HttpSse(transport) => transport.send(remote, self.version(), line).await,
        }
    }

    /// Sends a request of which the client is not to hear, and waits for its answer. What else comes with that is passed
    /// over.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        request: &Line,
        id: &RequestId,
    ) -> Result<Message, Failure> {
        match &self.transport {
            Transport::StreamableHttp(transport) => {
                answer::to(id, transport.send(remote, self.version(), request).await?).await
            }
            Transport::HttpSse(transport) => transport.ask(remote, self.version(), request, id).await,
        }
    }

    /// The stream for what the server has to say by itself, or the rest of one that broke after the event `resume`.
    pub(super) async fn listen(
        &self,
        remote: &Remote,
        resume: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        match &self.transport {
            Transport::StreamableHttp(transport) => transport.listen(remote, self.version(), resume).await,
            Transport::HttpSse(transport) => Ok(Answer::OnStream(transport.clone())),
        }
    }

    /// Whether the session is known to be lost before anything is sent.
    pub(super) fn is_over(&self) -> bool {
        match &self.transport {
            Transport::StreamableHttp(_) => false,
            Transport::HttpSse(transport) => transport.is_lost(),
        }
    }

    /// Whether an answer says that the session is no more.
    pub(super) fn is_lost(&self, answer: &Answer) -> bool {
        let in_session = match &self.transport {
            Transport::StreamableHttp(transport) => transport.in_session(),
            Transport::HttpSse(_) => true,
        };
        in_session && matches!(answer, Answer::Refused(refused) if refused.status == StatusCode::NOT_FOUND)
    }

    /// Tells the server that the session ends. HTTP+SSE does so with its stream, which ends with the channel.
    pub(super) async fn leave(&self, remote: &Remote) {
        if let Transport::StreamableHttp(transport) = &self.transport
            && let Err(e) = transport.leave(remote, self.version()).await
        {
            log::debug!("the session was not ended: {e}");
        }
    }
}

/// The header that names the revision.
fn version_header(version: Option<&HeaderValue>) -> hyper::HeaderMap {
    version.map(|version| (mcp::PROTOCOL_VERSION, version.clone())).into_iter().collect()
}
