//! What answers the clients of each era: the MCP server's own children, or a translation where it lacks their era.

use std::{pin::Pin, sync::Arc};

use openssl::error::ErrorStack;

use super::{
    pool::Pool,
    probe::{Probe, Upstream},
    upgraded::{Options, Trouble, Upgraded},
    upstream::Source,
};
use crate::{
    auth::Principal,
    child::ChildCommand,
    config, era,
    jsonrpc::{ErrorObject, Message},
    metrics::Places,
    monitor::Ready,
    upstream::Call,
};

/// The MCP server, for clients of either era.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) probe: Arc<Probe>,
    pub(super) pool: Arc<Pool>,
    /// A child for each session.
    children: Source,
    /// The shared children, as legacy servers.
    downgraded: Source,
    /// What legacy clients get whatever the server speaks.
    given: Option<Source>,
    /// The legacy sessions of modern clients.
    pub(super) upgraded: Arc<Upgraded>,
    /// `mcp.translate`.
    translate: bool,
}

/// Why a modern client's request was not begun: nothing of it has reached an MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBegun {
    /// There is no place for the session that it needs; which.
    NoPlace(String),
    /// The bridge takes nothing new any more.
    ShuttingDown,
}

/// The MCP server does not speak the client's era, and `mcp.translate` is off.
#[derive(Debug)]
pub(super) struct Untranslated;

impl Ready for Upstreams {
    fn ready(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async {
            self.probe.readiness().await?;
            // Shared children that are not started again make a server that works useless.
            self.pool.given_up().map_or(Ok(()), Err)
        })
    }
}

impl Upstreams {
    pub(super) fn new(
        command: ChildCommand,
        given: Option<Source>,
        config: &config::Serve,
        places: Places,
    ) -> Result<Self, ErrorStack> {
        let pool = Arc::new(Pool::new(command.clone(), &config.mcp, config.exchange_limits()));
        let probe = Probe::new(command.clone(), &config.mcp);
        let told = {
            let probe = Arc::clone(&probe);
            move |trouble| match trouble {
                Trouble::NotLegacy => probe.doubt(),
                Trouble::NotStarted(why) => probe.failed(why),
            }
        };
        Ok(Self {
            probe,
            upgraded: Upgraded::new(command.clone().shared(), Options::new(config), places, told)?,
            downgraded: Source::modern({
                let pool = Arc::clone(&pool);
                move |principal| pool.of(principal)
            }),
            pool,
            children: Source::Command(Box::new(command)),
            given,
            translate: config.mcp.translate,
        })
    }

    /// Finds out what the MCP server speaks, and starts the children that modern clients share if it speaks that.
    pub(super) async fn begin(&self) {
        if self.probe.for_modern().await == Upstream::Same {
            self.pool.start();
        }
    }

    /// What children are asked from now on is held to the times of `config`.
    pub(super) fn renew(&self, config: &config::Serve) {
        self.pool.renew(config.exchange_limits(), config.mcp.graceful_shutdown_timeout);
        self.upgraded.renew(config);
    }

    /// Takes no new work, ends subscriptions, and ends each child that nobody shares when nothing of it is in flight.
    pub(super) fn close(&self) {
        self.probe.stopping();
        self.pool.close();
        self.upgraded.drain();
    }

    /// The sessions of legacy clients have ended: ends the shared children, each when nothing of it is in flight.
    pub(super) fn drain(&self) {
        self.pool.drain();
    }

    /// Ends all children now.
    pub(super) fn end(&self) {
        self.pool.end();
        self.upgraded.end();
    }

    /// Waits until no child is left that works for clients.
    pub(super) async fn ended(&self) {
        tokio::join!(self.pool.ended(), self.upgraded.ended());
    }

    /// Whether modern clients are served at all.
    pub(super) async fn serves_modern(&self) -> Result<(), Untranslated> {
        match self.probe.for_modern().await {
            Upstream::Other if !self.translate => Err(Untranslated),
            _ => Ok(()),
        }
    }

    /// Sends a modern client's request.
    pub(super) async fn call(&self, principal: &Principal, request: era::Request) -> Result<Call, NotBegun> {
        match self.probe.for_modern().await {
            Upstream::Same => self.pool.offer(principal, request).await,
            Upstream::Other => self.upgraded.call(principal, request).await,
            Upstream::Nothing(_) if self.pool.is_closed() => Err(NotBegun::ShuttingDown),
            Upstream::Nothing(why) => {
                let error = ErrorObject::internal("child_not_started", why);
                Ok(Call::answered(error.response(Some(&request.id))))
            }
        }
    }

    /// Passes a modern client's notification on.
    pub(super) async fn notify(&self, message: Message) {
        if self.probe.for_modern().await == Upstream::Same {
            self.pool.notify(message).await;
        }
    }

    /// What a legacy client's session runs on; otherwise the answer to `initialize`.
    pub(super) async fn for_legacy(&self) -> Result<&Source, ErrorObject> {
        if let Some(given) = &self.given {
            return Ok(given);
        }
        match self.probe.for_legacy().await {
            Upstream::Other if self.translate => Ok(&self.downgraded),
            // Its own refusal is what a client gets that nobody translates for.
            Upstream::Same | Upstream::Other => Ok(&self.children),
            Upstream::Nothing(why) => Err(ErrorObject::internal("child_not_started", why)),
        }
    }
}
