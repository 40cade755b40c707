//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use log::Level;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_openssl::SslStream;
use tokio_util::sync::CancellationToken;

use super::{
    accept::{Door, Limits},
    body::Body,
    connector::causes,
    listener::Accepted,
    opening::{self, First, Opened, Version},
    readable::Readable,
    resting::Resting,
    unread::Unread,
    watched::{Activity, Patience, WRITE_PATIENCE, Watched},
};
use crate::{
    aside::Aside,
    memory,
    metrics::{Handshakes, TIMEOUT},
    tls::{self, Alpn, Handshake, HandshakeError},
};

/// hyper's least size of a read buffer, in bytes.
const LEAST_BUFFER: usize = 8 * 1024;
/// Most requests at once on one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// HTTP/2 flow control: how much a client may send ahead on a stream, and on a connection, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How often an HTTP/2 peer is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How long a client that has just connected may take to ask, once the bridge stops: nobody else would answer it.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// How long a client that spoke plain HTTP to the TLS port is given to read why that fails.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);
/// How much is read of what such a client had to say, in bytes.
const REFUSAL_DRAIN: usize = 64 * 1024;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address; `None` on a unix socket.
    pub address: Option<SocketAddr>,
    /// What TLS negotiated; `None` without TLS.
    pub handshake: Option<Handshake>,
    /// What goes on between it and its requests; `None` before the first of them.
    activity: Option<Arc<Activity>>,
}

impl Peer {
    fn new(address: Option<SocketAddr>) -> Self {
        Self { address, handshake: None, activity: None }
    }

    /// The request in flight ends when the peer closes its half: whoever has sent it leaves like that.
    pub fn leaves_by_closing(&self) {
        self.activity.iter().for_each(|activity| activity.end_with_peer());
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("a unix socket"),
        }
    }
}

/// What a connection has from its listener.
pub(super) struct Shared<D> {
    pub(super) door: D,
    pub(super) tls: Option<tls::Acceptor>,
    pub(super) limits: Limits,
    pub(super) handshakes: Handshakes,
    pub(super) stop: CancellationToken,
}

/// How a connection began.
enum Began<S> {
    Http(Opened<S>, Version),
    Tls(SslStream<Opened<S>>, Handshake),
    /// With HTTP, where TLS is spoken.
    Mistaken(Opened<S>),
    /// With nothing that could go on; why has been told.
    Failed,
}

