//! The accept loop.

use std::{sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    body::Body,
    connection::{Peer, Shared},
    listener::Listener,
};
use crate::{config, tls};

/// How long accepting rests after an error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Answers requests.
pub trait Door: Clone + Send + Sync + 'static {
    /// Answers one request of `peer`.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Arc<Peer>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// The bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub(super) read_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) handshake_timeout: Duration,
    pub(super) max_header_size: usize,
    pub(super) max_connections: usize,
}

impl From<&config::Serve> for Limits {
    fn from(config: &config::Serve) -> Self {
        Self {
            read_timeout: config.read_timeout,
            idle_timeout: config.idle_timeout,
            handshake_timeout: config.handshake_timeout,
            max_header_size: config.max_header_size,
            max_connections: config.max_connections,
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

/// Accepts connections until told to stop; returns when the last one has ended.
pub async fn run(
    listener: Listener,
    tls: Option<tls::Acceptor>,
    limits: Limits,
    door: impl Door,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let shared = Arc::new(Shared { door, tls, limits, stop: shutdown.stop.clone() });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                log::warn!("{listener}: accept: {e}");
                sleep(REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            log::warn!("refused a connection: {} are open (server.max_connections)", limits.max_connections);
            continue;
        };
        let (shared, cut) = (Arc::clone(&shared), shutdown.cut.clone());
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = shared.serve(accepted) => {}
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
