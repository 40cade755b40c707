//! `mcp-bridge check`: everything is loaded and resolved, nothing is started.

use std::io::{self, Write};

use mcp_bridge::{
    config::{Config, Role},
    connect, logging,
    metrics::Metrics,
    serve,
    tls::{Report, fips},
};
use serde::Serialize;

use crate::Failure;

/// What was found.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    openssl: &'static str,
    fips: Option<String>,
    mode: &'static str,
    file: Option<String>,
    endpoint: String,
    warnings: Vec<String>,
    tls: Option<Report>,
}

pub(crate) fn run(config: &Config, json: bool) -> Result<(), Failure> {
    logging::check(&config.logging).map_err(Failure::configuration)?;
    if config.fips_required {
        fips::require().map_err(Failure::configuration)?;
    }
    let (mode, endpoint, tls) = match &config.role {
        Role::Serve(serve) => {
            let prepared = serve::Prepared::load(serve).map_err(Failure::configuration)?;
            ("server", format!("{}{}", serve.listen, serve.path), prepared.tls.map(|tls| tls.report()))
        }
        Role::Connect(connect) => {
            let client =
                connect::Client::load(connect, &Metrics::default()).map_err(Failure::configuration)?;
            ("client", connect.url.to_string(), client.tls.map(|tls| tls.report()))
        }
    };
    let findings = Findings {
        version: env!("CARGO_PKG_VERSION"),
        openssl: openssl::version::version(),
        fips: fips::status().map(|proof| proof.to_string()),
        mode,
        file: config.file.as_ref().map(|file| file.display().to_string()),
        endpoint,
        warnings: config.warnings.clone(),
        tls,
    };
    findings.print(json).map_err(Failure::running)?;
    if findings.has_expired_certificate() {
        return Err(Failure::configuration("tls.cert_file: a certificate has expired; renew it"));
    }
    Ok(())
}

impl Findings {
    fn has_expired_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(Report::has_expired_certificate)
    }

    fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            return writeln!(out, "{}", serde_json::to_string_pretty(self)?);
        }
        writeln!(out, "mcp-bridge {} with {}", self.version, self.openssl)?;
        writeln!(out, "FIPS: {}", self.fips.as_deref().unwrap_or("off"))?;
        writeln!(out, "configuration: {}", self.file.as_deref().unwrap_or("command line"))?;
        writeln!(out, "mode: {}, {}", self.mode, self.endpoint)?;
        if let Some(tls) = &self.tls {
            write!(out, "{tls}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        if self.has_expired_certificate() {
            return Ok(());
        }
        writeln!(out, "the configuration can be used")
    }
}
