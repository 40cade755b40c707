//! Which eras the MCP server speaks, and whether it works at all: asked at start, remembered, asked again when in doubt.
//!
//! Two fresh children, since a server may choose its era by the first message: one is asked `server/discover`, one
//! `initialize`. Source: revision 2026-07-28, `basic/transports/stdio`, "Backward Compatibility".

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    child::ChildCommand,
    config::{self, Protocol},
    era,
    framing::lines::Framed,
    jsonrpc::{self, Kind, Line, Message, Payload, RequestId},
    mcp,
};

/// How long a child may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often children are asked again, at most.
const AGAIN: Duration = Duration::from_secs(10);

/// What a fresh child said to the question of one era.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    Awaited,
    /// It speaks it.
    Yes,
    /// It works, and does not.
    No,
    /// Nobody asks: `mcp.protocol` says that it does not.
    Unasked,
    /// It did not answer; why.
    None(String),
}

#[derive(Debug, Clone)]
struct Known {
    legacy: Answer,
    modern: Answer,
    /// A child could not be started since.
    broken: Option<String>,
    asking: bool,
    asked: Option<Instant>,
    stopping: bool,
}

/// What there is for a client of one era.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The MCP server itself: it speaks the client's era, or nothing better is known.
    Same,
    /// It speaks the other era only.
    Other,
    /// No child answers; why.
    Nothing(String),
}

