//! The way of one request, step by step.

use std::sync::{Arc, PoisonError, RwLock};

use hyper::{Request, Response, body::Incoming, header::HeaderMap};

use super::{
    access_log::{AccessLog, Entry},
    endpoint,
    guests::Guests,
    http_sse::{self, MESSAGES_PATH, SSE_PATH},
    reply::Refusal,
    sessions::Sessions,
    settings::Settings,
    tools::Tools,
    upstreams::Upstreams,
};
use crate::{
    auth::{Denied, Principal},
    http::{Body, Door, Peer},
    metrics::{Exchanges, Places},
    monitor::{self, HEALTH_PATH, READY_PATH},
};

/// What every request needs.
#[derive(Debug)]
pub(super) struct App {
    pub(super) settings: RwLock<Arc<Settings>>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) tools: Arc<Tools>,
    /// The requests of modern clients that are being answered.
    pub(super) guests: Guests,
    /// Counts the requests of modern clients.
    pub(super) exchanges: Exchanges,
    pub(super) connections: Places,
    pub(super) log: AccessLog,
}

/// A request that was let in, on its way.
pub(super) struct Visit<'a> {
    pub(super) app: &'a Arc<App>,
    /// Those in force when it came.
    pub(super) settings: &'a Settings,
    pub(super) principal: Principal,
    pub(super) peer: &'a Peer,
    /// Its line in the log.
    pub(super) entry: &'a mut Entry,
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
    async fn handle(&self, request: &mut Request<Incoming>, peer: &Arc<Peer>) -> Response<Body> {
        let app = &self.0;
        let probe = matches!(request.uri().path(), HEALTH_PATH | READY_PATH);
        let mut entry = app.log.begin(request, peer, probe);
        let response = app.answer(request, peer, &mut entry).await;
        entry.answered(response.status());
        response.map(|body| body.tallied(entry))
    }
}

impl App {
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Refuses who has lost access since the request came.
    pub(super) fn readmit(&self, principal: &Principal) -> Result<(), Refusal> {
        let accepted = self.settings().access.authenticator.still_accepts(principal);
        if accepted { Ok(()) } else { Err(Refusal::Denied(Denied::Unknown)) }
    }

    async fn answer(
        self: &Arc<Self>,
        request: &mut Request<Incoming>,
        peer: &Peer,
        entry: &mut Entry,
    ) -> Response<Body> {
        let settings = self.settings();
        let Some(cors) = &settings.access.cors else {
            return self.answer_one(&settings, request, peer, entry).await;
        };
        if let Some(preflight) = cors.preflight(request) {
            return preflight;
        }
        let mut asked = HeaderMap::new();
        if let Some(origin) = request.headers().get(hyper::header::ORIGIN) {
            asked.insert(hyper::header::ORIGIN, origin.clone());
        }
        let mut response = self.answer_one(&settings, request, peer, entry).await;
        cors.expose(&asked, response.headers_mut());
        response
    }

    async fn answer_one(
        self: &Arc<Self>,
        settings: &Settings,
        request: &mut Request<Incoming>,
        peer: &Peer,
        entry: &mut Entry,
    ) -> Response<Body> {
        match self.steps(settings, request, peer, entry).await {
            Ok(response) => response,
            Err(refusal) => {
                entry.refused(&refusal);
                refusal.response()
            }
        }
    }

    async fn steps(
        self: &Arc<Self>,
        settings: &Settings,
        request: &mut Request<Incoming>,
        peer: &Peer,
        entry: &mut Entry,
    ) -> Result<Response<Body>, Refusal> {
        settings.check_head(request.headers())?;
        match settings.route(request.uri().path())? {
            Route::Health => Ok(monitor::health()),
            Route::Ready => Ok(monitor::readiness(&*self.upstreams).await),
            route => {
                settings.access.gate.check(request)?;
                let principal = settings.principal(request.headers(), peer)?;
                entry.principal(&principal);
                let visit = &mut Visit { app: self, settings, principal, peer, entry };
                match route {
                    Route::Sse => Box::pin(http_sse::open(visit, request)).await,
                    Route::Messages => Box::pin(http_sse::post(visit, request)).await,
                    _ => endpoint::answer(visit, request).await,
                }
            }
        }
    }
}

impl Settings {
    /// hyper bounds what it buffers, which for HTTP/2 and for many small headers is not what is configured.
    fn check_head(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let max = self.config.max_header_size;
        if size > max { Err(Refusal::HeadTooLarge(max)) } else { Ok(()) }
    }

    fn route(&self, path: &str) -> Result<Route, Refusal> {
        match path {
            path if path == self.config.path => Ok(Route::Endpoint),
            HEALTH_PATH => Ok(Route::Health),
            READY_PATH => Ok(Route::Ready),
            SSE_PATH => Ok(Route::Sse),
            MESSAGES_PATH => Ok(Route::Messages),
            "/" => Ok(Route::Endpoint),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    fn principal(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Refusal> {
        let certificate = peer.handshake.as_ref().and_then(|handshake| handshake.identity.as_ref());
        self.access.authenticator.principal(headers, certificate).map_err(|denied| {
            log::info!("{peer}: {}", denied.reason());
            Refusal::Denied(denied)
        })
    }
}
