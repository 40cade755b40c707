//! Memory that has been freed goes back to the system.
//!
//! The C library keeps what is freed in the middle of its heap: after a burst of clients it would stay for ever.
#![allow(unsafe_code)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

/// How often it is looked whether there is something to give back.
const INTERVAL: Duration = Duration::from_secs(10);

/// Whether there is freed memory. Of the process, as its heap is.
static FREED: AtomicBool = AtomicBool::new(false);

/// Notes that something has been freed that will not be needed again soon.
pub fn note_freed() {
    FREED.store(true, Ordering::Relaxed);
}

/// Gives memory back when there is some, for ever.
pub async fn give_back() {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if FREED.swap(false, Ordering::Relaxed) {
            // It walks through the whole heap, which took 2 ms with 10,000 connections.
            let _ = spawn_blocking(trim).await;
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
