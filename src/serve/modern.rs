//! Clients of revision 2026-07-28 at the endpoint: each request stands alone, and leaving its answer cancels it.
//!
//! Source: revision 2026-07-28, `basic/transports/streamable-http`.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::{HeaderMap, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::{
    guests::Guest,
    media::Accepts,
    pipeline::Visit,
    reply::{self, Refusal},
    settings::Settings,
    stream::KeepAlive,
    tools::Tools,
    upstreams::{NotBegun, Untranslated},
};
use crate::{
    era::{self, headers},
    framing::sse,
    http::{Body, EventSource},
    jsonrpc::{self, Kind, Message, RequestId},
    logging, mcp,
    metrics::{Outcome, Running},
    pieces::Pieces,
    upstream::{Call, Item},
};

/// Whether the headers are those of a modern client.
pub(super) fn is_announced(headers: &HeaderMap) -> bool {
    headers.get_all(mcp::PROTOCOL_VERSION).iter().any(|value| value == mcp::MODERN_REVISION)
}

/// Answers a modern client's message.
pub(super) async fn answer(
    visit: &Visit<'_>,
    headers: &HeaderMap,
    message: Message,
    accepts: Accepts,
) -> Result<Response<Body>, Refusal> {
    let Visit { app, principal, .. } = visit;
    // A server of older revisions that is not translated for is one for its clients too.
    app.upstreams.serves_modern().await.map_err(|Untranslated| Refusal::NoSession)?;
    match &message.kind {
        Kind::Request { id, .. } => {
            logging::body(None, "from the client", &message.line);
            let id = id.clone();
            let request = read(headers, &message);
            // From here on its text is the request's alone, and goes when the child has it.
            drop(message);
            let request = request.map_err(|refusal| Refusal::Modern(refusal, Some(id.clone())))?;
            let checked = app.tools.check(&app.upstreams, principal, headers, &request).await;
            checked.map_err(|refusal| Refusal::Modern(refusal, Some(id)))?;
            pass(visit, request, accepts).await
        }
        Kind::Notification { .. } => {
            app.upstreams.notify(message).await;
            Ok(reply::empty(StatusCode::ACCEPTED))
        }
        Kind::Response { .. } => Err(Refusal::Response),
    }
}

/// Reads a request, and refuses what no server of this era does.
fn read(headers: &HeaderMap, message: &Message) -> Result<era::Request, era::Refusal> {
    // Whoever initializes says nothing of what a modern request must, and is told what to do about it.
    let read = if message.method() == Some(mcp::INITIALIZE) {
        Err(era::Refusal::MethodNotFound(mcp::INITIALIZE.into()))
    } else {
        era::Request::read(message.clone())
    };
    read.map_err(|refusal| contradiction(headers, message).unwrap_or(refusal))
}

/// What comes first of what is wrong with a message: that a header says another revision than it.
fn contradiction(headers: &HeaderMap, message: &Message) -> Option<era::Refusal> {
    headers.get(mcp::PROTOCOL_VERSION)?;
    let declared = era::declared_version(message)?;
    headers::check_version(headers, &declared).err()
}

async fn pass(visit: &Visit<'_>, request: era::Request, accepts: Accepts) -> Result<Response<Body>, Refusal> {
    let Visit { app, principal, settings, .. } = visit;
    if &*request.method == mcp::LISTEN && !accepts.events {
        return Err(Refusal::NotAcceptable("text/event-stream"));
    }
    let id = request.id.clone();
    let lists = &*request.method == mcp::LIST_TOOLS;
    let running = Some(app.exchanges.begin(&request.method));
    let guest = app.guests.enter(principal);
    app.readmit(principal)?;
    let called = app.upstreams.call(principal, request).await;
    let call = called.map_err(|not_begun| match not_begun {
        NotBegun::NoPlace(why) => Refusal::Full(why, Some(id.clone())),
        NotBegun::ShuttingDown => Refusal::ShuttingDown(Some(id.clone())),
    })?;
    let answer = Answer { call, running, tools: Arc::clone(&app.tools), lists, guest };
    Ok(respond(settings, answer, accepts, &id).await)
}

/// What comes back for one request.
struct Answer {
    call: Call,
    /// Counts the request until its answer.
    running: Option<Running>,
    tools: Arc<Tools>,
    /// It is a list of tools.
    lists: bool,
    guest: Guest,
}

