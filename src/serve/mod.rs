//! `mcp-bridge serve`: a local stdio MCP server, offered over Streamable HTTP.

mod access_log;
mod cors;
mod driver;
mod endpoint;
mod guests;
mod http_sse;
mod live;
pub mod media;
mod modern;
mod origin;
mod pipeline;
mod pool;
mod probe;
mod reply;
mod sessions;
mod settings;
mod stream;
mod tools;
mod upgraded;
mod upstream;
mod upstreams;

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::watch, time::timeout};

pub(crate) use self::http_sse::{MESSAGES_PATH, SSE_PATH};
use self::{
    access_log::AccessLog,
    guests::Guests,
    pipeline::{App, Pipeline},
    sessions::Sessions,
    settings::Settings,
    tools::Tools,
    upstream::Source,
    upstreams::Upstreams,
};
pub use self::{
    settings::{Handle, Renewal},
    upgraded::{Options, Trouble, Upgraded},
    upstreams::NotBegun,
};
use crate::{
    child::{ChildCommand, CommandError},
    config,
    http::{self, BindError, Listener, Shutdown, Terms},
    metrics::{Handshakes, Metrics},
    monitor::Ready,
    tls::{self, TlsError},
    upstream::ModernServer,
};

/// How long the last answers may take to leave, once every exchange has ended.
const LAST_BYTES: Duration = Duration::from_secs(4);

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
    #[error("OpenSSL: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
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
    limits: Arc<watch::Sender<http::Limits>>,
    handshakes: Handshakes,
}

/// What `check` and `serve` both need to be right before anything starts.
#[derive(Debug)]
pub struct Prepared {
    command: ChildCommand,
    /// Instead of children, for legacy clients.
    source: Option<Source>,
    settings: Settings,
    /// The TLS side, when it is on.
    pub tls: Option<tls::Acceptor>,
}

impl Prepared {
    /// Loads and resolves everything that the configuration names, and starts nothing.
    pub fn load(config: &config::Serve) -> Result<Self, StartError> {
        Ok(Self {
            command: ChildCommand::resolve(&config.mcp)?,
            source: None,
            settings: Settings::new(config)?,
            tls: config.tls.as_ref().map(tls::Acceptor::load).transpose()?,
        })
    }

    /// Lets the sessions of legacy clients run on `server` rather than on a child each.
    #[must_use]
    pub fn on(self, server: Arc<impl ModernServer>) -> Self {
        Self { source: Some(Source::modern(move |_| Arc::clone(&server))), ..self }
    }
}

impl Server {
    /// Binds the listener. What happens is counted in `metrics`.
    ///
    /// Must run inside a Tokio runtime.
    pub fn bind(prepared: Prepared, metrics: &Metrics) -> Result<Self, StartError> {
        let Prepared { command, source, settings, tls } = prepared;
        let config = &settings.config;
        let listener = Listener::bind(&config.listen)?;
        let limits = Arc::new(watch::Sender::new(http::Limits::from(config)));
        let command = command.counted_by(metrics.children.clone());
        metrics.connections.set_limit(config.max_connections);
        let app = App {
            sessions: Sessions::new(config, metrics),
            upstreams: Arc::new(Upstreams::new(command, source, config, metrics.sessions.clone())?),
            tools: Arc::new(Tools::default()),
            guests: Guests::default(),
            exchanges: metrics.exchanges.clone(),
            connections: metrics.connections.clone(),
            log: AccessLog::new(metrics.http.clone()),
            settings: RwLock::new(Arc::new(settings)),
        };
        let handshakes = metrics.handshakes.clone();
        Ok(Self { app: Arc::new(app), listener, tls, limits, handshakes })
    }

    /// To give the running server new settings.
    pub fn handle(&self) -> Handle {
        Handle { app: Arc::clone(&self.app), limits: Arc::clone(&self.limits), tls: self.tls.clone() }
    }

    /// Whether the server can do its work.
    pub fn ready(&self) -> Arc<dyn Ready> {
        Arc::clone(&self.app.upstreams) as Arc<dyn Ready>
    }

    /// The endpoint's address, as clients on this machine would write it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let settings = self.app.settings();
        let path = &settings.config.path;
        match self.listener.local_addr() {
            Some(address) => format!("{scheme}://{address}{path}"),
            None => format!("{scheme}://localhost{path} on {}", self.listener),
        }
    }

    /// Serves until `stop` is ready, then lets exchanges in flight finish for `server.shutdown_timeout`, or until
    /// `cut` is ready; returns when every child is gone.
    pub async fn run(self, stop: impl Future<Output = ()>, cut: impl Future<Output = ()>) {
        let Self { app, listener, tls, limits, handshakes } = self;
        let shutdown = Shutdown::default();
        let (limits, places) = (limits.subscribe(), app.connections.clone());
        let terms = Terms { tls, limits, places, places_from: "server.max_connections", handshakes };
        let door = Pipeline(Arc::clone(&app));
        let accepting = tokio::spawn(http::run(listener, terms, door, shutdown.clone()));
        let upstreams = &app.upstreams;
        tokio::pin!(stop);
        tokio::select! {
            () = upstreams.begin() => stop.await,
            () = &mut stop => {}
        }
        upstreams.close();
        app.sessions.drain();
        let finished = async {
            app.sessions.ended().await;
            upstreams.drain();
            upstreams.ended().await;
        };
        // The listener stays open: what is in flight may need the client's answers, and its cancellations.
        tokio::select! {
            _ = timeout(app.settings().config.shutdown_timeout, finished) => {}
            () = cut => {}
        }
        app.sessions.end_all();
        upstreams.end();
        tokio::join!(app.sessions.ended(), upstreams.ended(), upstreams.probe.ended());
        shutdown.stop.cancel();
        let mut accepting = accepting;
        if timeout(LAST_BYTES, &mut accepting).await.is_err() {
            shutdown.cut.cancel();
            let _ = accepting.await;
        }
    }
}
