//! What went wrong between the client's request and its answer, in words for its user.

use std::time::Duration;

use hyper::{
    HeaderMap, StatusCode,
    header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use thiserror::Error;

use crate::jsonrpc::ErrorObject;

/// Longest piece of a server's own words that is passed on.
const MAX_QUOTE: usize = 200;

/// Why a request has no answer of the server's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// It may have been sent, and it is not sent again.
    #[error("the connection to the server broke before the answer came: {0}; the request may have run")]
    Broken(String),
    /// The stream of the answer ended without it.
    #[error("the server ended the stream without an answer; the request may have run")]
    NoAnswer,
    /// It took too long.
    #[error("the server did not answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP status that is no answer.
    #[error("{0}")]
    Status(String),
    /// An answer that is none.
    #[error("the server's answer can't be used: {0}")]
    Unusable(String),
    /// The server speaks the modern revision only, and `initialize` is none of its requests.
    #[error("the server speaks revision 2026-07-28 only, and client.translate is off")]
    OtherEra,
    /// There is no session, and the message needs one.
    #[error("no session with the server is open: it begins with an `initialize` that succeeds")]
    NoSession,
    /// The session was lost and could not be opened again.
    #[error("the session was lost and can't be opened again: {0}")]
    SessionLost(String),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_connected",
            Self::Broken(_) => "connection_broken",
            Self::NoAnswer => "no_answer",
            Self::TimedOut(_) => "timed_out",
            Self::Status(_) => "http_status",
            Self::Unusable(_) => "unusable_answer",
            Self::OtherEra => "other_era",
            Self::NoSession => "no_session",
            Self::SessionLost(_) => "session_lost",
        }
    }

    /// The error that the client gets.
    pub(super) fn error(&self) -> ErrorObject {
        ErrorObject::internal(self.reason(), self.to_string())
    }
}

/// A status that is no answer, with what to do about it.
pub(super) fn status(status: StatusCode, headers: &HeaderMap, body: Option<&str>) -> String {
    let named = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(quote);
    let hint = match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = named(WWW_AUTHENTICATE).map(|c| format!(" ({c})")).unwrap_or_default();
            format!("it wants other credentials{challenge}: set auth.type bearer and a token that it accepts")
        }
        StatusCode::FORBIDDEN => "it does not let this client in".to_owned(),
        StatusCode::NOT_FOUND => "there is no MCP endpoint at client.url; look at its path".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => {
            "client.url is no Streamable HTTP endpoint; look at its path and at client.transport".to_owned()
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => match named(RETRY_AFTER) {
            Some(after) => format!("it is busy and asks to try again after {after}"),
            None => "it is busy; try again later".to_owned(),
        },
        status if status.is_redirection() => {
            let to = named(LOCATION).unwrap_or_else(|| "an unnamed place".to_owned());
            format!("it redirects to {to}; if you trust that place, make it client.url")
        }
        status if status.is_server_error() => "it, or a proxy before it, has failed".to_owned(),
        _ => "it refuses the request".to_owned(),
    };
    let said =
        body.map(quote).filter(|b| !b.is_empty()).map(|b| format!("; it said: {b}")).unwrap_or_default();
    format!("the server answered with HTTP status {status}: {hint}{said}")
}

/// The server's own words, on one line and not too many.
pub(super) fn quote(text: &str) -> String {
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean: String = words.chars().filter(|c| !c.is_control()).collect();
    match clean.char_indices().nth(MAX_QUOTE) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}