impl Answer {
    async fn next(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.guest.poll_expelled(cx).is_ready() {
            return Poll::Ready(None);
        }
        let next = self.call.poll_next(cx);
        if let Poll::Ready(Some(item)) = &next {
            logging::body(None, "from the MCP server", &item.message.line);
            self.tools.observe(&item.message, self.lists);
        }
        if let Poll::Ready(item) = &next
            && let Some(outcome) = outcome(item.as_ref())
        {
            self.running.take().into_iter().for_each(|running| running.end(outcome));
        }
        next
    }
}

/// JSON when nothing but the answer comes, and soon; a stream otherwise.
async fn respond(
    settings: &Settings,
    mut answer: Answer,
    accepts: Accepts,
    id: &RequestId,
) -> Response<Body> {
    let stream_at = Instant::now() + settings.config.stream_after;
    let interval = settings.config.sse_keepalive_interval;
    loop {
        let next = if accepts.events {
            match timeout_at(stream_at, answer.next()).await {
                Ok(next) => next,
                Err(_) => return reply::events(Events::new(None, answer, KeepAlive::new(interval))),
            }
        } else {
            answer.next().await
        };
        match next {
            Some(item) if accepts.json && is_response(&item) => return whole(&item.message),
            Some(item) if accepts.events => {
                return reply::events(Events::new(Some(&item), answer, KeepAlive::new(interval)));
            }
            // Who takes no stream gets the answer alone.
            Some(_) => {}
            None if accepts.events => {
                return reply::events(Events::new(None, answer, KeepAlive::new(interval)));
            }
            None => return whole(&reply::unanswered().response(Some(id))),
        }
    }
}

fn is_response(item: &Item) -> bool {
    matches!(item.message.kind, Kind::Response { .. })
}

/// An answer as JSON, with the status that its error code asks for.
fn whole(message: &Message) -> Response<Body> {
    let mut response = reply::message(&message.line);
    *response.status_mut() = status(message);
    response
}

fn status(message: &Message) -> StatusCode {
    match message.kind {
        Kind::Response { is_error: true, .. } => {
            jsonrpc::error_code(&message.line).map_or(StatusCode::OK, reply::status_of)
        }
        _ => StatusCode::OK,
    }
}

/// How a request has ended; `None` when it goes on.
fn outcome(item: Option<&Item>) -> Option<Outcome> {
    let Some(item) = item else { return Some(Outcome::Failed) };
    match &item.message.kind {
        Kind::Response { is_error: false, .. } => Some(Outcome::Ok),
        Kind::Response { .. } if jsonrpc::is_own_error(&item.message.line) => Some(Outcome::Failed),
        Kind::Response { .. } => Some(Outcome::Error),
        // The server has ended a subscription.
        _ => item.last.then_some(Outcome::Cancelled),
    }
}

impl Drop for Answer {
    /// Leaving cancels.
    fn drop(&mut self) {
        self.running.take().into_iter().for_each(|running| running.end(Outcome::Cancelled));
    }
}

/// An answer as a stream. Dropping it cancels the request.
struct Events {
    first: VecDeque<Pieces>,
    answer: Answer,
    keep_alive: KeepAlive,
}

impl Events {
    fn new(first: Option<&Item>, answer: Answer, keep_alive: KeepAlive) -> Self {
        Self { first: first.map(encode).into_iter().collect(), answer, keep_alive }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        match self.first.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.answer.poll_next(cx).map(|item| item.as_ref().map(encode)),
        }
    }
}

/// Without an id: what breaks is not taken up again.
fn encode(item: &Item) -> Pieces {
    sse::encode(None, item.message.line.pieces())
}

impl EventSource for Events {
    /// Leaving is how a request is cancelled.
    fn ends_with_peer(&self) -> bool {
        true
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        let next = self.poll_event(cx);
        self.keep_alive.fill(next, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, code, parse};

    #[test]
    fn the_status_is_that_of_the_code() {
        let with = |text: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{text}}}"#);
            let Ok(Payload::Single(message)) = parse(text.into()) else { panic!() };
            status(&message).as_u16()
        };
        assert_eq!(with(r#""result":{"error":{"code":-32601}}"#), 200);
        for (code, status) in [
            (code::PARSE_ERROR, 400),
            (code::INVALID_REQUEST, 400),
            (code::METHOD_NOT_FOUND, 404),
            (code::INVALID_PARAMS, 200),
            (code::INTERNAL_ERROR, 200),
            (mcp::code::HEADER_MISMATCH, 400),
            (mcp::code::MISSING_CLIENT_CAPABILITY, 400),
            (mcp::code::UNSUPPORTED_VERSION, 400),
            (-32000, 200),
        ] {
            assert_eq!(with(&format!(r#""error":{{"code":{code},"message":"x"}}"#)), status, "{code}");
        }
    }
}
