//! An HTTP response → the messages in it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::{HeaderMap, Response, StatusCode, body::Incoming, header::CONTENT_TYPE};

use super::{
    MAX_MESSAGE,
    failure::{self, Failure},
};
use crate::{
    framing::sse::{Decoder, Event},
    http::causes,
    jsonrpc::{Kind, Message, Payload, parse},
};

/// Longest body of an error that is looked at, in bytes.
const MAX_ERROR: usize = 64 * 1024;

/// What a response holds.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing: the message was taken in.
    Accepted,
    /// One JSON body.
    Json(Incoming),
    /// A stream of messages.
    Events(Events),
    /// A status that is no answer.
    Refused(Refused),
}

/// A response with a status that is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    pub(super) fn of(response: Response<Incoming>) -> Result<Self, Failure> {
        let (parts, body) = response.into_parts();
        let media_type = media_type(&parts.headers);
        match (parts.status, media_type.as_str()) {
            (StatusCode::ACCEPTED | StatusCode::NO_CONTENT, _) => Ok(Self::Accepted),
            (status, "application/json") if status.is_success() => Ok(Self::Json(body)),
            (status, "text/event-stream") if status.is_success() => Ok(Self::Events(Events::new(body))),
            (status, other) if status.is_success() => {
                let other = if other.is_empty() { "no Content-Type" } else { other };
                Err(Failure::Unusable(format!(
                    "{other} instead of JSON or an event stream; look at client.url"
                )))
            }
            (status, _) => Ok(Self::Refused(Refused { status, headers: parts.headers, body })),
        }
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a JSON body: one message or a batch.
pub(super) async fn json(body: Incoming) -> Result<Vec<Message>, Failure> {
    let text = Limited::new(body, MAX_MESSAGE).collect().await;
    let text = text.map_err(|e| match e.downcast_ref::<hyper::Error>() {
        Some(e) => Failure::Broken(causes(e)),
        None => Failure::Unusable(format!("more than {MAX_MESSAGE} bytes")),
    })?;
    messages(text.to_bytes()).map_err(Failure::Unusable)
}

fn messages(text: Bytes) -> Result<Vec<Message>, String> {
    match parse(text).map_err(|e| e.to_string())? {
        Payload::Single(message) => Ok(vec![message]),
        Payload::Batch(messages) => Ok(messages),
    }
}

impl Refused {
    /// The JSON-RPC error in the body, if that is what it holds; else the status in words.
    pub(super) async fn explain(self) -> Result<Message, Failure> {
        let text =
            Limited::new(self.body, MAX_ERROR).collect().await.map(Collected::to_bytes).unwrap_or_default();
        if let Ok(Payload::Single(message @ Message { kind: Kind::Response { is_error: true, .. }, .. })) =
            parse(text.clone())
        {
            return Ok(message);
        }
        let is_text = media_type(&self.headers) == "text/plain";
        let text = String::from_utf8_lossy(&text);
        Err(failure::status(self.status, &self.headers, is_text.then_some(&*text)))
    }
}

/// The messages of an event stream.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    decoder: Decoder,
    decoded: Vec<Event>,
    ready: VecDeque<Message>,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self { body, decoder: Decoder::new(MAX_MESSAGE), decoded: Vec::new(), ready: VecDeque::new() }
    }

    /// The next message; `None` at the end of the stream. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| Failure::Broken(causes(&e)))?;
            let Ok(data) = frame.into_data() else { continue };
            self.decoder.feed(&data, &mut self.decoded).map_err(|e| Failure::Unusable(e.to_string()))?;
            self.decoded.drain(..).for_each(|event| take(event, &mut self.ready));
        }
    }

    /// The id of the newest event, to resume with.
    pub(super) fn last_event_id(&self) -> Option<&str> {
        self.decoder.last_event_id()
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
