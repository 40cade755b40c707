//! Whether the remote server speaks revision 2026-07-28: asked once, when it matters.
//!
//! Source: revision 2026-07-28, `basic/transports/streamable-http`, "Backward Compatibility".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

use super::Server;
use crate::{
    config::{Connect, Protocol, Transport},
    connect::{
        answer::{self, Answer},
        failure::Failure,
    },
    era, mcp,
};

/// How long a server may take to answer the question once it is connected; one that does not is a legacy one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the server's era. Clones know the same.
#[derive(Debug, Clone)]
pub(in crate::connect) struct Discovery {
    server: Server,
    asked: Arc<Asked>,
    /// The configuration says it.
    fixed: bool,
}

#[derive(Debug)]
struct Asked {
    /// What came of the last attempt; held by the one who makes the next.
    last: Mutex<Option<Result<bool, Failure>>>,
    /// How many attempts have been made.
    attempts: AtomicU64,
}

impl Discovery {
    /// The configuration may say it.
    pub(in crate::connect) fn new(server: Server, config: &Connect) -> Self {
        let known = match (config.protocol, config.transport) {
            (Protocol::Modern, _) => Some(Ok(true)),
            (Protocol::Legacy, _) | (Protocol::Auto, Transport::Sse) => Some(Ok(false)),
            (Protocol::Auto, _) => None,
        };
        let fixed = known.is_some();
        Self {
            server,
            fixed,
            asked: Arc::new(Asked { last: Mutex::new(known), attempts: AtomicU64::default() }),
        }
    }

    /// Whether the server speaks the modern revision; it may speak legacy ones too. A failure leaves that open.
    pub(in crate::connect) async fn speaks_modern(&self) -> Result<bool, Failure> {
        let before = self.asked.attempts.load(Ordering::Acquire);
        let mut last = self.asked.last.lock().await;
        match &*last {
            Some(Ok(modern)) => return Ok(*modern),
            // Those who have waited for an attempt that failed need not make another each.
            Some(Err(failure)) if self.asked.attempts.load(Ordering::Acquire) != before => {
                return Err(failure.clone());
            }
            _ => {}
        }
        let outcome = self.ask().await;
        *last = Some(outcome.clone());
        self.asked.attempts.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    /// The server does not behave like what it was taken for: another may have taken its place, and is asked anew.
    pub(in crate::connect) async fn doubt(&self) {
        if !self.fixed {
            *self.asked.last.lock().await = None;
        }
    }

    async fn ask(&self) -> Result<bool, Failure> {
        let request = era::Request::own(mcp::DISCOVER, &serde_json::Map::new());
        let asked = async {
            match self.server.post(&request, None).await? {
                Answer::Refused(refused) if refused.is_failure() => Err(refused.failure().await),
                Answer::Refused(refused) => Ok(refused.explain().await.ok()),
                answer => answer::to(&request.id, answer).await.map(Some),
            }
        };
        let remote = self.server.remote();
        let modern = match timeout(remote.config.connect_timeout.saturating_add(PATIENCE), asked).await {
            Ok(Ok(answer)) => answer.is_some_and(|answer| era::speaks_modern(&answer)),
            // Whatever it says instead, no modern server would.
            Ok(Err(Failure::Unusable(_) | Failure::NoAnswer)) => false,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => match remote.trouble() {
                Some(unreachable) => return Err(Failure::NotSent(unreachable)),
                None => false,
            },
        };
        let era = if modern { mcp::MODERN_REVISION } else { "a revision with initialize" };
        log::info!("the server speaks {era}");
        Ok(modern)
    }
}
