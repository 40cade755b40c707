//! The MCP endpoint: POST, GET and DELETE of Streamable HTTP.
//!
//! Source: the MCP specification, `basic/transports`, revisions 2025-03-26 to 2025-11-25, and which era a client is of. For 2026-07-28 see
//! `modern`.

use std::sync::Arc;

use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, body::Incoming, header::HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::{
    live::{Live, Refused, Transport, Unresumable},
    media::{self, Accepts},
    modern,
    pipeline::{App, Visit},
    reply::{self, NO_BATCHES, Refusal},
    sessions::OpenError,
    settings::Settings,
    stream::{Events, Inbox, Item},
};
use crate::{
    era,
    http::{self, Body},
    jsonrpc::{self, ErrorObject, Kind, Message, Payload, RequestId},
    mcp::{self, LegacyRevision},
    session::{EventId, StreamKind},
};

/// Answers a request to the endpoint.
pub(super) async fn answer(
    visit: &mut Visit<'_>,
    request: &mut Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    match *request.method() {
        Method::POST => post(visit, request).await,
        Method::GET | Method::DELETE if modern::is_announced(request.headers()) => {
            Err(Refusal::MethodOf("POST"))
        }
        Method::GET => get(visit, request.headers()),
        Method::DELETE => delete(visit, request.headers()),
        _ => Err(Refusal::Method),
    }
}

impl Visit<'_> {
    /// What the request's body holds, within its bounds.
    pub(super) async fn payload(&mut self, body: &mut Incoming) -> Result<Payload, Refusal> {
        let config = &self.settings.config;
        let body = http::collect(body, config.max_body_size, config.read_timeout);
        let body = body.await.map_err(Refusal::Body)?;
        // It may have taken its time.
        self.app.readmit(&self.principal)?;
        self.entry.received(body.len());
        let payload = jsonrpc::parse(body).map_err(Refusal::Invalid)?;
        self.entry.payload(&payload);
        Ok(payload)
    }
}

async fn post(visit: &mut Visit<'_>, request: &mut Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let accepts = Accepts::of(request.headers());
    if !accepts.json && !accepts.events {
        return Err(Refusal::NotAcceptable("application/json and text/event-stream"));
    }
    if !media::is_json(request.headers()) {
        return Err(Refusal::ContentType);
    }
    let payload = visit.payload(request.body_mut()).await;
    let headers = request.headers();
    if is_modern(headers, &payload) {
        visit.peer.leaves_by_closing();
        return match payload? {
            // Boxed, as is all that most requests don't need: the future of a request is copied, and is kept with its
            // connection.
            Payload::Single(message) => Box::pin(modern::answer(visit, headers, message, accepts)).await,
            Payload::Batch(_) => Err(NO_BATCHES),
        };
    }
    let session = session(visit, headers)?;
    check_version(headers, session.as_deref())?;
    forget_head(request);
    match (session, payload?) {
        (None, Payload::Single(message)) => Box::pin(open(visit, message, accepts)).await,
        (None, Payload::Batch(_)) => Err(Refusal::NoSession),
        (Some(live), Payload::Single(message)) => pass(visit.settings, &live, message, accepts).await,
        (Some(live), Payload::Batch(messages)) => {
            check_batch(&live, &messages)?;
            Box::pin(pass_batch(visit.settings, &live, messages, accepts)).await
        }
    }
}

/// Nothing of the head is wanted any more: the buffer that it shares with the body is free for what comes next.
fn forget_head(request: &mut Request<Incoming>) {
    *request.headers_mut() = HeaderMap::new();
    *request.uri_mut() = Uri::default();
}

/// Header or message say so, whatever else they say: a message by naming a revision that is not a legacy one.
fn is_modern(headers: &HeaderMap, payload: &Result<Payload, Refusal>) -> bool {
    let declares = |message| {
        era::declared_version(message).is_some_and(|version| LegacyRevision::parse(&version).is_none())
    };
    modern::is_announced(headers) || matches!(payload, Ok(Payload::Single(message)) if declares(message))
}

/// A batch is part of one revision only, and `initialize` of none.
fn check_batch(live: &Live, messages: &[Message]) -> Result<(), Refusal> {
    if !live.revision().is_some_and(LegacyRevision::has_batches) {
        return Err(NO_BATCHES);
    }
    if messages.iter().any(|message| message.method() == Some(mcp::INITIALIZE)) {
        return Err(Refusal::Batch("initialize can't be part of a batch"));
    }
    Ok(())
}

