//! Modern clients of a child that speaks legacy revisions only: a legacy session for each principal and set of
//! capabilities, or for each request.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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
    troubles: Troubles,
}

/// What the sessions learn of the MCP server that others want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A child has refused `initialize`, since it speaks modern revisions only: it is not what it was taken for.
    NotLegacy,
    /// A child could not be started; why.
    NotStarted(String),
}

/// Who is told of troubles.
struct Troubles(Box<dyn Fn(Trouble) + Send + Sync>);

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Troubles").finish_non_exhaustive()
    }
}

/// Children are started without its lock.
#[derive(Debug, Default)]
struct Table {
    /// The last number that was given to a session.
    last: u64,
    by_number: HashMap<u64, Entry>,
    /// The sessions that requests share.
    shared: HashMap<Sharers, Shared>,
    warm: Warm,
    draining: bool,
}

/// A session that requests share.
#[derive(Debug)]
enum Shared {
    /// Its child is being started; cancelled when that is done, well or not.
    Opening(CancellationToken),
    /// This one.
    Open(u64),
}

/// A child that nothing has been asked, for the next request (`mcp.isolation: request`).
#[derive(Debug, Default)]
enum Warm {
    #[default]
    None,
    Starting,
    Ready(Box<Child>),
}

impl Warm {
    fn take(&mut self) -> Option<Child> {
        match mem::take(self) {
            Self::Ready(child) => Some(*child),
            other => {
                *self = other;
                None
            }
        }
    }
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

impl Table {
    /// The session that `sharers` have; `None` when it is to be opened, and noted as being so.
    fn share(&mut self, principal: &Principal, sharers: &Sharers) -> Result<Option<Share>, NotBegun> {
        if self.draining {
            return Err(NotBegun::ShuttingDown);
        }
        match self.shared.get(sharers) {
            Some(Shared::Opening(done)) => return Ok(Some(Share::Soon(done.clone()))),
            Some(Shared::Open(number)) => {
                let entry = self.by_number.get(number).filter(|entry| !entry.handle.is_closed());
                if let Some(entry) = entry {
                    return Ok(Some(Share::Now(entry.handle.clone())));
                }
            }
            None if self.shared.keys().filter(|(bytes, _)| *bytes == sharers.0).count() >= MAX_SETS => {
                let text =
                    format!("clients of {principal} with {MAX_SETS} different sets of capabilities are here");
                return Err(NotBegun::NoPlace(text));
            }
            None => {}
        }
        self.shared.insert(sharers.clone(), Shared::Opening(CancellationToken::new()));
        Ok(None)
    }

    /// The session of `sharers` is open.
    fn open(&mut self, sharers: &Sharers, number: u64) {
        if let Some(Shared::Opening(done)) = self.shared.insert(sharers.clone(), Shared::Open(number)) {
            done.cancel();
        }
    }
}

/// A session that is shared.
enum Share {
    Now(UpgradeHandle),
    /// When this is cancelled, it is worth looking again.
    Soon(CancellationToken),
}

/// The one who opens a session that others will share. They wait until it is dropped.
struct Opening<'a> {
    registry: &'a Upgraded,
    sharers: Sharers,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut table = self.registry.table();
        let Some(Shared::Opening(done)) = table.shared.get(&self.sharers) else { return };
        done.cancel();
        table.shared.remove(&self.sharers);
    }
}

