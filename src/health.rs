//! `mcp-bridge health`: asks a running bridge how it is, as a probe of its container does.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::{http1, http2},
    header::{HOST, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    config::{self, ClientAuthMode, ClientTls, Config, Listen, Role},
    http::causes,
    monitor::{HEALTH_PATH, READY_PATH},
    tls::{self, Alpn, HandshakeError, TlsError},
};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024;

/// The name in requests to a listener of this machine; probes are answered under any.
const THIS_MACHINE: &str = "localhost";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `/health`: whether the process is up.
    Up,
    /// `/ready`: whether it can serve, for which it may try to start a child.
    Ready,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Up => HEALTH_PATH,
            Self::Ready => READY_PATH,
        }
    }

    /// How long the whole check may take; a bridge tries its child for 10 s at most.
    fn patience(self) -> Duration {
        match self {
            Self::Up => Duration::from_secs(5),
            Self::Ready => Duration::from_secs(15),
        }
    }
}

/// Why a bridge is not healthy, or can't be asked.
#[derive(Debug, Error)]
pub enum HealthError {
    /// The listener asks for certificates that a check does not have.
    #[error(
        "tls.client_auth: a check has no client certificate; set metrics.listen, where it needs none, \
         or give a URL with --cert and --key"
    )]
    NeedsCertificate,
    /// Nobody knows where the bridge listens.
    #[error("server.listen: {0} does not say where to ask; set metrics.listen, or give a URL")]
    NoAddress(Listen),
    /// TLS can't be used as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("{0} does not answer: {1}")]
    Unreachable(String, io::Error),
    /// The TLS handshake.
    #[error("{0}: {1}")]
    Handshake(String, Box<HandshakeError>),
    /// No answer, or none that is HTTP.
    #[error("{0} gave no answer: {1}{hint}", hint = if *.2 { "; perhaps it wants a client certificate" } else { "" })]
    NoAnswer(String, String, bool),
    /// It says no.
    #[error("{0} answered {1}: {2}")]
    Unhealthy(String, StatusCode, String),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    TimedOut(String, Duration),
}

/// Where to ask, and how.
#[derive(Debug)]
pub struct Check {
    question: Question,
    peer: Peer,
    tls: Option<tls::Connector>,
    uri: Uri,
}

#[derive(Debug)]
enum Peer {
    Addresses(Vec<SocketAddr>),
    Name(String, u16),
    Socket(PathBuf),
}

impl Check {
    /// How to ask the bridge that runs with `config`, or for `mode: client` the one at its URL.
    pub fn new(config: &Config, question: Question) -> Result<Self, HealthError> {
        match &config.role {
            Role::Connect(connect) => Self::of_url(connect, question),
            Role::Serve(serve) => match (config.metrics_listen, own_listener(serve)) {
                (Some(address), Err(_)) => Ok(Self::of_metrics(address, question)),
                (_, peer) => Self::of_listener(serve, peer?, question),
            },
        }
    }

