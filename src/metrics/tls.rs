//! What TLS has loaded: looked up at each scrape, since it changes with its files.

use std::fmt;

use prometheus_client::{
    collector::Collector as PrometheusCollector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::tls::{Acceptor, Connector, ReloadCounts, Report};

/// Something that can tell what TLS has loaded.
pub trait Reports: fmt::Debug + Send + Sync + 'static {
    /// What is in force.
    fn report(&self) -> Report;

    /// How reloads went.
    fn reload_counts(&self) -> ReloadCounts;
}

impl Reports for Acceptor {
    fn report(&self) -> Report {
        Self::report(self)
    }

    fn reload_counts(&self) -> ReloadCounts {
        Self::reload_counts(self)
    }
}

impl Reports for Connector {
    fn report(&self) -> Report {
        Self::report(self)
    }

    fn reload_counts(&self) -> ReloadCounts {
        Self::reload_counts(self)
    }
}

#[derive(Debug)]
pub(super) struct Collector<R>(pub(super) R);

impl<R: Reports> PrometheusCollector for Collector<R> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let report = self.0.report();
        certificates(&report, &mut encoder)?;
        revocation_lists(&report, &mut encoder)?;
        reloads(self.0.reload_counts(), &mut encoder)
    }
}

fn certificates(report: &Report, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    if report.certificates.is_empty() {
        return Ok(());
    }
    let help = "When our own certificates expire, in seconds since 1970";
    let name = "tls_certificate_expiry_timestamp";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for certificate in &report.certificates {
        let labels = [("subject", certificate.subject.as_str()), ("key_type", certificate.key_type)];
        ConstGauge::new(certificate.expires_at).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn revocation_lists(report: &Report, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(at) = report.crl.as_ref().and_then(|crl| crl.stale_at) else { return Ok(()) };
    let help = "When the first revocation list becomes stale, in seconds since 1970";
    let name = "tls_crl_next_update_timestamp";
    let metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    ConstGauge::new(at).encode(metric)
}

fn reloads(counts: ReloadCounts, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Times that certificates, keys and trust were loaded anew, by result";
    let mut metric = encoder.encode_descriptor("tls_reloads", help, None, MetricType::Counter)?;
    for (result, count) in [("ok", counts.succeeded), ("failed", counts.failed)] {
        ConstCounter::new(count).encode(metric.encode_family(&[("result", result)])?)?;
    }
    Ok(())
}
