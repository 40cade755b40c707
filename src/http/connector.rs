//! Connections to a remote server: TCP, through a proxy where there is one, and TLS.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::{Uri, header::HeaderValue, rt};
use hyper_util::{
    client::{
        legacy::connect::{Connected, Connection, HttpConnector},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_openssl::SslStream;
use tower_service::Service;

use super::tunnel::{self, TunnelError};
use crate::{
    config::{self, ProxyChoice},
    metrics::Handshakes,
    tls::{self, Alpn, Handshake, HandshakeError},
};

/// Why no connection came about. Nothing of the request has been sent then.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Name or address.
    #[error("can't connect to {target}: {}", causes(&**source))]
    Tcp {
        /// Server or proxy.
        target: String,
        /// What the resolver or the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy said no.
    #[error("the proxy {proxy} does not connect to {target}: {reason}")]
    Proxy {
        /// The proxy, without credentials.
        proxy: String,
        /// The server.
        target: String,
        /// Its reason.
        reason: String,
    },
    /// The TLS handshake.
    #[error("{0}")]
    Tls(#[from] HandshakeError),
    /// It took too long.
    #[error("no connection to {0} within {1:?} (client.connect_timeout)")]
    TimedOut(String, Duration),
}

impl ConnectError {
    /// Whether another attempt may succeed without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }
}

/// A proxy that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("client.proxy: not a URL of the form http://[user:password@]host:port")]
pub struct BadProxy;

/// Opens connections. Clones share what they hold.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Option<tls::Connector>,
    proxy: Arc<Proxy>,
    limit: Duration,
    refusal: Arc<Refusal>,
    handshakes: Handshakes,
}

/// The newest refusal that came after a handshake, and when. HTTP's own errors lose it on the way.
#[derive(Debug, Default)]
pub struct Refusal(Mutex<Option<(Instant, HandshakeError)>>);

impl Refusal {
    fn note(&self, error: Option<HandshakeError>) {
        if let Some(error) = error {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error));
        }
    }
}

#[derive(Debug)]
enum Proxy {
    Direct,
    Environment(Matcher),
    Fixed(Matcher),
}

impl Connector {
    /// A connector for `config.url`; `tls` must be there when that is `https`.
    /// Handshakes are counted in `handshakes`.
    pub fn new(
        config: &config::Connect,
        tls: Option<tls::Connector>,
        handshakes: Handshakes,
    ) -> Result<Self, BadProxy> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let proxy = Arc::new(Proxy::new(&config.proxy, &config.url)?);
        Ok(Self { tcp, tls, proxy, limit: config.connect_timeout, refusal: Arc::default(), handshakes })
    }

    /// Why the server has refused a connection after its handshake, before any answer on it, since `then`.
    pub fn refused_since(&self, then: Instant) -> Option<HandshakeError> {
        let refusal = self.refusal.0.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.as_ref().filter(|(at, _)| *at >= then).map(|(_, error)| error.clone())
    }

    async fn connect(mut self, uri: Uri) -> Result<Stream, ConnectError> {
        let target = authority(&uri);
        let tcp = match self.proxy.of(&uri) {
            None => self.direct(&uri, &target).await?,
            Some((proxy, auth)) => self.tunnel(&target, proxy, auth).await?,
        };
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(tls) => {
                let began = Instant::now();
                let connected = tls.connect(tcp.into_inner()).await;
                let (stream, handshake) = connected.inspect_err(|e| self.handshakes.failed(e))?;
                self.handshakes.succeeded(&handshake, began);
                log::debug!("{target}: TLS handshake: {handshake}");
                let is_h2 = handshake.alpn == Some(Alpn::H2);
                let unproven = Some((handshake, Arc::clone(&self.refusal)));
                Ok(Stream::Tls { stream: Box::new(TokioIo::new(stream)), is_h2, unproven })
            }
        }
    }

    async fn direct(&mut self, uri: &Uri, target: &str) -> Result<TokioIo<TcpStream>, ConnectError> {
        let tcp = self.tcp.call(uri.clone()).await;
        tcp.map_err(|e| ConnectError::Tcp { target: target.to_owned(), source: e.into() })
    }

    async fn tunnel(
        &mut self,
        target: &str,
        proxy: Uri,
        auth: Option<HeaderValue>,
    ) -> Result<TokioIo<TcpStream>, ConnectError> {
        let name = authority(&proxy);
        log::debug!("connecting to {target} through the proxy {name}");
        let stream = self.direct(&proxy, &format!("the proxy {name}")).await?.into_inner();
        let opened = tunnel::open(stream, target, auth.as_ref()).await;
        let refused = |e: TunnelError| ConnectError::Proxy {
            proxy: name,
            target: target.to_owned(),
            reason: e.to_string(),
        };
        opened.map(TokioIo::new).map_err(refused)
    }
}

/// How often TCP asks a silent peer whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

impl Proxy {
    fn new(choice: &ProxyChoice, target: &Uri) -> Result<Self, BadProxy> {
        match choice {
            ProxyChoice::Direct => Ok(Self::Direct),
            ProxyChoice::Environment => Ok(Self::Environment(Matcher::from_env())),
            ProxyChoice::Url(url) => {
                let is_http = url.expose().parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"));
                let matcher = Matcher::builder().all(url.expose().to_owned()).build();
                match matcher.intercept(target) {
                    Some(_) if is_http => Ok(Self::Fixed(matcher)),
                    _ => Err(BadProxy),
                }
            }
        }
    }

    /// The proxy for `uri`, with its credentials.
    fn of(&self, uri: &Uri) -> Option<(Uri, Option<HeaderValue>)> {
        let (Self::Environment(matcher) | Self::Fixed(matcher)) = self else { return None };
        let found = matcher.intercept(uri)?;
        if found.uri().scheme_str() == Some("http") {
            return Some((found.uri().clone(), found.basic_auth().cloned()));
        }
        log::warn!("a proxy of the environment is left out: only http:// proxies are supported");
        None
    }
}

fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    format!("{host}:{}", port(uri))
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 })
}

/// An error with what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    text
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let (target, limit) = (authority(&uri), connector.limit);
            let connected = timeout(limit, connector.connect(uri)).await;
            connected.unwrap_or(Err(ConnectError::TimedOut(target, limit)))
        })
    }
}

/// A connection to the server.
pub enum Stream {
    /// `http`.
    Plain(TokioIo<TcpStream>),
    /// `https`.
    Tls {
        /// The TLS stream.
        stream: Box<TokioIo<SslStream<TcpStream>>>,
        /// Whether ALPN chose HTTP/2.
        is_h2: bool,
        /// The handshake, until the server's first byte shows that it took our certificate.
        unproven: Option<(Handshake, Arc<Refusal>)>,
    },
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Plain(_)) { "Plain" } else { "Tls" })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls { is_h2: true, .. } => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls { stream, unproven, .. } => {
                let read = ready!(Pin::new(stream.as_mut()).poll_read(cx, buf));
                if let (Some((handshake, refusal)), Err(e)) = (unproven.take(), &read) {
                    refusal.note(handshake.explain(e));
                }
                Poll::Ready(read)
            }
        }
    }
}

impl rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
