//! SIGHUP: the configuration is read anew, and what can change while running is put into force. What is wrong with it
//! changes nothing.

use std::{
    process,
    sync::{Mutex, PoisonError},
};

use log::{error, info, warn};
use mcp_bridge::{
    config::{Config, ConfigError, Role},
    logging::{self, Log},
    metrics::Reloads,
    serve,
    tls::{self, Reload as _},
};

use crate::service::Service;

/// Reads the configuration as it was read at start.
pub(crate) type Load = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// What runs, and is given new settings.
pub(crate) enum Running {
    Serve(serve::Handle),
    /// With its TLS side, when it is on.
    Connect(Option<tls::Connector>),
}

/// Puts new settings into force.
pub(crate) struct Reloader {
    pub(crate) load: Load,
    /// In force, but for what waits for a restart.
    pub(crate) current: Mutex<Config>,
    pub(crate) log: Log,
    pub(crate) running: Running,
    pub(crate) metrics: Reloads,
    pub(crate) service: Service,
}

impl Reloader {
    /// Reloads now. What happens is logged and counted.
    pub(crate) fn reload(&self) {
        info!("SIGHUP (process {}): reloading", process::id());
        self.service.reloading();
        match self.try_reload() {
            Ok(()) => {
                self.metrics.succeeded();
                info!("the configuration was loaded anew");
                self.service.ready();
            }
            Err(why) => {
                self.metrics.failed();
                error!("reload failed, nothing has changed: {why}");
                self.service.ready_but(&format!("the last reload failed: {why}"));
            }
        }
    }

    /// First everything that may fail, then everything that can't.
    fn try_reload(&self) -> Result<(), String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let new = (self.load)().map_err(|e| e.to_string())?;
        let placed =
            |error: &dyn std::fmt::Display| new.written.place(new.file.as_deref(), &error.to_string());
        let log = logging::prepare(&new.logging).map_err(|e| placed(&e))?;
        let waiting = current.restart_for(&new);
        match (&self.running, &new.role) {
            (Running::Serve(running), Role::Serve(config)) => {
                let renewal = serve::Renewal::prepare(config).map_err(|e| placed(&e))?;
                running.tls.as_ref().map_or(Ok(()), tls::Acceptor::reload).map_err(|e| placed(&e))?;
                running.renew(renewal, !waiting.iter().any(|key| is_judged_with_access(key)));
            }
            (Running::Connect(tls), Role::Connect(_)) => {
                tls.as_ref().map_or(Ok(()), tls::Connector::reload).map_err(|e| placed(&e))?;
            }
            _ => return Err(format!("mode: is {} now; that needs a restart", new.mode().name())),
        }
        self.log.switch(log);
        new.warnings.iter().filter(|warning| !current.warnings.contains(warning)).for_each(|w| warn!("{w}"));
        tell_waiting(&waiting);
        current.warnings = new.warnings;
        Ok(())
    }
}

/// Whether who may come in was judged together with this key, and so waits for the restart with it: tokens may be
/// dispensable behind client certificates, for example, that the running listener does not ask for.
fn is_judged_with_access(key: &str) -> bool {
    key == "server.listen" || key.starts_with("tls.")
}

fn tell_waiting(keys: &[&str]) {
    if keys.is_empty() {
        return;
    }
    warn!("restart mcp-bridge to put these changes into force: {}", keys.join(", "));
    if keys.iter().any(|key| is_judged_with_access(key)) {
        warn!("auth, server.allowed_hosts, server.allowed_origins and server.cors wait for that restart too");
    }
}
