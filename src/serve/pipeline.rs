//! The way of one request, step by step.

use std::sync::Arc;

use hyper::{Request, Response, body::Incoming, header::HeaderMap};

use super::{
    cors::Cors,
    endpoint,
    http_sse::{self, MESSAGES_PATH, SSE_PATH},
    origin::Gate,
    readiness::Readiness,
    reply::{self, Refusal},
    sessions::Sessions,
    upstream::Source,
};
use crate::{
    auth::{Authenticator, Principal},
    config,
    http::{Body, Door, Peer},
};

/// What every request needs.
#[derive(Debug)]
pub(super) struct App {
    pub(super) config: config::Serve,
    pub(super) gate: Gate,
    pub(super) cors: Option<Cors>,
    pub(super) authenticator: Authenticator,
    pub(super) sessions: Arc<Sessions>,
    /// What the sessions of legacy clients run on.
    pub(super) source: Source,
    pub(super) readiness: Arc<Readiness>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Endpoint,
    /// HTTP+SSE: the stream.
    Sse,
    /// HTTP+SSE: the messages.
    Messages,
    Health,
    Ready,
}

#[derive(Debug, Clone)]
pub(super) struct Pipeline(pub(super) Arc<App>);

impl Door for Pipeline {
    async fn handle(&self, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Body> {
        let app = &self.0;
        let Some(cors) = &app.cors else {
            return app.answer(request, &peer).await;
        };
        if let Some(preflight) = cors.preflight(&request) {
            return preflight;
        }
        let mut asked = HeaderMap::new();
        if let Some(origin) = request.headers().get(hyper::header::ORIGIN) {
            asked.insert(hyper::header::ORIGIN, origin.clone());
        }
        let mut response = app.answer(request, &peer).await;
        cors.expose(&asked, response.headers_mut());
        response
    }
}

impl App {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        match self.steps(request, peer).await {
            Ok(response) => response,
            Err(refusal) => {
                log::debug!("{peer}: request refused");
                refusal.response()
            }
        }
    }

    async fn steps(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<Response<Body>, Refusal> {
        self.check_head(request.headers())?;
        match self.route(request.uri().path())? {
            Route::Health => Ok(reply::text(hyper::StatusCode::OK, "ok")),
            Route::Ready => Ok(self.readiness.report().await),
            route => {
                self.gate.check(&request)?;
                let principal = self.principal(request.headers(), peer)?;
                match route {
                    Route::Sse => http_sse::open(self, &request, principal),
                    Route::Messages => http_sse::post(self, request, principal).await,
                    _ => endpoint::answer(self, request, principal).await,
                }
            }
        }
    }

    /// hyper bounds what it buffers, which for HTTP/2 and for many small headers is not what is configured.
    fn check_head(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let max = self.config.max_header_size;
        if size > max { Err(Refusal::HeadTooLarge(max)) } else { Ok(()) }
    }

    fn route(&self, path: &str) -> Result<Route, Refusal> {
        match path {
            path if path == self.config.path => Ok(Route::Endpoint),
            "/health" => Ok(Route::Health),
            "/ready" => Ok(Route::Ready),
            SSE_PATH => Ok(Route::Sse),
            MESSAGES_PATH => Ok(Route::Messages),
            "/" => Ok(Route::Endpoint),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    fn principal(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Refusal> {
        let certificate = peer.handshake.as_ref().and_then(|handshake| handshake.identity.as_ref());
        self.authenticator.principal(headers, certificate).map_err(|denied| {
            log::info!("{peer}: {}", denied.reason());
            Refusal::Denied(denied)
        })
    }
}
