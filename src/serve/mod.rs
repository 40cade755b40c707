//! `mcp-bridge serve`: a local stdio MCP server, offered over Streamable HTTP.

mod cors;
mod driver;
mod endpoint;
mod http_sse;
mod live;
pub mod media;
mod origin;
mod pipeline;
mod places;
mod readiness;
mod reply;
mod sessions;
mod stream;
mod upgraded;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::timeout;

use self::{
    cors::Cors,
    driver::Times,
    origin::Gate,
    pipeline::{App, Pipeline},
    readiness::Readiness,
    sessions::Sessions,
};
pub use self::{
    places::{Full, Place, Places},
    upgraded::{Options, Upgraded},
};
use crate::{
    auth::Authenticator,
    child::{ChildCommand, CommandError},
    config,
    http::{self, BindError, Listener, Shutdown},
    session::Limits,
    tls::{self, TlsError},
};

/// How long the last answers may take to leave, once every exchange has ended.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Why `serve` can't begin.
#[derive(Debug, Error)]
pub enum StartError {
    /// The child's command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Tokens can't be digested.
    #[error("auth.bearer.tokens: {0}")]
    Auth(#[from] openssl::error::ErrorStack),
    /// A CORS value that can't stand in a header.
    #[error("server.cors: a name that can't stand in an HTTP header")]
    Cors,
}

/// A server that is bound and loaded, and only has to run.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: Listener,
    tls: Option<tls::Acceptor>,
}

/// What `check` and `serve` both need to be right before anything starts.
#[derive(Debug)]
pub struct Prepared {
    command: ChildCommand,
    authenticator: Authenticator,
    cors: Option<Cors>,
    /// The TLS side, when it is on.
    pub tls: Option<tls::Acceptor>,
}

impl Prepared {
    /// Loads and resolves everything that the configuration names, and starts nothing.
    pub fn load(config: &config::Serve) -> Result<Self, StartError> {
        let cors = config.cors.as_ref().map(|cors| Cors::new(cors).ok_or(StartError::Cors)).transpose()?;
        Ok(Self {
            command: ChildCommand::resolve(&config.mcp)?,
            authenticator: Authenticator::new(&config.auth)?,
            cors,
            tls: config.tls.as_ref().map(tls::Acceptor::load).transpose()?,
        })
    }
}

impl Server {
    /// Binds the listener.
    ///
    /// Must run inside a Tokio runtime.
    pub fn bind(config: config::Serve, prepared: Prepared) -> Result<Self, StartError> {
        let listener = Listener::bind(&config.listen)?;
        let grace = config.mcp.graceful_shutdown_timeout;
        let times = Times { idle: config.session_timeout, grace };
        let limits = Limits { silence: config.mcp.request_timeout, total: config.mcp.max_request_time };
        let app = App {
            gate: Gate::new(&config),
            cors: prepared.cors,
            authenticator: prepared.authenticator,
            sessions: Sessions::new(
                prepared.command.clone(),
                Places::new(config.max_sessions),
                times,
                limits,
            ),
            readiness: Readiness::new(prepared.command, grace),
            config,
        };
        Ok(Self { app: Arc::new(app), listener, tls: prepared.tls })
    }

    /// The endpoint's address, as clients on this machine would write it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match self.listener.local_addr() {
            Some(address) => format!("{scheme}://{address}{}", self.app.config.path),
            None => format!("{scheme}://localhost{} on {}", self.app.config.path, self.listener),
        }
    }

    /// Serves until `stop` is ready, then lets exchanges in flight finish for `server.shutdown_timeout`, or until
    /// `cut` is ready; returns when every child is gone.
    pub async fn run(self, stop: impl Future<Output = ()>, cut: impl Future<Output = ()>) {
        let Self { app, listener, tls } = self;
        let shutdown = Shutdown::default();
        let limits = http::Limits::from(&app.config);
        let door = Pipeline(Arc::clone(&app));
        let accepting = tokio::spawn(http::run(listener, tls, limits, door, shutdown.clone()));
        let trial = tokio::spawn({
            let readiness = Arc::clone(&app.readiness);
            async move { readiness.try_again().await }
        });
        stop.await;
        app.readiness.stopping();
        app.sessions.drain();
        // The listener stays open: what is in flight may need the client's answers, and its cancellations.
        tokio::select! {
            _ = timeout(app.config.shutdown_timeout, app.sessions.ended()) => {}
            () = cut => {}
        }
        app.sessions.end_all();
        app.sessions.ended().await;
        shutdown.stop.cancel();
        trial.abort();
        let _ = trial.await;
        let mut accepting = accepting;
        if timeout(LAST_BYTES, &mut accepting).await.is_err() {
            shutdown.cut.cancel();
            let _ = accepting.await;
        }
    }
}
