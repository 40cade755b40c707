//! Clients and servers of different eras.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    bridge::{Bridge, Out},
    failure::Failure,
    modern::{Discovery, Server},
    remote::Remote,
};
use crate::{
    config,
    era::{
        self,
        state::{self, Sealer},
        upgrade::{Capabilities, Lanes, Setup, not_good},
    },
    framing::{
        queue::{self, Receiver},
        writer::Writer,
    },
    jsonrpc::{ErrorObject, Kind, Message, RequestId},
    mcp,
    metrics::{Exchanges, Outcome, Running},
    session::Limits,
    upstream::{self, Call, FromServer, LegacyServer, ModernServer, UpgradeHandle},
};

/// How long exchanges may take, as the configuration says.
fn limits(config: &config::Connect) -> Limits {
    Limits { silence: config.timeout, total: config.max_request_time }
}

/// A modern server, for the legacy client on standard input. Dropping it ends all that it has begun.
#[derive(Debug)]
pub(super) struct Downgraded {
    server: Writer,
    client: Arc<LegacyClient>,
    _passing: AbortOnDropHandle<()>,
}

/// The client, and those of its requests that have no answer yet.
#[derive(Debug)]
struct LegacyClient {
    stdout: Writer,
    counts: Exchanges,
    waiting: Mutex<HashMap<RequestId, Waiting>>,
    open: TaskTracker,
}

#[derive(Debug)]
struct Waiting {
    running: Running,
    /// It is `initialize`, which is never cancelled.
    begins: bool,
    /// Dropped when the answer is on its way.
    open: TaskTrackerToken,
}

impl LegacyClient {
    fn waiting(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request; false when its id is that of another.
    fn begin(&self, id: &RequestId, method: &str) -> bool {
        let running = self.counts.begin(method);
        match self.waiting().entry(id.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                let begins = method == mcp::INITIALIZE;
                free.insert(Waiting { running, begins, open: self.open.token() });
                true
            }
        }
    }

    fn cancel(&self, id: &RequestId) {
        let cancelled = match self.waiting().entry(id.clone()) {
            Entry::Occupied(entry) if !entry.get().begins => entry.remove(),
            _ => return,
        };
        cancelled.running.end(Outcome::Cancelled);
    }

    /// Passes a message of the server's on: an answer only if it is waited for.
    async fn pass(&self, message: Message) {
        let mut _open = None;
        if let Kind::Response { id: Some(id), is_error } = &message.kind {
            let Some(waiting) = self.waiting().remove(id) else {
                return log::info!("an answer of the server's is dropped: nobody waits for it");
            };
            waiting.running.end(if *is_error { Outcome::Error } else { Outcome::Ok });
            _open = Some(waiting.open);
        }
        self.write(message).await;
    }

    async fn write(&self, message: Message) {
        if self.stdout.send(message.line).await.is_err() {
            log::debug!("a message is lost: standard output is closed");
        }
    }

    /// Answers what still waits with `error`.
    async fn give_up(&self, error: &ErrorObject) {
        let left: Vec<_> = self.waiting().drain().collect();
        for (id, _failed) in left {
            self.write(error.response(Some(&id))).await;
        }
    }
}

impl Downgraded {
    /// `counts` counts the client's requests.
    pub(super) fn new(server: Server, config: &config::Connect, stdout: Writer, counts: Exchanges) -> Self {
        let mut legacy = upstream::Downgraded::new(Arc::new(server), limits(config));
        let server = legacy.stdin().clone();
        let (waiting, open) = (Mutex::default(), TaskTracker::new());
        let client = Arc::new(LegacyClient { stdout, counts, waiting, open });
        let passing = tokio::spawn({
            let client = Arc::clone(&client);
            async move {
                let error = loop {
                    match legacy.next().await {
                        Ok(from_server) => client.pass(from_server.message).await,
                        Err(error) => break error,
                    }
                };
                client.give_up(&error).await;
            }
        });
        Self { server, client, _passing: AbortOnDropHandle::new(passing) }
    }

    pub(super) async fn take(&self, message: Message) {
        match &message.kind {
            Kind::Request { id, method, .. } if !self.client.begin(id, method) => {
                let refused = ErrorObject::invalid("duplicate_id", "the id is that of a request in flight");
                return self.client.write(refused.response(Some(id))).await;
            }
            Kind::Notification { method, about: Some(id) } if &**method == mcp::CANCELLED => {
                self.client.cancel(id);
            }
            _ => {}
        }
        if let Err(e) = self.server.send(message.line).await {
            self.client.give_up(&ErrorObject::internal("internal", format!("its translation: {e}"))).await;
        }
    }

    /// Waits until every request has its answer; no more may come.
    pub(super) async fn answered(&self) {
        self.client.open.close();
        self.client.open.wait().await;
    }

    /// Answers what still waits with `error`.
    pub(super) async fn give_up(&self, error: &ErrorObject) {
        self.client.give_up(error).await;
    }
}

/// Most messages of the translation's that wait to be sent.
const MAX_WAITING: usize = 1024;
/// Most bytes of the server's messages that wait to be translated.
const MAX_QUEUED: u32 = 4 * 1024 * 1024;

