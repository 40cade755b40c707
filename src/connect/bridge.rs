//! A legacy client's messages, in order, and what becomes of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    LEAVE,
    answer::Answer,
    exchange::{self, Outcome, Times},
    failure::Failure,
    in_flight::{InFlight, Waiting},
    listen,
    modern::Discovery,
    remote::{Delays, Remote},
    session::Session,
};
use crate::{
    framing::{queue::Sender, writer::Writer},
    jsonrpc::{ErrorObject, Kind, Line, Message, RequestId},
    logging, mcp,
    metrics::{self, Exchanges},
    upstream::FromServer,
};

/// How long the server may take to take in a message that wants no answer.
pub(super) const NOTIFY_PATIENCE: Duration = Duration::from_secs(30);
/// How long the client's next message waits for the server to open its own stream.
const LISTEN_PATIENCE: Duration = Duration::from_secs(1);

/// Where the server's messages go.
#[derive(Debug)]
pub(super) enum Out {
    /// To the client itself.
    Client(Writer),
    /// To what translates them.
    Translator(Sender<FromServer>),
}

/// One legacy client and its session with the remote server.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) remote: Arc<Remote>,
    pub(super) discovery: Discovery,
    pub(super) out: Out,
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
    /// `counts` counts the client's requests.
    pub(super) fn new(remote: Arc<Remote>, discovery: Discovery, out: Out, counts: Exchanges) -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new(Session::new(remote.config.transport)),
            remote,
            discovery,
            out,
            in_flight: InFlight::new(counts),
            reopening: tokio::sync::Mutex::default(),
            epoch: watch::Sender::new(0),
            reached: Notify::new(),
            exchanges: TaskTracker::new(),
            listener: Mutex::default(),
        })
    }

    /// The time that a request has. A translation keeps it itself, which alone knows whose client has been asked
    /// something and is waited for.
    pub(super) fn times(&self) -> Times {
        match &self.out {
            Out::Client(_) => Times::new(&self.remote.config),
            Out::Translator(_) => Times::unlimited(),
        }
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may be one of this client's: one that waits, or an earlier one of its session.
    pub(super) fn may_know(&self, id: &RequestId) -> bool {
        self.session().epoch() > 0 || self.in_flight.contains(id)
    }

    /// Takes in a message of the client's; [`Outcome::OtherEra`] when it is `initialize` and the server knows none.
    pub(super) async fn take(self: &Arc<Self>, message: Message) -> Outcome {
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
                        let outcome = exchange.await;
                        self.use_session();
                        return outcome.unwrap_or(Outcome::Done);
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
            Kind::Response { .. } => self.answer_server(&message.line).await,
        }
        Outcome::Done
    }

    /// A request waits here no more, and nobody is told.
    pub(super) fn forget(&self, id: &RequestId) {
        self.in_flight.forget(id);
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

    /// Sends the client's answer to a request of the server's. It is sent again when its connection breaks: a server takes
    /// one answer to each of its requests, and waits long for one that was lost.
    async fn answer_server(self: &Arc<Self>, line: &Line) {
        let sent = async {
            let mut delays = Delays::new(self.remote.config.retry);
            loop {
                let broken = match async { self.send(line).await?.taken_in().await }.await {
                    Err(broken @ Failure::Broken(_)) => broken,
                    done => return done,
                };
                match delays.next() {
                    Some(delay) => sleep(delay).await,
                    None => return Err(broken),
                }
            }
        };
        if let Err(e) =
            timeout(NOTIFY_PATIENCE, sent).await.unwrap_or(Err(Failure::TimedOut(NOTIFY_PATIENCE)))
        {
            log::warn!("an answer was not taken in: {e}");
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
    /// `about` is the request on whose stream it came.
    pub(super) async fn deliver(&self, message: Message, about: Option<&RequestId>) {
        logging::body(None, "from the server", &message.line);
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
        self.write(message, about).await;
    }

    /// A message of the server's on the stream that all requests share.
    pub(super) async fn hear(&self, message: Message) {
        self.in_flight.heard(&message);
        self.deliver(message, None).await;
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
        self.write(error.response(id), id).await;
    }

    async fn write(&self, message: Message, about: Option<&RequestId>) {
        let written = match &self.out {
            Out::Client(stdout) => stdout.send(message.line).await.is_ok(),
            Out::Translator(translator) => {
                let room = translator.reserve(message.line.len()).await;
                room.is_ok_and(|room| translator.send(FromServer { message, about: about.cloned() }, room))
            }
        };
        if !written {
            log::debug!("a message is lost: nobody takes it any more");
        }
    }

    /// Waits until every request has its answer; no more may come.
    pub(super) async fn answered(&self) {
        self.exchanges.close();
        self.exchanges.wait().await;
    }

    /// Answers what still waits with `error`.
    pub(super) async fn give_up(&self, error: &ErrorObject) {
        for id in self.in_flight.ids() {
            self.answer(&id, error).await;
        }
    }

    /// Ends the session and everything that still runs.
    pub(super) async fn leave(&self) {
        self.stop_listening();
        self.in_flight.cancel_all();
        let (_, channel) = self.session().channel();
        if let Some(channel) = channel {
            let _ = timeout(LEAVE, channel.leave(&self.remote)).await;
        }
    }
}
