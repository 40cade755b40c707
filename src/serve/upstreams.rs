//! What answers the clients of each era: the MCP server's own children, or a translation where it lacks their era.

use std::{pin::Pin, sync::Arc};

use super::{
    pool::Pool,
    probe::{Probe, Upstream},
    upstream::Source,
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
    pub(super) pool: Arc<Pool>,
    /// A child for each session.
    children: Source,
    /// The shared children, as legacy servers.
    downgraded: Source,
    /// What legacy clients get whatever the server speaks.
    given: Option<Source>,
    /// `mcp.translate`.
    translate: bool,
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
        config: &config::Mcp,
        limits: Limits,
    ) -> Self {
        let pool = Arc::new(Pool::new(command.clone(), config, limits));
        Self {
            probe: Probe::new(command.clone(), config),
            downgraded: Source::modern(Arc::clone(&pool)),
            pool,
            children: Source::Command(Box::new(command)),
            given,
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

/// A modern client's request to a server that speaks legacy revisions only.
fn upgraded(_principal: &Principal, request: &era::Request) -> Call {
    Call::answered(untranslatable("2026-07-28").response(Some(&request.id)))
}

fn untranslatable(revisions: &str) -> ErrorObject {
    ErrorObject::internal("not_translated", format!("the MCP server does not speak {revisions}"))
}
