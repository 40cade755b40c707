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

use hyper::StatusCode;
use serde::Deserialize;
use tokio::{sync::Mutex, time::timeout};

use super::Server;
use crate::{
    config::{Connect, Protocol, Transport},
    connect::{
        answer::{self, Answer, Refused},
        failure::Failure,
    },
    era,
    jsonrpc::{Kind, Line, Message},
    mcp::{self, LegacyRevision},
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
                Answer::Refused(refused) if is_failure(&refused) => Err(refused.failure().await),
                Answer::Refused(refused) => Ok(refused.explain().await.ok()),
                answer => answer::to(&request.id, answer).await.map(Some),
            }
        };
        let remote = self.server.remote();
        let modern = match timeout(remote.config.connect_timeout.saturating_add(PATIENCE), asked).await {
            Ok(Ok(answer)) => answer.is_some_and(|answer| is_modern(&answer)),
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

/// Whether a status says nothing of the server's era.
fn is_failure(refused: &Refused) -> bool {
    let status = refused.status;
    status.is_redirection()
        || status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::TOO_MANY_REQUESTS
        )
}

/// Whether an answer to `server/discover` is a modern server's that speaks the bridge's revision.
fn is_modern(answer: &Message) -> bool {
    match &answer.kind {
        Kind::Response { is_error: false, .. } => supported(&answer.line)
            .is_some_and(|versions| versions.iter().any(|version| version == mcp::MODERN_REVISION)),
        Kind::Response { .. } => error_code(&answer.line).is_some_and(|code| match code {
            mcp::code::HEADER_MISMATCH | mcp::code::MISSING_CLIENT_CAPABILITY => true,
            // A server that names a legacy revision can be spoken to in that.
            mcp::code::UNSUPPORTED_VERSION => {
                !refused_for(&answer.line).iter().any(|version| LegacyRevision::parse(version).is_some())
            }
            _ => false,
        }),
        _ => false,
    }
}

/// The code of an error response.
pub(in crate::connect) fn error_code(line: &Line) -> Option<i32> {
    #[derive(Deserialize)]
    struct Response {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: i32,
    }
    serde_json::from_str::<Response>(line.as_str()).ok().map(|response| response.error.code)
}

fn supported(line: &Line) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Response {
        result: Discovered,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
    }
    serde_json::from_str::<Response>(line.as_str()).ok().map(|response| response.result.supported_versions)
}

fn refused_for(line: &Line) -> Vec<String> {
    #[derive(Deserialize)]
    struct Response {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let response = serde_json::from_str::<Response>(line.as_str());
    response.map(|response| response.error.data.supported).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    #[test]
    fn only_a_modern_server_answers_like_one() {
        for (answer, modern) in [
            (r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{}}"#, true),
            (r#""result":{"supportedVersions":["2027-01-01"],"capabilities":{}}"#, false),
            (r#""result":{}"#, false),
            (r#""error":{"code":-32601,"message":"Method not found"}"#, false),
            (r#""error":{"code":-32600,"message":"Not initialized"}"#, false),
            (r#""error":{"code":-32602,"message":"x"}"#, false),
            (r#""error":{"code":-32020,"message":"x"}"#, true),
            (
                r#""error":{"code":-32022,"message":"x","data":{"supported":["2027-01-01"],"requested":"x"}}"#,
                true,
            ),
            (
                r#""error":{"code":-32022,"message":"x","data":{"supported":["2025-11-25"],"requested":"x"}}"#,
                false,
            ),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#);
            let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{answer}") };
            assert_eq!(is_modern(&message), modern, "{answer}");
        }
    }
}
