//! TLS handshakes: how they ended, and what was negotiated.

use std::{borrow::Cow, sync::Arc, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{register_seconds, seconds};
use crate::tls::{Handshake, HandshakeError};

/// In seconds; a full handshake takes about a millisecond and a network's round trips.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

const NONE: &str = "none";

/// The result of a handshake that was not finished in time.
pub const TIMEOUT: &str = "timeout";

/// What is known of a handshake; its values are those that OpenSSL and our configuration have names for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
    version: &'static str,
    cipher: &'static str,
    group: Cow<'static, str>,
    resumed: &'static str,
}

/// Counts handshakes. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct Handshakes(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    total: Family<Labels, Counter>,
    seconds: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self { total: Family::default(), seconds: seconds(&BOUNDS) }
    }
}

impl Handshakes {
    /// One that began at `began` has come about.
    pub fn succeeded(&self, handshake: &Handshake, began: Instant) {
        self.count(&Labels {
            result: "ok",
            version: handshake.version_name(),
            cipher: handshake.cipher,
            group: handshake.group.clone().unwrap_or(Cow::Borrowed(NONE)),
            resumed: if handshake.resumed { "true" } else { "false" },
        });
        self.0.seconds.observe(began.elapsed().as_secs_f64());
    }

    /// One has failed.
    pub fn failed(&self, error: &HandshakeError) {
        self.failed_as(error.result());
    }

    /// None came about: [`TIMEOUT`], or a reason that [`HandshakeError::result`] could have.
    pub fn failed_as(&self, result: &'static str) {
        let group = Cow::Borrowed(NONE);
        self.count(&Labels { result, version: NONE, cipher: NONE, group, resumed: NONE });
    }

    fn count(&self, labels: &Labels) {
        self.0.total.get_or_create(labels).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "TLS handshakes, by result and by what was negotiated";
        registry.register("tls_handshakes", help, self.0.total.clone());
        let help = "Time that TLS handshakes took that came about";
        register_seconds(registry, "tls_handshake_duration", help, self.0.seconds.clone());
    }
}
