//! The checked, resolved configuration: what the rest of the program sees.
//!
//! Nothing here is optional that has a default, and nothing here can contradict itself: `config::load`
//! has judged it. The default of a key stands beside its field, and only there.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Mode,
    node::{Node, Origin},
    schema,
    secret::Secret,
    yaml,
};

/// A whole configuration, ready to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None` when everything came from the command line.
    pub file: Option<PathBuf>,
    /// Which direction to run, with what only that direction has.
    pub role: Role,
    /// Where the log goes.
    pub logging: Logging,
    /// Address of the plain metrics listener, when it is on.
    pub metrics_listen: Option<SocketAddr>,
    /// `tls.fips: required`, which holds for the process also where there is no TLS.
    pub fips_required: bool,
    /// The values as they were written.
    pub written: Written,
    /// What loads but deserves an operator's attention; shown once at start and by `check`.
    pub warnings: Vec<String>,
}

impl Config {
    /// The direction's name.
    pub fn mode(&self) -> Mode {
        match self.role {
            Role::Serve(_) => Mode::Server,
            Role::Connect(_) => Mode::Client,
        }
    }

    /// The keys that `new` changes and that only a restart puts into force.
    pub fn restart_for(&self, new: &Self) -> Vec<&'static str> {
        schema::restart_for(&self.written.0, &new.written.0, self.mode())
    }
}

/// What file and command line said. It may hold secrets, and shows nothing.
#[derive(Clone)]
pub struct Written(pub(super) Node);

impl Written {
    /// Puts the place of the key before an error that begins with a key's path, such as one about a file that the key
    /// names: the line of `file`, from which the values are, or the option that has set it. An error about anything
    /// else, or about a key that is not set, stays as it is.
    pub fn place(&self, file: Option<&Path>, error: &str) -> String {
        let key = error.split([':', ' ', '[']).next().filter(|key| key.contains('.'));
        let node = key.and_then(|key| self.0.get(key));
        let place = node.and_then(|node| match &node.origin {
            Origin::Option(option) => Some((*option).to_owned()),
            Origin::File(path) => {
                let file = file?;
                let text = String::from_utf8(super::read(file).ok()?).ok()?;
                Some(format!("{}:{}", file.display(), yaml::locate(&text, path)?))
            }
            Origin::Line(_) | Origin::Nowhere => None,
        });
        place.map_or_else(|| error.to_owned(), |place| format!("{place}: {error}"))
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(***)")
    }
}

/// The direction: `mode: server` or `mode: client`.
#[derive(Debug, Clone)]
pub enum Role {
    /// Offer a child's stdio MCP server over Streamable HTTP.
    Serve(Box<Serve>),
    /// Let a stdio MCP client reach a remote server.
    Connect(Box<Connect>),
}

/// `mode: server`.
#[derive(Debug, Clone)]
pub struct Serve {
    /// `server.listen`; default `127.0.0.1:8080`.
    pub listen: Listen,
    /// `server.path`; default `/mcp`, always starts with `/`.
    pub path: String,
    /// `server.allowed_hosts`: host names (no port, lower case) that a `Host` header may carry; `None` when unchecked.
    /// Default: the loopback names when listening on loopback, else unchecked.
    pub allowed_hosts: Option<Vec<String>>,
    /// `server.allowed_origins`, as written; `None`: only origins whose host is the request's own.
    pub allowed_origins: Option<Vec<String>>,
    /// `server.read_timeout`; default 30 s, for a whole request head and body.
    pub read_timeout: Duration,
    /// `server.idle_timeout`; default 120 s between requests of a connection.
    pub idle_timeout: Duration,
    /// `server.handshake_timeout`; default 10 s for a TLS handshake, absolute.
    pub handshake_timeout: Duration,
    /// `server.stream_after`; default 5 s until a waiting answer becomes a stream.
    pub stream_after: Duration,
    /// `server.sse_keepalive_interval`; default 15 s between comments on an idle stream.
    pub sse_keepalive_interval: Duration,
    /// `server.max_body_size`; default 10 MiB, in bytes.
    pub max_body_size: usize,
    /// `server.max_connections`; default 10,000.
    pub max_connections: usize,
    /// `server.max_header_size`; default 64 KiB, in bytes.
    pub max_header_size: usize,
    /// `server.shutdown_timeout`; default 30 s for exchanges in flight at SIGTERM.
    pub shutdown_timeout: Duration,
    /// `server.session.timeout`; default 30 min without a stream or exchange.
    pub session_timeout: Duration,
    /// `server.session.max_sessions`; default 100.
    pub max_sessions: usize,
    /// `server.cors`, when the section is there.
    pub cors: Option<Cors>,
    /// `tls`, when `tls.enabled` is true.
    pub tls: Option<ServerTls>,
    /// `auth`: who may come in.
    pub auth: ServerAuth,
    /// `mcp`: the child.
    pub mcp: Mcp,
}

