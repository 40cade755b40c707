//! Requests that wait for their answer: by method and outcome, with the time that they took.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{register_seconds, seconds};

/// The methods that are told apart: a client can make up any number of others.
const METHODS: [&str; 21] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    OTHER,
];
const OTHER: &str = "other";

/// From a lookup in memory to a tool that works for minutes, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered with a result.
    Ok,
    /// The server answered with an error.
    Error,
    /// The bridge answered with an error of its own.
    Failed,
    /// The client did not want the answer any more.
    Cancelled,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Ok, "ok"),
    (Outcome::Error, "error"),
    (Outcome::Failed, "failed"),
    (Outcome::Cancelled, "cancelled"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMethod {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    method: &'static str,
    outcome: &'static str,
}

/// Counts requests. Clones share what they hold.
#[derive(Debug, Clone, Default)]
pub struct Exchanges(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    in_flight: Gauge,
    total: Family<OfOutcome, Counter>,
    seconds: Family<OfMethod, Histogram, fn() -> Histogram>,
    /// For each method the series that it counts in, made when it is first seen.
    series: [OnceLock<Series>; METHODS.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            in_flight: Gauge::default(),
            total: Family::default(),
            seconds: Family::new_with_constructor(|| seconds(&BOUNDS)),
            series: [const { OnceLock::new() }; METHODS.len()],
        }
    }
}

#[derive(Debug)]
struct Series {
    /// In the order of [`OUTCOMES`].
    total: [Counter; OUTCOMES.len()],
    seconds: Histogram,
}

impl Exchanges {
    /// A request begins to wait for its answer.
    pub fn begin(&self, method: &str) -> Running {
        self.begin_at(method, Instant::now())
    }

    /// As [`Self::begin`], for those who know the time.
    pub fn begin_at(&self, method: &str, now: Instant) -> Running {
        self.0.in_flight.inc();
        let known = METHODS.iter().position(|known| *known == method);
        Running {
            counts: Arc::clone(&self.0),
            method: known.unwrap_or(METHODS.len() - 1),
            began: now,
            ended: None,
            outcome: Some(Outcome::Failed),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Counts { in_flight, total, seconds, .. } = &*self.0;
        registry.register("exchanges_in_flight", "Requests that wait for their answer", in_flight.clone());
        registry.register("requests", "Requests that ended, by method and outcome", total.clone());
        let help = "Time from a request to its answer";
        register_seconds(registry, "request_duration", help, seconds.clone());
    }
}

impl Counts {
    fn series(&self, method: usize) -> &Series {
        self.series[method].get_or_init(|| {
            let method = METHODS[method];
            let of = |(_, outcome)| self.total.get_or_create_owned(&OfOutcome { method, outcome });
            Series {
                total: OUTCOMES.map(of),
                seconds: self.seconds.get_or_create_owned(&OfMethod { method }),
            }
        })
    }
}

/// A request that waits for its answer. Dropping it ends it: as failed, unless [`Self::end`] said otherwise.
#[derive(Debug)]
pub struct Running {
    counts: Arc<Counts>,
    method: usize,
    began: Instant,
    /// `None` until that is known.
    ended: Option<Instant>,
    /// `None` when it does not count.
    outcome: Option<Outcome>,
}

impl Running {
    /// The request has ended.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// As [`Self::end`], for those who know the time.
    pub fn end_at(mut self, outcome: Outcome, now: Instant) {
        self.ended = Some(now);
        self.end(outcome);
    }

    /// The request goes on as another, which counts in its place.
    pub fn disown(mut self) {
        self.outcome = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counts.in_flight.dec();
        let Some(outcome) = self.outcome else { return };
        let series = self.counts.series(self.method);
        let counters = OUTCOMES.iter().zip(&series.total);
        counters.filter(|((of, _), _)| *of == outcome).for_each(|(_, counter)| {
            counter.inc();
        });
        let ended = self.ended.unwrap_or_else(Instant::now);
        series.seconds.observe(ended.saturating_duration_since(self.began).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(exchanges: &Exchanges, method: &'static str, outcome: &'static str) -> u64 {
        exchanges.0.total.get_or_create(&OfOutcome { method, outcome }).get()
    }

    #[test]
    fn each_request_is_counted_once_by_method_and_outcome() {
        let exchanges = Exchanges::default();
        let running = exchanges.begin("tools/call");
        assert_eq!(exchanges.0.in_flight.get(), 1);
        running.end(Outcome::Ok);
        exchanges.begin("tools/call").end(Outcome::Error);
        drop(exchanges.begin("tools/call"));
        exchanges.begin("tools/call").disown();
        assert_eq!(exchanges.0.in_flight.get(), 0);
        for outcome in ["ok", "error", "failed"] {
            assert_eq!(count(&exchanges, "tools/call", outcome), 1, "{outcome}");
        }
        assert_eq!(count(&exchanges, "tools/call", "cancelled"), 0);
    }

    #[test]
    fn however_many_methods_are_made_up_they_are_one_series() {
        let exchanges = Exchanges::default();
        for n in 0..100 {
            exchanges.begin(&format!("made/up{n}")).end(Outcome::Error);
        }
        assert_eq!(count(&exchanges, OTHER, "error"), 100);
        assert_eq!(exchanges.0.series.iter().filter(|series| series.get().is_some()).count(), 1);
    }
}
