//! All sessions of a listener: opened, found, ended, counted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::counter::Counter;
use thiserror::Error;
use tokio_util::task::TaskTracker;

use super::{
    driver::{self, Times},
    live::{Live, Transport, short_id},
    upstream::{Source, Upstream},
};
use crate::{
    auth::Principal,
    config, crypto,
    jsonrpc::ErrorObject,
    metrics::{Exchanges, Metrics, Place, Places},
    session::{Limits, Replay, Session},
};

/// The sessions, by id.
#[derive(Debug)]
pub(super) struct Sessions {
    /// What new sessions have to keep to.
    terms: Mutex<(Times, Limits)>,
    by_id: Mutex<HashMap<String, Arc<Live>>>,
    /// One place for each session, until its server is gone.
    places: Places,
    exchanges: Exchanges,
    replay_dropped: Counter,
    drivers: TaskTracker,
}

/// Why no session was opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error("{0} sessions are open (server.session.max_sessions)")]
    Full(i64),
    #[error("mcp-bridge is shutting down")]
    ShuttingDown,
    #[error("the MCP server can't be started: {0}")]
    Start(std::io::Error),
    #[error("no session id can be made: {0}")]
    Random(#[from] openssl::error::ErrorStack),
}

impl Sessions {
    pub(super) fn new(config: &config::Serve, metrics: &Metrics) -> Arc<Self> {
        metrics.sessions.set_limit(config.max_sessions);
        Arc::new(Self {
            terms: Mutex::new((config.times(), config.exchange_limits())),
            by_id: Mutex::default(),
            places: metrics.sessions.clone(),
            exchanges: metrics.exchanges.clone(),
            replay_dropped: metrics.replay_dropped.clone(),
            drivers: TaskTracker::new(),
        })
    }

    fn terms(&self) -> MutexGuard<'_, (Times, Limits)> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New sessions keep to these terms, and there may be `max`.
    pub(super) fn renew(&self, times: Times, limits: Limits, max: usize) {
        *self.terms() = (times, limits);
        self.places.set_limit(max);
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session with this id, if it is the principal's.
    pub(super) fn find(&self, id: &str, principal: &Principal, transport: Transport) -> Option<Arc<Live>> {
        let by_id = self.by_id();
        let found = by_id.get(id).filter(|live| live.transport == transport && live.principal == *principal);
        found.cloned()
    }

    /// Starts a session with its server, which comes from `source`.
    pub(super) fn open(
        self: &Arc<Self>,
        source: &Source,
        principal: Principal,
        transport: Transport,
    ) -> Result<Arc<Live>, OpenError> {
        let place = self.places.take().ok_or_else(|| OpenError::Full(self.places.limit()))?;
        if self.drivers.is_closed() {
            return Err(OpenError::ShuttingDown);
        }
        let id = crypto::random_id()?;
        let (times, limits) = *self.terms();
        let label = format!("of session {}", short_id(&id));
        let (upstream, limits) = source.start(&label, &principal, limits).map_err(OpenError::Start)?;
        let session = Session::new(limits, self.exchanges.clone());
        let replay = Replay::new(self.replay_dropped.clone());
        let live = Live::new(id, principal, transport, upstream.stdin().clone(), session, replay);
        self.places.opened();
        log::info!("session {}: opened by {}, {upstream}", live.short_id(), live.principal);
        self.by_id().insert(live.id.clone(), Arc::clone(&live));
        self.drivers.spawn(Arc::clone(self).keep(Arc::clone(&live), upstream, times, place));
        Ok(live)
    }

    async fn keep(self: Arc<Self>, live: Arc<Live>, upstream: Upstream, times: Times, place: Place) {
        let reachable = Reachable { sessions: Arc::clone(&self), live: Arc::clone(&live) };
        driver::drive(live, upstream, times, || drop(reachable)).await;
        drop(place);
    }

    /// Makes a session unreachable and ends it.
    pub(super) fn end(&self, live: &Live) {
        self.by_id().remove(&live.id);
        live.end.cancel();
    }

    /// Ends the sessions of those who are not `accepted` any more.
    pub(super) fn end_unless(&self, accepted: impl Fn(&Principal) -> bool) {
        for live in self.by_id().values().filter(|live| !accepted(&live.principal)) {
            log::info!("session {}: {} is not accepted any more", live.short_id(), live.principal);
            live.end.cancel();
        }
    }

    /// Opens no more sessions, and ends each when nothing of it is in flight.
    pub(super) fn drain(&self) {
        self.drivers.close();
        self.by_id().values().for_each(|live| live.drain.cancel());
    }

    /// Ends all sessions now.
    pub(super) fn end_all(&self) {
        self.drivers.close();
        self.by_id().values().for_each(|live| live.end.cancel());
    }

    /// Waits until the last server is gone.
    pub(super) async fn ended(&self) {
        self.drivers.wait().await;
    }
}

/// A session in the table. Dropping it takes the session out, also when its driver has panicked.
struct Reachable {
    sessions: Arc<Sessions>,
    live: Arc<Live>,
}

impl Drop for Reachable {
    fn drop(&mut self) {
        self.sessions.by_id().remove(&self.live.id);
        if std::thread::panicking() {
            self.live.finish(ErrorObject::internal("internal", "mcp-bridge has failed; its log says where"));
        }
    }
}
