//! What answers the clients of each era: the MCP server's own children, or a translation where it lacks their era.

use std::{pin::Pin, sync::Arc};

use super::{
    pool::Pool,
    probe::{Probe, Upstream},
};
use crate::{
    auth::Principal,
    child::ChildCommand,
    config, era,
    jsonrpc::{ErrorObject, Message},
    monitor::Ready,
    session::Limits,
    upstream::{Call, ModernServer},
};

/// The MCP server, for clients of either era.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) probe: Arc<Probe>,
    pub(super) pool: Pool,
    /// `mcp.translate`.
    translate: bool,
}

/// The MCP server does not speak the client's era, and `mcp.translate` is off.
#[derive(Debug)]
pub(super) struct Untranslated;

/// What a legacy client's session is made of.
#[derive(Debug)]
pub(super) enum ForLegacy {
    /// A child of its own.
    Child,
    /// There is nothing: the answer to `initialize`.
    Nothing(ErrorObject),
}

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
    pub(super) fn new(command: ChildCommand, config: &config::Mcp, limits: Limits) -> Self {
        Self {
            probe: Probe::new(command.clone(), config),
            pool: Pool::new(command, config, limits),
            translate: config.translate,
        }
    }

    /// Finds out what the MCP server speaks, and starts the children that modern clients share if it speaks that.
    pub(super) async fn begin(&self) {
        if self.probe.for_modern().await == Upstream::Same {
            self.pool.start();
        }
    }

    /// Whether modern clients are served at all.
    pub(super) async fn serves_modern(&self) -> Result<(), Untranslated> {
        match self.probe.for_modern().await {
            Upstream::Other if !self.translate => Err(Untranslated),
            _ => Ok(()),
        }
    }

    /// Sends a modern client's request.
    pub(super) async fn call(&self, principal: &Principal, request: era::Request) -> Call {
        match self.probe.for_modern().await {
            Upstream::Same => self.pool.call(request).await,
            Upstream::Other => upgraded(principal, &request),
            Upstream::Nothing(why) => {
                let error = ErrorObject::internal("child_not_started", why);
                Call::answered(error.response(Some(&request.id)))
            }
        }
    }

    /// Passes a modern client's notification on.
    pub(super) async fn notify(&self, message: Message) {
        if self.probe.for_modern().await == Upstream::Same {
            self.pool.notify(message).await;
        }
    }

    /// What a legacy client's session is made of.
    pub(super) async fn for_legacy(&self) -> ForLegacy {
        match self.probe.for_legacy().await {
            Upstream::Other if self.translate => downgraded(),
            // Its own refusal is what a client gets that nobody translates for.
            Upstream::Same | Upstream::Other => ForLegacy::Child,
            Upstream::Nothing(why) => ForLegacy::Nothing(ErrorObject::internal("child_not_started", why)),
        }
    }
}

// The two seams of translation: what `Upgrade` and `Downgrade` are composed into.

/// A modern client's request to a server that speaks legacy revisions only.
fn upgraded(_principal: &Principal, request: &era::Request) -> Call {
    Call::answered(untranslatable("2026-07-28").response(Some(&request.id)))
}

/// A legacy client's session with a server that speaks modern revisions only.
fn downgraded() -> ForLegacy {
    ForLegacy::Nothing(untranslatable("revisions with initialize"))
}

fn untranslatable(revisions: &str) -> ErrorObject {
    ErrorObject::internal("not_translated", format!("the MCP server does not speak {revisions}"))
}