impl<D: Door> Shared<D> {
    pub(super) async fn serve(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, address) => self.meet(stream, Peer::new(Some(address))).await,
            // Whoever connects to it knows what it speaks.
            Accepted::Unix(stream) if self.tls.is_none() => {
                Box::pin(self.http(stream, Peer::new(None), Version::Http1)).await;
            }
            Accepted::Unix(stream) => self.meet(stream, Peer::new(None)).await,
        }
    }

    async fn meet<S>(&self, stream: S, mut peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Readable + Send + Unpin + 'static,
    {
        let limit = if self.tls.is_some() { self.limits.handshake_timeout } else { self.limits.read_timeout };
        let mut heard = false;
        // What comes after the beginning is apart: a task is copied as a whole when it is spawned.
        match timeout(limit, self.begin(stream, &peer, &mut heard)).await {
            Ok(Began::Http(stream, version)) => Box::pin(self.http(stream, peer, version)).await,
            Ok(Began::Tls(stream, handshake)) => {
                let version = version_of(&handshake);
                peer.handshake = Some(handshake);
                Box::pin(self.http(stream, peer, version)).await;
            }
            Ok(Began::Mistaken(stream)) => Box::pin(refuse_plain_http(stream)).await,
            Ok(Began::Failed) => {}
            Err(_) => {
                self.no_handshake(TIMEOUT);
                if heard {
                    log::info!("{peer}: TLS handshake not finished within {limit:?}");
                } else {
                    log::debug!("{peer}: sent nothing for {limit:?}");
                }
            }
        }
    }

    /// A connection ended before its handshake began or came about, where there was to be one.
    fn no_handshake(&self, result: &'static str) {
        if self.tls.is_some() {
            self.handshakes.failed_as(result);
        }
    }

    /// Sees what a connection speaks, and does the TLS handshake; `heard` says afterwards whether that had begun.
    async fn begin<S>(&self, stream: S, peer: &Peer, heard: &mut bool) -> Began<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some((first, stream)) = opening::open(stream).await else {
            self.no_handshake(HandshakeError::CLOSED_EARLY);
            log::debug!("{peer}: closed before its first byte");
            return Began::Failed;
        };
        *heard = true;
        match (&self.tls, first) {
            (None, First::Http(version)) => Began::Http(stream, version),
            (None, First::Tls) => Began::Http(stream, Version::Http1),
            (Some(_), First::Http(_)) => {
                self.no_handshake(HandshakeError::PLAIN_HTTP);
                log::info!("{peer}: plain HTTP on the TLS port, refused");
                Began::Mistaken(stream)
            }
            (Some(acceptor), First::Tls) => {
                let began = Instant::now();
                match acceptor.accept(stream).await {
                    Ok((stream, handshake)) => {
                        self.handshakes.succeeded(&handshake, began);
                        log::debug!("{peer}: TLS handshake: {handshake}");
                        Began::Tls(stream, handshake)
                    }
                    Err(e) => {
                        self.handshakes.failed(&e);
                        let level = if e.closed_before_first_byte() { Level::Debug } else { Level::Info };
                        log::log!(level, "{peer}: TLS handshake failed: {e}");
                        Began::Failed
                    }
                }
            }
        }
    }

    async fn http<S>(&self, stream: S, mut peer: Peer, version: Version)
    where
        S: AsyncRead + AsyncWrite + Readable + Send + Unpin + 'static,
    {
        let activity = Activity::new();
        let patience = Patience {
            head: self.limits.read_timeout,
            idle: self.limits.idle_timeout,
            http1: version == Version::Http1,
            // Over TLS, whoever closes its half has left, since nobody can close it for reading alone.
            half_close: version == Version::Http1 && peer.handshake.is_none(),
        };
        let io = Watched::new(stream, Arc::clone(&activity), patience);
        peer.activity = Some(Arc::clone(&activity));
        let peer = Arc::new(peer);
        let who = Arc::clone(&peer);
        let (door, asked) = (self.door.clone(), Arc::clone(&activity));
        let unread = (version == Version::Http2).then(Arc::<Unread>::default);
        let awaited = unread.clone();
        let handler = move |mut request: Request<Incoming>| {
            let (door, peer, in_flight) = (door.clone(), Arc::clone(&peer), activity.begin());
            let awaited = awaited.clone();
            async move {
                let response: Response<Body> = door.handle(&mut request, &peer).await;
                if !is_read(request.body_mut()) {
                    in_flight.read_in_part();
                }
                Ok::<_, Infallible>(response.map(|body| match &awaited {
                    Some(unread) => body.hold(in_flight).awaits(unread),
                    None => body.hold(in_flight),
                }))
            }
        };
        let ended = match unread {
            None => self.http1(io, handler, &asked, &who).await,
            Some(unread) => {
                let connection = Box::pin(self.http2(TokioIo::new(io), handler, &asked));
                let overdue = pin!(unread.overdue());
                tokio::select! {
                    ended = connection => ended,
                    () = Aside::new(overdue) => {
                        return log::info!("{who}: cut: nothing of an answer was read for {WRITE_PATIENCE:?}");
                    }
                }
            }
        };
        if let Err(e) = ended {
            log::debug!("{who}: connection ended: {}", causes(&e));
        }
    }

    async fn http1<S, H, F>(
        &self,
        io: Watched<S>,
        handler: H,
        activity: &Arc<Activity>,
        peer: &Peer,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + Send + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None).max_buf_size(self.limits.max_header_size.max(LEAST_BUFFER));
        let rested = || {
            memory::note_freed();
            log::debug!("{peer}: the connection rests");
        };
        let resting = Resting::new(builder, io, service_fn(handler), Arc::clone(activity), rested);
        let connection = pin!(resting);
        self.until_stopped(connection, activity, Resting::graceful_shutdown).await
    }

    /// Runs a connection; when told to stop, only until the answers in flight are out. A new one is not stopped before
    /// its first request.
    async fn until_stopped<C>(
        &self,
        mut connection: Pin<&mut C>,
        activity: &Activity,
        stop: impl FnOnce(Pin<&mut C>),
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let stop_asked = pin!(self.stop.cancelled());
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = Aside::new(stop_asked) => {}
        }
        // A request begins while its connection is polled.
        let first = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if activity.has_begun() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Ok(Some(ended)) = timeout(FIRST_REQUEST, first).await {
            return ended;
        }
        stop(connection.as_mut());
        connection.await
    }

    async fn http2<I, H, F>(&self, io: I, handler: H, activity: &Activity) -> hyper::Result<()>
    where
        I: Read + Write + Unpin + Send + 'static,
        H: Fn(Request<Incoming>) -> F + Send + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.max_header_size).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_PATIENCE);
        let connection = pin!(builder.serve_connection(io, service_fn(handler)));
        self.until_stopped(connection, activity, http2::Connection::graceful_shutdown).await
    }
}

/// Whether nothing of a request's body is still to come.
fn is_read(body: &mut Incoming) -> bool {
    let mut nobody = Context::from_waker(Waker::noop());
    body.is_end_stream() || matches!(Pin::new(body).poll_frame(&mut nobody), Poll::Ready(None))
}

/// What ALPN chose decides: bytes of the other version are an error.
fn version_of(handshake: &Handshake) -> Version {
    match handshake.alpn {
        Some(Alpn::H2) => Version::Http2,
        Some(Alpn::Http11) | None => Version::Http1,
    }
}

async fn refuse_plain_http<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    use tokio::io::AsyncReadExt;
    const TEXT: &str = "This port speaks TLS: use an https:// URL (mcp-bridge serve)\n";
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close";
    let refusal = format!("{head}\r\ncontent-length: {}\r\n\r\n{TEXT}", TEXT.len());
    let answer = async {
        stream.write_all(refusal.as_bytes()).await?;
        stream.shutdown().await?;
        // Unread bytes would make the close a reset, which can overtake the answer.
        let mut rest = [0; 4096];
        let mut read = 0;
        while read < REFUSAL_DRAIN {
            match stream.read(&mut rest).await? {
                0 => break,
                n => read += n,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(REFUSAL_PATIENCE, answer).await;
}
