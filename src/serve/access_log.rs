//! One line of the log for each request, and the metrics of HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use hyper::{HeaderMap, Method, Request, StatusCode, header::HeaderName};
use log::{
    Level, Record,
    kv::{self, Key, Source, Value, VisitSource},
};

use super::{live::Live, reply::Refusal};
use crate::{
    auth::Principal,
    http::{Peer, Tally},
    jsonrpc::{self, Message, Payload},
    logging::REQUESTS,
    metrics::Http,
    text::head,
};

/// How much is shown of what a client has written, in bytes.
const MAX_SHOWN: usize = 128;
/// The status of a request whose client left before the answer, as nginx has it. It is never sent.
const CLIENT_LEFT: u16 = 499;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Begins the lines.
#[derive(Debug)]
pub(super) struct AccessLog {
    metrics: Http,
    /// What tells this process's requests from those of another.
    process: u32,
    number: AtomicU64,
}

/// A request that has come, and what is known of it so far. Dropping it writes its line.
#[derive(Debug)]
pub(super) struct Entry {
    metrics: Http,
    status: Option<StatusCode>,
    received: usize,
    sent: usize,
    /// What only the log wants to know; `None` when it does not.
    facts: Option<Box<Facts>>,
}

#[derive(Debug)]
struct Facts {
    level: Level,
    began: Instant,
    request: String,
    verb: Method,
    path: String,
    peer: Arc<Peer>,
    principal: Option<String>,
    session: Option<String>,
    id: Option<String>,
    method: Option<String>,
    name: Option<String>,
    traceparent: Option<String>,
    refused: Option<&'static str>,
}

impl AccessLog {
    pub(super) fn new(metrics: Http) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Seconds alone would be the same for a process that is started again at once.
        let process =
            since.subsec_micros() ^ u32::try_from(since.as_secs() & 0xffff_ffff).unwrap_or_default();
        Self { metrics, process, number: AtomicU64::new(1) }
    }

    /// A request has come. `probe` says that it asks for nothing but the bridge's health.
    pub(super) fn begin<B>(&self, request: &Request<B>, peer: &Arc<Peer>, probe: bool) -> Entry {
        let level = if probe { Level::Debug } else { Level::Info };
        let facts = log::log_enabled!(target: REQUESTS, level).then(|| {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            Box::new(Facts {
                level,
                began: Instant::now(),
                request: format!("{:08x}-{number}", self.process),
                verb: request.method().clone(),
                // Without its query, which over HTTP+SSE holds the session's id.
                path: shown(request.uri().path()),
                peer: Arc::clone(peer),
                principal: None,
                session: None,
                id: None,
                method: None,
                name: None,
                traceparent: traceparent(request.headers()),
                refused: None,
            })
        });
        Entry { metrics: self.metrics.clone(), status: None, received: 0, sent: 0, facts }
    }
}

impl Entry {
    pub(super) fn principal(&mut self, principal: &Principal) {
        if let Some(facts) = &mut self.facts {
            facts.principal = Some(principal.to_string());
        }
    }

    pub(super) fn session(&mut self, live: &Live) {
        if let Some(facts) = &mut self.facts {
            facts.session = Some(live.short_id().to_owned());
        }
    }

    /// The request's body has come, of so many bytes.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received = bytes;
        self.metrics.received(bytes);
    }

    /// What the request's body says.
    pub(super) fn payload(&mut self, payload: &Payload) {
        let Some(facts) = &mut self.facts else { return };
        match payload {
            Payload::Single(message) => facts.message(message),
            Payload::Batch(messages) => facts.method = Some(format!("batch of {}", messages.len())),
        }
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        if let Some(facts) = &mut self.facts {
            facts.refused = Some(refusal.reason());
        }
    }

    /// The answer begins.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Tally for Entry {
    fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        self.metrics.sent(bytes);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        self.metrics.answered(status);
        if let Some(facts) = &self.facts {
            let line = Line { facts, status, received: self.received, sent: self.sent };
            log::logger().log(
                &Record::builder()
                    .level(facts.level)
                    .target(REQUESTS)
                    .args(format_args!("{} {}", facts.verb, facts.path))
                    .key_values(&line)
                    .build(),
            );
        }
    }
}

impl Facts {
    fn message(&mut self, message: &Message) {
        self.id = message.request_id().map(|id| shown(&id.to_string()));
        self.method = message.method().map(shown);
        let about = jsonrpc::about(message);
        self.name = about.name.as_deref().map(shown);
        // The message's own says more than that of the connection that carried it.
        self.traceparent = about.traceparent.as_deref().map(shown).or(self.traceparent.take());
    }
}

fn shown(text: &str) -> String {
    head(text, MAX_SHOWN).to_owned()
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    headers.get(TRACEPARENT).map(|value| shown(&String::from_utf8_lossy(value.as_bytes())))
}

/// A request as facts for the log.
struct Line<'a> {
    facts: &'a Facts,
    status: u16,
    received: usize,
    sent: usize,
}

impl Source for Line<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        let facts = self.facts;
        let texts = [
            ("session", &facts.session),
            ("principal", &facts.principal),
            ("id", &facts.id),
            ("method", &facts.method),
            ("name", &facts.name),
            ("traceparent", &facts.traceparent),
        ];
        let mut pair = |key: &'static str, value: Value<'kvs>| visitor.visit_pair(Key::from_str(key), value);
        pair("request", Value::from(facts.request.as_str()))?;
        pair("peer", Value::from_dyn_display(&facts.peer))?;
        for (key, text) in texts {
            if let Some(text) = text {
                pair(key, Value::from(text.as_str()))?;
            }
        }
        if let Some(refused) = facts.refused {
            pair("refused", Value::from(refused))?;
        }
        pair("status", Value::from(self.status))?;
        pair("duration_ms", Value::from(milliseconds(facts.began)))?;
        pair("received", Value::from(self.received))?;
        pair("sent", Value::from(self.sent))
    }
}

/// To a thousandth.
fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
