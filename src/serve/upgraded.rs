//! Modern clients of a child that speaks legacy revisions only: a legacy session for each principal and set of
//! capabilities, or for each request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::upstreams::NotBegun;
use crate::{
    auth::Principal,
    child::{Child, ChildCommand},
    config::{self, Isolation},
    era::{
        Refusal, Request,
        state::{self, Sealer},
        upgrade::{Capabilities, Lanes, NOT_LEGACY, Setup, not_good},
    },
    jsonrpc::ErrorObject,
    metrics::{Place, Places},
    session::Limits,
    upstream::{Call, ChildServer, End, ModernServer, UpgradeHandle, upgrade},
};

/// Most sessions that one principal has for different sets of capabilities.
const MAX_SETS: usize = 16;

/// What the sessions are for, and how long they last.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `mcp.isolation`.
    pub isolation: Isolation,
    /// `server.session.timeout`.
    pub idle: Duration,
    /// `mcp.graceful_shutdown_timeout`.
    pub grace: Duration,
    /// How long a request may take.
    pub limits: Limits,
}

impl Options {
    /// Those of a configuration.
    pub fn new(config: &config::Serve) -> Self {
        let mcp = &config.mcp;
        Self {
            isolation: mcp.isolation,
            idle: config.session_timeout,
            grace: mcp.graceful_shutdown_timeout,
            limits: Limits { silence: mcp.request_timeout, total: mcp.max_request_time },
        }
    }
}

/// The legacy sessions of modern clients.
#[derive(Debug)]
pub struct Upgraded {
    command: ChildCommand,
    isolation: Isolation,
    /// For new sessions.
    options: Mutex<Options>,
    places: Places,
    sealer: Arc<Sealer>,
    sessions: Mutex<Table>,
    tasks: TaskTracker,
    /// A child has refused `initialize` for its revision.
    doubts: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// The last number that was given to a session.
    last: u64,
    by_number: HashMap<u64, Entry>,
    /// The sessions that requests share.
    shared: HashMap<Sharers, u64>,
    /// A child that nothing has been asked, for the next request (`mcp.isolation: request`).
    warm: Option<Child>,
    draining: bool,
}

/// Why there is no session for a request.
enum NotOpened {
    NotBegun(NotBegun),
    Failed(ErrorObject),
}

/// Whose requests share a session.
type Sharers = (Box<[u8]>, Capabilities);

#[derive(Debug)]
struct Entry {
    principal: Principal,
    handle: UpgradeHandle,
}

impl Upgraded {
    /// No session yet; children are started with `command` when clients come.
    ///
    /// # Errors
    /// When OpenSSL has no randomness.
    pub fn new(
        command: ChildCommand,
        options: Options,
        places: Places,
    ) -> Result<Arc<Self>, openssl::error::ErrorStack> {
        Ok(Arc::new(Self {
            command,
            isolation: options.isolation,
            options: Mutex::new(options),
            places,
            sealer: Arc::new(Sealer::new()?),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            doubts: Notify::new(),
        }))
    }

