//! An HTTP response → the messages in it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    MAX_MESSAGE,
    failure::{self, Failure},
    transport::http_sse::HttpSse,
};
use crate::{
    framing::sse::{Decoder, Event},
    http::{self, GatherError, causes},
    jsonrpc::{Kind, Message, Payload, RequestId, parse},
};

/// Longest body of an error that is looked at, in bytes.
const MAX_ERROR: usize = 64 * 1024;
/// Longest id of an event to resume after, in bytes: it goes into a header.
const MAX_EVENT_ID: usize = 4096;

/// What has come of a message that was sent.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing: the message was taken in.
    Accepted,
    /// One JSON body.
    Json(Incoming),
    /// What a JSON body held.
    Read(Vec<Message>),
    /// A stream of messages.
    Events(Events),
    /// It was taken in, and what the server has to say to it comes by the stream of the session.
    OnStream(HttpSse),
    /// A status that is no answer.
    Refused(Refused),
}

/// A response with a status that is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Said,
    /// What else was tried, and failed.
    besides: Option<String>,
}

/// What a refusal says.
#[derive(Debug)]
enum Said {
    /// Not read yet.
    Unread(Incoming),
    /// As much of it as is looked at.
    Read(Bytes),
}

impl Said {
    async fn read(self) -> Bytes {
        match self {
            Self::Unread(body) => {
                Limited::new(body, MAX_ERROR).collect().await.map(Collected::to_bytes).unwrap_or_default()
            }
            Self::Read(text) => text,
        }
    }
}

impl Answer {
    pub(super) fn of(response: Response<Incoming>) -> Result<Self, Failure> {
        let (parts, body) = response.into_parts();
        let media_type = media_type(&parts.headers);
        match (parts.status, media_type.as_str()) {
            (StatusCode::ACCEPTED | StatusCode::NO_CONTENT, _) => Ok(Self::Accepted),
            (status, _) if status.is_success() && coding(&parts.headers).is_some() => {
                let coding = failure::quote(&coding(&parts.headers).unwrap_or_default());
                Err(Failure::Unusable(format!("it is compressed ({coding}), which was not asked for")))
            }
            (status, "application/json") if status.is_success() => Ok(Self::Json(body)),
            (status, "text/event-stream") if status.is_success() => Ok(Self::Events(Events::new(body))),
            (status, other) if status.is_success() => {
                let other = if other.is_empty() { "no Content-Type" } else { other };
                Err(Failure::Unusable(format!(
                    "{other} instead of JSON or an event stream; look at client.url"
                )))
            }
            (status, _) => {
                let body = Said::Unread(body);
                Ok(Self::Refused(Refused { status, headers: parts.headers, body, besides: None }))
            }
        }
    }

    /// Whether a message that wants no answer was taken in.
    pub(super) async fn taken_in(self) -> Result<(), Failure> {
        match self {
            Self::Refused(refused) => Err(refused.failure().await),
            _ => Ok(()),
        }
    }
}

/// The coding that a body is in, unless it is sent as it is. None was asked for.
fn coding(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_ENCODING)?;
    let coding = value.to_str().unwrap_or("unknown").trim().to_ascii_lowercase();
    (!matches!(coding.as_str(), "" | "identity")).then_some(coding)
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a JSON body: one message or a batch.
pub(super) async fn json(mut body: Incoming) -> Result<Vec<Message>, Failure> {
    let text = http::gather(&mut body, MAX_MESSAGE).await.map_err(|e| match e {
        GatherError::Broken(e) => Failure::Broken(causes(&e)),
        GatherError::TooLarge => Failure::Unusable(format!("more than {MAX_MESSAGE} bytes")),
    })?;
    messages(text).map_err(Failure::Unusable)
}

/// Reads a body that says nothing, so that its connection can be used again.
pub(super) async fn pass_over(body: Incoming) {
    let _ = Limited::new(body, MAX_ERROR).collect().await;
}

/// The answer to the request `id`; what comes with it is passed over.
pub(super) async fn to(id: &RequestId, answer: Answer) -> Result<Message, Failure> {
    let is_it = |m: &Message| matches!(&m.kind, Kind::Response { id: Some(other), .. } if other == id);
    match answer {
        Answer::Json(body) => json(body).await?.into_iter().find(is_it).ok_or(Failure::NoAnswer),
        Answer::Read(messages) => messages.into_iter().find(is_it).ok_or(Failure::NoAnswer),
        Answer::Events(mut events) => loop {
            match events.next().await? {
                Some(message) if is_it(&message) => return Ok(message),
                Some(_) => {}
                None => return Err(Failure::NoAnswer),
            }
        },
        Answer::Accepted | Answer::OnStream(_) => Err(Failure::NoAnswer),
        Answer::Refused(refused) => under_id(refused.explain().await?, id),
    }
}

