//! A client of Streamable HTTP over TLS, one connection each.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslSession, SslSessionCacheMode, SslVerifyMode, SslVersion};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use crate::Error;

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// How clients make their connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    address: SocketAddr,
    context: SslContext,
    /// The newest session, to resume; as bytes, because OpenSSL marks the object itself when its connection ends badly.
    session: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Dialer {
    /// For a server that has a certificate of the authority in `ca`.
    pub(crate) fn new(address: SocketAddr, ca: &str, version: SslVersion) -> Result<Self, Error> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_ca_file(ca)?;
        context.set_verify(SslVerifyMode::PEER);
        context.set_min_proto_version(Some(version))?;
        context.set_max_proto_version(Some(version))?;
        context.set_groups_list("P-256")?;
        context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        let session = Arc::new(Mutex::new(None));
        let newest = Arc::clone(&session);
        context.set_new_session_callback(move |_, session| {
            if let Ok(mut newest) = newest.lock() {
                *newest = session.to_der().ok();
            }
        });
        Ok(Self { address, context: context.build(), session })
    }

    async fn tls(&self, resume: bool) -> Result<SslStream<TcpStream>, Error> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_hostname("localhost")?;
        let session = self.session.lock().map_err(|_| "poisoned")?.clone();
        if let Some(session) = session.filter(|_| resume) {
            let session = SslSession::from_der(&session)?;
            // SAFETY: the session is of a connection with this very context: only its callback puts one here.
            #[expect(
                unsafe_code,
                reason = "the binding leaves it to its caller that the contexts are the same"
            )]
            unsafe {
                ssl.set_session(&session)?;
            }
        }
        let mut stream = SslStream::new(ssl, stream)?;
        Pin::new(&mut stream).connect().await?;
        if stream.ssl().session_reused() != resume {
            let words = if resume { "was not resumed" } else { "was resumed" };
            return Err(
                format!("a {} session with {} {words}", stream.ssl().version_str(), self.address).into()
            );
        }
        Ok(stream)
    }

    /// One handshake; the connection is closed by dropping what is returned.
    pub(crate) async fn handshake(&self, resume: bool) -> Result<impl Sized + use<>, Error> {
        self.tls(resume).await
    }

    /// Makes a session to resume: one request with its answer, behind which the tickets have come.
    pub(crate) async fn get_session(&self) -> Result<(), Error> {
        let mut stream = self.tls(false).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let session = self.session.lock().map_err(|_| "poisoned")?;
        session.as_ref().map(|_| ()).ok_or_else(|| "the server gave no session to resume".into())
    }

    /// A connection for requests.
    pub(crate) async fn connect(&self, era: Era) -> Result<Client, Error> {
        let (sender, connection) = handshake(TokioIo::new(self.tls(false).await?)).await?;
        tokio::spawn(connection);
        Ok(Client { sender, era, session: None })
    }
}

/// One client with its connection and, if legacy, its session.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    era: Era,
    session: Option<HeaderValue>,
}

impl Client {
    /// Opens the session, if there is one to open.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        if self.era == Era::Legacy {
            let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
            self.post(initialize.into(), "initialize").await?;
            self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into(), "").await?;
        }
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        let mut request = self.request(Method::DELETE, Bytes::new());
        request.headers_mut().remove(CONTENT_TYPE);
        self.sender.ready().await?;
        self.sender.send_request(request).await?.into_body().collect().await?;
        Ok(())
    }

    /// Calls the tool with a text; the answer's body.
    pub(crate) async fn call(&mut self, id: u64, text: &str) -> Result<Bytes, Error> {
        let meta = match self.era {
            Era::Legacy => "",
            Era::Modern => {
                r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#
            }
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}{meta}}}}}"#
        );
        self.post(body.into(), "tools/call").await
    }

    async fn post(&mut self, body: Bytes, method: &'static str) -> Result<Bytes, Error> {
        let mut request = self.request(Method::POST, body);
        if self.era == Era::Modern && !method.is_empty() {
            let headers = request.headers_mut();
            headers.insert("mcp-method", HeaderValue::from_static(method));
            headers.insert("mcp-name", HeaderValue::from_static("echo"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session = Some(session.clone());
        }
        let body = response.into_body().collect().await?.to_bytes();
        match status {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(body),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static("/mcp");
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let version = if self.era == Era::Legacy { "2025-11-25" } else { "2026-07-28" };
        headers.insert("mcp-protocol-version", HeaderValue::from_static(version));
        if let Some(session) = &self.session {
            headers.insert("mcp-session-id", session.clone());
        }
        request
    }
}