/// Begins a session with `initialize`.
async fn open(visit: &mut Visit<'_>, message: Message, accepts: Accepts) -> Result<Response<Body>, Refusal> {
    let Visit { app, settings, principal, entry, .. } = visit;
    let id = match &message.kind {
        Kind::Request { id, method, .. } if &**method == mcp::INITIALIZE => id.clone(),
        // Only modern requests name a revision, and this one is none of theirs.
        _ => {
            let refusal = era::declared_version(&message).map(era::Refusal::UnsupportedVersion);
            let id = message.request_id().cloned();
            return Err(refusal.map_or(Refusal::NoSession, |refusal| Refusal::Modern(refusal, id)));
        }
    };
    let source = match app.upstreams.for_legacy().await {
        Ok(source) => source,
        Err(e) => return Ok(error(&e, Some(&id))),
    };
    let live = match app.sessions.open(source, principal.clone(), Transport::StreamableHttp) {
        Ok(live) => live,
        Err(OpenError::ShuttingDown) => return Err(Refusal::ShuttingDown(Some(id))),
        Err(e @ OpenError::Full(_)) => {
            log::warn!("a session is refused: {e}");
            return Err(Refusal::Full(e.to_string(), Some(id)));
        }
        Err(e) => {
            log::error!("a session can't be opened: {e}");
            app.upstreams.probe.failed(e.to_string());
            return Ok(error(&ErrorObject::internal("child_not_started", e.to_string()), Some(&id)));
        }
    };
    entry.session(&live);
    let opening = Opening { app, live: &live, done: false };
    // A reload ends the sessions that it finds, and this one may have come after it.
    app.readmit(principal)?;
    let mut response = pass(settings, &live, message, accepts).await?;
    if live.state().session.version_refused() {
        app.upstreams.probe.doubt();
    }
    if !live.state().session.may_be_used() {
        return Ok(response); // without a session, whose end dropping `opening` is
    }
    let session_id = HeaderValue::from_str(&live.id).map_err(|_| Refusal::UnknownSession)?;
    opening.finish();
    response.headers_mut().insert(mcp::SESSION_ID, session_id);
    Ok(response)
}

/// A session whose client has not yet been told its id. If the client leaves before, nobody can ever use or end it.
struct Opening<'a> {
    app: &'a App,
    live: &'a Live,
    done: bool,
}

impl Opening<'_> {
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.app.sessions.end(self.live);
        }
    }
}

/// Passes a message to the session's child and answers with what comes back.
async fn pass(
    settings: &Settings,
    live: &Live,
    message: Message,
    accepts: Accepts,
) -> Result<Response<Body>, Refusal> {
    let Some(id) = message.request_id().cloned() else {
        tell(live, message).await?;
        return Ok(reply::empty(StatusCode::ACCEPTED));
    };
    let asked = live.ask(&message, accepts.events).await;
    drop(message); // the child has it
    match asked {
        Ok(inbox) => Ok(respond(settings, live, inbox, accepts, false).await),
        Err(Refused::Gone) => Err(Refusal::UnknownSession),
        Err(Refused::Error(e)) => Ok(error(&e, Some(&id))),
    }
}

