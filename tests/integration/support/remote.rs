//! A remote MCP server whose every byte a test decides: it takes in requests, and the test answers each.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::{Value, json};

use super::DEADLINE;
use super::certs::cert;

/// The bytes of a connection.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

pub(crate) struct Remote {
    pub(crate) url: String,
    requests: mpsc::Receiver<Request>,
    /// What came while a test waited for something else.
    passed_over: RefCell<Vec<Request>>,
    accepted: Arc<AtomicUsize>,
}

impl Remote {
    pub(crate) fn plain() -> Self {
        Self::plain_on(0)
    }

    pub(crate) fn plain_on(port: u16) -> Self {
        Self::start("http", port, None)
    }

    /// With the certificate of `certs-fixtures`.
    pub(crate) fn tls() -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        builder.set_certificate_chain_file(cert("server.crt")).unwrap();
        builder.set_private_key_file(cert("server.key"), SslFiletype::PEM).unwrap();
        Self::start("https", 0, Some(builder.build()))
    }

    fn start(scheme: &str, port: u16, tls: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let url = format!("{scheme}://127.0.0.1:{}/mcp", listener.local_addr().unwrap().port());
        let (sender, requests) = mpsc::channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        // The threads outlive the test: whoever still sends something then finds the connection closed at once.
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (tcp, tls, sender) = (tcp.unwrap(), tls.clone(), sender.clone());
                thread::spawn(move || {
                    let wire: Box<dyn Wire> = match tls {
                        None => Box::new(tcp),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp) else { return };
                            Box::new(stream)
                        }
                    };
                    Connection { wire, read: Vec::new(), number }.serve(&sender);
                });
            }
        });
        Self { url, requests, passed_over: RefCell::default(), accepted }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().trim_end_matches("/mcp").parse().unwrap()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn post(&self) -> Request {
        self.take("a POST", |request| request.method == "POST")
    }

    /// The next POST of that JSON-RPC method.
    pub(crate) fn asked(&self, method: &str) -> Request {
        self.take(method, |request| request.method == "POST" && request.message()["method"] == method)
    }

    pub(crate) fn get(&self) -> Request {
        self.take("a GET", |request| request.method == "GET")
    }

    pub(crate) fn delete(&self) -> Request {
        self.take("a DELETE", |request| request.method == "DELETE")
    }

    /// The next request of that kind; others stay for later.
    pub(crate) fn take(&self, what: &str, wanted: impl Fn(&Request) -> bool) -> Request {
        let deadline = Instant::now() + DEADLINE;
        let mut passed_over = self.passed_over.borrow_mut();
        if let Some(at) = passed_over.iter().position(&wanted) {
            return passed_over.remove(at);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(left) {
                Ok(request) if wanted(&request) => return request,
                Ok(request) => passed_over.push(request),
                Err(error) => panic!("{what}: {error} within {DEADLINE:?}, but {passed_over:?}"),
            }
        }
    }

    /// A request of that method, if one has come.
    pub(crate) fn come(&self, method: &str) -> Option<Request> {
        let mut passed_over = self.passed_over.borrow_mut();
        passed_over.extend(self.requests.try_iter());
        let at = passed_over.iter().position(|request| request.method == method)?;
        Some(passed_over.remove(at))
    }

    /// What has come and was not asked for yet. To say that something did not come, a test first waits for what
    /// would come after it.
    pub(crate) fn unasked(&self) -> Vec<String> {
        self.passed_over.borrow_mut().extend(self.requests.try_iter());
        self.passed_over.borrow().iter().map(|request| format!("{request:?}")).collect()
    }
}

struct Connection {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
    number: usize,
}

impl Connection {
    /// Each request takes the connection with it, and gives it back when it is answered.
    fn serve(mut self, requests: &mpsc::Sender<Request>) {
        let (give_back, returned) = mpsc::channel();
        while let Ok(Some(mut request)) = self.next_request() {
            request.connection = Some((self, give_back.clone()));
            if requests.send(request).is_err() {
                return;
            }
            match returned.recv_timeout(4 * DEADLINE) {
                Ok(Some(connection)) => self = connection,
                _ => return,
            }
        }
    }

    fn next_request(&mut self) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.read_more()? {
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("a request's head is text");
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, target) = (first.next().unwrap(), first.next().unwrap());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, length)| length.parse().unwrap());
        while self.read.len() < length {
            if !self.read_more()? {
                return Ok(None);
            }
        }
        let body = self.read.drain(..length).collect();
        Ok(Some(Request { method, target, headers, body, number: self.number, connection: None }))
    }

    fn read_more(&mut self) -> io::Result<bool> {
        let mut chunk = vec![0; 64 * 1024];
        let n = self.wire.read(&mut chunk)?;
        self.read.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }
}

type Held = (Connection, mpsc::Sender<Option<Connection>>);

/// One request, waiting for what the test makes of it. Dropping it closes its connection.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Counts the connections.
    pub(crate) number: usize,
    connection: Option<Held>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]).into_owned();
        write!(f, "{} {} {body}", self.method, self.target)
    }
}

