//! What the service manager is told (`sd_notify(3)`); nothing where there is none.

use std::{sync::Arc, time::Duration};

use log::{debug, warn};
use sd_notify::NotifyState;

/// The service that this process is, if it is one.
#[derive(Clone)]
pub(crate) struct Service {
    /// What it does, for people.
    status: Option<Arc<str>>,
}

impl Service {
    /// A service that does this.
    pub(crate) fn new(status: &str) -> Self {
        Self { status: Some(status.into()) }
    }

    /// A program of somebody's, who may be a service: what that is told is not ours to say.
    pub(crate) fn none() -> Self {
        Self { status: None }
    }

    /// It runs, and all is well.
    pub(crate) fn ready(&self) {
        self.notify(|status| [NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It runs, and something went wrong.
    pub(crate) fn ready_but(&self, why: &str) {
        let Some(status) = &self.status else { return };
        Self::new(&one_line(&format!("{status}; {why}"))).ready();
    }

    /// The configuration is read anew; [`Self::ready`] is to follow.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(|_| [NotifyState::Reloading, now, NotifyState::Status("reloading")]),
            Err(e) => warn!("the service manager is not told of the reload: {e}"),
        }
    }

    /// It is ending.
    pub(crate) fn stopping(&self, words: &str) {
        self.notify(|_| [NotifyState::Stopping, NotifyState::Status(words)]);
    }

    fn notify<'a, const N: usize>(&'a self, state: impl FnOnce(&'a str) -> [NotifyState<'a>; N]) {
        if let Some(status) = &self.status {
            notify(&state(status));
        }
    }
}

/// Tells the service manager again and again that the program's tasks are run, if it wants to know; for ever.
pub(crate) async fn keep_alive() {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else { return };
    debug!("the service manager's watchdog is told every {:?}", interval(patience));
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(interval(patience)).await;
    }
}

/// `sd_watchdog_enabled(3)` recommends half.
fn interval(patience: Duration) -> Duration {
    patience / 2
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!("the service manager (NOTIFY_SOCKET) can't be told: {e}");
    }
}

/// Each line is a message of its own.
fn one_line(status: &str) -> String {
    status.replace(char::is_control, " ")
}