/// Where `serve` listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`; each address the host resolves to at start.
    Tcp {
        /// Host name or address, without brackets; `None` for `":8443"`, all interfaces (dual stack).
        host: Option<String>,
        /// Port; 0 lets the system choose.
        port: u16,
    },
    /// `unix:/path`.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// `server.socket_mode`; default 0660.
        mode: u32,
    },
    /// `systemd`: the one socket that the service manager passes in.
    Systemd,
}

impl fmt::Display for Listen {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port } => write!(f, ":{port}"),
            Self::Tcp { host: Some(host), port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host: Some(host), port } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Systemd => f.write_str("systemd"),
        }
    }
}

impl Listen {
    /// Whether only this machine can connect: loopback addresses, `localhost` and unix sockets.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Systemd | Self::Tcp { host: None, .. } => false,
            Self::Tcp { host: Some(host), .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// `server.cors`.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Origins as a browser writes them (`https://app.example.com`), or the one entry `*`.
    pub allowed_origins: Vec<String>,
    /// Default `GET, POST, DELETE`.
    pub allowed_methods: Vec<String>,
    /// Default: the headers an MCP client sends.
    pub allowed_headers: Vec<String>,
    /// In addition to `Mcp-Session-Id`, which is always exposed.
    pub exposed_headers: Vec<String>,
    /// Default false; true contradicts the origin `*`.
    pub allow_credentials: bool,
    /// How long a browser may keep a preflight answer; default 10 min.
    pub max_age: Duration,
}

/// `auth` of `serve`.
#[derive(Debug, Clone)]
pub enum ServerAuth {
    /// `auth.type: none`.
    None,
    /// `auth.type: bearer`: at least one token.
    Bearer(Vec<AcceptedToken>),
}

/// One entry of `auth.bearer.tokens`.
#[derive(Debug, Clone)]
pub enum AcceptedToken {
    /// The token itself.
    Plain(Secret),
    /// `sha256:HEX`: the digest of the token.
    Sha256([u8; 32]),
}

/// `auth` of `connect`.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// `auth.type: none`.
    None,
    /// `auth.bearer.token`, or `token_env`'s value at start.
    Bearer(Secret),
    /// `auth.bearer.token_file`: read again when it changes or on 401.
    BearerFile(PathBuf),
}

/// `mcp`: the child and how it is kept.
#[derive(Debug, Clone)]
pub struct Mcp {
    /// `mcp.command`, as written (looked up in `PATH` when it has no `/`).
    pub command: String,
    /// `mcp.args`.
    pub args: Vec<String>,
    /// `mcp.env`: added to the child's environment.
    pub env: BTreeMap<String, Secret>,
    /// `mcp.dir`: the child's working directory.
    pub dir: Option<PathBuf>,
    /// `mcp.inherit_env`; default true.
    pub inherit_env: bool,
    /// Environment variables that the configuration expanded or named as a token's: never inherited by the child.
    pub withheld_env: Vec<String>,
    /// `mcp.protocol`; default `auto`.
    pub protocol: Protocol,
    /// `mcp.translate`; default true.
    pub translate: bool,
    /// `mcp.isolation`; default `principal`, or `request` when anonymous clients beyond loopback are let in.
    pub isolation: Isolation,
    /// `mcp.instances`; default 1, at least 1.
    pub instances: usize,
    /// `mcp.scheduling`; default `batch`.
    pub scheduling: Scheduling,
    /// `mcp.max_request_time`; default 1 h.
    pub max_request_time: Duration,
    /// `mcp.request_timeout`; default 10 min; `None` (written `0`) is never.
    pub request_timeout: Option<Duration>,
    /// `mcp.graceful_shutdown_timeout`; default 5 s.
    pub graceful_shutdown_timeout: Duration,
    /// `mcp.restart_on_failure`; default true.
    pub restart_on_failure: bool,
    /// `mcp.max_restarts`; default 5.
    pub max_restarts: u32,
    /// `mcp.restart_delay`; default 1 s.
    pub restart_delay: Duration,
}

/// `mcp.scheduling`: how children share processors with the bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// They interrupt nobody when a message wakes them.
    #[default]
    Batch,
    /// As the bridge does.
    Inherit,
}

/// `mcp.protocol`, `client.protocol`: which era the upstream is taken to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Ask it.
    #[default]
    Auto,
    /// Revisions with `initialize`.
    Legacy,
    /// Revision 2026-07-28 and later.
    Modern,
}

/// `mcp.isolation`: what shares a legacy child when the client is modern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A child for each principal.
    Principal,
    /// A child for each request.
    Request,
}

/// `mode: client`.
#[derive(Debug, Clone)]
pub struct Connect {
    /// `client.url`: `http` or `https`, with a host.
    pub url: hyper::Uri,
    /// `client.connect_timeout`; default 10 s, for resolving, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// `client.timeout`; default 10 min without a message for an exchange; `None` (written `0`) is never.
    pub timeout: Option<Duration>,
    /// Bound that progress does not reset, as `mcp.max_request_time`; default 1 h.
    pub max_request_time: Duration,
    /// `client.headers`: sent with each request. Names are checked, and those the transport owns refused.
    pub headers: Vec<(hyper::header::HeaderName, Secret)>,
    /// `client.proxy`; default from the environment.
    pub proxy: ProxyChoice,
    /// `client.protocol`; default `auto`.
    pub protocol: Protocol,
    /// `client.transport`; default `auto`.
    pub transport: Transport,
    /// `client.translate`; default true.
    pub translate: bool,
    /// `client.retry`.
    pub retry: Retry,
    /// `tls`.
    pub tls: ClientTls,
    /// `auth`: what is sent.
    pub auth: ClientAuth,
}

