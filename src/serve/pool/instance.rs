//! One shared child as requests reach it, whichever process it is just then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Affinity, NotBegun};
use crate::{
    era::{
        self,
        shared::{Delivery, Ended, Number, Outcome, Owner, Shared},
    },
    framing::{
        queue::NoRoom,
        writer::{Unwritable, Writer},
    },
    jsonrpc::{ErrorObject, Kind, Line, Message, RequestId},
    mcp,
    session::Limits,
    upstream::{self, Call, Item, Replies},
};

/// How long a request waits for a child that is being started again.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) index: usize,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
    affinity: Option<Arc<Affinity>>,
    /// Something changed that the driver must look at.
    pub(super) wake: Notify,
    this: Weak<Self>,
}

/// What an instance keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) limits: Limits,
    /// `mcp.graceful_shutdown_timeout`.
    pub(super) grace: Duration,
}

/// What the instance's lock protects.
#[derive(Debug)]
struct State {
    shared: Shared,
    grace: Duration,
    replies: HashMap<Number, Replies>,
    /// Which of its processes it is; what was meant for one must not reach the next.
    process: u64,
    /// The input of that process, while it takes any.
    stdin: Option<Writer>,
    /// When the driver looks again by itself.
    looks_at: Option<Instant>,
    /// Subscriptions have been completed: no more begin.
    closed: bool,
}

/// Whether there is a process.
#[derive(Debug, Clone)]
enum Phase {
    /// Soon.
    Starting,
    /// This one.
    Running(Process),
    /// No, and never again; why.
    Failed(ErrorObject),
    /// No: the bridge ends.
    Ended,
}

/// Why a request does not reach a process.
enum NotSent {
    Ended,
    Failed(ErrorObject),
}

impl From<ErrorObject> for NotSent {
    fn from(error: ErrorObject) -> Self {
        Self::Failed(error)
    }
}

/// One process, as requests see it.
#[derive(Debug, Clone)]
struct Process {
    number: u64,
    stdin: Writer,
    /// It does not read what it is sent.
    hangs: CancellationToken,
}

/// The processes of an instance, one after the other.
pub(super) struct Processes(watch::Receiver<Phase>);

impl Processes {
    /// Whether the last one is gone or another is there.
    pub(super) fn has_next(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// Waits for another process than the last one that was there; false when there will be none.
    pub(super) async fn next(&mut self) -> bool {
        if self.0.changed().await.is_err() {
            return false;
        }
        let there = self.0.wait_for(|phase| !matches!(phase, Phase::Starting)).await;
        matches!(there.as_deref(), Ok(Phase::Running(_)))
    }
}

/// What speaks for and against an instance.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) failed: bool,
    pub(super) running: bool,
    pub(super) can_log: bool,
    pub(super) in_flight: usize,
}

