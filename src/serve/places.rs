//! `server.session.max_sessions`: places for sessions with a child of their own, of either era.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places. Clones are the same.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    max: usize,
}

/// One place, until it is dropped: when the session's child is gone.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} sessions are open (server.session.max_sessions)")]
pub struct Full(usize);

impl Places {
    /// That many.
    pub fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    /// Takes one, if there is one.
    pub fn take(&self) -> Result<Place, Full> {
        Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| Full(self.max))
            .map(|permit| Place { _permit: permit })
    }
}
