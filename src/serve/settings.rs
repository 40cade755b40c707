//! What requests are judged and answered by, replaced as a whole at a reload.

use std::sync::Arc;

use tokio::sync::watch;

use super::{StartError, cors::Cors, driver::Times, origin::Gate, pipeline::App};
use crate::{
    auth::{Authenticator, Principal},
    child::ChildCommand,
    config, http,
    session::Limits,
    tls,
};

/// Settings in force.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: config::Serve,
    pub(super) access: Arc<Access>,
}

/// Who may come in, and from where.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) gate: Gate,
    pub(super) cors: Option<Cors>,
    pub(super) authenticator: Authenticator,
}

impl Settings {
    pub(super) fn new(config: &config::Serve) -> Result<Self, StartError> {
        let cors = config.cors.as_ref().map(|cors| Cors::new(cors).ok_or(StartError::Cors)).transpose()?;
        let authenticator = Authenticator::new(&config.auth)?;
        let access = Arc::new(Access { gate: Gate::new(config), cors, authenticator });
        Ok(Self { config: config.clone(), access })
    }
}

impl config::Serve {
    pub(super) fn times(&self) -> Times {
        Times { idle: self.session_timeout, grace: self.mcp.graceful_shutdown_timeout }
    }

    pub(super) fn exchange_limits(&self) -> Limits {
        Limits { silence: self.mcp.request_timeout, total: self.mcp.max_request_time }
    }
}

/// A running server, to give new settings to.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) app: Arc<App>,
    pub(super) limits: Arc<watch::Sender<http::Limits>>,
    /// The TLS side, when it is on.
    pub tls: Option<tls::Acceptor>,
}

/// Settings that could be put into force.
#[derive(Debug)]
pub struct Renewal(Settings);

impl Renewal {
    /// Resolves what `config` says, and changes nothing. A command that the next start would not find is an error too.
    pub fn prepare(config: &config::Serve) -> Result<Self, StartError> {
        ChildCommand::resolve(&config.mcp)?;
        Settings::new(config).map(Self)
    }
}

impl Handle {
    /// Puts what can change into force: access and limits of requests at once, limits of connections and sessions for
    /// new ones. `with_access` is false when listener and TLS, with which access was judged, stay as they are.
    pub fn renew(&self, Renewal(new): Renewal, with_access: bool) {
        let old = self.app.settings();
        let mut config = new.config;
        // Where requests come in does not change while running.
        (config.listen, config.path) = (old.config.listen.clone(), old.config.path.clone());
        let access = if with_access { new.access } else { Arc::clone(&old.access) };
        self.limits.send_replace(http::Limits::from(&config));
        self.app.connections.set_limit(config.max_connections);
        self.app.sessions.renew(config.times(), config.exchange_limits(), config.max_sessions);
        let authenticator = access.authenticator.clone();
        self.app.upstreams.renew(&config);
        self.app.put(Settings { config, access });
        let accepted = |principal: &Principal| authenticator.still_accepts(principal);
        self.app.sessions.end_unless(accepted);
        self.app.guests.end_unless(accepted);
        self.app.upstreams.upgraded.end_unless(accepted);
    }
}
