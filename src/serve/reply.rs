//! Answers: each status and each body that `serve` gives of its own.

use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};

use super::media::{EVENTS, JSON};
use crate::{
    auth::Denied,
    era,
    http::{Body, BodyError, EventSource},
    jsonrpc::{ErrorObject, Invalid, Line, RequestId, code},
    mcp,
    pieces::Pieces,
};

/// After how many seconds a client that found no place may ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");
/// Nothing between may keep, change or gather an answer.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, no-transform");

/// A batch where there may be none.
pub(super) const NO_BATCHES: Refusal =
    Refusal::Batch("a batch of messages: only revision 2025-03-26 has them");

/// Why a request is refused before it becomes an exchange.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    BadHost(&'static str),
    Host,
    Origin,
    Denied(Denied),
    NoSuchPath,
    Method,
    /// The path takes this one method only.
    MethodOf(&'static str),
    HeadTooLarge(usize),
    NotAcceptable(&'static str),
    ContentType,
    Body(BodyError),
    Invalid(Invalid),
    Batch(&'static str),
    ProtocolVersion(String),
    NoSession,
    UnknownSession,
    MalformedSession,
    UnknownEvent,
    /// The child does not take a message that wants no answer.
    NotTaken(String),
    /// There is no server for a stream that would begin a session.
    NotStarted(String),
    /// No place for one more session.
    Full(String, Option<RequestId>),
    /// The bridge takes nothing new any more.
    ShuttingDown(Option<RequestId>),
    /// A modern request, with its id where it is known.
    Modern(era::Refusal, Option<RequestId>),
    /// A modern client posts what answers nothing.
    Response,
}

/// The status that an error code has for modern clients.
///
/// Source: revision 2026-07-28, `basic/transports/streamable-http`, and `basic`, "`_meta`".
pub(super) fn status_of(error: i32) -> StatusCode {
    match error {
        code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        code::PARSE_ERROR
        | code::INVALID_REQUEST
        | mcp::code::HEADER_MISMATCH
        | mcp::code::MISSING_CLIENT_CAPABILITY
        | mcp::code::UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// What a request is told that the server never answered.
pub(super) fn unanswered() -> ErrorObject {
    ErrorObject::internal("no_answer", "the MCP server ended the request without an answer")
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::NoSuchPath | Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::Method | Self::MethodOf(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::TooSlow(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::NotTaken(_) | Self::NotStarted(_) => StatusCode::BAD_GATEWAY,
            Self::Full(..) | Self::ShuttingDown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadHost(_)
            | Self::Body(BodyError::Broken)
            | Self::Invalid(_)
            | Self::Batch(_)
            | Self::ProtocolVersion(_)
            | Self::NoSession
            | Self::MalformedSession
            | Self::UnknownEvent
            | Self::Response
            // Of what is refused here, parameters are those that every request must have.
            | Self::Modern(era::Refusal::InvalidParams(_), _) => StatusCode::BAD_REQUEST,
            Self::Modern(refusal, _) => status_of(refusal.code()),
        }
    }

    /// A word for programs and a sentence for people.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::BadHost(why) => ("bad_host", (*why).to_owned()),
            Self::Host => ("host_not_allowed", "the Host is not among server.allowed_hosts".to_owned()),
            Self::Origin => {
                ("origin_not_allowed", "the Origin is not among server.allowed_origins".to_owned())
            }
            Self::Denied(denied) => ("unauthorized", denied.reason().to_owned()),
            Self::NoSuchPath => {
                ("not_found", "nothing is served here: the MCP endpoint is server.path".to_owned())
            }
            Self::Method => ("method_not_allowed", "the MCP endpoint takes GET, POST and DELETE".to_owned()),
            Self::MethodOf(method) => ("method_not_allowed", format!("this path takes {method} only")),
            Self::HeadTooLarge(max) => (
                "head_too_large",
                format!("the headers are larger than {max} bytes (server.max_header_size)"),
            ),
            Self::NotAcceptable(wanted) => {
                ("not_acceptable", format!("the Accept header must name {wanted}"))
            }
            Self::ContentType => ("unsupported_media_type", format!("the Content-Type must be {JSON}")),
            Self::Body(e) => ("bad_body", e.to_string()),
            Self::Invalid(e) => ("invalid_message", e.to_string()),
            Self::Batch(why) => ("batch_not_allowed", (*why).to_owned()),
            Self::ProtocolVersion(version) => {
                ("unsupported_protocol_version", format!("MCP-Protocol-Version {version} is not supported"))
            }
            Self::NoSession => (
                "session_required",
                "an Mcp-Session-Id header is required, and a session begins with one initialize request (until \
                 2025-11-25); or MCP-Protocol-Version with params._meta (2026-07-28)"
                    .to_owned(),
            ),
            Self::UnknownSession => {
                ("unknown_session", "no such session; begin a new one with initialize".to_owned())
            }
            Self::MalformedSession => ("malformed_session", "more than one Mcp-Session-Id header".to_owned()),
            Self::UnknownEvent => {
                ("unknown_event", "the Last-Event-ID is of no stream that can be taken up again".to_owned())
            }
            Self::NotTaken(why) => ("child_unwritable", why.clone()),
            Self::NotStarted(why) => ("child_not_started", why.clone()),
            Self::Full(why, _) => ("no_place", why.clone()),
            Self::ShuttingDown(_) => ("shutting_down", "mcp-bridge is shutting down".to_owned()),
            Self::Modern(refusal, _) => ("refused", refusal.message()),
            Self::Response => ("not_asked", "a response, but nothing was asked".to_owned()),
        }
    }

    /// The word for programs.
    pub(super) fn reason(&self) -> &'static str {
        self.words().0
    }

    fn code(&self) -> i32 {
        match self {
            Self::Invalid(e) => e.code(),
            Self::Full(..) | Self::ShuttingDown(_) | Self::NotTaken(_) | Self::NotStarted(_) => {
                code::INTERNAL_ERROR
            }
            Self::Modern(refusal, _) => refusal.code(),
            _ => code::INVALID_REQUEST,
        }
    }

    fn id(&self) -> Option<&RequestId> {
        match self {
            Self::Invalid(e) => e.id(),
            Self::Full(_, id) | Self::ShuttingDown(id) | Self::Modern(_, id) => id.as_ref(),
            _ => None,
        }
    }

    /// The answer: a status with a JSON-RPC error.
    pub(super) fn response(&self) -> Response<Body> {
        let (reason, message) = self.words();
        log::debug!("refused with {}: {message}", self.status());
        let error = match self {
            Self::Modern(refusal, id) => refusal.response(id.as_ref()),
            _ => ErrorObject { code: self.code(), message, reason }.response(self.id()),
        };
        let mut response = self::message(&error.line);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        match self {
            Self::Denied(denied) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(denied.challenge()));
            }
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            }
            Self::MethodOf(method) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(method));
            }
            Self::Full(..) | Self::ShuttingDown(_) => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            // What is left of the body is not read, so nothing can follow on this connection.
            Self::Body(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// 200 with a JSON body.
pub(super) fn json(body: impl Into<Pieces>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// 200 with one message.
pub(super) fn message(line: &Line) -> Response<Body> {
    json(line.pieces())
}

/// 200 with a batch of messages.
pub(super) fn batch(lines: &[&Line]) -> Response<Body> {
    let texts: Vec<_> = lines.iter().map(|line| &line.bytes()[..]).collect();
    json([b"[", &texts.join(&b","[..])[..], b"]"].concat())
}

/// 200 with an event stream.
pub(super) fn events(events: impl EventSource + 'static) -> Response<Body> {
    let mut response = Response::new(Body::stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = status;
    response
}
