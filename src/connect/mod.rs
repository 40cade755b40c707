//! `mcp-bridge connect`: a stdio MCP client reaches a remote server.

mod answer;
mod bridge;
mod exchange;
mod failure;
mod in_flight;
mod listen;
mod modern;
mod open;
mod remote;
mod reopen;
mod router;
mod session;
mod token;
mod translated;
mod transport;

use std::{pin::pin, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use self::{remote::Remote, router::Router};
use crate::{
    config,
    framing::{
        lines::Lines,
        writer::{Senders, Writer},
    },
    http::{self, BadProxy},
    metrics::{Exchanges, Metrics},
    tls::{self, TlsError},
};

/// Longest message in either direction, in bytes.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How many lines of the client are read ahead of the work on them.
const QUEUED_LINES: usize = 16;
/// How long the answers in flight are waited for when the client has no more to say.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long taking leave of the server may take.
const LEAVE: Duration = Duration::from_secs(2);

/// Why `connect` can't begin.
#[derive(Debug, Error)]
pub enum StartError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] BadProxy),
    /// The token's file.
    #[error("auth.bearer.token_file: {0}")]
    Token(String),
}

/// A client that is loaded and only has to run. Nothing is connected before the first message.
#[derive(Debug)]
pub struct Client {
    remote: Remote,
    exchanges: Exchanges,
    /// The TLS side; `None` for an `http` URL.
    pub tls: Option<tls::Connector>,
}

impl Client {
    /// Loads and resolves everything that the configuration names.
    ///
    /// What happens is counted in `metrics`.
    pub fn load(config: &config::Connect, metrics: &Metrics) -> Result<Self, StartError> {
        let host = config.url.host().unwrap_or_default();
        let https = config.url.scheme_str() == Some("https");
        let tls = https.then(|| tls::Connector::load(&config.tls, host)).transpose()?;
        let connector = http::Connector::new(config, tls.clone(), metrics.handshakes.clone())?;
        let remote = Remote::new(config.clone(), connector)?;
        Ok(Self { remote, tls, exchanges: metrics.exchanges.clone() })
    }

    /// Takes messages from `stdin` and writes messages, and nothing else, to `stdout`: until `stdin` ends and its
    /// answers have come, `stdout` is closed, or `stop` is ready.
    pub async fn run<R, W>(self, stdin: R, stdout: W, stop: impl Future<Output = ()>)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let router = Router::new(self.remote, Writer::new(stdout, Senders::One), self.exchanges);
        let (sender, queue) = mpsc::channel(QUEUED_LINES);
        let (mut stop, mut work) = (pin!(stop), pin!(router.work(queue)));
        let mut worked = false;
        let ended = tokio::select! {
            () = router::read(Lines::new(stdin, MAX_MESSAGE), sender) => true,
            () = &mut work => {
                worked = true;
                true
            }
            () = router.stdout_closed() => false,
            () = &mut stop => false,
        };
        let rest = async {
            if !worked {
                work.await;
            }
        };
        if ended {
            tokio::select! {
                () = router.last_answers(rest, LAST_ANSWERS) => {}
                () = router.stdout_closed() => {}
                () = stop => {}
            }
        }
        router.leave().await;
    }
}