impl Upgraded {
    /// No session yet; children are started with `command` when clients come. `told` is told of troubles.
    ///
    /// # Errors
    /// When OpenSSL has no randomness.
    pub fn new(
        command: ChildCommand,
        options: Options,
        places: Places,
        told: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, openssl::error::ErrorStack> {
        Ok(Arc::new(Self {
            command,
            isolation: options.isolation,
            options: Mutex::new(options),
            places,
            sealer: Arc::new(Sealer::new()?),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            troubles: Troubles(Box::new(told)),
        }))
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
            let handle = match self.session(principal, &request).await {
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
    async fn session(
        self: &Arc<Self>,
        principal: &Principal,
        request: &Request,
    ) -> Result<UpgradeHandle, NotOpened> {
        let capabilities = Capabilities::read(&request.meta.capabilities);
        if self.isolation == Isolation::Request {
            let client_info = request.meta.client_info.clone();
            return self.open(principal, capabilities, client_info, None);
        }
        let sharers = (principal.to_bytes(), capabilities);
        loop {
            let share = self.table().share(principal, &sharers).map_err(NotOpened::NotBegun)?;
            match share {
                Some(Share::Now(handle)) => return Ok(handle),
                Some(Share::Soon(done)) => done.cancelled().await,
                None => break,
            }
        }
        let opening = Opening { registry: self, sharers };
        self.open(principal, opening.sharers.1.clone(), None, Some(&opening.sharers))
    }

    /// Starts a child and a session with it, for one request or for all of `sharers`.
    fn open(
        self: &Arc<Self>,
        principal: &Principal,
        capabilities: Capabilities,
        client_info: Option<Box<RawValue>>,
        sharers: Option<&Sharers>,
    ) -> Result<UpgradeHandle, NotOpened> {
        let place = self.place()?;
        let (number, warm, _open) = {
            let mut table = self.table();
            if table.draining {
                return Err(NotOpened::NotBegun(NotBegun::ShuttingDown));
            }
            table.last += 1;
            // Who waits for the end waits for what is being started too.
            (table.last, table.warm.take(), self.tasks.token())
        };
        let label = format!("session u{number}");
        let warm = warm.filter(|child| !child.process.has_exited());
        let child = warm.map_or_else(|| self.start(&format!("of {label}")), Ok).map_err(NotOpened::Failed)?;
        let options = self.options();
        let idle = if sharers.is_some() { options.idle } else { Duration::ZERO };
        let mut table = self.table();
        if table.draining {
            drop(table);
            self.put_away(child);
            return Err(NotOpened::NotBegun(NotBegun::ShuttingDown));
        }
        self.places.opened();
        log::info!("{label}: opened by {principal}, child process {}", child.process.id());
        let setup = Setup {
            lanes: if capabilities.answers() { Lanes::OneAsker } else { Lanes::Concurrent },
            capabilities,
            client_info,
            limits: options.limits,
            principal: principal.to_bytes(),
            sealer: Arc::clone(&self.sealer),
            session: number,
        };
        let server = ChildServer::new(child, label.clone(), options.grace);
        let (handle, session) = upgrade(server, setup, idle);
        let entry = Entry { principal: principal.clone(), handle: handle.clone() };
        table.by_number.insert(number, entry);
        if let Some(sharers) = sharers {
            table.open(sharers, number);
        }
        let known = Known { registry: Arc::clone(self), number };
        self.tasks.spawn(keep(known, session, label, place));
        Ok(handle)
    }

    fn place(&self) -> Result<Place, NotOpened> {
        self.places.take().ok_or_else(|| {
            let why = format!("{} sessions are open (server.session.max_sessions)", self.places.limit());
            log::warn!("a session is refused: {why}");
            NotOpened::NotBegun(NotBegun::NoPlace(why))
        })
    }

    /// Starts a child, which the log knows by `label`.
    fn start(&self, label: &str) -> Result<Child, ErrorObject> {
        self.command.spawn(label).map_err(|e| {
            let text = format!("the MCP server can't be started: {e}");
            log::error!("the child {label}: {text}");
            (self.troubles.0)(Trouble::NotStarted(text.clone()));
            ErrorObject::internal("child_not_started", text)
        })
    }

    /// Ends a child that nobody needs.
    fn put_away(&self, child: Child) {
        let grace = self.options().grace;
        self.tasks.spawn(async move {
            child.end(grace).await;
        });
    }

    /// Starts a child ahead of the request that will need it.
    fn warm_up(&self) {
        if self.isolation != Isolation::Request {
            return;
        }
        let _open = {
            let mut table = self.table();
            if table.draining || !matches!(table.warm, Warm::None) {
                return;
            }
            table.warm = Warm::Starting;
            self.tasks.token()
        };
        let child = self.start("of the next session").ok();
        let mut table = self.table();
        table.warm = Warm::None;
        match child {
            Some(child) if table.draining => {
                drop(table);
                self.put_away(child);
            }
            Some(child) => table.warm = Warm::Ready(Box::new(child)),
            None => {}
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
        let warm = table.warm.take();
        drop(table);
        if let Some(child) = warm {
            self.put_away(child);
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
                (known.registry.troubles.0)(Trouble::NotLegacy);
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
        table.shared.retain(|_, shared| !matches!(shared, Shared::Open(number) if *number == self.number));
    }
}

fn refused(refusal: &Refusal, request: &Request) -> Call {
    Call::answered(refusal.response(Some(&request.id)))
}
