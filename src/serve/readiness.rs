//! Whether a child can be started: asked by probes, answered from what is known, looked into when that is bad.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    child::{Child, ChildCommand},
    framing::lines::Framed,
    jsonrpc::{self, Kind, Payload, RequestId},
    mcp,
    monitor::Ready,
};

/// How long a child may take to answer the question whether it works.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a child that did not work is tried again, at most.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of the child's command.
#[derive(Debug)]
pub(super) struct Readiness {
    command: ChildCommand,
    grace: Duration,
    known: Mutex<Known>,
    /// Held by the one who tries, with the time of the last try.
    trying: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
enum Known {
    Nothing,
    Works,
    Fails(String),
    Stopping,
}

impl Ready for Readiness {
    fn ready(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(self.report())
    }
}

impl Readiness {
    pub(super) fn new(command: ChildCommand, grace: Duration) -> Arc<Self> {
        Arc::new(Self {
            command,
            grace,
            known: Mutex::new(Known::Nothing),
            trying: tokio::sync::Mutex::default(),
        })
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, news: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*known, Known::Stopping) {
            *known = news;
        }
    }

    /// A child could not be started.
    pub(super) fn failed(&self, why: String) {
        self.learn(Known::Fails(why));
    }

    /// The bridge is stopping: not ready from now on.
    pub(super) fn stopping(&self) {
        self.learn(Known::Stopping);
    }

    /// Whether a child can be started, or why not.
    pub(super) async fn report(&self) -> Result<(), String> {
        self.command.check().map_err(|e| e.to_string())?;
        if matches!(self.known(), Known::Nothing | Known::Fails(_)) {
            self.try_again().await;
        }
        match self.known() {
            Known::Works => Ok(()),
            Known::Nothing => Err("the MCP server is being tried".to_owned()),
            Known::Fails(why) => Err(why),
            Known::Stopping => Err("shutting down".to_owned()),
        }
    }

    /// Starts a child, asks it to initialize, and ends it; one at a time and not too often.
    pub(super) async fn try_again(&self) {
        let mut last = self.trying.lock().await;
        let recently = last.is_some_and(|last| last.elapsed() < AGAIN);
        if recently || matches!(self.known(), Known::Works | Known::Stopping) {
            return;
        }
        match self.try_child().await {
            Ok(()) => self.learn(Known::Works),
            Err(why) => {
                log::error!("not ready: {why}");
                self.learn(Known::Fails(why));
            }
        }
        *last = Some(Instant::now());
    }

    async fn try_child(&self) -> Result<(), String> {
        let child =
            self.command.spawn("on trial").map_err(|e| format!("the MCP server can't be started: {e}"))?;
        let Child { stdin, mut stdout, process } = child;
        let question = jsonrpc::request(&RequestId::from(1), mcp::INITIALIZE, &initialize_params());
        let asked = stdin.try_send(question).map_err(|e| e.to_string());
        let answered = timeout(PATIENCE, async {
            loop {
                match stdout.next().await {
                    Ok(Some(Framed::Line(line))) if is_answer(line.clone()) => return true,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return false,
                }
            }
        });
        let answered = answered.await;
        stdin.close();
        drop(stdout);
        let exit = process.stop(self.grace).await;
        asked?;
        match answered {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the MCP server {exit} before it answered initialize")),
            Err(_) => Err(format!("the MCP server did not answer initialize within {PATIENCE:?}")),
        }
    }
}

/// Whatever answers, even with an error, works.
fn is_answer(line: bytes::Bytes) -> bool {
    let payload = jsonrpc::parse(line);
    matches!(payload, Ok(Payload::Single(message)) if matches!(message.kind, Kind::Response { .. }))
}

fn initialize_params() -> serde_json::Value {
    serde_json::json!({
        "protocolVersion": mcp::LegacyRevision::LATEST.as_str(),
        "capabilities": {},
        "clientInfo": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
    })
}
