//! Clients and servers of different eras.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{
    bridge::{Bridge, Out},
    modern::{Discovery, Server},
    remote::Remote,
};
use crate::{
    config,
    framing::{
        queue::{self, Receiver},
        writer::Writer,
    },
    jsonrpc::{self, ErrorObject, Kind, Line, Message, Payload, RequestId},
    mcp,
    session::Limits,
    upstream::{self, FromServer, LegacyServer},
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
    _passing: AbortOnDropHandle<()>,
}

/// The requests of the client that have no answer yet.
#[derive(Debug, Default)]
struct Waiting {
    ids: Mutex<HashSet<RequestId>>,
    fewer: Notify,
}

impl Waiting {
    fn ids(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits no more for `id`.
    fn forget(&self, id: &RequestId) {
        self.ids().remove(id);
        self.fewer.notify_waiters();
    }
}

impl Downgraded {
    pub(super) fn new(server: Server, config: &config::Connect, stdout: Writer) -> Self {
        let mut legacy = upstream::Downgraded::new(Arc::new(server), limits(config));
        let (server, waiting) = (legacy.stdin().clone(), Arc::<Waiting>::default());
        let (out, answered) = (stdout.clone(), Arc::clone(&waiting));
        let passing = tokio::spawn(async move {
            while let Ok(from_server) = legacy.next().await {
                if let Kind::Response { id: Some(id), .. } = &from_server.message.kind {
                    answered.forget(id);
                }
                if out.send(from_server.message.line).await.is_err() {
                    return;
                }
            }
        });
        Self { server, stdout, waiting, _passing: AbortOnDropHandle::new(passing) }
    }

    pub(super) async fn take(&self, message: Message) {
        match &message.kind {
            Kind::Request { id, .. } => drop(self.waiting.ids().insert(id.clone())),
            Kind::Notification { method, about: Some(id) } if &**method == mcp::CANCELLED => {
                self.waiting.forget(id);
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
        let left: Vec<_> = self.waiting.ids().drain().collect();
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
        let bridge = Bridge::new(remote, discovery, Out::Translator(sender));
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
