//! What the arguments look like.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Offer a stdio MCP server over HTTP
    Serve(ServeArgs),
    /// Reach a remote MCP server from a stdio client
    Connect(ConnectArgs),
    /// Load and resolve the configuration, start nothing, and report
    Check(CheckArgs),
    /// Ask a running bridge whether it is healthy
    Health(HealthArgs),
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// debug, info, warn or error
    #[arg(long, value_name = "LEVEL", global = true)]
    pub(super) log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT", global = true)]
    pub(super) log_format: Option<String>,
    /// stderr, stdout (not with connect) or a file
    #[arg(long, value_name = "OUTPUT", global = true)]
    pub(super) log_output: Option<String>,
    /// Refuse to run unless OpenSSL's FIPS provider does all cryptography
    #[arg(long, global = true)]
    pub(super) fips: bool,
    /// Lowest TLS version: 1.0, 1.1, 1.2 or 1.3
    #[arg(long, value_name = "VERSION", global = true)]
    pub(super) min_tls: Option<String>,
    /// Highest TLS version
    #[arg(long, value_name = "VERSION", global = true)]
    pub(super) max_tls: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Address: 127.0.0.1:8080, :8443 (all interfaces), [::1]:8443, unix:/path or systemd"
    )]
    pub(super) listen: Option<String>,
    /// Path of the MCP endpoint [default: /mcp]
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Certificate chain, PEM; turns TLS on
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Option<String>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<String>,
    /// CAs that sign client certificates, PEM; alone it implies --client-auth verify
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<String>,
    /// none, request, require or verify
    #[arg(long, value_name = "MODE")]
    pub(super) client_auth: Option<String>,
    /// Accept the bearer token that this environment variable holds
    #[arg(long, value_name = "VARIABLE")]
    pub(super) token_env: Option<String>,
    /// Listen beyond loopback with neither TLS nor auth
    #[arg(long)]
    pub(super) allow_insecure: bool,
    /// The MCP server to start, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// URL of the MCP endpoint: https://… or http://…
    #[arg(value_name = "URL")]
    pub(super) url: Option<String>,
    #[command(flatten)]
    pub(super) tls: RemoteTls,
    /// Send the bearer token that this environment variable holds
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_file")]
    pub(super) token_env: Option<String>,
    /// Send the bearer token that this file holds
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<String>,
    /// Extra request header; may be repeated. Others can see it with `ps`: secrets belong into the file
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(super) headers: Vec<String>,
}

/// How a remote server is verified, and what is shown to it.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct RemoteTls {
    /// CAs to trust instead of the system's: a PEM file or a directory
    #[arg(long, value_name = "PATH")]
    pub(super) ca_cert: Option<String>,
    /// Client certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Option<String>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<String>,
    /// Name to ask for and to verify, instead of the URL's
    #[arg(long, value_name = "NAME")]
    pub(super) server_name: Option<String>,
    /// Do not verify the server at all: for tests only
    #[arg(long)]
    pub(super) insecure_skip_verify: bool,
}

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[arg(
        value_name = "URL",
        help = "The bridge to ask, as in https://127.0.0.1:8443, instead of the one that runs with the configuration file"
    )]
    pub(super) url: Option<String>,
    /// Ask whether it can serve, and not only whether it is up
    #[arg(long)]
    pub(super) ready: bool,
    #[command(flatten)]
    pub(super) tls: RemoteTls,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Report as JSON
    #[arg(long)]
    pub(super) json: bool,
}