/// What is known of the MCP server.
#[derive(Debug)]
pub(super) struct Probe {
    command: ChildCommand,
    protocol: Protocol,
    grace: Duration,
    known: watch::Sender<Known>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Known {
    fn works(&self) -> bool {
        match (&self.legacy, &self.modern) {
            (Answer::Yes, _) | (_, Answer::Yes) => true,
            // Whatever answers, even with an error, works; only a server of the other era would have to.
            (legacy, modern) => *legacy == Answer::No && *modern != Answer::Awaited,
        }
    }

    /// For who speaks legacy revisions; `None` while that is not known.
    fn for_legacy(&self) -> Option<Upstream> {
        match (&self.legacy, &self.modern) {
            (Answer::Unasked, _) | (Answer::No | Answer::None(_), Answer::Yes) => Some(Upstream::Other),
            (Answer::Awaited, _) | (Answer::No | Answer::None(_), Answer::Awaited) => None,
            // Whatever is wrong with it, a child of the client's own says it best.
            _ => Some(Upstream::Same),
        }
    }

    /// For who speaks modern revisions; `None` while that is not known.
    fn for_modern(&self) -> Option<Upstream> {
        match (&self.modern, &self.legacy) {
            (Answer::Yes, _) => Some(Upstream::Same),
            (Answer::Awaited, _) => None,
            (Answer::Unasked, _) | (_, Answer::Yes | Answer::No | Answer::Unasked) => Some(Upstream::Other),
            (_, Answer::Awaited) => None,
            (_, Answer::None(why)) => Some(Upstream::Nothing(why.clone())),
        }
    }

    /// Why nothing works.
    fn why(&self) -> Option<&str> {
        match (&self.broken, &self.legacy, &self.modern) {
            (Some(why), ..) | (_, Answer::None(why), _) | (_, _, Answer::None(why)) => Some(why),
            _ => None,
        }
    }
}

impl Probe {
    pub(super) fn new(command: ChildCommand, config: &config::Mcp) -> Arc<Self> {
        let known = Known {
            legacy: if config.protocol == Protocol::Modern { Answer::Unasked } else { Answer::Awaited },
            modern: if config.protocol == Protocol::Legacy { Answer::Unasked } else { Answer::Awaited },
            broken: None,
            asking: false,
            asked: None,
            stopping: false,
        };
        Arc::new(Self {
            command,
            protocol: config.protocol,
            grace: config.graceful_shutdown_timeout,
            known: watch::Sender::new(known),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// A child could not be started.
    pub(super) fn failed(&self, why: String) {
        self.known.send_modify(|known| known.broken = Some(why));
    }

    /// The bridge is stopping: not ready from now on.
    pub(super) fn stopping(&self) {
        self.known.send_modify(|known| known.stopping = true);
        self.tasks.close();
    }

    /// Waits until no child is left that was asked.
    pub(super) async fn ended(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// The MCP server does not behave as is known of it.
    pub(super) fn doubt(self: &Arc<Self>) {
        self.ask_again(|_| true);
    }

    /// Asks the children, if nothing is known to work.
    pub(super) fn ask(self: &Arc<Self>) {
        self.ask_again(|known| known.broken.is_some() || !known.works());
    }

    /// Asks the children if there is `reason` to, unless they were asked recently.
    fn ask_again(self: &Arc<Self>, reason: impl FnOnce(&Known) -> bool) {
        let begun = self.known.send_if_modified(|known| {
            let recently = known.asked.is_some_and(|asked| asked.elapsed() < AGAIN);
            if known.asking || known.stopping || recently || !reason(known) {
                return false;
            }
            (known.asking, known.asked) = (true, Some(Instant::now()));
            // What works is relied on until it is known better.
            for answer in [&mut known.legacy, &mut known.modern] {
                if matches!(answer, Answer::None(_)) {
                    *answer = Answer::Awaited;
                }
            }
            true
        });
        if begun {
            let this = Arc::clone(self);
            self.tasks.spawn(async move {
                tokio::select! {
                    () = this.look() => {}
                    () = this.stop.cancelled() => {}
                }
            });
        }
    }

    async fn look(&self) {
        let legacy = async {
            if self.protocol != Protocol::Modern {
                let question = jsonrpc::request(&RequestId::from(1), mcp::INITIALIZE, &initialize_params());
                self.put(question, mcp::INITIALIZE, speaks_legacy, |known| &mut known.legacy).await;
            }
        };
        let modern = async {
            if self.protocol != Protocol::Legacy {
                let question = era::Request::own(mcp::DISCOVER, &serde_json::Map::new());
                let understood: fn(&Message) -> bool =
                    if self.protocol == Protocol::Modern { |_| true } else { era::speaks_modern };
                self.put(question.line, mcp::DISCOVER, understood, |known| &mut known.modern).await;
            }
        };
        tokio::join!(legacy, modern);
        self.known.send_modify(|known| {
            known.asking = false;
            if let Some(why) = known.why().filter(|_| !known.works()) {
                log::error!("not ready: {why}");
            }
        });
    }

    /// Puts a question to a fresh child, notes what it says, and ends it.
    async fn put(
        &self,
        question: Line,
        method: &str,
        understood: fn(&Message) -> bool,
        place: fn(&mut Known) -> &mut Answer,
    ) {
        let note = |answer: Answer| {
            log::debug!("the MCP server, asked {method}: {answer:?}");
            self.known.send_modify(|known| {
                *place(known) = answer;
                known.broken = None;
            });
        };
        let mut child = match self.command.spawn("on trial") {
            Ok(child) => child,
            Err(e) => return note(Answer::None(format!("the MCP server can't be started: {e}"))),
        };
        let asked = child.stdin.try_send(question);
        let answered = timeout(PATIENCE, async {
            loop {
                match child.stdout.next().await {
                    Ok(Some(Framed::Line(line))) => {
                        if let Some(answer) = answer(line) {
                            return Some(answer);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        });
        match (answered.await, asked) {
            (Ok(Some(answer)), _) => {
                note(if understood(&answer) { Answer::Yes } else { Answer::No });
                child.end(self.grace).await;
            }
            (Err(_), Ok(())) => {
                note(Answer::None(format!("the MCP server did not answer {method} within {PATIENCE:?}")));
                child.end(self.grace).await;
            }
            (Ok(None) | Err(_), _) => {
                let exit = child.end(self.grace).await;
                note(Answer::None(format!("the MCP server {exit} before it answered {method}")));
            }
        }
    }

    /// What there is for a client of a legacy revision.
    pub(super) async fn for_legacy(self: &Arc<Self>) -> Upstream {
        if self.protocol == Protocol::Legacy {
            return Upstream::Same;
        }
        self.decide(Known::for_legacy).await
    }

    /// What there is for a client of a modern revision.
    pub(super) async fn for_modern(self: &Arc<Self>) -> Upstream {
        if self.protocol == Protocol::Modern {
            return Upstream::Same;
        }
        self.decide(Known::for_modern).await
    }

    /// Waits for what can be known, which the children's time bounds.
    async fn decide(self: &Arc<Self>, decide: fn(&Known) -> Option<Upstream>) -> Upstream {
        self.ask();
        let mut known = self.known.subscribe();
        let decided = known.wait_for(|known| decide(known).is_some() || !known.asking).await;
        let upstream = decided.ok().and_then(|known| decide(&known));
        upstream.unwrap_or_else(|| Upstream::Nothing("mcp-bridge is shutting down".to_owned()))
    }

    /// Waits until a child is known to work, or none is; why.
    pub(super) async fn readiness(self: &Arc<Self>) -> Result<(), String> {
        self.command.check().map_err(|e| e.to_string())?;
        self.ask();
        let mut known = self.known.subscribe();
        let settled =
            |known: &Known| known.stopping || !known.asking || (known.works() && known.broken.is_none());
        let known = known.wait_for(settled).await.map_err(|_| "shutting down".to_owned())?;
        match known.why() {
            _ if known.stopping => Err("shutting down".to_owned()),
            _ if known.works() && known.broken.is_none() => Ok(()),
            Some(why) => Err(why.to_owned()),
            None => Err("the MCP server has not answered".to_owned()),
        }
    }
}

/// The first response, which answers the one question.
fn answer(line: bytes::Bytes) -> Option<Message> {
    match jsonrpc::parse(line) {
        Ok(Payload::Single(message)) if matches!(message.kind, Kind::Response { .. }) => Some(message),
        _ => None,
    }
}

fn speaks_legacy(answer: &Message) -> bool {
    matches!(answer.kind, Kind::Response { is_error: false, .. })
}

fn initialize_params() -> serde_json::Value {
    serde_json::json!({
        "protocolVersion": mcp::LegacyRevision::LATEST.as_str(),
        "capabilities": {},
        "clientInfo": era::own_info(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_the_era_that_the_server_speaks() {
        let known = |legacy: &Answer, modern: &Answer| Known {
            legacy: legacy.clone(),
            modern: modern.clone(),
            broken: None,
            asking: true,
            asked: None,
            stopping: false,
        };
        let (yes, no, awaited, none) = (Answer::Yes, Answer::No, Answer::Awaited, Answer::None("why".into()));
        let (same, other) = (Some(Upstream::Same), Some(Upstream::Other));
        let nothing = Some(Upstream::Nothing("why".into()));
        for (legacy, modern, for_legacy, for_modern) in [
            (&yes, &awaited, &same, &None),
            (&awaited, &yes, &None, &same),
            (&yes, &yes, &same, &same),
            (&yes, &no, &same, &other),
            (&yes, &none, &same, &other),
            (&no, &yes, &other, &same),
            (&none, &yes, &other, &same),
            (&no, &awaited, &None, &None),
            (&no, &no, &same, &other),
            (&no, &none, &same, &other),
            (&Answer::Unasked, &none, &other, &other),
            (&no, &Answer::Unasked, &same, &other),
            (&none, &none, &same, &nothing),
        ] {
            let known = known(legacy, modern);
            assert_eq!(known.for_legacy(), *for_legacy, "{known:?}");
            assert_eq!(known.for_modern(), *for_modern, "{known:?}");
        }
    }
}
