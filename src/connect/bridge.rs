//! The lines of the client, in order, and what becomes of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::AsyncRead,
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LEAVE, MAX_MESSAGE,
    answer::Answer,
    exchange,
    failure::Failure,
    in_flight::{InFlight, Waiting},
    listen,
    remote::Remote,
    session::Session,
};
use crate::{
    framing::{
        lines::{Framed, Lines},
        writer::Writer,
    },
    jsonrpc::{ErrorObject, Kind, Line, Message, Payload, RequestId, code, parse},
    logging, mcp,
    metrics::{self, Exchanges},
};

/// How long the server may take to take in a message that wants no answer.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(30);
/// How long the client's next message waits for the server to open its own stream.
const LISTEN_PATIENCE: Duration = Duration::from_secs(1);

/// One stdio client and its session with the remote server.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) remote: Remote,
    stdout: Writer,
    session: Mutex<Session>,
    in_flight: InFlight,
    /// Held while a lost session is opened again.
    pub(super) reopening: tokio::sync::Mutex<()>,
    /// The number of the session in use, for the one who listens.
    pub(super) epoch: watch::Sender<u64>,
    /// The server was reached, which makes it worth while to listen again.
    pub(super) reached: Notify,
    exchanges: TaskTracker,
    /// Ends the one who listens.
    listener: Mutex<CancellationToken>,
}

