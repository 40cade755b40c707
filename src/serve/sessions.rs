//! All sessions of a listener: opened, found, ended, counted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tokio_util::task::TaskTracker;

use super::{
    driver::{self, Times},
    live::{Live, Transport, short_id},
    places::{Full, Place, Places},
};
use crate::{
    auth::Principal,
    child::ChildCommand,
    crypto,
    jsonrpc::ErrorObject,
    session::{Limits, Session},
};

/// The sessions, by id.
#[derive(Debug)]
pub(super) struct Sessions {
    command: ChildCommand,
    times: Times,
    limits: Limits,
    by_id: Mutex<HashMap<String, Arc<Live>>>,
    places: Places,
    drivers: TaskTracker,
}

/// Why no session was opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("mcp-bridge is shutting down")]
    ShuttingDown,
    #[error("the MCP server can't be started: {0}")]
    Start(std::io::Error),
    #[error("no session id can be made: {0}")]
    Random(#[from] openssl::error::ErrorStack),
}

impl Sessions {
    pub(super) fn new(command: ChildCommand, places: Places, times: Times, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            command,
            times,
            limits,
            by_id: Mutex::default(),
            places,
            drivers: TaskTracker::new(),
        })
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

    /// Starts a child and a session with it.
    pub(super) fn open(
        self: &Arc<Self>,
        principal: Principal,
        transport: Transport,
    ) -> Result<Arc<Live>, OpenError> {
        let place = self.places.take()?;
        if self.drivers.is_closed() {
            return Err(OpenError::ShuttingDown);
        }
        let id = crypto::random_id()?;
        let child = self.command.spawn(&format!("of session {}", short_id(&id))).map_err(OpenError::Start)?;
        let live = Live::new(id, principal, transport, child.stdin.clone(), Session::new(self.limits));
        let (session, owner, process) = (live.short_id(), &live.principal, child.process.id());
        log::info!("session {session}: opened by {owner}, child process {process}");
        self.by_id().insert(live.id.clone(), Arc::clone(&live));
        self.drivers.spawn(Arc::clone(self).keep(Arc::clone(&live), child, place));
        Ok(live)
    }

    async fn keep(self: Arc<Self>, live: Arc<Live>, child: crate::child::Child, place: Place) {
        let reachable = Reachable { sessions: Arc::clone(&self), live: Arc::clone(&live) };
        driver::drive(live, child, self.times, || drop(reachable)).await;
        drop(place);
    }

    /// Makes a session unreachable and ends it.
    pub(super) fn end(&self, live: &Live) {
        self.by_id().remove(&live.id);
        live.end.cancel();
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

    /// Waits until the last child is gone.
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