    /// Waits until a child has refused `initialize` since it speaks modern revisions only: it is not what it was taken for.
    pub async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// New sessions keep to the times of `config`; what they are for does not change.
    pub fn renew(&self, config: &config::Serve) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Options::new(config);
    }

    fn options(&self) -> Options {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a principal's request. Whatever else goes wrong is its answer.
    pub async fn call(self: &Arc<Self>, principal: &Principal, request: Request) -> Result<Call, NotBegun> {
        match state::presented(&request) {
            Err(refusal) => Ok(refused(&refusal, &request)),
            Ok(Some(state)) => Ok(self.go_on(principal, &state, request).await),
            Ok(None) => self.begin(principal, request).await,
        }
    }

    /// A retry goes to the session that holds its call.
    async fn go_on(&self, principal: &Principal, state: &str, request: Request) -> Call {
        let session = state::session_of(state);
        let handle = session.and_then(|number| {
            let table = self.table();
            let entry = table.by_number.get(&number).filter(|entry| entry.principal == *principal)?;
            Some(entry.handle.clone())
        });
        match handle {
            Some(handle) if !handle.is_closed() => handle.call(request).await,
            _ => refused(&not_good(), &request),
        }
    }

    async fn begin(self: &Arc<Self>, principal: &Principal, mut request: Request) -> Result<Call, NotBegun> {
        loop {
            let handle = match self.session(principal, &request) {
                Ok(handle) => handle,
                Err(NotOpened::NotBegun(why)) => return Err(why),
                Err(NotOpened::Failed(error)) => {
                    return Ok(Call::answered(error.response(Some(&request.id))));
                }
            };
            match handle.offer(request).await {
                Ok(call) => return Ok(call),
                // It has ended meanwhile; another one takes its place.
                Err(given_back) => request = given_back,
            }
        }
    }

    /// A session for a request: one that is there if it may be shared, else a new one.
    fn session(
        self: &Arc<Self>,
        principal: &Principal,
        request: &Request,
    ) -> Result<UpgradeHandle, NotOpened> {
        let capabilities = Capabilities::read(&request.meta.capabilities);
        let mut table = self.table();
        if table.draining {
            return Err(NotOpened::NotBegun(NotBegun::ShuttingDown));
        }
        if self.isolation == Isolation::Request {
            let info = request.meta.client_info.clone();
            let setup = |setup| Setup { client_info: info, ..setup };
            return self
                .open(&mut table, principal, capabilities, Duration::ZERO, setup)
                .map(|(_, handle)| handle);
        }
        let sharers = (principal.to_bytes(), capabilities);
        let shared = table.shared.get(&sharers).and_then(|number| table.by_number.get(number));
        if let Some(entry) = shared.filter(|entry| !entry.handle.is_closed()) {
            return Ok(entry.handle.clone());
        }
        if table.shared.keys().filter(|(bytes, _)| *bytes == sharers.0).count() >= MAX_SETS
            && !table.shared.contains_key(&sharers)
        {
            let text =
                format!("clients of {principal} with {MAX_SETS} different sets of capabilities are here");
            return Err(NotOpened::NotBegun(NotBegun::NoPlace(text)));
        }
        let capabilities = sharers.1.clone();
        let (number, handle) =
            self.open(&mut table, principal, capabilities, self.options().idle, |setup| setup)?;
        table.shared.insert(sharers, number);
        Ok(handle)
    }

    /// Starts a child and a session with it.
    fn open(
        self: &Arc<Self>,
        table: &mut Table,
        principal: &Principal,
        capabilities: Capabilities,
        idle: Duration,
        adjust: impl FnOnce(Setup) -> Setup,
    ) -> Result<(u64, UpgradeHandle), NotOpened> {
        let place = self.places.take().ok_or_else(|| {
            let why = format!("{} sessions are open (server.session.max_sessions)", self.places.limit());
            log::warn!("a session is refused: {why}");
            NotOpened::NotBegun(NotBegun::NoPlace(why))
        })?;
        table.last += 1;
        let number = table.last;
        let label = format!("session u{number}");
        let warm = table.warm.take().filter(|child| !child.process.has_exited());
        let child = warm.map_or_else(|| self.command.spawn(&format!("of {label}")), Ok).map_err(|e| {
            log::error!("{label} can't be opened: {e}");
            let text = format!("the MCP server can't be started: {e}");
            NotOpened::Failed(ErrorObject::internal("child_not_started", text))
        })?;
        self.places.opened();
        let options = self.options();
        log::info!("{label}: opened by {principal}, child process {}", child.process.id());
        let setup = adjust(Setup {
            lanes: if capabilities.answers() { Lanes::OneAsker } else { Lanes::Concurrent },
            capabilities,
            client_info: None,
            limits: options.limits,
            principal: principal.to_bytes(),
            sealer: Arc::clone(&self.sealer),
            session: number,
        });
        let server = ChildServer::new(child, label.clone(), options.grace);
        let (handle, session) = upgrade(server, setup, idle);
        let entry = Entry { principal: principal.clone(), handle: handle.clone() };
        table.by_number.insert(number, entry);
        let known = Known { registry: Arc::clone(self), number };
        self.tasks.spawn(keep(known, session, label, place));
        Ok((number, handle))
    }

    /// Starts a child ahead of the request that will need it.
    fn warm_up(&self) {
        if self.isolation != Isolation::Request {
            return;
        }
        let mut table = self.table();
        if table.draining || table.warm.is_some() {
            return;
        }
        match self.command.spawn("of the next session") {
            Ok(child) => table.warm = Some(child),
            Err(e) => log::warn!("no child can be started ahead: {e}"),
        }
    }

    /// Ends the sessions of those who are not `accepted` any more.
    pub fn end_unless(&self, accepted: impl Fn(&Principal) -> bool) {
        for (number, Entry { principal, handle }) in &self.table().by_number {
            if !accepted(principal) {
                log::info!("session u{number}: {principal} is not accepted any more");
                handle.end();
            }
        }
    }

    /// Opens no more sessions, ends listens, and ends each session when no call of it runs.
    pub fn drain(&self) {
        let mut table = self.table();
        table.draining = true;
        table.by_number.values().for_each(|entry| entry.handle.drain());
        if let Some(child) = table.warm.take() {
            let grace = self.options().grace;
            self.tasks.spawn(async move {
                child.end(grace).await;
            });
        }
        self.tasks.close();
    }

    /// Ends all sessions now.
    pub fn end(&self) {
        self.drain();
        self.table().by_number.values().for_each(|entry| entry.handle.end());
    }

    /// Waits until the last child is gone.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

async fn keep(known: Known, session: impl Future<Output = End> + Send, label: String, place: Place) {
    known.registry.warm_up();
    let opened = Instant::now();
    let end = session.await;
    let lasted = opened.elapsed();
    match end {
        End::Told => log::info!("{label}: ended: it was told to, after {lasted:?}"),
        End::Idle => log::info!("{label}: ended: nobody needs it any more, after {lasted:?}"),
        End::Failed(error) => {
            log::warn!("{label}: ended after {lasted:?}: {}", error.message);
            if error.reason == NOT_LEGACY {
                known.registry.doubts.notify_one();
            }
        }
    }
    drop(known);
    drop(place);
}

/// A session in the table. Dropping it takes the session out, also when its task has panicked.
struct Known {
    registry: Arc<Upgraded>,
    number: u64,
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut table = self.registry.table();
        table.by_number.remove(&self.number);
        table.shared.retain(|_, number| *number != self.number);
    }
}

fn refused(refusal: &Refusal, request: &Request) -> Call {
    Call::answered(refusal.response(Some(&request.id)))
}