    /// The path of the URL gives way to that of the question.
    fn of_url(connect: &config::Connect, question: Question) -> Result<Self, HealthError> {
        let url = &connect.url;
        let host = url.host().unwrap_or(THIS_MACHINE);
        let is_https = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Self {
            question,
            peer: Peer::Name(host.trim_matches(['[', ']']).to_owned(), port),
            tls: is_https.then(|| tls::Connector::load(&connect.tls, host)).transpose()?,
            uri: uri(
                url.authority().map_or(THIS_MACHINE, |authority| authority.as_str()),
                is_https,
                question,
            ),
        })
    }

    fn of_metrics(address: SocketAddr, question: Question) -> Self {
        let peer = Peer::Addresses(reachable(address.ip(), address.port()));
        Self { question, peer, tls: None, uri: uri(THIS_MACHINE, false, question) }
    }

    /// The certificate is not verified: its names are those that clients use, and nothing secret is sent.
    fn of_listener(serve: &config::Serve, peer: Peer, question: Question) -> Result<Self, HealthError> {
        let tls = serve.tls.as_ref().map(|tls| {
            let policy = tls.policy.clone();
            let tls = ClientTls { policy, insecure_skip_verify: true, ..ClientTls::default() };
            tls::Connector::load(&tls, THIS_MACHINE)
        });
        let tls = tls.transpose()?;
        let uri = uri(THIS_MACHINE, tls.is_some(), question);
        Ok(Self { question, peer, tls, uri })
    }

    /// Asks, and gives the answer's text when it is a yes. Bounded in time.
    pub async fn run(&self) -> Result<String, HealthError> {
        let limit = self.question.patience();
        let answered = timeout(limit, self.ask()).await;
        let (status, text) = answered.unwrap_or_else(|_| Err(HealthError::TimedOut(self.name(), limit)))?;
        if status == StatusCode::OK {
            Ok(text)
        } else {
            Err(HealthError::Unhealthy(self.name(), status, text))
        }
    }

    async fn ask(&self) -> Result<(StatusCode, String), HealthError> {
        let connected = match &self.peer {
            Peer::Addresses(addresses) => TcpStream::connect(&addresses[..]).await.map(Io::Tcp),
            Peer::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(Io::Tcp),
            Peer::Socket(path) => UnixStream::connect(path).await.map(Io::Unix),
        };
        match connected.map_err(|e| HealthError::Unreachable(self.name(), e))? {
            Io::Tcp(stream) => self.ask_on(stream).await,
            Io::Unix(stream) => self.ask_on(stream).await,
        }
    }

    async fn ask_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(StatusCode, String), HealthError> {
        let answered = match &self.tls {
            None => exchange(stream, &self.uri, false).await,
            Some(tls) => {
                let refused = |e| HealthError::Handshake(self.name(), Box::new(e));
                let (stream, handshake) = tls.connect(stream).await.map_err(refused)?;
                exchange(stream, &self.uri, handshake.alpn == Some(Alpn::H2)).await
            }
        };
        // With TLS 1.3 a client learns only from the lack of an answer that its certificate was refused.
        answered.map_err(|e| HealthError::NoAnswer(self.name(), causes(&*e), self.tls.is_some()))
    }

    /// As messages call it.
    fn name(&self) -> String {
        let path = self.question.path();
        match &self.peer {
            Peer::Socket(socket) => format!("{path} on unix:{}", socket.display()),
            Peer::Name(host, port) => format!("{path} on {host}:{port}"),
            Peer::Addresses(addresses) => {
                let address = addresses.first().map(ToString::to_string).unwrap_or_default();
                format!("{path} on {address}")
            }
        }
    }
}

/// Sends the request and reads the whole answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &Uri,
    is_h2: bool,
) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let io = TokioIo::new(stream);
    let mut request = Request::get(uri).body(Empty::<Bytes>::new())?;
    let response = if is_h2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let host = HeaderValue::from_str(uri.authority().map_or("", |authority| authority.as_str()))?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = Uri::builder().path_and_query(uri.path()).build()?;
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).trim_end().to_owned()))
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How to reach the listener of `serve` from its own machine, without a client certificate.
fn own_listener(serve: &config::Serve) -> Result<Peer, HealthError> {
    let demands = |mode| matches!(mode, ClientAuthMode::Require | ClientAuthMode::Verify);
    if serve.tls.as_ref().is_some_and(|tls| demands(tls.client_auth)) {
        return Err(HealthError::NeedsCertificate);
    }
    match &serve.listen {
        Listen::Unix { path, .. } => Ok(Peer::Socket(path.clone())),
        Listen::Systemd | Listen::Tcp { port: 0, .. } => Err(HealthError::NoAddress(serve.listen.clone())),
        Listen::Tcp { host: None, port } => {
            Ok(Peer::Addresses(reachable(Ipv6Addr::UNSPECIFIED.into(), *port)))
        }
        Listen::Tcp { host: Some(host), port } => Ok(match host.parse() {
            Ok(ip) => Peer::Addresses(reachable(ip, *port)),
            Err(_) => Peer::Name(host.clone(), *port),
        }),
    }
}

/// Where this machine reaches a listener on `ip`, which may stand for all addresses.
fn reachable(ip: IpAddr, port: u16) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let addresses = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        // It takes IPv4 too, and is IPv4 alone on a host without IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v4, v6],
        ip => vec![ip],
    };
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

fn uri(authority: &str, is_https: bool, question: Question) -> Uri {
    let parts = Uri::builder().scheme(if is_https { "https" } else { "http" }).authority(authority);
    parts.path_and_query(question.path()).build().unwrap_or_default()
}
