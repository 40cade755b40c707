//! Clients and servers of different eras.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

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
    jsonrpc::{self, ErrorObject, Kind, Line, Message, Payload, RequestId},
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
    stdout: Writer,
    waiting: Arc<Waiting>,
    counts: Exchanges,
    _passing: AbortOnDropHandle<()>,
}

/// The requests of the client that have no answer yet.
#[derive(Debug, Default)]
struct Waiting {
    ids: Mutex<HashMap<RequestId, Running>>,
    fewer: Notify,
}

impl Waiting {
    fn ids(&self) -> MutexGuard<'_, HashMap<RequestId, Running>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits no more for `id`.
    fn forget(&self, id: &RequestId, outcome: Outcome) {
        if let Some(running) = self.ids().remove(id) {
            running.end(outcome);
        }
        self.fewer.notify_waiters();
    }
}

impl Downgraded {
    /// `counts` counts the client's requests.
    pub(super) fn new(server: Server, config: &config::Connect, stdout: Writer, counts: Exchanges) -> Self {
        let mut legacy = upstream::Downgraded::new(Arc::new(server), limits(config));
        let (server, waiting) = (legacy.stdin().clone(), Arc::<Waiting>::default());
        let (out, answered) = (stdout.clone(), Arc::clone(&waiting));
        let passing = tokio::spawn(async move {
            while let Ok(from_server) = legacy.next().await {
                if let Kind::Response { id: Some(id), is_error } = &from_server.message.kind {
                    answered.forget(id, if *is_error { Outcome::Error } else { Outcome::Ok });
                }
                if out.send(from_server.message.line).await.is_err() {
                    return;
                }
            }
        });
        Self { server, stdout, waiting, counts, _passing: AbortOnDropHandle::new(passing) }
    }

    pub(super) async fn take(&self, message: Message) {
        match &message.kind {
            Kind::Request { id, method, .. } => {
                let running = self.counts.begin(method);
                self.waiting.ids().insert(id.clone(), running);
            }
            Kind::Notification { method, about: Some(id) } if &**method == mcp::CANCELLED => {
                self.waiting.forget(id, Outcome::Cancelled);
            }
            _ => {}
        }
        if self.server.send(message.line).await.is_err() {
            log::warn!("a message of the client's is lost: its session has ended");
        }
    }

    /// Waits until every request has its answer.
    pub(super) async fn answered(&self) {
        loop {
            let fewer = self.waiting.fewer.notified();
            if self.waiting.ids().is_empty() {
                return;
            }
            fewer.await;
        }
    }

    /// Answers what still waits with `error`.
    pub(super) async fn give_up(&self, error: &ErrorObject) {
        let left: Vec<_> = self.waiting.ids().drain().map(|(id, _)| id).collect();
        for id in left {
            let _ = self.stdout.send(error.response(Some(&id)).line).await;
        }
    }
}

/// Most messages of the translation's that wait to be sent.
const MAX_LINES: usize = 1024;
/// Most bytes of the server's messages that wait to be translated.
const MAX_QUEUED: u32 = 4 * 1024 * 1024;

/// A session with the remote server, of whose messages somebody else makes something.
#[derive(Debug)]
struct RemoteSession {
    bridge: Arc<Bridge>,
    lines: mpsc::Sender<Line>,
    messages: Receiver<FromServer>,
    _taking: AbortOnDropHandle<()>,
}

impl RemoteSession {
    fn new(remote: Arc<Remote>, discovery: Discovery) -> Self {
        let (sender, messages) = queue::bounded(MAX_QUEUED);
        let bridge = Bridge::new(remote, discovery, Out::Translator(sender), Exchanges::default());
        let (lines, mut queue) = mpsc::channel::<Line>(MAX_LINES);
        let taker = Arc::clone(&bridge);
        let taking = tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                if let Ok(Payload::Single(message)) = jsonrpc::parse(line.bytes().clone()) {
                    taker.take(message).await;
                }
            }
        });
        Self { bridge, lines, messages, _taking: AbortOnDropHandle::new(taking) }
    }
}

impl LegacyServer for RemoteSession {
    fn send(&mut self, line: Line) -> Result<(), ErrorObject> {
        let untaken = |_| ErrorObject::internal("server_unwritable", "the server takes no more messages");
        self.lines.try_send(line).map_err(untaken)
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
        self.tasks
            .spawn(async move { log::info!("a session with the server has ended: {:?}", session.await) });
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