impl Request {
    /// The values of a header, joined; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The message in the body.
    pub(crate) fn message(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// The result of the request in the body.
    pub(crate) fn result(self, result: &Value) {
        let answer = json!({"jsonrpc": "2.0", "id": self.message()["id"], "result": result});
        self.json(&answer);
    }

    pub(crate) fn json(self, answer: &Value) {
        self.respond("200 OK", &["content-type: application/json"], answer.to_string().as_bytes());
    }

    pub(crate) fn accepted(self) {
        self.respond("202 Accepted", &[], b"");
    }

    /// Any response; the connection stays.
    pub(crate) fn respond(self, status: &str, headers: &[&str], body: &[u8]) {
        let length = format!("content-length: {}", body.len());
        let head = head(status, &[headers, &[&length]].concat());
        let (mut connection, back) = self.hold();
        connection.wire.write_all(&[head.as_bytes(), body].concat()).unwrap();
        connection.wire.flush().unwrap();
        let _ = back.send(Some(connection));
    }

    /// An event stream, with more headers.
    pub(crate) fn events_with(self, headers: &[&str]) -> Events {
        let fixed = ["content-type: text/event-stream", "transfer-encoding: chunked"];
        let head = head("200 OK", &[&fixed, headers].concat());
        let id = serde_json::from_slice::<Value>(&self.body).map_or(Value::Null, |m| m["id"].clone());
        let mut events = Events { id, held: self.hold() };
        events.write(head.as_bytes()).unwrap();
        events
    }

    pub(crate) fn events(self) -> Events {
        self.events_with(&[])
    }

    /// Bytes as they are, and the end of the connection.
    pub(crate) fn raw(self, bytes: &[u8]) {
        let (mut connection, _) = self.hold();
        connection.wire.write_all(bytes).unwrap();
        connection.wire.flush().unwrap();
    }

    /// The connection itself.
    pub(crate) fn into_wire(self) -> Box<dyn Wire> {
        let (connection, back) = self.hold();
        let _ = back.send(None);
        connection.wire
    }

    /// Waits until the client has closed the connection, of which nothing more is read.
    pub(crate) fn wait_closed(self) {
        wait_closed(&mut *self.into_wire());
    }

    fn hold(mut self) -> Held {
        self.connection.take().unwrap()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some((_, back)) = self.connection.take() {
            let _ = back.send(None);
        }
    }
}

fn head(status: &str, headers: &[&str]) -> String {
    let first = format!("HTTP/1.1 {status}");
    [&[&*first], headers, &["", ""]].concat().join("\r\n")
}

fn wait_closed(wire: &mut dyn Wire) {
    let (sender, closed) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while matches!(wire.read(&mut [0; 1024]), Ok(n) if n > 0) {}
            drop(sender);
        });
        let outcome = closed.recv_timeout(DEADLINE);
        assert!(matches!(outcome, Err(mpsc::RecvTimeoutError::Disconnected)), "the connection stays open");
    });
}

/// An event stream that is open. Dropping it breaks the connection off.
pub(crate) struct Events {
    /// The id of the request that it answers.
    id: Value,
    held: Held,
}

impl Events {
    pub(crate) fn message(&mut self, message: &Value) {
        self.piece(format!("event: message\ndata: {message}\n\n").as_bytes());
    }

    pub(crate) fn notification(&mut self, method: &str, params: &Value) {
        self.message(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The answer to the request of this stream.
    pub(crate) fn result(&mut self, result: &Value) {
        self.message(&json!({"jsonrpc": "2.0", "id": self.id, "result": result}));
    }

    /// A piece of the body, which need not be an event.
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        self.try_piece(bytes).unwrap();
    }

    /// As [`Self::piece`], where the client may be gone.
    pub(crate) fn try_piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = format!("{:x}\r\n", bytes.len());
        self.write(&[size.as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Ends the stream as it should be; the connection stays.
    pub(crate) fn end(mut self) {
        self.write(b"0\r\n\r\n").unwrap();
        let (connection, back) = self.held;
        let _ = back.send(Some(connection));
    }

    pub(crate) fn wait_closed(mut self) {
        wait_closed(&mut *self.held.0.wire);
    }

    /// The connection itself, in the middle of the body.
    pub(crate) fn into_wire(self) -> Box<dyn Wire> {
        self.held.0.wire
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.held.0.wire.write_all(bytes)?;
        self.held.0.wire.flush()
    }
}

/// A server that takes connections and says nothing on them.
pub(crate) fn mute() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    mute().1
}

/// A server that greets in its own protocol, such as a mail server.
pub(crate) fn greeter() -> u16 {
    let (listener, port) = mute();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let _ = tcp.write_all(b"220 mail.example.com ESMTP\r\n");
            let _ = tcp.read(&mut [0; 4096]);
        }
    });
    port
}

/// A CONNECT proxy: tells of each request head, and connects when its client may.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    heads: mpsc::Receiver<String>,
}

impl Proxy {
    /// `refusal`: the status line and headers that everyone gets instead.
    pub(crate) fn start(refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heads) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, sender) = (client.unwrap(), sender.clone());
                thread::spawn(move || proxy(client, &sender, refusal));
            }
        });
        Self { port, heads }
    }

    /// The head of the next request.
    pub(crate) fn head(&self) -> String {
        self.heads.recv_timeout(DEADLINE).expect("a request to the proxy")
    }

    /// Whether anything has come that [`Self::head`] has not given.
    pub(crate) fn is_unused(&self) -> bool {
        self.heads.try_recv().is_err()
    }
}

fn proxy(mut client: TcpStream, heads: &mpsc::Sender<String>, refusal: Option<&str>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let _ = heads.send(head);
    if let Some(refusal) = refusal {
        let _ = client.write_all(format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        return;
    }
    let server = TcpStream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(std::net::Shutdown::Write);
}

/// How long a peer may refuse bytes until it counts as one that takes no more.
pub(crate) const STUCK: Duration = Duration::from_secs(1);
