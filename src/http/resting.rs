//! An HTTP/1.1 connection without buffers while nothing happens on it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1::{Builder, Connection, Parts},
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    body::Body,
    readable::Readable,
    watched::{Activity, Watched},
};

/// A connection that hyper serves, except while it [rests](Activity::rests): then there is only the transport, which
/// waits for the next byte, and hyper with its two buffers of 8 KiB comes back with that.
pub(super) struct Resting<S, V, R>
where
    V: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    builder: Builder,
    activity: Arc<Activity>,
    rested: R,
    served: Option<Box<Connection<TokioIo<Watched<S>>, V>>>,
    asleep: Option<(Watched<S>, V)>,
}

/// Nothing of it is pinned where it lies.
impl<S, V, R> Unpin for Resting<S, V, R> where
    V: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
{
}

impl<S, V, R> Resting<S, V, R>
where
    S: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    R: Fn(),
{
    /// Calls `rested` whenever the connection has come to rest.
    pub(super) fn new(
        builder: Builder,
        io: Watched<S>,
        service: V,
        activity: Arc<Activity>,
        rested: R,
    ) -> Self {
        let mut new = Self { builder, activity, rested, served: None, asleep: Some((io, service)) };
        new.wake();
        new
    }

    /// Ends the connection when the answers in flight are out, and at once when it rests.
    pub(super) fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.wake();
        if let Some(served) = &mut self.served {
            Pin::new(&mut **served).graceful_shutdown();
        }
    }

    fn wake(&mut self) {
        if let Some((io, service)) = self.asleep.take() {
            self.activity.wake();
            self.served = Some(Box::new(self.builder.serve_connection(TokioIo::new(io), service)));
        }
    }

    fn rest(&mut self) {
        if let Some(served) = self.served.take() {
            let Parts { io, read_buf, service, .. } = served.into_parts();
            let mut io = io.into_inner();
            io.put_back(read_buf);
            self.asleep = Some((io, service));
            (self.rested)();
        }
    }
}

impl<S, V, R> Future for Resting<S, V, R>
where
    S: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    R: Fn(),
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Some(served) = &mut this.served {
                let ended = Pin::new(&mut **served).poll(cx);
                if ended.is_ready() || !this.activity.rests() {
                    return ended;
                }
            }
            this.rest();
            if let Some((io, _)) = &mut this.asleep {
                ready!(io.poll_ahead(cx));
            }
            this.wake();
        }
    }
}
