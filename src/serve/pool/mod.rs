//! `mcp.instances` modern children that all clients share.

mod affinity;
mod instance;
mod merged;
mod supervise;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    affinity::Affinity,
    instance::{Instance, Terms},
};
use super::upstreams::NotBegun;
use crate::{
    auth::Principal,
    child::ChildCommand,
    config,
    era::{self, shared::Owner},
    jsonrpc::{ErrorObject, Kind, Message},
    mcp,
    session::Limits,
    upstream::{Call, ModernServer},
};

/// Notifications of clients that name a request, which on a shared child would be somebody else's, or that belong to
/// legacy sessions.
const NEVER_PASSED: [&str; 3] = [mcp::CANCELLED, mcp::PROGRESS, mcp::INITIALIZED];

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restarts {
    /// `mcp.restart_on_failure`.
    enabled: bool,
    /// `mcp.max_restarts`.
    max: u32,
    /// `mcp.restart_delay`.
    delay: Duration,
}

impl From<&config::Mcp> for Restarts {
    fn from(config: &config::Mcp) -> Self {
        Self { enabled: config.restart_on_failure, max: config.max_restarts, delay: config.restart_delay }
    }
}

/// How children are told to end.
#[derive(Debug, Clone, Default)]
struct Ending {
    /// When the clients are done that it is told of by [`Self::drain`]: no subscriptions from now on.
    close: CancellationToken,
    /// When nothing is in flight.
    drain: CancellationToken,
    /// Now.
    now: CancellationToken,
}

/// The shared children. None is started before it is needed.
#[derive(Debug)]
pub(super) struct Pool {
    command: ChildCommand,
    restarts: Restarts,
    instances: Vec<Arc<Instance>>,
    /// With several instances: what was issued by which.
    affinity: Option<Arc<Affinity>>,
    ending: Ending,
    started: std::sync::Once,
    supervisors: TaskTracker,
    turn: AtomicUsize,
}

impl Pool {
    pub(super) fn new(command: ChildCommand, config: &config::Mcp, limits: Limits) -> Self {
        let affinity = (config.instances > 1).then(|| Arc::new(Affinity::default()));
        let terms = Terms { limits, grace: config.graceful_shutdown_timeout };
        let instances = (0..config.instances).map(|index| Instance::new(index, terms, affinity.clone()));
        Self {
            command: command.shared(),
            restarts: Restarts::from(config),
            instances: instances.collect(),
            affinity,
            ending: Ending::default(),
            started: std::sync::Once::new(),
            supervisors: TaskTracker::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Starts the children, unless that was done before.
    pub(super) fn start(&self) {
        self.started.call_once(|| {
            for instance in &self.instances {
                let (instance, command) = (Arc::clone(instance), self.command.clone());
                self.supervisors.spawn(supervise::keep(
                    instance,
                    command,
                    self.restarts,
                    self.ending.clone(),
                ));
            }
        });
    }

    /// New requests keep to these `limits`, and children that end have `grace` to do so by themselves.
    pub(super) fn renew(&self, limits: Limits, grace: Duration) {
        self.instances.iter().for_each(|instance| instance.renew(Terms { limits, grace }));
    }

    /// Why no child is there and none will be; `None` while that is not so.
    pub(super) fn given_up(&self) -> Option<String> {
        let reasons = self.instances.iter().map(|instance| instance.failure());
        reasons.collect::<Option<Vec<_>>>()?.pop()
    }

    /// Ends subscriptions and takes no new ones. Requests are taken still: those of legacy clients in flight may need
    /// several.
    pub(super) fn close(&self) {
        self.ending.close.cancel();
    }

    /// Whether no new client's work is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        self.ending.close.is_cancelled()
    }

    /// Takes no more requests, and ends each child when nothing of it is in flight.
    pub(super) fn drain(&self) {
        self.close();
        self.supervisors.close();
        self.ending.drain.cancel();
    }

    /// Ends all children now.
    pub(super) fn end(&self) {
        self.drain();
        self.ending.now.cancel();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.ending.drain.is_cancelled()
    }

    /// Sends a principal's request, unless no new work is taken. Whatever else goes wrong is its answer.
    pub(super) async fn offer(&self, principal: &Principal, request: era::Request) -> Result<Call, NotBegun> {
        if self.is_closed() {
            return Err(NotBegun::ShuttingDown);
        }
        self.send(&principal.to_bytes().into(), request).await
    }

    async fn send(&self, owner: &Owner, request: era::Request) -> Result<Call, NotBegun> {
        self.start();
        if &*request.method == mcp::LISTEN && self.instances.len() > 1 {
            return Ok(merged::listen(&self.instances, owner, request));
        }
        self.choose(&request).call(owner, request).await
    }

    /// The pool as `principal` uses it.
    pub(super) fn of(self: &Arc<Self>, principal: &Principal) -> Arc<Share> {
        Arc::new(Share { pool: Arc::clone(self), owner: principal.to_bytes().into() })
    }

    /// Passes a client's notification on, to all children.
    pub(super) async fn notify(&self, message: Message) {
        let Kind::Notification { method, .. } = &message.kind else { return };
        if NEVER_PASSED.contains(&&**method) {
            return;
        }
        for instance in &self.instances {
            instance.notify(&message).await;
        }
    }

    /// Waits until the last child is gone.
    pub(super) async fn ended(&self) {
        self.supervisors.wait().await;
    }

    /// The instance for a request: the one that issued what it names, else the one with the least to do.
    fn choose(&self, request: &era::Request) -> &Arc<Instance> {
        let issuer = self.affinity.as_ref().and_then(|affinity| affinity.issuer(request));
        if let Some(instance) =
            issuer.and_then(|index| self.instances.get(index)).filter(|i| i.failure().is_none())
        {
            return instance;
        }
        let now = Instant::now();
        let logs = request.meta.log_level.is_some();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.instances.len();
        let (before, from) = self.instances.split_at(turn);
        let in_turn = from.iter().chain(before);
        let best = in_turn.min_by_key(|instance| {
            let load = instance.load(now);
            (load.failed, !load.running, logs && !load.can_log, load.in_flight)
        });
        best.unwrap_or(&self.instances[0])
    }
}

/// The shared children, as the one modern server of a principal.
#[derive(Debug)]
pub(super) struct Share {
    pool: Arc<Pool>,
    owner: Owner,
}

impl ModernServer for Share {
    async fn call(&self, request: era::Request) -> Call {
        let (pool, id) = (&self.pool, request.id.clone());
        let ends = pool.is_draining() || (&*request.method == mcp::LISTEN && pool.is_closed());
        let begun = if ends { Err(NotBegun::ShuttingDown) } else { pool.send(&self.owner, request).await };
        begun.unwrap_or_else(|_| Call::answered(shutting_down().response(Some(&id))))
    }

    async fn notify(&self, message: Message) {
        self.pool.notify(message).await;
    }
}

pub(super) fn shutting_down() -> ErrorObject {
    ErrorObject::internal("shutting_down", "mcp-bridge is shutting down")
}
