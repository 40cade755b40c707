//! The client's lines, in order: each goes to the face of its era, and there to the server or to its translation.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::AsyncRead,
    sync::{OnceCell, mpsc},
    time::timeout,
};

use super::{
    LEAVE, MAX_MESSAGE,
    bridge::{Bridge, Out},
    exchange::Outcome,
    failure::Failure,
    modern::{self, Discovery, Server, Upstream},
    remote::Remote,
    translated::{Downgraded, Upgraded},
};
use crate::{
    config::Protocol,
    era,
    framing::{
        lines::{Framed, Lines},
        writer::Writer,
    },
    jsonrpc::{ErrorObject, Kind, Message, Payload, RequestId, code, parse},
    logging, mcp,
    metrics::{self, Exchanges},
    upstream::ModernServer,
};

/// One client on standard input, of either era or of both at once.
#[derive(Debug)]
pub(super) struct Router {
    remote: Arc<Remote>,
    server: Server,
    discovery: Discovery,
    stdout: Writer,
    counts: Exchanges,
    /// The legacy client's session with a server of its era.
    bridge: Arc<Bridge>,
    /// What the legacy client has instead, when the server is of the other era.
    downgraded: Mutex<Option<Arc<Downgraded>>>,
    /// The modern client.
    modern: Arc<modern::Client>,
    /// What its requests go to, when the server is of the other era.
    upgraded: Arc<OnceCell<Arc<Upgraded>>>,
}

impl Router {
    /// `counts` counts the client's requests.
    pub(super) fn new(remote: Remote, stdout: Writer, counts: Exchanges) -> Self {
        let remote = Arc::new(remote);
        let server = Server::new(Arc::clone(&remote));
        let discovery = Discovery::new(server.clone(), &remote.config);
        let out = Out::Client(stdout.clone());
        Self {
            bridge: Bridge::new(Arc::clone(&remote), discovery.clone(), out, counts.clone()),
            downgraded: Mutex::default(),
            modern: modern::Client::new(stdout.clone(), remote.config.retry, counts.clone()),
            upgraded: Arc::default(),
            remote,
            server,
            discovery,
            stdout,
            counts,
        }
    }

    /// Waits until nobody reads what the client is told.
    pub(super) async fn stdout_closed(&self) {
        self.stdout.closed().await;
    }

    /// Works through what [`read`] has read, until there is no more.
    pub(super) async fn work(&self, mut lines: mpsc::Receiver<Framed>) {
        while let Some(framed) = lines.recv().await {
            match framed {
                Framed::Line(line) => self.take_line(line).await,
                Framed::TooLong { length, .. } => {
                    let text = format!("a message of {length} bytes; at most {MAX_MESSAGE} are passed on");
                    self.refuse(None, &ErrorObject::invalid("message_too_long", text)).await;
                }
            }
        }
    }

    async fn take_line(&self, line: Bytes) {
        match parse(line) {
            Ok(Payload::Single(message)) => self.take(message).await,
            // Each message of a batch is sent by itself, and answered by itself.
            Ok(Payload::Batch(messages)) => {
                for message in messages {
                    self.take(message).await;
                }
            }
            Err(e) => {
                let reason = if e.code() == code::PARSE_ERROR { "parse_error" } else { "invalid_message" };
                self.refuse(e.id(), &ErrorObject { code: e.code(), message: e.to_string(), reason }).await;
            }
        }
    }

    async fn take(&self, message: Message) {
        logging::body(None, "from the client", &message.line);
        let declared = era::declared_version(&message).is_some();
        match &message.kind {
            Kind::Request { method, .. } if declared || &**method == mcp::DISCOVER => {
                self.modern.request(message, self.upstream()).await;
            }
            Kind::Notification { method, about: Some(id) }
                if &**method == mcp::CANCELLED
                    && (self.modern.cancel(id) || declared || !self.is_legacy(id)) => {}
            Kind::Notification { .. } if declared => {
                if let Ok(upstream) = self.upstream().await {
                    upstream.notify(message).await;
                }
            }
            _ => self.take_legacy(message).await,
        }
    }