/// An error as the answer to `id`, whatever id the server has given it.
pub(super) fn under_id(error: Message, id: &RequestId) -> Result<Message, Failure> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    if matches!(&error.kind, Kind::Response { id: Some(own), .. } if own == id) {
        return Ok(error);
    }
    let answer: Answer =
        serde_json::from_str(error.line.as_str()).map_err(|e| Failure::Unusable(e.to_string()))?;
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, answer.error);
    let messages = messages(text.into()).map_err(Failure::Unusable)?;
    messages.into_iter().next().ok_or(Failure::NoAnswer)
}

fn messages(text: Bytes) -> Result<Vec<Message>, String> {
    match parse(text).map_err(|e| e.to_string())? {
        Payload::Single(message) => Ok(vec![message]),
        Payload::Batch(messages) => Ok(messages),
    }
}

impl Refused {
    /// Whether a server that speaks HTTP+SSE only may say so to `initialize`.
    ///
    /// Source: the MCP specification, revision 2025-11-25, `basic/transports`, "Backwards Compatibility".
    pub(super) fn may_be_http_sse(&self) -> bool {
        matches!(
            self.status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        )
    }

    /// Whether this says nothing of the server's era: it is not the server that speaks, or not of the request.
    pub(super) fn is_failure(&self) -> bool {
        let status = self.status;
        status.is_redirection()
            || status.is_server_error()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                    | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// Reads what it says: itself again, and the JSON-RPC error that this is.
    pub(super) async fn read(self) -> (Self, Option<Message>) {
        let text = self.body.read().await;
        let error = rpc_error(&text);
        (Self { body: Said::Read(text), ..self }, error)
    }

    /// Adds what else was tried.
    pub(super) fn besides(mut self, failure: &str) -> Self {
        self.besides = Some(failure.to_owned());
        self
    }

    /// The refusal of a message that has no request to answer.
    pub(super) async fn failure(self) -> Failure {
        match self.explain().await {
            Ok(error) => {
                Failure::Status(format!("the server answered {}", failure::quote(error.line.as_str())))
            }
            Err(failure) => failure,
        }
    }

    /// The JSON-RPC error in the body, if that is what it holds; else the status in words.
    pub(super) async fn explain(self) -> Result<Message, Failure> {
        let text = self.body.read().await;
        if let Some(message) = rpc_error(&text) {
            return Ok(message);
        }
        let is_text = media_type(&self.headers) == "text/plain" && coding(&self.headers).is_none();
        let text = String::from_utf8_lossy(&text);
        let words = failure::status(self.status, &self.headers, is_text.then_some(&*text));
        Err(Failure::Status(match self.besides {
            Some(besides) => format!("{words}; {besides}"),
            None => words,
        }))
    }
}

fn rpc_error(text: &Bytes) -> Option<Message> {
    match parse(text.clone()) {
        Ok(Payload::Single(message @ Message { kind: Kind::Response { is_error: true, .. }, .. })) => {
            Some(message)
        }
        _ => None,
    }
}

/// The messages of an event stream.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    decoder: Decoder,
    decoded: Vec<Event>,
    arrived: VecDeque<Event>,
    ready: VecDeque<Message>,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            decoder: Decoder::new(MAX_MESSAGE),
            decoded: Vec::new(),
            arrived: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// The next message; `None` at the end of the stream. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            match self.event().await? {
                Some(event) => take(event, &mut self.ready),
                None => return Ok(None),
            }
        }
    }

    /// The next event, whatever its name; `None` at the end of the stream. Cancel safe.
    pub(super) async fn event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.arrived.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| Failure::Broken(causes(&e)))?;
            let Ok(data) = frame.into_data() else { continue };
            let fed = self.decoder.feed(&data, &mut self.decoded);
            self.arrived.extend(self.decoded.drain(..));
            fed.map_err(|e| Failure::Unusable(e.to_string()))?;
        }
    }

    /// The id of the newest event, to resume after; `None` also for one that no header can carry.
    pub(super) fn last_event_id(&self) -> Option<HeaderValue> {
        let id = self.decoder.last_event_id().filter(|id| id.len() <= MAX_EVENT_ID)?;
        HeaderValue::from_bytes(id.as_bytes()).ok()
    }

    /// The reconnection time that the server asked for.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.decoder.retry().map(Duration::from_millis)
    }
}

fn take(event: Event, ready: &mut VecDeque<Message>) {
    // An event without data only carries an id, and one of another name is none of ours.
    if event.data.is_empty() || !matches!(event.name.as_str(), "" | "message") {
        return;
    }
    match messages(event.data) {
        Ok(messages) => ready.extend(messages),
        Err(e) => log::warn!("an event of the server's is dropped: {e}"),
    }
}
