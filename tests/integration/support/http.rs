//! An HTTP client that hides nothing: one connection per request, every header and byte as a test says.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::rt::{Read, Write};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::raw::Raw;
use super::sse::{Event, Item, take_item};
use super::{DEADLINE, within};

const JSON: &str = "application/json";
const JSON_OR_STREAM: &str = "application/json, text/event-stream";

#[derive(Clone)]
pub(crate) struct Http {
    uri: Uri,
    ca: Option<String>,
    identity: Option<(String, String)>,
    headers: Vec<(String, String)>,
    http2: bool,
    patience: Duration,
    /// Made for the first request: reading the system's roots takes 20 ms.
    connector: Arc<OnceLock<SslConnector>>,
}

impl Http {
    pub(crate) fn new(url: &str) -> Self {
        let uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        Self {
            uri,
            ca: None,
            identity: None,
            headers: Vec::new(),
            http2: false,
            patience: DEADLINE,
            connector: Arc::default(),
        }
    }

    pub(crate) fn trust(mut self, ca: &str) -> Self {
        self.ca = Some(ca.to_owned());
        self.connector = Arc::default();
        self
    }

    pub(crate) fn identity(mut self, cert: &str, key: &str) -> Self {
        self.identity = Some((cert.to_owned(), key.to_owned()));
        self.connector = Arc::default();
        self
    }

    /// A header of every request; it replaces one of that name, and an empty value takes it away.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self.connector = Arc::default();
        self
    }

    /// How long the head of an answer may take, where that is longer than anything else.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Another path on the same server.
    pub(crate) fn path(mut self, path: &str) -> Self {
        let mut parts = self.uri.into_parts();
        parts.path_and_query = Some(path.parse().unwrap());
        self.uri = Uri::from_parts(parts).unwrap();
        self
    }

    /// POST as an MCP client does it.
    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Response {
        self.try_post(body).await.unwrap_or_else(|error| panic!("{}: {error}", self.uri))
    }

    /// As [`Self::post`], where no answer at all is something to be told.
    pub(crate) async fn try_post(&self, body: impl Into<Bytes>) -> Result<Response, String> {
        let this = self.clone().or_header("content-type", JSON).or_header("accept", JSON_OR_STREAM);
        this.try_request(Method::POST, body).await
    }

    /// The stream of what belongs to no request.
    pub(crate) async fn get(&self) -> Response {
        self.clone().or_header("accept", "text/event-stream").request(Method::GET, Bytes::new()).await
    }

    pub(crate) async fn delete(&self) -> Response {
        self.request(Method::DELETE, Bytes::new()).await
    }

    pub(crate) async fn request(&self, method: Method, body: impl Into<Bytes>) -> Response {
        self.try_request(method, body).await.unwrap_or_else(|error| panic!("{}: {error}", self.uri))
    }

    /// A connection on which nothing has been sent.
    pub(crate) async fn connection(&self) -> Raw {
        self.try_connection().await.unwrap()
    }

    /// The same, if the handshake succeeds.
    pub(crate) async fn try_connection(&self) -> Option<Raw> {
        let (host, port) = (self.uri.host().unwrap(), self.uri.port_u16().unwrap());
        let tcp = TcpStream::connect((host, port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        match self.uri.scheme_str() {
            Some("https") => self.handshake(host, tcp).await.ok().map(Raw::over),
            _ => Some(Raw::over(tcp)),
        }
    }

    /// As [`Self::request`], where a refused connection or handshake is what a test expects.
    pub(crate) async fn try_request(
        &self,
        method: Method,
        body: impl Into<Bytes>,
    ) -> Result<Response, String> {
        let sent = tokio::time::timeout(self.patience, self.send(method, body.into())).await;
        let sent = sent.unwrap_or_else(|_| panic!("response: not within {:?}", self.patience));
        sent.map_err(|error| error.to_string())
    }

    async fn send(
        &self,
        method: Method,
        body: Bytes,
    ) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        let host = self.uri.host().unwrap();
        let port = self.uri.port_u16().unwrap_or(if self.ca.is_some() { 443 } else { 80 });
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let mut request = Request::builder().method(method).uri(&self.uri);
        if !self.http2 {
            request = request.uri(self.uri.path_and_query().unwrap().as_str());
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
                request = request.header("host", self.uri.authority().unwrap().as_str());
            }
        }
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body))?;
        let response = if self.uri.scheme_str() == Some("https") {
            self.exchange(TokioIo::new(self.handshake(host, tcp).await?), request).await?
        } else {
            self.exchange(TokioIo::new(tcp), request).await?
        };
        let (head, body) = response.into_parts();
        Ok(Response { status: head.status, headers: head.headers, body, buffer: Vec::new() })
    }

    async fn exchange(
        &self,
        io: impl Read + Write + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    }

    async fn handshake(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<SslStream<TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
        let connector = self.connector.get_or_init(|| self.new_connector().unwrap());
        let ssl = connector.configure()?.into_ssl(host.trim_matches(['[', ']']))?;
        let mut stream = SslStream::new(ssl, tcp)?;
        Pin::new(&mut stream).connect().await?;
        Ok(stream)
    }

    fn new_connector(&self) -> Result<SslConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(ca) = &self.ca {
            builder.set_ca_file(ca)?;
        }
        if let Some((cert, key)) = &self.identity {
            builder.set_certificate_chain_file(cert)?;
            builder.set_private_key_file(key, SslFiletype::PEM)?;
        }
        builder.set_alpn_protos(if self.http2 { b"\x02h2" } else { b"\x08http/1.1" })?;
        Ok(builder.build())
    }

    pub(crate) fn or_header(self, name: &str, value: &str) -> Self {
        if self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return self;
        }
        self.header(name, value)
    }
}

