//! What is counted, and its exposition in the OpenMetrics text format.
//!
//! Recorders are cheap to clone and are handed down to those who have something to count. A default one belongs to no
//! exposition: it counts for nobody, as in tests and in `check`. `docs/metrics.md` lists every series.

mod children;
mod exchanges;
mod handshakes;
mod http;
mod places;
mod reloads;
mod tls;

use std::fmt;

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::ConstGauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub use self::{
    children::Children,
    exchanges::{Exchanges, Outcome, Running},
    handshakes::{Handshakes, TIMEOUT},
    http::Http,
    places::{Place, Places},
    reloads::Reloads,
    tls::Reports,
};

/// How the exposition is labelled on the wire.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "mcp_bridge";

/// Every recorder of the process, and what they are exposed by.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests that wait for their answer, and how they went.
    pub exchanges: Exchanges,
    /// TLS handshakes.
    pub handshakes: Handshakes,
    /// Connections of clients, of `serve`.
    pub connections: Places,
    /// Sessions, of `serve`.
    pub sessions: Places,
    /// HTTP requests, of `serve`.
    pub http: Http,
    /// MCP server processes, of `serve`.
    pub children: Children,
    /// Events that made room for newer ones before their stream had ended, of `serve`.
    pub replay_dropped: Counter,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    registry: Registry,
}

impl Metrics {
    /// What `serve` counts. `fips` says whether FIPS mode is in force.
    pub fn of_serve(fips: bool) -> Self {
        let mut this = Self::of_connect(fips);
        let registry = &mut this.registry;
        this.connections.register(registry, "connections", "connections of clients");
        this.sessions.register(registry, "sessions", "sessions");
        this.http.register(registry);
        this.children.register(registry);
        let help = "Events dropped from replay buffers to make room for newer ones";
        registry.register("replay_events_dropped", help, this.replay_dropped.clone());
        this
    }

    /// What `connect` counts, which `serve` counts too.
    pub fn of_connect(fips: bool) -> Self {
        let mut this = Self { registry: Registry::with_prefix(PREFIX), ..Self::default() };
        let registry = &mut this.registry;
        let build = [("version", env!("CARGO_PKG_VERSION")), ("openssl", openssl::version::version())];
        registry.register(
            "build",
            "The program and the OpenSSL that it runs with",
            Info::new(build.to_vec()),
        );
        let help = "Whether OpenSSL's default is FIPS mode, and the FIPS provider proven to work";
        registry.register("fips_mode", help, ConstGauge::new(i64::from(fips)));
        this.exchanges.register(registry);
        this.handshakes.register(registry);
        this.reloads.register(registry);
        this
    }

    /// Exposes what `reports` tells of certificates and revocation lists, as it is at each scrape.
    pub fn expose_tls(&mut self, reports: impl Reports) {
        self.registry.register_collector(Box::new(tls::Collector(reports)));
    }

    /// The exposition.
    ///
    /// # Errors
    ///
    /// None that comes from outside: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// A histogram of durations, with the upper bounds of its buckets in seconds.
fn seconds(bounds: &[f64]) -> Histogram {
    Histogram::new(bounds.iter().copied())
}

/// Registers a histogram of seconds.
fn register_seconds<M: prometheus_client::registry::Metric>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) {
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_not_end_its_line_or_its_quotes() {
        let mut registry = Registry::default();
        registry.register("x", "Help", Info::new(vec![("subject", "CN=\"a\\b\"\nx 1")]));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        assert!(out.contains(r#"x_info{subject="CN=\"a\\b\"\nx 1"} 1"#), "{out}");
    }
}