    /// What a request of the modern client's goes to. The first finds out.
    fn upstream(&self) -> impl Future<Output = Result<Arc<Upstream<Upgraded>>, Failure>> + Send + 'static {
        let (upgraded, discovery) = (Arc::clone(&self.upgraded), self.discovery.clone());
        let (remote, server) = (Arc::clone(&self.remote), self.server.clone());
        async move {
            if !remote.config.translate || discovery.speaks_modern().await? {
                return Ok(Arc::new(Upstream::Direct(server)));
            }
            let upgraded =
                upgraded.get_or_try_init(|| async { Upgraded::new(remote, discovery).map(Arc::new) });
            Ok(Arc::new(Upstream::Translated(Arc::clone(upgraded.await?))))
        }
    }

    async fn take_legacy(&self, message: Message) {
        if let Some(downgraded) = self.downgraded() {
            return downgraded.take(message).await;
        }
        let initializes = message.method() == Some(mcp::INITIALIZE);
        let only_modern = self.remote.config.protocol == Protocol::Modern;
        let outcome = if initializes && only_modern {
            Outcome::OtherEra
        } else {
            self.bridge.take(message.clone()).await
        };
        if outcome == Outcome::OtherEra {
            self.take_other_era(message).await;
        }
    }

    /// The client initializes, and the server knows no such thing.
    async fn take_other_era(&self, message: Message) {
        if !self.remote.config.translate {
            log::warn!("{}", Failure::OtherEra);
            self.counts.begin(mcp::INITIALIZE).end(metrics::Outcome::Failed);
            let refusal = era::Refusal::UnsupportedVersion(mcp::INITIALIZE.into());
            return self.write(&refusal.response(message.request_id())).await;
        }
        let config = &self.remote.config;
        let downgraded =
            Arc::new(Downgraded::new(self.server.clone(), config, self.stdout.clone(), self.counts.clone()));
        *self.downgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&downgraded));
        downgraded.take(message).await;
    }

    /// Whether a request may be one of the legacy client's.
    fn is_legacy(&self, id: &RequestId) -> bool {
        self.bridge.may_know(id) || self.downgraded().is_some()
    }

    fn downgraded(&self) -> Option<Arc<Downgraded>> {
        self.downgraded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refuse(&self, id: Option<&RequestId>, error: &ErrorObject) {
        log::warn!("a line of the client's is refused: {}", error.message);
        self.write(&error.response(id)).await;
    }

    async fn write(&self, message: &Message) {
        if self.stdout.send(message.line.clone()).await.is_err() {
            log::debug!("a message is lost: standard output is closed");
        }
    }

    /// Waits for what is still to be worked through, and for the answers in flight; those that do not come are errors.
    pub(super) async fn last_answers(&self, work: impl Future<Output = ()>, patience: Duration) {
        let answers = async {
            work.await;
            let downgraded = self.downgraded();
            let downgraded = async {
                if let Some(downgraded) = &downgraded {
                    downgraded.answered().await;
                }
            };
            tokio::join!(self.bridge.answered(), self.modern.answered(), downgraded);
        };
        if timeout(patience, answers).await.is_ok() {
            return;
        }
        let trouble = self.remote.trouble().map(|why| format!("; {why}")).unwrap_or_default();
        let text = format!("standard input ended, and no answer came within {patience:?}{trouble}");
        let error = ErrorObject::internal("ended", text);
        let told = async {
            self.bridge.give_up(&error).await;
            self.modern.give_up(&error).await;
            if let Some(downgraded) = self.downgraded() {
                downgraded.give_up(&error).await;
            }
        };
        // A client that reads nothing is not waited for without end.
        let _ = timeout(LEAVE, told).await;
    }

    /// Ends everything that still runs, and takes leave of the server.
    pub(super) async fn leave(&self) {
        self.modern.leave();
        self.downgraded.lock().unwrap_or_else(PoisonError::into_inner).take();
        let upgraded = async {
            if let Some(upgraded) = self.upgraded.get() {
                upgraded.end().await;
            }
        };
        let _ = timeout(LEAVE, async { tokio::join!(self.bridge.leave(), upgraded) }).await;
        self.stdout.close();
        let _ = timeout(LEAVE, self.stdout.closed()).await;
    }
}

/// Reads lines into a short queue, so that the end of input is noticed whatever the work is waiting for.
pub(super) async fn read<R: AsyncRead + Unpin>(mut lines: Lines<R>, queue: mpsc::Sender<Framed>) {
    loop {
        match lines.next().await {
            Ok(Some(framed)) => {
                if queue.send(framed).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(e) => return log::error!("standard input can't be read: {e}"),
        }
    }
}