/// As [`pass`], for messages that came together.
async fn pass_batch(
    settings: &Settings,
    live: &Live,
    messages: Vec<Message>,
    accepts: Accepts,
) -> Result<Response<Body>, Refusal> {
    if messages.iter().all(|message| message.request_id().is_none()) {
        for message in messages {
            tell(live, message).await?;
        }
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    match live.ask_all(messages, accepts.events).await {
        Ok(inbox) => Ok(respond(settings, live, inbox, accepts, true).await),
        Err(_) => Err(Refusal::UnknownSession),
    }
}

/// Gives the session's child a message that wants no answer.
async fn tell(live: &Live, message: Message) -> Result<(), Refusal> {
    live.accept(message).await.map_err(|refused| match refused {
        Refused::Gone => Refusal::UnknownSession,
        Refused::Error(e) => Refusal::NotTaken(e.message),
    })
}

fn error(error: &ErrorObject, id: Option<&RequestId>) -> Response<Body> {
    reply::message(&error.response(id).line)
}

/// JSON when nothing but the answer comes, and soon; a stream otherwise.
async fn respond(
    settings: &Settings,
    live: &Live,
    mut inbox: Inbox,
    accepts: Accepts,
    batch: bool,
) -> Response<Body> {
    let stream_at = Instant::now() + settings.config.stream_after;
    let mut items: Vec<Item> = Vec::new();
    loop {
        let next = if accepts.events {
            match timeout_at(stream_at, inbox.next()).await {
                Ok(next) => next,
                Err(_) => return stream(settings, live, &items, inbox),
            }
        } else {
            inbox.next().await
        };
        let Some(item) = next else { return ended(&items, accepts) };
        let (plain, last) = (item.line.is_none() || item.response, item.last);
        // All that comes for one request which is answered as JSON.
        if let Some(line) = item.line.as_ref().filter(|_| plain && last && accepts.json && !batch) {
            return reply::message(line);
        }
        items.push(item);
        match (plain && accepts.json, last) {
            (true, true) => {
                if items.len() > 1 {
                    live.answered_whole(inbox.id());
                }
                return whole(&items, accepts);
            }
            (true, false) => {}
            (false, _) => return stream(settings, live, &items, inbox),
        }
    }
}

fn stream(settings: &Settings, live: &Live, first: &[Item], inbox: Inbox) -> Response<Body> {
    let prime = live.begin_events(inbox.id());
    reply::events(Events::new(prime, first, inbox, settings.config.sse_keepalive_interval))
}

/// The answers to a batch.
fn whole(items: &[Item], accepts: Accepts) -> Response<Body> {
    let lines: Vec<_> = items.iter().filter_map(|item| item.line.as_ref()).collect();
    if lines.is_empty() { ended(&[], accepts) } else { reply::batch(&lines) }
}

/// No more comes. The exchange was cancelled, unless there is something.
fn ended(items: &[Item], accepts: Accepts) -> Response<Body> {
    match items {
        [] if accepts.events => reply::events(Events::ended()),
        [] => reply::empty(StatusCode::ACCEPTED),
        items => whole(items, accepts),
    }
}

fn get(visit: &mut Visit<'_>, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
    if !Accepts::of(headers).events {
        return Err(Refusal::NotAcceptable("text/event-stream"));
    }
    let live = session(visit, headers)?.ok_or(Refusal::NoSession)?;
    check_version(headers, Some(&live))?;
    let last = last_event(headers)?;
    let inbox = live.listen(last).map_err(|e| match e {
        Unresumable::Gone => Refusal::UnknownSession,
        Unresumable::Over => Refusal::UnknownEvent,
    })?;
    let listening = last.is_none_or(|last| last.kind == StreamKind::Listener);
    // A stream that is taken up again has ids already, which priming would take back.
    let prime = if last.is_none() { live.begin_events(inbox.id()) } else { None };
    let events = Events::new(prime, &[], inbox, visit.settings.config.sse_keepalive_interval);
    Ok(reply::events(if listening { events.listening() } else { events }))
}

/// The event after which a stream is to be taken up again.
fn last_event(headers: &HeaderMap) -> Result<Option<EventId>, Refusal> {
    let Some(value) = headers.get(mcp::LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|id| id.parse().ok());
    id.map(Some).ok_or(Refusal::UnknownEvent)
}

fn delete(visit: &mut Visit<'_>, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
    let live = session(visit, headers)?.ok_or(Refusal::NoSession)?;
    visit.app.sessions.end(&live);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// The session that the headers name, if it is the principal's; `None` when they name none.
fn session(visit: &mut Visit<'_>, headers: &HeaderMap) -> Result<Option<Arc<Live>>, Refusal> {
    let mut values = headers.get_all(mcp::SESSION_ID).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::MalformedSession),
        (Some(value), None) => {
            let id = value.to_str().map_err(|_| Refusal::UnknownSession)?;
            let live = visit.app.sessions.find(id, &visit.principal, Transport::StreamableHttp);
            let live = live.ok_or(Refusal::UnknownSession)?;
            visit.entry.session(&live);
            Ok(Some(live))
        }
    }
}

/// An unknown revision is refused: `basic/transports`, "Protocol Version Header".
fn check_version(headers: &HeaderMap, session: Option<&Live>) -> Result<(), Refusal> {
    for value in headers.get_all(mcp::PROTOCOL_VERSION) {
        let name = String::from_utf8_lossy(value.as_bytes());
        let admitted =
            session.map_or(LegacyRevision::parse(&name).is_some(), |live| live.admits_version(&name));
        if !admitted {
            return Err(Refusal::ProtocolVersion(name.chars().take(32).collect()));
        }
    }
    Ok(())
}
