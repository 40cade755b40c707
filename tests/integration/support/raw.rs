//! A connection on which a test writes every byte itself: what no proper HTTP client would send.

use std::collections::VecDeque;
use std::path::Path;

use hyper::Uri;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::within;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) struct Raw {
    stream: Box<dyn Duplex>,
    read: VecDeque<u8>,
}

/// An HTTP/1.1 response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Raw {
    /// Connects to the port of a URL, whatever its scheme.
    pub(crate) async fn open(url: &str) -> Self {
        let uri: Uri = url.parse().unwrap();
        let stream = TcpStream::connect((uri.host().unwrap(), uri.port_u16().unwrap())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) async fn open_unix(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).await.unwrap())
    }

    pub(super) fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), read: VecDeque::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the connection takes nothing");
    }

    /// Says whether the connection still takes bytes.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("writing", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Sends no more, and still reads.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Waits until the other side has closed the connection, and returns what it said before.
    pub(crate) async fn closed(mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(self.read.make_contiguous()).into_owned()
    }

    /// The next response, whole.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.until(b"\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        answer.body = if answer.header("transfer-encoding") == "chunked" {
            self.chunks().await
        } else {
            let length = answer.header("content-length").parse().unwrap_or(0);
            self.take(length).await
        };
        answer
    }

    async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let size = self.until(b"\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            body += &self.take(size).await;
            self.until(b"\r\n").await;
            if size == 0 {
                return body;
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.make_contiguous().windows(end.len()).position(|w| w == end) {
                return self.take(at + end.len()).await;
            }
            assert!(
                self.fill().await,
                "closed after {:?}",
                String::from_utf8_lossy(self.read.make_contiguous())
            );
        }
    }

    async fn take(&mut self, length: usize) -> String {
        while self.read.len() < length {
            assert!(self.fill().await, "closed after {} of {length} bytes", self.read.len());
        }
        String::from_utf8(self.read.drain(..length).collect()).unwrap()
    }

    /// Reads more; false at the end, also when that is a reset.
    async fn fill(&mut self) -> bool {
        let mut bytes = vec![0; 16 * 1024];
        let n = within("reading", self.stream.read(&mut bytes)).await.unwrap_or(0);
        self.read.extend(&bytes[..n]);
        n > 0
    }
}

impl Answer {
    /// The status line and the headers.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }

    /// The value of a header, empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
            .unwrap_or("")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {self:?}: {error}"))
    }
}

/// A POST with its body as an MCP client sends it, and more header lines, each with its `\r\n`.
pub(crate) fn post(more: &str, body: &str) -> String {
    let length = body.len();
    format!("{}{more}content-length: {length}\r\n\r\n{body}", head("POST /mcp"))
}

/// The head of a request to the endpoint without its end.
pub(crate) fn head(request: &str) -> String {
    let accept = "application/json, text/event-stream";
    format!("{request} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\ncontent-type: application/json\r\n")
}