/// A session with the remote server, of whose messages somebody else makes something.
#[derive(Debug)]
struct RemoteSession {
    bridge: Arc<Bridge>,
    waiting: mpsc::Sender<Message>,
    messages: Receiver<FromServer>,
    _taking: AbortOnDropHandle<()>,
}

impl RemoteSession {
    fn new(remote: Arc<Remote>, discovery: Discovery) -> Self {
        let (sender, messages) = queue::bounded(MAX_QUEUED);
        let bridge = Bridge::new(remote, discovery, Out::Translator(sender), Exchanges::default());
        let (waiting, mut queue) = mpsc::channel(MAX_WAITING);
        let taker = Arc::clone(&bridge);
        let taking = tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                taker.take(message).await;
            }
        });
        Self { bridge, waiting, messages, _taking: AbortOnDropHandle::new(taking) }
    }
}

impl LegacyServer for RemoteSession {
    fn send(&mut self, message: Message) -> Result<(), ErrorObject> {
        let untaken = |_| ErrorObject::internal("server_unwritable", "the server takes no more messages");
        self.waiting.try_send(message).map_err(untaken)
    }

    async fn next(&mut self) -> Result<FromServer, ErrorObject> {
        let next = self.messages.recv().await.map(|(message, _room)| message);
        next.ok_or_else(|| ErrorObject::internal("session_ended", "the session was ended"))
    }

    async fn end(self) {
        self.bridge.leave().await;
    }
}

/// How long a session with the server lasts of which nothing is open.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Most sessions, for clients that say differently what they can do.
const MAX_SESSIONS: usize = 16;

/// A legacy server, for the modern client on standard input: a session for each set of capabilities that it declares.
#[derive(Debug)]
pub(super) struct Upgraded {
    remote: Arc<Remote>,
    discovery: Discovery,
    sealer: Arc<Sealer>,
    sessions: Mutex<Sessions>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Sessions {
    /// The last number that was given to one.
    last: u64,
    open: Vec<(u64, Capabilities, UpgradeHandle)>,
}

impl Upgraded {
    pub(super) fn new(remote: Arc<Remote>, discovery: Discovery) -> Result<Self, Failure> {
        let sealer = Sealer::new().map_err(|e| Failure::NotSent(e.to_string()))?;
        let (sessions, tasks) = (Mutex::default(), TaskTracker::new());
        Ok(Self { remote, discovery, sealer: Arc::new(sealer), sessions, tasks })
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.open.retain(|(_, _, handle)| !handle.is_closed());
        sessions
    }

    /// The session for a request, opened if need be.
    fn session(&self, request: &era::Request) -> Result<UpgradeHandle, ErrorObject> {
        let capabilities = Capabilities::read(&request.meta.capabilities);
        let mut sessions = self.sessions();
        if let Some((_, _, handle)) = sessions.open.iter().find(|(_, theirs, _)| *theirs == capabilities) {
            return Ok(handle.clone());
        }
        if sessions.open.len() >= MAX_SESSIONS {
            let text = format!("requests with {MAX_SESSIONS} different sets of capabilities are in flight");
            return Err(ErrorObject::internal("too_many_sessions", text));
        }
        sessions.last += 1;
        let number = sessions.last;
        let setup = Setup {
            capabilities: capabilities.clone(),
            client_info: request.meta.client_info.clone(),
            // The stream that a question comes on says whose it is.
            lanes: Lanes::Concurrent,
            limits: limits(&self.remote.config),
            // There is only one.
            principal: Box::default(),
            sealer: Arc::clone(&self.sealer),
            session: number,
        };
        let server = RemoteSession::new(Arc::clone(&self.remote), self.discovery.clone());
        let (handle, session) = upstream::upgrade(server, setup, IDLE);
        self.tasks.spawn(async move {
            // Not within the log's macro, which does nothing at all at a higher level.
            let end = session.await;
            log::info!("session u{number} with the server has ended: {end:?}");
        });
        sessions.open.push((number, capabilities, handle.clone()));
        Ok(handle)
    }

    /// A retry goes to the session that holds its call.
    fn holder(&self, state: &str) -> Option<UpgradeHandle> {
        let number = state::session_of(state)?;
        let sessions = self.sessions();
        sessions.open.iter().find(|(theirs, ..)| *theirs == number).map(|(_, _, handle)| handle.clone())
    }

    /// Takes leave of the server.
    pub(super) async fn end(&self) {
        self.sessions().open.iter().for_each(|(_, _, handle)| handle.end());
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl ModernServer for Upgraded {
    async fn call(&self, mut request: era::Request) -> Call {
        let id = request.id.clone();
        match state::presented(&request) {
            Err(refusal) => return Call::answered(refusal.response(Some(&id))),
            Ok(Some(state)) => match self.holder(&state) {
                Some(session) => return session.call(request).await,
                None => return Call::answered(not_good().response(Some(&id))),
            },
            Ok(None) => {}
        }
        loop {
            let session = match self.session(&request) {
                Ok(session) => session,
                Err(error) => return Call::answered(error.response(Some(&id))),
            };
            match session.offer(request).await {
                Ok(call) => return call,
                // It has ended meanwhile; another one takes its place.
                Err(given_back) => request = given_back,
            }
        }
    }

    async fn notify(&self, message: Message) {
        log::debug!("{} is dropped: the server has no use for it", message.method().unwrap_or("a message"));
    }
}
