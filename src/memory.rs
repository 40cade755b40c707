//! Memory that has been freed goes back to the system.
//!
//! The C library keeps what is freed in the middle of its heap: after a burst of clients it would stay for ever.
#![allow(unsafe_code)]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

/// How often it is looked whether there is something to give back.
const INTERVAL: Duration = Duration::from_secs(10);

/// Notes that there is freed memory. Clones share the note.
#[derive(Debug, Clone, Default)]
pub struct Freed(Arc<AtomicBool>);

impl Freed {
    /// Something has been freed that will not be needed again soon.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Gives memory back when there is some.
    pub async fn give_back(&self) -> Infallible {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.0.swap(false, Ordering::Relaxed) {
                // It walks through the whole heap, which took 2 ms with 10,000 connections.
                let _ = spawn_blocking(trim).await;
            }
        }
    }
}

/// `malloc_trim(3)`, where the C library has it.
fn trim() {
    #[cfg(target_env = "gnu")]
    {
        let began = std::time::Instant::now();
        // SAFETY: it takes no pointer and may be called at any time by any thread.
        let released = unsafe { libc::malloc_trim(0) };
        log::debug!("gave freed memory back to the system ({released}) in {:?}", began.elapsed());
    }
}
