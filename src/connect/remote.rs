//! HTTP requests to the remote server.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::sleep;

use super::{StartError, failure::Failure, token::Token};
use crate::{
    config::{self, Retry},
    http::{Body, ConnectError, Connector, causes},
    jsonrpc::Line,
    pieces::Pieces,
};

/// How long a connection is kept for the next request: less than servers and firewalls keep theirs.
const KEEP: Duration = Duration::from_secs(30);

const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Bodies are read as they are sent.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")));

/// The remote server.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client<Connector, Body>,
    connector: Connector,
    pub(super) config: config::Connect,
    /// What each request carries.
    fixed: HeaderMap,
    token: Token,
    /// Why there is no connection at present.
    trouble: Mutex<Option<String>>,
}

impl Remote {
    pub(super) fn new(config: config::Connect, connector: Connector) -> Result<Self, StartError> {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP)
            .build(connector.clone());
        let mut fixed = HeaderMap::new();
        for (name, value) in &config.headers {
            // The configuration has checked that the value can stand in a header.
            if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
                value.set_sensitive(true);
                fixed.append(name, value);
            }
        }
        fixed.entry(header::USER_AGENT).or_insert(USER_AGENT);
        fixed.insert(header::ACCEPT_ENCODING, IDENTITY);
        let token = Token::load(config.auth.clone())?;
        Ok(Self { client, connector, config, fixed, token, trouble: Mutex::default() })
    }

    /// The address of the configuration.
    pub(super) fn url(&self) -> &Uri {
        &self.config.url
    }

    /// Posts a message to an address of this server, with the headers of its transport.
    pub(super) async fn post(
        &self,
        uri: &Uri,
        mut headers: HeaderMap,
        line: &Line,
    ) -> Result<Response<Incoming>, Failure> {
        headers.insert(header::ACCEPT, BOTH);
        headers.insert(header::CONTENT_TYPE, JSON);
        self.send(&Method::POST, uri, headers, line.pieces()).await
    }

    /// Opens a stream.
    pub(super) async fn get(&self, uri: &Uri, mut headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
        headers.insert(header::ACCEPT, EVENTS);
        self.send(&Method::GET, uri, headers, Pieces::default()).await
    }

    /// Deletes what the headers name.
    pub(super) async fn delete(&self, uri: &Uri, headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
        self.send(&Method::DELETE, uri, headers, Pieces::default()).await
    }

    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Pieces,
    ) -> Result<Response<Incoming>, Failure> {
        headers.extend(self.fixed.clone());
        let token = self.token.header();
        if let Some(token) = &token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        let response = self.connect_and_send(method, uri, &headers, &body).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // A request that was refused for its token has not run.
        let Some(renewed) = self.token.renewed(token.as_ref()) else { return Ok(response) };
        headers.insert(header::AUTHORIZATION, renewed);
        self.connect_and_send(method, uri, &headers, &body).await
    }

    fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Why requests wait for a connection, when they do.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries again for as long as no connection comes about, and never once bytes may have been sent.
    async fn connect_and_send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Pieces,
    ) -> Result<Response<Incoming>, Failure> {
        let mut delays = Delays::new(self.config.retry);
        loop {
            let began = Instant::now();
            let mut request = Request::new(Body::whole(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let error = match self.client.request(request).await {
                Ok(response) => {
                    self.note_trouble(None);
                    return Ok(response);
                }
                Err(error) => error,
            };
            let Some(refused) = not_connected(&error) else {
                // A server that refuses our certificate has read nothing of the request.
                return Err(match self.connector.refused_since(began) {
                    Some(refusal) => Failure::NotSent(refusal.to_string()),
                    None => Failure::Broken(causes(&error)),
                });
            };
            match delays.next().filter(|_| refused.is_passing()) {
                Some(delay) => {
                    log::warn!("{refused}; trying again in {delay:?}");
                    self.note_trouble(Some(refused.to_string()));
                    sleep(delay).await;
                }
                None => return Err(Failure::NotSent(causes(refused))),
            }
        }
    }
}

/// The reason, when no connection came about.
fn not_connected(error: &Error) -> Option<&ConnectError> {
    if !error.is_connect() {
        return None;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        cause = e.source();
    }
    None
}

/// The waits between attempts, as `client.retry` says.
#[derive(Debug)]
pub(super) struct Delays {
    retry: Retry,
    made: u32,
    next: Duration,
}

impl Delays {
    pub(super) fn new(retry: Retry) -> Self {
        Self { retry, made: 0, next: retry.initial_delay }
    }
}

impl Delays {
    /// Whether there are no more.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.retry.enabled || self.made >= self.retry.max_retries
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.is_exhausted() {
            return None;
        }
        self.made += 1;
        let delay = self.next.min(self.retry.max_delay);
        let grown = delay.as_secs_f64() * self.retry.multiplier;
        self.next =
            Duration::try_from_secs_f64(grown).unwrap_or(self.retry.max_delay).min(self.retry.max_delay);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_end() {
        let ms = Duration::from_millis;
        let retry = Retry {
            enabled: true,
            max_retries: 4,
            initial_delay: ms(200),
            max_delay: ms(700),
            multiplier: 2.0,
        };
        assert_eq!(Delays::new(retry).collect::<Vec<_>>(), [ms(200), ms(400), ms(700), ms(700)]);
        assert_eq!(Delays::new(Retry { enabled: false, ..retry }).next(), None);
    }
}
