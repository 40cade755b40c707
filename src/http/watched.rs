//! A connection's bytes under the limits of its owner: nobody holds a connection open by doing nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How long a peer may leave what is sent to it unread.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// The limits of `server.read_timeout` and `server.idle_timeout`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a request head, from its first byte; for the first one, from the connection's beginning.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Whether bytes between requests are the beginning of a head; in HTTP/2 they may be anything.
    pub(super) bytes_are_heads: bool,
    /// Whether a peer may close its half once it has asked, and still wait for the answer: without TLS.
    pub(super) half_close: bool,
}

/// What the requests of a connection tell its bytes.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    /// How many requests there have been; each ends the head that was being read.
    begun: AtomicUsize,
    quiet_since: Mutex<Instant>,
    /// The peer waits for no answer, so that one who has closed its half has left.
    ends_with_peer: AtomicBool,
    /// Who reads, while the peer's closing is kept from it.
    reader: Mutex<Option<Waker>>,
}

/// One request in flight, until its answer is whole or given up.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

/// For a request whose sender leaves by closing the connection, be it for writing alone: it may say so before its
/// answer begins.
#[derive(Debug, Clone)]
pub struct Departure(Arc<Activity>);

impl Departure {
    /// Ends the request when the peer closes its half.
    pub fn ends_request(&self) {
        self.0.end_with_peer();
    }
}

impl Activity {
    pub(super) fn departure(self: &Arc<Self>) -> Departure {
        Departure(Arc::clone(self))
    }

    fn end_with_peer(&self) {
        self.ends_with_peer.store(true, Ordering::Release);
        self.show_end();
    }

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            quiet_since: Mutex::new(Instant::now()),
            ends_with_peer: AtomicBool::new(false),
            reader: Mutex::new(None),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    /// Whether there has been a request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire) > 0
    }

    /// Whether the peer's closing its half is kept from the reader: it may only have said all that it has to say.
    fn hides_end(&self, cx: &Context<'_>) -> bool {
        if self.in_flight.load(Ordering::Acquire) == 0 || self.ends_with_peer.load(Ordering::Acquire) {
            return false;
        }
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        true
    }

    /// Whoever the end was kept from looks again: it will not read by itself.
    fn show_end(&self) {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        reader.inspect(Waker::wake_by_ref);
    }

    fn quiet_since(&self) -> Option<Instant> {
        let quiet = self.in_flight.load(Ordering::Acquire) == 0;
        quiet.then(|| *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl InFlight {
    /// What is sent from now on is a stream that ends when the peer leaves.
    pub(super) fn ends_with_peer(&self) {
        self.0.end_with_peer();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ends_with_peer.store(false, Ordering::Release);
        *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.show_end();
    }
}

/// A transport whose reads end, and whose writes fail, when the peer's time is up.
pub(super) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
    patience: Patience,
    /// When the head that is being read began.
    head_since: Option<Instant>,
    /// The requests of which `head_since` knows.
    begun: usize,
    quiet: Option<Pin<Box<Sleep>>>,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, patience: Patience) -> Self {
        let head_since = Some(Instant::now());
        Self { inner, activity, patience, head_since, begun: 0, quiet: None, stuck: None }
    }

    /// A request that has begun, and perhaps ended since, ended its head.
    fn note_begun(&mut self) {
        let begun = self.activity.begun.load(Ordering::Acquire);
        if begun != self.begun {
            self.begun = begun;
            self.head_since = None;
        }
    }

    /// When the peer's time is up, unless a request is in flight.
    fn deadline(&self) -> Option<Instant> {
        let since = self.activity.quiet_since()?;
        Some(match self.head_since.filter(|_| self.patience.bytes_are_heads) {
            Some(head) => head + self.patience.head,
            None => since + self.patience.idle,
        })
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // With a request in flight nothing is due, but hyper may not read again when that ends: the alarm set here
        // looks then.
        let Some(deadline) = self.deadline() else {
            let look = Instant::now() + self.patience.idle;
            let timer = self.quiet.get_or_insert_with(|| Box::pin(sleep_until(look)));
            while timer.as_mut().poll(cx).is_ready() {
                timer.as_mut().reset(look);
            }
            return Poll::Pending;
        };
        let timer = self.quiet.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // A timer that fires too early costs less than one that is set anew for each request.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn poll_stuck<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stuck = None;
            return poll;
        }
        let timer = self.stuck.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_PATIENCE)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.note_begun();
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => {
                let hidden = this.patience.half_close && this.activity.hides_end(cx);
                if hidden { Poll::Pending } else { Poll::Ready(Ok(())) }
            }
            Poll::Ready(result) => {
                if this.head_since.is_none() && this.activity.quiet_since().is_some() {
                    this.head_since = Some(Instant::now());
                }
                Poll::Ready(result)
            }
            // The end of the stream is what hyper takes as the peer's leaving.
            Poll::Pending => this.poll_deadline(cx).map(Ok),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.poll_stuck(cx, poll)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        this.poll_stuck(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.poll_stuck(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.poll_stuck(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
