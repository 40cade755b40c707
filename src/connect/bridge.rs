//! The lines of the client, in order, and what becomes of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::{
    io::AsyncRead,
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LEAVE, MAX_MESSAGE, answer::Answer, exchange, failure::Failure, listen, remote::Remote, session::Session,
};
use crate::{
    framing::{
        lines::{Framed, Lines},
        writer::Writer,
    },
    jsonrpc::{ErrorObject, Kind, Line, Message, Payload, RequestId, code, parse},
    logging, mcp,
    metrics::{Exchanges, Outcome, Running},
};

/// Most requests in flight.
const MAX_IN_FLIGHT: usize = 1024;
/// How long the server may take to take in a message that wants no answer.
const NOTIFY_PATIENCE: Duration = Duration::from_secs(30);

/// One stdio client and its session with the remote server.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) remote: Remote,
    stdout: Writer,
    session: Mutex<Session>,
    /// Requests that wait for an answer.
    in_flight: Mutex<HashMap<RequestId, Waiting>>,
    counts: Exchanges,
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

/// A request that waits for its answer.
#[derive(Debug)]
struct Waiting {
    /// Ends the wait.
    cancelled: CancellationToken,
    running: Running,
}

impl Bridge {
    pub(super) fn new(remote: Remote, stdout: Writer, counts: Exchanges) -> Arc<Self> {
        Arc::new(Self {
            remote,
            stdout,
            session: Mutex::default(),
            in_flight: Mutex::default(),
            counts,
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

    fn in_flight(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
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
            Kind::Request { id, method, .. } => {
                let id = id.clone();
                if let Some(cancelled) = self.begin(&id, method).await {
                    let begins = self.note(&message);
                    let exchange = exchange::run(Arc::clone(self), message, id, cancelled);
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
                self.note(&message);
                self.notify(&message.line, method).await;
                if &**method == mcp::INITIALIZED {
                    self.use_session();
                    self.listen();
                }
            }
            Kind::Response { .. } => self.notify(&message.line, "an answer").await,
        }
    }

    /// Notes what the client sends; true when a new session begins with it, which ends the one before.
    fn note(self: &Arc<Self>, message: &Message) -> bool {
        let before = self.session().note(message);
        if let Some(headers) = before.clone().filter(|headers| headers.id.is_some()) {
            let bridge = Arc::clone(self);
            bridge.stop_listening();
            tokio::spawn(async move { timeout(LEAVE, bridge.remote.delete(&headers)).await.map(drop) });
        }
        before.is_some()
    }

    /// Notes a request in flight, unless there may be no more or it is there already.
    async fn begin(&self, id: &RequestId, method: &str) -> Option<CancellationToken> {
        let running = self.counts.begin(method);
        let refused = {
            let mut in_flight = self.in_flight();
            if in_flight.contains_key(id) {
                ErrorObject::invalid("duplicate_id", "the id is that of a request in flight")
            } else if in_flight.len() >= MAX_IN_FLIGHT {
                let text = format!("more than {MAX_IN_FLIGHT} requests are in flight");
                ErrorObject::internal("too_many_requests", text)
            } else {
                let cancelled = CancellationToken::new();
                in_flight.insert(id.clone(), Waiting { cancelled: cancelled.clone(), running });
                return Some(cancelled);
            }
        };
        self.fail(Some(id), &refused).await;
        None
    }

    /// A cancelled request gets no answer. `initialize` is never cancelled.
    fn cancel(&self, id: &RequestId) {
        if !self.session().is_initialize(id) {
            let waiting = self.in_flight().remove(id);
            waiting.into_iter().for_each(Waiting::cancel);
        }
    }

    fn use_session(&self) {
        let epoch = self.session().epoch();
        self.epoch.send_replace(epoch);
    }

    /// Listens to the session in use, and no longer to the one before.
    fn listen(self: &Arc<Self>) {
        let (bridge, ended) = (Arc::clone(self), self.stop_listening());
        tokio::spawn(async move {
            tokio::select! {
                () = listen::run(&bridge) => {}
                () = ended.cancelled() => {}
            }
        });
    }

    fn stop_listening(&self) -> CancellationToken {
        let next = CancellationToken::new();
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *listener, next.clone()).cancel();
        next
    }

    /// Sends a message that wants no answer; nobody can be told of a failure but the log.
    async fn notify(self: &Arc<Self>, line: &Line, what: &str) {
        let sent = timeout(NOTIFY_PATIENCE, self.send_notification(line)).await;
        if let Err(e) = sent.unwrap_or(Err(Failure::TimedOut(NOTIFY_PATIENCE))) {
            log::warn!("{what} was not taken in: {e}");
        }
    }

    async fn send_notification(self: &Arc<Self>, line: &Line) -> Result<(), Failure> {
        let (epoch, headers) = self.session().headers();
        let mut answer = Answer::of(self.remote.post(line, &headers).await?)?;
        if is_lost(&answer, headers.id.is_some()) {
            let (_, headers) = self.reopen(epoch, Some(line)).await?;
            answer = Answer::of(self.remote.post(line, &headers).await?)?;
        }
        match answer {
            Answer::Refused(refused) => refused.explain().await.and_then(|error| {
                Err(Failure::Status(format!("the server refused it: {}", error.line.as_str())))
            }),
            _ => Ok(()),
        }
    }

    /// A message of the server's, for the client. An answer passes once, and only if it is waited for.
    pub(super) async fn deliver(&self, message: Message) {
        logging::body(None, "from the server", message.line.as_str());
        if let Kind::Response { id, is_error } = &message.kind {
            match id.as_ref().and_then(|id| self.in_flight().remove(id)) {
                Some(waiting) => waiting.running.end(if *is_error { Outcome::Error } else { Outcome::Ok }),
                None => return log::warn!("an answer of the server's is dropped: nobody waits for it"),
            }
        }
        self.write(message.line).await;
    }

    /// Answers a request with an error of the bridge's, unless it has been answered or cancelled.
    pub(super) async fn answer(&self, id: &RequestId, error: &ErrorObject) {
        if self.in_flight().remove(id).is_some() {
            self.fail(Some(id), error).await;
        }
    }

    /// Whether a request still waits for its answer.
    pub(super) fn is_waiting(&self, id: &RequestId) -> bool {
        self.in_flight().contains_key(id)
    }

    async fn fail(&self, id: Option<&RequestId>, error: &ErrorObject) {
        log::warn!(
            "request {}: {}",
            id.map_or_else(|| "without an id".to_owned(), ToString::to_string),
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
        let left: Vec<_> = self.in_flight().keys().cloned().collect();
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
        self.in_flight().drain().for_each(|(_, waiting)| waiting.cancel());
        let (_, headers) = self.session().headers();
        if headers.id.is_some()
            && let Ok(Err(e)) = timeout(patience, self.remote.delete(&headers)).await
        {
            log::debug!("the session was not ended: {e}");
        }
        self.stdout.close();
        let _ = timeout(patience, self.stdout.closed()).await;
    }
}

impl Waiting {
    /// Nobody wants the answer any more.
    fn cancel(self) {
        self.cancelled.cancel();
        self.running.end(Outcome::Cancelled);
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

/// Whether an answer says that the session is no more.
pub(super) fn is_lost(answer: &Answer, in_session: bool) -> bool {
    in_session && matches!(answer, Answer::Refused(refused) if refused.status == StatusCode::NOT_FOUND)
}