impl Bridge {
    pub(super) fn new(remote: Remote, stdout: Writer, counts: Exchanges) -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new(Session::new(remote.config.transport)),
            remote,
            stdout,
            in_flight: InFlight::new(counts),
            reopening: tokio::sync::Mutex::default(),
            epoch: watch::Sender::new(0),
            reached: Notify::new(),
            exchanges: TaskTracker::new(),
            listener: Mutex::default(),
        })
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn stdout_closed(&self) {
        self.stdout.closed().await;
    }

    /// Works through what [`read`] has read, until there is no more.
    pub(super) async fn work(self: &Arc<Self>, mut lines: mpsc::Receiver<Framed>) {
        while let Some(framed) = lines.recv().await {
            match framed {
                Framed::Line(line) => self.take_line(line).await,
                Framed::TooLong { length, .. } => {
                    let text = format!("a message of {length} bytes; at most {MAX_MESSAGE} are passed on");
                    self.fail(None, &ErrorObject::invalid("message_too_long", text)).await;
                }
            }
        }
    }

    async fn take_line(self: &Arc<Self>, line: Bytes) {
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
                self.fail(e.id(), &ErrorObject { code: e.code(), message: e.to_string(), reason }).await;
            }
        }
    }

    async fn take(self: &Arc<Self>, message: Message) {
        logging::body(None, "from the client", message.line.as_str());
        match &message.kind {
            Kind::Request { id, .. } => {
                let id = id.clone();
                let begins = message.method() == Some(mcp::INITIALIZE);
                if let Some(waiting) = self.begin(&id, &message).await {
                    if begins {
                        self.begin_session(&message);
                    }
                    let exchange = exchange::run(Arc::clone(self), message, id, waiting);
                    let exchange = self.exchanges.spawn(exchange);
                    if begins {
                        // What follows belongs to the session that this opens.
                        let _ = exchange.await;
                        self.use_session();
                    }
                }
            }
            Kind::Notification { method, about } => {
                if let (mcp::CANCELLED, Some(id)) = (&**method, about) {
                    self.cancel(id);
                }
                let confirms = &**method == mcp::INITIALIZED;
                if confirms {
                    self.session().confirmed(&message.line);
                }
                self.notify(&message.line, method).await;
                if confirms {
                    self.use_session();
                    // What follows may have the server ask something, which it can do only on a stream that is open.
                    let _ = timeout(LISTEN_PATIENCE, self.listen()).await;
                }
            }
            Kind::Response { .. } => self.notify(&message.line, "an answer").await,
        }
    }

    /// A new session begins, which ends the one before.
    fn begin_session(self: &Arc<Self>, initialize: &Message) {
        let before = self.session().begin(initialize);
        self.stop_listening();
        if let Some(channel) = before {
            let bridge = Arc::clone(self);
            tokio::spawn(async move { timeout(LEAVE, channel.leave(&bridge.remote)).await });
        }
    }

    /// Notes a request in flight; one that can't be is answered.
    async fn begin(&self, id: &RequestId, message: &Message) -> Option<Waiting> {
        match self.in_flight.begin(id, message) {
            Ok(waiting) => Some(waiting),
            Err(refused) => {
                self.fail(Some(id), &refused).await;
                None
            }
        }
    }

    /// A cancelled request gets no answer. `initialize` is never cancelled.
    fn cancel(&self, id: &RequestId) {
        if !self.session().is_initialize(id) {
            self.in_flight.cancel(id);
        }
    }

    pub(super) fn use_session(&self) {
        let epoch = self.session().epoch();
        self.epoch.send_replace(epoch);
    }

    /// Listens to the session in use, and no longer to the one before. What is returned resolves when the server has
    /// answered the first attempt, or will not.
    fn listen(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let (bridge, ended) = (Arc::clone(self), self.stop_listening());
        let (answered, first) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                () = listen::run(&bridge, answered) => {}
                () = ended.cancelled() => {}
            }
        });
        first
    }

    fn stop_listening(&self) -> CancellationToken {
        let next = CancellationToken::new();
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *listener, next.clone()).cancel();
        next
    }

    /// Sends a message that wants no answer; nobody can be told of a failure but the log.
    async fn notify(self: &Arc<Self>, line: &Line, what: &str) {
        let sent = timeout(NOTIFY_PATIENCE, async { self.send(line).await?.taken_in().await }).await;
        if let Err(e) = sent.unwrap_or(Err(Failure::TimedOut(NOTIFY_PATIENCE))) {
            log::warn!("{what} was not taken in: {e}");
        }
    }

    /// Sends a message by the session, which is opened again when it is lost: what was refused for that has not run.
    pub(super) async fn send(self: &Arc<Self>, line: &Line) -> Result<Answer, Failure> {
        let (epoch, channel) = self.session().channel();
        let channel = channel.ok_or(Failure::NoSession)?;
        if !channel.is_over() {
            let answer = channel.send(&self.remote, line).await?;
            if !channel.is_lost(&answer) {
                return Ok(answer);
            }
        }
        self.reopen(epoch, Some(line)).await?.send(&self.remote, line).await
    }

    /// A message of the server's, for the client. An answer passes once, and only if it is waited for.
    pub(super) async fn deliver(&self, message: Message) {
        logging::body(None, "from the server", message.line.as_str());
        if let Kind::Response { id, is_error } = &message.kind {
            let outcome = if *is_error { metrics::Outcome::Error } else { metrics::Outcome::Ok };
            let waited_for = id.as_ref().and_then(|id| self.in_flight.answered(id, outcome));
            let Some(change) = waited_for else {
                // As is usual where the client has cancelled the request meanwhile.
                return log::info!("an answer of the server's is dropped: nobody waits for it");
            };
            if !is_error {
                self.session().granted(change, &message.line);
            }
        }
        self.write(message.line).await;
    }

    /// A message of the server's on the stream that all requests share.
    pub(super) async fn hear(&self, message: Message) {
        self.in_flight.heard(&message);
        self.deliver(message).await;
    }

    /// Answers a request with an error of the bridge's; false if it has been answered or cancelled before.
    pub(super) async fn answer(&self, id: &RequestId, error: &ErrorObject) -> bool {
        let waits = self.in_flight.answered(id, metrics::Outcome::Failed).is_some();
        if waits {
            self.fail(Some(id), error).await;
        }
        waits
    }

    async fn fail(&self, id: Option<&RequestId>, error: &ErrorObject) {
        log::warn!(
            "request {}: {}",
            id.map_or_else(|| "without an id".to_owned(), RequestId::shown),
            error.message
        );
        self.write(error.response(id).line).await;
    }

    async fn write(&self, line: Line) {
        if self.stdout.send(line).await.is_err() {
            log::debug!("a message is lost: standard output is closed");
        }
    }

    /// Waits for what is still to be worked through, and for the answers in flight; those that do not come are errors.
    pub(super) async fn last_answers(&self, work: impl Future<Output = ()>, patience: Duration) {
        let answers = async {
            work.await;
            self.exchanges.close();
            self.exchanges.wait().await;
        };
        if timeout(patience, answers).await.is_ok() {
            return;
        }
        let left = self.in_flight.ids();
        let trouble = self.remote.trouble().map(|why| format!("; {why}")).unwrap_or_default();
        let text = format!("standard input ended, and no answer came within {patience:?}{trouble}");
        let error = ErrorObject::internal("ended", text);
        let told = async {
            for id in left {
                self.answer(&id, &error).await;
            }
        };
        // A client that reads nothing is not waited for without end.
        let _ = timeout(LEAVE, told).await;
    }

    /// Ends the session and everything that still runs.
    pub(super) async fn leave(self: Arc<Self>, patience: Duration) {
        self.stop_listening();
        self.in_flight.cancel_all();
        let (_, channel) = self.session().channel();
        if let Some(channel) = channel {
            let _ = timeout(patience, channel.leave(&self.remote)).await;
        }
        self.stdout.close();
        let _ = timeout(patience, self.stdout.closed()).await;
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