impl Instance {
    pub(super) fn new(index: usize, terms: Terms, affinity: Option<Arc<Affinity>>) -> Arc<Self> {
        let state = State {
            shared: Shared::new(terms.limits),
            grace: terms.grace,
            replies: HashMap::new(),
            process: 0,
            stdin: None,
            looks_at: None,
            closed: false,
        };
        Arc::new_cyclic(|this| Self {
            index,
            state: Mutex::new(state),
            phase: watch::Sender::new(Phase::Starting),
            affinity,
            wake: Notify::new(),
            this: this.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New requests keep to these limits, and processes that end from now on to this time.
    pub(super) fn renew(&self, Terms { limits, grace }: Terms) {
        let mut state = self.state();
        state.shared.set_limits(limits);
        state.grace = grace;
    }

    /// How long a process has to end by itself.
    pub(super) fn grace(&self) -> Duration {
        self.state().grace
    }

    pub(super) fn load(&self, now: Instant) -> Load {
        let (failed, running) = match &*self.phase.borrow() {
            Phase::Failed(_) | Phase::Ended => (true, false),
            Phase::Running(_) => (false, true),
            Phase::Starting => (false, false),
        };
        let state = self.state();
        Load { failed, running, can_log: state.shared.can_log(now), in_flight: state.shared.len() }
    }

    /// Why there is no process and will be none.
    pub(super) fn failure(&self) -> Option<String> {
        match &*self.phase.borrow() {
            Phase::Failed(error) => Some(error.message.clone()),
            _ => None,
        }
    }

    /// Takes no more requests if none is in flight; whether that is so.
    pub(super) fn retire(&self) -> bool {
        let mut state = self.state();
        let idle = state.shared.is_empty();
        if idle {
            state.stdin = None;
            self.phase.send_replace(Phase::Ended);
        }
        idle
    }

    /// Sends a request of `owner`'s, unless the bridge ends; whatever else goes wrong is its answer.
    pub(super) async fn call(&self, owner: &Owner, request: era::Request) -> Result<Call, NotBegun> {
        loop {
            match self.try_call(owner, &request).await {
                Ok(Some(call)) => return Ok(call),
                Ok(None) => {}
                Err(NotSent::Ended) => return Err(NotBegun::ShuttingDown),
                Err(NotSent::Failed(error)) => return Ok(Call::answered(error.response(Some(&request.id)))),
            }
        }
    }

    /// `None`: the process has ended meanwhile and has seen nothing of the request.
    async fn try_call(&self, owner: &Owner, request: &era::Request) -> Result<Option<Call>, NotSent> {
        let process = self.process().await?;
        // Room first: after it, nothing waits between the decision and the child's queue.
        let reserved = match process.stdin.reserve(&request.line).await {
            Ok(reserved) => reserved,
            Err(Unwritable::Closed) => {
                self.input_closed(process.number);
                return Ok(None);
            }
            Err(e @ Unwritable::Deaf) => {
                process.hangs.cancel();
                return Err(unwritable(e).into());
            }
        };
        let mut state = self.state();
        if state.process != process.number || state.stdin.is_none() {
            return Ok(None);
        }
        if state.closed && &*request.method == mcp::LISTEN {
            return Err(NotSent::Ended);
        }
        let (number, line) = state.shared.request(request, owner, Instant::now())?;
        if reserved.send(line).is_err() {
            state.shared.withdraw(number);
            return Ok(None);
        }
        let this = self.this.clone();
        let (replies, call) = upstream::call(move || {
            if let Some(this) = this.upgrade() {
                this.left(number);
            }
        });
        state.replies.insert(number, replies);
        let due = state.shared.next_deadline();
        if due.is_some_and(|due| state.looks_at.is_none_or(|looks_at| due < looks_at)) {
            self.wake.notify_one();
        }
        Ok(Some(call))
    }

    /// Those that come after the one that is there now.
    pub(super) fn processes(&self) -> Processes {
        Processes(self.phase.subscribe())
    }

    /// The process that is there, or will soon be.
    async fn process(&self) -> Result<Process, NotSent> {
        let mut phase = self.phase.subscribe();
        let there = phase.wait_for(|phase| !matches!(phase, Phase::Starting));
        let there = timeout(PATIENCE, there).await.map_err(|_| {
            ErrorObject::internal("child_not_started", "the MCP server is being started again; try later")
        })?;
        match there.as_deref() {
            Ok(Phase::Running(process)) => Ok(process.clone()),
            Ok(Phase::Failed(error)) => Err(error.clone().into()),
            Ok(Phase::Starting | Phase::Ended) | Err(_) => Err(NotSent::Ended),
        }
    }

    /// Passes a notification of a client's on, if there is a process.
    pub(super) async fn notify(&self, message: &Message) {
        let Phase::Running(process) = self.phase.borrow().clone() else { return };
        let room = process.stdin.reserve(&message.line).await;
        if let Err(e) = room.and_then(|room| room.send(message.line.clone())) {
            log::warn!("{self}: a notification is lost: {e}");
        }
    }

    /// A process takes requests from now on. Returned is what says that it does not read them.
    pub(super) fn begin(&self, stdin: &Writer) -> CancellationToken {
        let hangs = CancellationToken::new();
        let mut state = self.state();
        state.process += 1;
        state.stdin = Some(stdin.clone());
        let process = Process { number: state.process, stdin: stdin.clone(), hangs: hangs.clone() };
        self.phase.send_replace(Phase::Running(process));
        hangs
    }

    /// The process takes no more requests; another may follow, unless the instance has ended.
    pub(super) fn pause(&self) {
        self.state().stdin = None;
        self.phase.send_if_modified(|phase| {
            let goes_on = !matches!(phase, Phase::Ended);
            if goes_on {
                *phase = Phase::Starting;
            }
            goes_on
        });
    }

    fn input_closed(&self, process: u64) {
        let mut state = self.state();
        if state.process == process && state.stdin.take().is_some() {
            self.phase.send_replace(Phase::Starting);
        }
    }

    /// No process will follow.
    pub(super) fn fail(&self, error: ErrorObject) {
        self.phase.send_replace(Phase::Failed(error));
    }

    /// No process will follow, since the bridge ends.
    pub(super) fn ended(&self) {
        self.phase.send_replace(Phase::Ended);
    }

    /// Answers all that is in flight: its process is gone.
    pub(super) fn finish(&self, error: &ErrorObject) {
        let mut state = self.state();
        let deliveries = state.shared.server_ended(error);
        self.deliver(&mut state, deliveries);
    }

    /// Ends the subscriptions in good order.
    pub(super) fn complete_subscriptions(&self) {
        let mut state = self.state();
        state.closed = true;
        let ended = state.shared.complete_subscriptions();
        self.end(&mut state, ended);
    }

    /// When to look next, which requests are told so that they can ask for an earlier look.
    pub(super) fn due(&self) -> Option<Instant> {
        let mut state = self.state();
        state.looks_at = state.shared.next_deadline();
        state.looks_at
    }

    /// Ends what has waited too long.
    pub(super) fn expire(&self) {
        let mut state = self.state();
        let ended = state.shared.expire(Instant::now());
        self.end(&mut state, ended);
    }

    /// The child has said something.
    pub(super) fn take(&self, message: &Message) {
        if let (Some(affinity), Kind::Response { is_error: false, .. }) = (&self.affinity, &message.kind) {
            affinity.learn(self.index, &message.line);
        }
        let mut state = self.state();
        match state.shared.from_server(message, Instant::now()) {
            Outcome::Deliver(delivery) => self.deliver(&mut state, vec![delivery]),
            Outcome::Answer(line) => self.tell(&state, line),
            Outcome::Ignore(why) => log::info!("{self}: a message of the child's is dropped: {why}"),
        }
    }

    /// The child has said something that was too long to read.
    pub(super) fn answer_lost(&self, of: Option<&RequestId>, error: &ErrorObject) {
        let mut state = self.state();
        let deliveries = state.shared.answer_lost(of, error);
        self.deliver(&mut state, deliveries);
    }

    /// The client waits no more.
    fn left(&self, number: Number) {
        let mut state = self.state();
        state.replies.remove(&number);
        self.cancel(&mut state, number);
        if state.shared.is_empty() {
            // The driver may wait for this to end its process.
            self.wake.notify_one();
        }
    }

    fn cancel(&self, state: &mut State, number: Number) {
        if let Some(line) = state.shared.leave(number, Instant::now()) {
            self.tell(state, line);
        }
    }

    fn end(&self, state: &mut State, ended: Ended) {
        self.deliver(state, ended.deliveries);
        for line in ended.to_server {
            self.tell(state, line);
        }
    }

    fn tell(&self, state: &State, line: Line) {
        let told = state.stdin.as_ref().map_or(Err(Unwritable::Closed), |stdin| stdin.try_send(line));
        if let Err(e) = told {
            log::debug!("{self}: a message to the child is lost: {e}");
        }
    }

    fn deliver(&self, state: &mut State, deliveries: Vec<Delivery>) {
        for Delivery { to, message, last } in deliveries {
            let replies = if last { state.replies.remove(&to) } else { state.replies.get(&to).cloned() };
            let (Some(replies), Some(message)) = (replies, message) else { continue };
            if replies.push(Item { message, last }) == Err(NoRoom::Full) {
                log::warn!("{self}: a request is cut and cancelled: its client does not read its stream");
                state.replies.remove(&to);
                self.cancel(state, to);
            }
        }
    }
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shared child {}", self.index + 1)
    }
}

fn unwritable(e: Unwritable) -> ErrorObject {
    ErrorObject::internal("child_unwritable", format!("the MCP server takes no message: {e}"))
}
