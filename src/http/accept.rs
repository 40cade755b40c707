//! The accept loop.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Request, Response, body::Incoming};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    body::Body,
    connection::{Peer, Shared},
    listener::Listener,
};
use crate::{
    aside::Aside,
    config,
    logging::Seldom,
    memory,
    metrics::{Handshakes, Places},
    tls,
};

/// How long accepting rests after an error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Answers requests.
pub trait Door: Clone + Send + Sync + 'static {
    /// Answers one request of `peer`.
    fn handle(
        &self,
        request: &mut Request<Incoming>,
        peer: &Arc<Peer>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The bounds on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a request's head and body.
    pub read_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// Of a request's head, in bytes.
    pub max_header_size: usize,
}

impl From<&config::Serve> for Limits {
    fn from(config: &config::Serve) -> Self {
        Self {
            read_timeout: config.read_timeout,
            idle_timeout: config.idle_timeout,
            handshake_timeout: config.handshake_timeout,
            max_header_size: config.max_header_size,
        }
    }
}

/// When to end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Accept no more, and end each connection after the answers in flight.
    pub stop: CancellationToken,
    /// End all connections now.
    pub cut: CancellationToken,
}

/// What a listener's connections have to keep to, and to be counted by.
#[derive(Debug, Clone)]
pub struct Terms {
    /// TLS, when it is on.
    pub tls: Option<tls::Acceptor>,
    /// What holds for connections that come from now on.
    pub limits: watch::Receiver<Limits>,
    /// How many there may be.
    pub places: Places,
    /// What says so, for the log.
    pub places_from: &'static str,
    /// How their handshakes go.
    pub handshakes: Handshakes,
}

/// Accepts connections until told to stop; returns when the last one has ended.
pub async fn run(listener: Listener, terms: Terms, door: impl Door, shutdown: Shutdown) {
    let Terms { tls, limits, places, places_from, handshakes } = terms;
    let connections = TaskTracker::new();
    let (mut failures, mut refusals) = (Seldom::default(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            () = shutdown.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                if let Some(more) = failures.due(Instant::now()) {
                    log::warn!("{listener}: accept: {e}{more}");
                }
                sleep(REST).await;
                continue;
            }
        };
        let Some(place) = places.take() else {
            if let Some(more) = refusals.due(Instant::now()) {
                let limit = places.limit();
                log::warn!("{listener}: refused a connection: {limit} are open ({places_from}){more}");
            }
            continue;
        };
        places.opened();
        let shared = Shared {
            door: door.clone(),
            tls: tls.clone(),
            limits: *limits.borrow(),
            handshakes: handshakes.clone(),
            stop: shutdown.stop.clone(),
        };
        let cut = shutdown.cut.clone();
        connections.spawn(async move {
            let _place = place;
            let cut = pin!(cut.cancelled());
            tokio::select! {
                () = shared.serve(accepted) => {}
                () = Aside::new(cut) => {}
            }
            memory::note_freed();
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
