//! The ceiling: hyper over tokio-openssl, with the context that the bridge would build, and nothing behind it.

use std::{convert::Infallible, process::Stdio, sync::Arc};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::CONTENT_TYPE,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_bridge::{
    config::{self, Listen, Role},
    tls::{Acceptor, Alpn},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use crate::Error;

/// What every request gets that is not for the pipe.
const FIXED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"},"content":[{"type":"text","text":"fixed"}]}}"#;

/// The child of a connection, one request at a time.
struct Pipe {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Pipe {
    async fn pass(&mut self, body: Bytes) -> std::io::Result<Bytes> {
        self.stdin.write_all_buf(&mut body.chain(&b"\n"[..])).await?;
        let mut answer = Vec::new();
        self.stdout.read_until(b'\n', &mut answer).await?;
        Ok(answer.into())
    }
}

/// Serves with the listener and the TLS settings of a configuration of the bridge's.
pub(crate) fn run(file: &str, pipe: Option<&str>) -> Result<(), Error> {
    let config = config::load(Some(file.as_ref()), &config::Options::default(), &|_| None)?;
    let Role::Serve(serve) = config.role else { return Err("no configuration of serve".into()) };
    let acceptor = serve.tls.as_ref().map(Acceptor::load).transpose()?;
    let Listen::Tcp { host: Some(host), port } = serve.listen else { return Err("no TCP address".into()) };
    let pipe = pipe.map(str::to_owned);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On a worker, so that no connection comes from another thread.
    runtime.block_on(async move { tokio::spawn(accept((host, port), acceptor, pipe)).await? })
}

async fn accept(
    address: (String, u16),
    acceptor: Option<Acceptor>,
    pipe: Option<String>,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pipe = pipe.as_deref().map(start).transpose()?.map(|pipe| Arc::new(Mutex::new(pipe)));
        tokio::spawn(connection(stream, acceptor.clone(), pipe));
    }
}

async fn connection(stream: TcpStream, acceptor: Option<Acceptor>, pipe: Option<Arc<Mutex<Pipe>>>) {
    let answer = service_fn(move |request| answer(request, pipe.clone()));
    let mut http = http1::Builder::new();
    http.header_read_timeout(None); // no timer for each request
    let _ = match acceptor {
        None => http.serve_connection(TokioIo::new(stream), answer).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok((stream, handshake)) if handshake.alpn == Some(Alpn::H2) => {
                let http = http2::Builder::new(TokioExecutor::new());
                http.serve_connection(TokioIo::new(stream), answer).await
            }
            Ok((stream, _)) => http.serve_connection(TokioIo::new(stream), answer).await,
            Err(_) => Ok(()),
        },
    };
}

fn start(program: &str) -> Result<Pipe, Error> {
    let mut child = Command::new(program).arg("echo").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    tokio::spawn(async move { child.wait().await });
    Ok(Pipe { stdin: stdin.ok_or("no pipe")?, stdout: BufReader::new(stdout.ok_or("no pipe")?) })
}

async fn answer(
    request: Request<Incoming>,
    pipe: Option<Arc<Mutex<Pipe>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = match pipe {
        Some(pipe) if !body.is_empty() && !is_notification(&body) => {
            pipe.lock().await.pass(body).await.unwrap_or_default()
        }
        _ => Bytes::from_static(FIXED.as_bytes()),
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn is_notification(body: &[u8]) -> bool {
    body.len() < 200 && !body.windows(5).any(|w| w == b"\"id\":")
}
