//! A scrape of the metrics, read line by line.

use std::collections::BTreeSet;

use crate::support::http::Http;
use crate::support::process::Process;

/// Lines of the configuration that turn metrics on.
pub(crate) const METRICS: &str = "metrics:\n  listen: 127.0.0.1:0";

/// What was exposed at one moment.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) text: String,
}

/// Where a process says that its metrics are.
pub(crate) fn metrics_url(process: &Process) -> String {
    process.logged("metrics on ").split("metrics on ").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

impl Scrape {
    pub(crate) async fn of(process: &Process) -> Self {
        let response = Http::new(&metrics_url(process)).get().await;
        assert_eq!(response.status, 200);
        assert!(response.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
        Self { text: response.text().await }
    }

    fn samples(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '))
    }

    /// The sum of the whole numbers of the series with this name whose labels hold all of these.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let named = self.samples().filter(|(series, _)| series.split('{').next() == Some(name));
        let labelled = named.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        labelled
            .map(|(series, value)| value.parse::<u64>().unwrap_or_else(|e| panic!("{series} {value}: {e}")))
            .sum()
    }

    /// The names of all series.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.samples().map(|(series, _)| series.split('{').next().unwrap()).collect()
    }

    /// How many series have this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.samples().filter(|(series, _)| series.split('{').next() == Some(name)).count()
    }
}
