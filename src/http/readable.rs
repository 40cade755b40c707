//! Whether there is anything to read, before it is tried: hyper looks after each answer for the next request, and OpenSSL
//! takes its time to find nothing.

use std::task::{Context, Poll};

use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;

use crate::tls;

/// A transport that knows whether a read would find something.
pub(super) trait Readable {
    /// Ready if a read may find something, be it the end or an error; else the task is woken when it may.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

impl Readable for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

impl<S: Readable> Readable for SslStream<S> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if tls::has_more(self.ssl()) { Poll::Ready(()) } else { self.get_ref().poll_readable(cx) }
    }
}
