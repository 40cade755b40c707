//! Reloads of the configuration, good and bad.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// Counts reloads. Clones share what they hold.
#[derive(Debug, Clone)]
pub struct Reloads {
    total: Family<OfResult, Counter>,
    ok: Counter,
    failed: Counter,
}

impl Default for Reloads {
    fn default() -> Self {
        let total = Family::<OfResult, Counter>::default();
        // Both are there from the start, so that the first failure is an increase.
        let [ok, failed] = ["ok", "failed"].map(|result| total.get_or_create_owned(&OfResult { result }));
        Self { total, ok, failed }
    }
}

impl Reloads {
    /// The new configuration is in force.
    pub fn succeeded(&self) {
        self.ok.inc();
    }

    /// The old configuration stays in force.
    pub fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Reloads of the configuration on SIGHUP, by result";
        registry.register("config_reloads", help, self.total.clone());
    }
}
