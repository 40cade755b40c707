//! A way through an HTTP proxy (CONNECT: RFC 9110, section 9.3.6).

use std::io;

use hyper::header::HeaderValue;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest head of a proxy's answer, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Why there is no way through.
#[derive(Debug, Error)]
pub(super) enum TunnelError {
    #[error("it answered {0}")]
    Refused(String),
    #[error("its answer is not HTTP")]
    NotHttp,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Asks the proxy at the other end of `stream` for a connection to `target`, which is `host:port`.
pub(super) async fn open(
    mut stream: TcpStream,
    target: &str,
    auth: Option<&HeaderValue>,
) -> Result<TcpStream, TunnelError> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(auth) = auth {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(auth.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let head = read_head(&mut stream).await?;
    let status = head.split("\r\n").next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|line| line.split_once(' ')).ok_or(TunnelError::NotHttp)?.1;
    if status.starts_with('2') {
        return Ok(stream);
    }
    let hint = if status.starts_with("407") { "; it wants other credentials: client.proxy" } else { "" };
    Err(TunnelError::Refused(format!("{}{hint}", status.trim())))
}

/// Reads up to the empty line and not a byte further: what follows belongs to the target.
async fn read_head(stream: &mut TcpStream) -> Result<String, TunnelError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(TunnelError::NotHttp);
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(TunnelError::NotHttp),
            Err(e) => return Err(e.into()),
        }
    }
    let text = String::from_utf8_lossy(&head);
    Ok(text.chars().filter(|c| !c.is_control() || matches!(c, '\r' | '\n')).collect())
}
