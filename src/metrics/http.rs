//! HTTP requests of clients: their statuses, and the bytes of their bodies.

use std::sync::{Arc, OnceLock};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

/// Statuses have three digits.
const STATUSES: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: u16,
}

/// Counts HTTP requests. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct Http(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    requests: Family<OfStatus, Counter>,
    received: Counter,
    sent: Counter,
    /// For each status its series, made when it is first answered.
    series: Vec<OnceLock<Counter>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            received: Counter::default(),
            sent: Counter::default(),
            series: vec![OnceLock::new(); STATUSES],
        }
    }
}

impl Http {
    /// A request has been answered with `status`.
    pub fn answered(&self, status: u16) {
        let Some(series) = self.0.series.get(usize::from(status)) else { return };
        series.get_or_init(|| self.0.requests.get_or_create_owned(&OfStatus { status })).inc();
    }

    /// So many bytes of a request's body have come.
    pub fn received(&self, bytes: usize) {
        self.0.received.inc_by(bytes as u64);
    }

    /// So many bytes of an answer's body go out.
    pub fn sent(&self, bytes: usize) {
        self.0.sent.inc_by(bytes as u64);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Counts { requests, received, sent, .. } = &*self.0;
        registry.register("http_requests", "HTTP requests, by the status of their answer", requests.clone());
        let help = "Bytes of the bodies of HTTP requests";
        registry.register_with_unit("http_received", help, Unit::Bytes, received.clone());
        let help = "Bytes of the bodies of HTTP answers";
        registry.register_with_unit("http_sent", help, Unit::Bytes, sent.clone());
    }
}