/// `client.proxy`.
#[derive(Debug, Clone)]
pub enum ProxyChoice {
    /// `HTTPS_PROXY`, `HTTP_PROXY` (for `http://`), `ALL_PROXY` and `NO_PROXY`, in either case.
    Environment,
    /// This one, for every URL: `http://[user:password@]host:port`.
    Url(Secret),
    /// Written `none`: go direct whatever the environment says.
    Direct,
}

/// `client.transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Streamable HTTP first, HTTP+SSE when the server is that old.
    #[default]
    Auto,
    /// Streamable HTTP (2025-03-26 and later).
    StreamableHttp,
    /// HTTP+SSE (2024-11-05).
    Sse,
}

/// `client.retry`: connection set-up and streams only, never a request that may have reached the server.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Default true.
    pub enabled: bool,
    /// Default 5.
    pub max_retries: u32,
    /// Default 200 ms.
    pub initial_delay: Duration,
    /// Default 10 s.
    pub max_delay: Duration,
    /// Default 2.0, at least 1.
    pub multiplier: f64,
}

/// `logging`.
#[derive(Debug, Clone)]
pub struct Logging {
    /// `logging.level`; default `info`.
    pub level: log::LevelFilter,
    /// `logging.format`; default text.
    pub format: LogFormat,
    /// `logging.output`; default stderr.
    pub output: LogOutput,
    /// `logging.requests`; default true.
    pub requests: bool,
    /// `logging.bodies`; default false.
    pub bodies: bool,
}

/// `logging.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `logging.output`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogOutput {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output; refused in client mode, where it carries the protocol.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 2246.
    Tls10,
    /// RFC 4346.
    Tls11,
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What server and client configure alike.
#[derive(Debug, Clone, Default)]
pub struct TlsPolicy {
    /// `tls.min_version`; `None`: the platform's policy, at least 1.2.
    pub min_version: Option<TlsVersion>,
    /// `tls.max_version`; `None`: the platform's policy.
    pub max_version: Option<TlsVersion>,
    /// `tls.cipher_suites`, as written (not yet judged against OpenSSL); `None`: the platform's policy.
    pub cipher_suites: Option<Vec<String>>,
    /// `tls.curve_preferences`, as written (not yet judged against OpenSSL); `None`: the platform's policy.
    pub curve_preferences: Option<Vec<String>>,
    /// `tls.fips: required`.
    pub fips_required: bool,
    /// `tls.reload_interval`; how often files are looked at; default 10 s.
    pub reload_interval: Duration,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `tls.cert_file`: PEM, leaf first.
    pub cert_file: PathBuf,
    /// `tls.key_file`: PEM.
    pub key_file: PathBuf,
    /// `tls.key_password` or `key_password_file`.
    pub key_password: Option<KeyPassword>,
}

/// Where the password of an encrypted key comes from.
#[derive(Debug, Clone)]
pub enum KeyPassword {
    /// `tls.key_password`.
    Plain(Secret),
    /// `tls.key_password_file`: its first line, read at each load.
    File(PathBuf),
}

/// `tls` of `serve`.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Versions, ciphers, groups, FIPS.
    pub policy: TlsPolicy,
    /// At least one; several serve clients with different signature algorithms.
    pub identities: Vec<Identity>,
    /// `tls.client_auth`; default `none`.
    pub client_auth: ClientAuthMode,
    /// `tls.client_ca_file`; obligatory with `verify`.
    pub client_ca_file: Option<PathBuf>,
    /// `tls.client_allowed_names`, as written; needs `verify`.
    pub client_allowed_names: Option<Vec<String>>,
    /// `tls.crl_file`; needs `client_ca_file`.
    pub crl_file: Option<PathBuf>,
}

/// `tls.client_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    #[default]
    None,
    /// Asked for; whatever comes is let in.
    Request,
    /// Asked for; one must come, whatever it is.
    Require,
    /// Asked for; one must come and be trusted. `require_and_verify` is a synonym.
    Verify,
}

/// `tls` of `connect`.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// Versions, ciphers, groups, FIPS.
    pub policy: TlsPolicy,
    /// Our client certificate.
    pub identity: Option<Identity>,
    /// `tls.ca_cert`: a file or a directory; `None`: the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// `tls.crl_file`.
    pub crl_file: Option<PathBuf>,
    /// `tls.server_name`: SNI and the name that is verified, without brackets or trailing dot.
    pub server_name: Option<String>,
    /// `tls.insecure_skip_verify`; default false.
    pub insecure_skip_verify: bool,
}
