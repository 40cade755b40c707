//! What a connection begins with.

use std::{
    future::poll_fn,
    io,
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::readable::Readable;

/// How much is read to see what a connection speaks, in bytes: nearly every hello comes whole with it.
const FIRST_READ: usize = 2048;
/// How the preface of HTTP/2 begins, and no request of HTTP/1.1 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI";

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Tls,
    Http(Version),
}

impl First {
    /// Judges the first bytes; `None` when there are too few.
    fn of(head: &[u8]) -> Option<Self> {
        match head.first()? {
            // Whatever is no HTTP method goes to OpenSSL, which knows what to say about it.
            first if !first.is_ascii_uppercase() => Some(Self::Tls),
            _ if head.starts_with(PREFACE) => Some(Self::Http(Version::Http2)),
            _ if PREFACE.starts_with(head) => None,
            _ => Some(Self::Http(Version::Http1)),
        }
    }
}

/// A connection whose first bytes have been read; they come again.
#[derive(Debug)]
pub(super) struct Opened<S> {
    head: Bytes,
    io: S,
}

/// Reads what a connection begins with; `None` when it ends before.
pub(super) async fn open<S: AsyncRead + Unpin>(mut io: S) -> Option<(First, Opened<S>)> {
    let mut head = Vec::new();
    loop {
        let read = poll_fn(|cx| append(Pin::new(&mut io), &mut head, cx)).await.ok()?;
        let first = match First::of(&head) {
            None if read > 0 => continue,
            // As much as the beginning of a method.
            None if !head.is_empty() => First::Http(Version::Http1),
            first => first?,
        };
        return Some((first, Opened { head: head.into(), io }));
    }
}

/// Reads once; 0 at the end.
fn append<S: AsyncRead>(
    io: Pin<&mut S>,
    head: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut bytes = [0; FIRST_READ];
    let mut buf = ReadBuf::new(&mut bytes);
    ready!(io.poll_read(cx, &mut buf))?;
    head.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

impl<S: Readable> Readable for Opened<S> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.head.is_empty() { self.io.poll_readable(cx) } else { Poll::Ready(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let taken = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head.split_to(taken));
        if self.head.is_empty() {
            // What is empty still holds its memory.
            drop(take(&mut self.head));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn the_first_bytes_say_what_a_connection_speaks() {
        let (http1, http2) = (Some(First::Http(Version::Http1)), Some(First::Http(Version::Http2)));
        for (head, first) in [
            (&b"\x16\x03\x01"[..], Some(First::Tls)),
            (b"get / HTTP/1.1", Some(First::Tls)),
            (b"", None),
            (b"P", None),
            (b"PR", None),
            (b"PRI", http2),
            (b"PRI * HTTP/2.0", http2),
            (b"PROPFIND", http1),
            (b"POST / HTTP/1.1", http1),
            (b"G", http1),
        ] {
            assert_eq!(First::of(head), first, "{head:?}");
        }
    }

    #[tokio::test]
    async fn what_was_read_comes_again_and_then_the_rest() {
        let (mut client, server) = duplex(16);
        let sent: Vec<u8> = b"PRI * ".iter().copied().cycle().take(5000).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { client.write_all(&sent).await });
        let (first, mut opened) = open(server).await.unwrap();
        assert_eq!(first, First::Http(Version::Http2));
        let mut read = Vec::new();
        opened.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_may_send_byte_by_byte_and_end_early() {
        for (sent, first) in [
            (&b"PRI"[..], Some(First::Http(Version::Http2))),
            (b"POST", Some(First::Http(Version::Http1))),
            (b"P", Some(First::Http(Version::Http1))),
            (b"", None),
        ] {
            let (mut client, server) = duplex(1);
            let writing = tokio::spawn(async move { client.write_all(sent).await });
            let opened = open(server).await;
            assert_eq!(opened.as_ref().map(|(first, _)| *first), first, "{sent:?}");
            drop(opened);
            let _ = writing.await;
        }
    }
}
