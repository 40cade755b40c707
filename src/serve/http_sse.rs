//! HTTP+SSE, the transport of revision 2024-11-05: `GET /sse` opens a session and is its one stream, and messages are
//! posted to the address that its first event names. Closing the stream ends the session.
//!
//! Source: the MCP specification, revision 2024-11-05, `basic/transports`, "HTTP with SSE".

use hyper::{Method, Request, Response, StatusCode, body::Incoming};

use super::{
    live::{Live, Refused, Transport},
    media::{self, Accepts},
    pipeline::Visit,
    reply::{self, NO_BATCHES, Refusal},
    sessions::OpenError,
    stream::Events,
};
use crate::{
    framing::sse,
    http::Body,
    jsonrpc::{Message, Payload},
};

/// Where a client opens its session.
pub(crate) const SSE_PATH: &str = "/sse";
/// Where it posts its messages.
pub(crate) const MESSAGES_PATH: &str = "/messages";
const SESSION_PARAMETER: &str = "sessionId=";

/// `GET /sse`: a session, with its stream as the answer.
pub(super) async fn open(
    visit: &mut Visit<'_>,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let Visit { app, settings, principal, entry, .. } = visit;
    if request.method() != Method::GET {
        return Err(Refusal::MethodOf("GET"));
    }
    if !Accepts::of(request.headers()).events {
        return Err(Refusal::NotAcceptable(media::EVENTS));
    }
    let source = app.upstreams.for_legacy().await.map_err(|e| Refusal::NotTaken(e.message))?;
    let live = app.sessions.open(source, principal.clone(), Transport::HttpSse).map_err(|e| match e {
        OpenError::ShuttingDown => Refusal::ShuttingDown(None),
        OpenError::Full(_) => {
            log::warn!("a session is refused: {e}");
            Refusal::Full(e.to_string(), None)
        }
        e => {
            log::error!("a session can't be opened: {e}");
            app.upstreams.probe.failed(e.to_string());
            Refusal::NotStarted(e.to_string())
        }
    })?;
    entry.session(&live);
    // A reload ends the sessions that it finds, and this one may have come after it.
    app.readmit(principal).inspect_err(|_| app.sessions.end(&live))?;
    let inbox = live.open_only_stream();
    let endpoint = format!("{MESSAGES_PATH}?{SESSION_PARAMETER}{}", live.id);
    let first = sse::encode_named("endpoint", endpoint.as_bytes());
    Ok(reply::events(Events::beginning_with(first, inbox, settings.config.sse_keepalive_interval)))
}

/// `POST /messages?sessionId=…`: a message, whose answer comes by the stream.
pub(super) async fn post(
    visit: &mut Visit<'_>,
    request: &mut Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::MethodOf("POST"));
    }
    if !media::is_json(request.headers()) {
        return Err(Refusal::ContentType);
    }
    let id = session_id(request.uri().query().unwrap_or_default()).ok_or(Refusal::NoSession)?;
    let live = visit.app.sessions.find(id, &visit.principal, Transport::HttpSse);
    let live = live.ok_or(Refusal::UnknownSession)?;
    visit.entry.session(&live);
    match visit.payload(request.body_mut()).await? {
        Payload::Single(message) => take(&live, message).await,
        Payload::Batch(_) => Err(NO_BATCHES),
    }
}

async fn take(live: &Live, message: Message) -> Result<Response<Body>, Refusal> {
    let id = message.request_id().cloned();
    match (live.take_on_only_stream(&message).await, id) {
        (Err(Refused::Gone), _) => Err(Refusal::UnknownSession),
        (Err(Refused::Error(error)), Some(id)) => {
            live.answer_on_only_stream(&error.response(Some(&id)));
            Ok(accepted())
        }
        (Err(Refused::Error(error)), None) => Err(Refusal::NotTaken(error.message)),
        (Ok(()), _) => Ok(accepted()),
    }
}

fn accepted() -> Response<Body> {
    reply::empty(StatusCode::ACCEPTED)
}

fn session_id(query: &str) -> Option<&str> {
    query.split('&').find_map(|parameter| parameter.strip_prefix(SESSION_PARAMETER))
}
