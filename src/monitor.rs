//! The listener of `metrics.listen`: plain HTTP for scrapers and probes, which can show no client certificate.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use tokio::sync::watch;

use crate::{
    http::{self, BindError, Body, Door, Limits, Listener, Peer, Shutdown, Terms},
    metrics::{CONTENT_TYPE, Handshakes, Metrics, Places},
};

/// Metrics in the OpenMetrics text format.
pub const METRICS_PATH: &str = "/metrics";
/// Whether the process is up.
pub const HEALTH_PATH: &str = "/health";
/// Whether it can do its work.
pub const READY_PATH: &str = "/ready";

/// Most connections of scrapers and probes.
const MAX_CONNECTIONS: usize = 64;
const LIMITS: Limits = Limits {
    read_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(120),
    handshake_timeout: Duration::from_secs(10),
    max_header_size: 16 * 1024,
};

/// Knows whether the work can be done.
pub trait Ready: Send + Sync + 'static {
    /// The reason why not, if it can't.
    fn ready(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
}

/// A bound listener.
#[derive(Debug)]
pub struct Monitor(Listener);

impl Monitor {
    /// Binds `metrics.listen`.
    ///
    /// Must run inside a Tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Listener::bind_address("metrics.listen", address).map(Self)
    }

    /// The address of the metrics.
    pub fn url(&self) -> String {
        format!("http://{}{METRICS_PATH}", self.0)
    }

    /// Answers until told to stop.
    pub async fn run(self, metrics: Arc<Metrics>, ready: Arc<dyn Ready>, shutdown: Shutdown) {
        let (_unchanged, limits) = watch::channel(LIMITS);
        let places = Places::new(MAX_CONNECTIONS);
        let places_from = "the most of metrics.listen";
        let terms = Terms { tls: None, limits, places, places_from, handshakes: Handshakes::default() };
        http::run(self.0, terms, Desk { metrics, ready }, shutdown).await;
    }
}

#[derive(Clone)]
struct Desk {
    metrics: Arc<Metrics>,
    ready: Arc<dyn Ready>,
}

impl Door for Desk {
    async fn handle(&self, request: &mut Request<Incoming>, _: &Arc<Peer>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return http::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
        }
        match request.uri().path() {
            METRICS_PATH => exposition(&self.metrics),
            HEALTH_PATH => health(),
            READY_PATH => readiness(&*self.ready).await,
            _ => http::plain(StatusCode::NOT_FOUND, "here are /metrics, /health and /ready"),
        }
    }
}

fn exposition(metrics: &Metrics) -> Response<Body> {
    match metrics.encode() {
        Ok(text) => {
            let mut response = Response::new(Body::whole(text));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        Err(e) => http::plain(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

/// The answer to `GET /health`.
pub fn health() -> Response<Body> {
    http::plain(StatusCode::OK, "ok")
}

/// The answer to `GET /ready`.
pub async fn readiness(ready: &dyn Ready) -> Response<Body> {
    match ready.ready().await {
        Ok(()) => http::plain(StatusCode::OK, "ready"),
        Err(why) => http::plain(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {why}")),
    }
}