/// A response whose body is read as it comes. Dropping it closes its connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Response {
    /// The value of a header, empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type").starts_with("text/event-stream")
    }

    pub(crate) async fn text(self) -> String {
        let body = within("body", self.body.collect()).await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON: {text}: {error}"))
    }

    /// The messages of a whole body, be it JSON or a stream that ends.
    pub(crate) async fn messages(mut self) -> Vec<Value> {
        if !self.is_stream() {
            return vec![self.json().await];
        }
        let mut messages = Vec::new();
        while let Some(message) = self.next_message().await {
            messages.push(message);
        }
        messages
    }

    /// As [`Self::messages`], where a connection that breaks is what happens.
    pub(crate) async fn try_messages(mut self) -> Result<Vec<Value>, String> {
        let mut messages = Vec::new();
        if !self.is_stream() {
            let body = within("body", self.body.collect()).await.map_err(|error| error.to_string())?;
            messages.push(serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?);
            return Ok(messages);
        }
        while let Some(event) = self.try_next_event().await? {
            if !event.data.is_empty() {
                messages.push(serde_json::from_str(&event.data).map_err(|error| error.to_string())?);
            }
        }
        Ok(messages)
    }

    /// The next message on a stream; `None` at its end.
    pub(crate) async fn next_message(&mut self) -> Option<Value> {
        loop {
            let event = self.next_event().await?;
            // An event without data only names a point to resume from.
            if !event.data.is_empty() {
                return Some(serde_json::from_str(&event.data).unwrap());
            }
        }
    }

    /// The first event of a stream of 2025-11-25, which only names a point to resume from.
    pub(crate) async fn primed(&mut self) -> Event {
        let event = self.next_event().await.expect("a primed stream");
        assert!(event.data.is_empty() && event.id.is_some(), "{event:?}");
        event
    }

    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        // Comments that keep the stream alive do not keep the test waiting.
        let next = within("an event", self.try_next_event()).await;
        next.unwrap_or_else(|error| panic!("the stream broke: {error}"))
    }

    /// As [`Self::next_event`], where a stream that breaks is what happens, and one that is kept alive may go on.
    pub(crate) async fn try_next_event(&mut self) -> Result<Option<Event>, String> {
        loop {
            match self.try_next_item().await? {
                Some(Item::Event(event)) => return Ok(Some(event)),
                Some(Item::Comment(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next event or comment on a stream; `None` at its end.
    pub(crate) async fn next_item(&mut self) -> Option<Item> {
        self.try_next_item().await.unwrap_or_else(|error| panic!("the stream broke: {error}"))
    }

    async fn try_next_item(&mut self) -> Result<Option<Item>, String> {
        assert!(self.is_stream(), "{} with {} is no stream", self.status, self.header("content-type"));
        loop {
            if let Some(item) = take_item(&mut self.buffer) {
                return Ok(Some(item));
            }
            // An item ends with a newline: a long one is not searched again for each piece of it.
            let mut newline = false;
            while !newline {
                let Some(frame) = within("event", self.body.frame()).await else { return Ok(None) };
                let piece = frame.map_err(|error| error.to_string())?.into_data().unwrap_or_default();
                newline = piece.ends_with(b"\n");
                self.buffer.extend_from_slice(&piece);
            }
        }
    }
}
