//! MCP server processes: started, running, exited.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// Counts children. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct Children {
    started: Counter,
    failed: Counter,
    restarted: Counter,
    running: Gauge,
    exited: Family<OfReason, Counter>,
}

impl Children {
    /// One was started.
    pub fn started(&self) {
        self.started.inc();
        self.running.inc();
    }

    /// One could not be started.
    pub fn not_started(&self) {
        self.failed.inc();
    }

    /// One is started in the place of one that has ended.
    pub fn restarted(&self) {
        self.restarted.inc();
    }

    /// One that was started has ended; `reason` is one of a few words.
    pub fn exited(&self, reason: &'static str) {
        self.running.dec();
        self.exited.get_or_create(&OfReason { reason }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let name = |of: &str| format!("children_{of}");
        registry.register(name("started"), "MCP server processes that were started", self.started.clone());
        let help = "MCP server processes that could not be started";
        registry.register(name("start_failures"), help, self.failed.clone());
        let help = "Times that a shared MCP server process was started again";
        registry.register(name("restarted"), help, self.restarted.clone());
        registry.register(name("running"), "MCP server processes that run", self.running.clone());
        registry.register(name("exited"), "MCP server processes that ended, by how", self.exited.clone());
    }
}
