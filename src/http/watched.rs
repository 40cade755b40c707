//! A connection's bytes under the limits of its owner: nobody holds a connection open by doing nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::readable::Readable;

/// How long a connection does nothing before its buffers are given back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long a peer may leave what is sent to it unread.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// The limits of `server.read_timeout` and `server.idle_timeout`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a request head, from its first byte; for the first one, from the connection's beginning.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Whether bytes between requests are the beginning of a head, without which the connection [rests](Activity::rests);
    /// in HTTP/2 they may be anything.
    pub(super) http1: bool,
    /// Whether a peer may close its half once it has asked, and still wait for the answer: without TLS.
    pub(super) half_close: bool,
}

impl Patience {
    fn first_look(&self) -> Duration {
        if self.http1 { self.idle.min(REST_AFTER) } else { self.idle }
    }
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
    /// Nothing has happened for [`REST_AFTER`], all answers are out and all requests have been read.
    rests: AtomicBool,
    /// A request was answered before all of it had come.
    read_in_part: AtomicBool,
}

/// One request in flight, until its answer is whole or given up.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    /// For a request whose sender leaves by closing the connection, be it for writing alone: it may say so before its
    /// answer begins.
    pub(super) fn end_with_peer(&self) {
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
            rests: AtomicBool::new(false),
            read_in_part: AtomicBool::new(false),
        })
    }

    /// Whether nothing is lost with whoever reads the connection: it may be put away, to be made anew at the next byte.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// The connection is read again.
    pub(super) fn wake(&self) {
        self.rests.store(false, Ordering::Release);
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
    /// The request is answered before all of it has come: only whoever reads the connection knows what is still to come.
    pub(super) fn read_in_part(&self) {
        self.0.read_in_part.store(true, Ordering::Release);
    }

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
    /// Since when a request is in flight, or when the alarm last rang that looks whether one still is; and how long after
    /// that it rings again.
    looked: Instant,
    look: Duration,
    /// Read already, for whoever reads next: bytes, and then perhaps the error that came behind them.
    ahead: Bytes,
    broken: Option<io::Error>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            inner,
            activity,
            patience,
            head_since: Some(now),
            begun: 0,
            quiet: None,
            stuck: None,
            looked: now,
            look: patience.first_look(),
            ahead: Bytes::new(),
            broken: None,
        }
    }

    /// Gives back what was read and not used.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// A request that has begun, and perhaps ended since, ended its head.
    fn note_begun(&mut self) {
        let begun = self.activity.begun.load(Ordering::Acquire);
        if begun != self.begun {
            self.begun = begun;
            self.looked = self.head_since.take().unwrap_or_else(Instant::now);
            self.look = self.patience.first_look();
        }
    }

    /// A byte between requests begins a head.
    fn note_byte(&mut self) {
        if self.head_since.is_none() && self.activity.quiet_since().is_some() {
            self.head_since = Some(Instant::now());
        }
    }

    /// When the time is up of a peer that has had no request in flight `since`.
    fn deadline(&self, since: Instant) -> Instant {
        match self.head_since.filter(|_| self.patience.http1) {
            Some(head) => head + self.patience.head,
            None => since + self.patience.idle,
        }
    }

    /// When its connection may rest, if nothing comes until then.
    fn rests_at(&self, since: Instant) -> Option<Instant> {
        let settled = self.head_since.is_none() && self.stuck.is_none() && self.begun > 0;
        let may = self.patience.http1 && settled && !self.activity.rests();
        (may && !self.activity.read_in_part.load(Ordering::Acquire)).then(|| since + REST_AFTER)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // With a request in flight nothing is due, but hyper may not read again when that ends: the alarm set here
        // looks then. It rings ever later.
        let Some(since) = self.activity.quiet_since() else {
            let look = self.looked + self.look;
            let timer = self.quiet.get_or_insert_with(|| Box::pin(sleep_until(look)));
            if timer.deadline() > look {
                timer.as_mut().reset(look);
            }
            while timer.as_mut().poll(cx).is_ready() {
                self.look = (self.look * 2).min(self.patience.idle);
                self.looked = Instant::now();
                timer.as_mut().reset(self.looked + self.look);
            }
            return Poll::Pending;
        };
        let (deadline, rests_at) = (self.deadline(since), self.rests_at(since));
        let due = rests_at.map_or(deadline, |rests_at| rests_at.min(deadline));
        let timer = self.quiet.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // A timer that fires too early costs less than one that is set anew for each request.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(());
            }
            if rests_at.is_some_and(|rests_at| now >= rests_at) {
                self.activity.rests.store(true, Ordering::Release);
                timer.as_mut().reset(deadline);
            } else {
                timer.as_mut().reset(due);
            }
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

impl<S: AsyncRead + Readable + Unpin> Watched<S> {
    /// Waits until there is something to read, be it the end or an error; it is kept for the next read.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.is_empty() {
            return Poll::Ready(());
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        self.broken = ready!(Pin::new(&mut *self).poll_read(cx, &mut buf)).err();
        self.ahead = Bytes::copy_from_slice(buf.filled());
        Poll::Ready(())
    }

    /// Takes what was read ahead, and what has come behind it.
    fn take_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let taken = self.ahead.split_to(self.ahead.len().min(buf.remaining()));
        buf.put_slice(&taken);
        // What has come behind it may come with it.
        let may_read = self.ahead.is_empty() && buf.remaining() > 0;
        if may_read && let Poll::Ready(Err(e)) = Pin::new(&mut self.inner).poll_read(cx, buf) {
            self.broken = Some(e);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Readable + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.note_begun();
        if let Some(e) = this.broken.take_if(|_| this.ahead.is_empty()) {
            return Poll::Ready(Err(e));
        }
        if !this.ahead.is_empty() {
            this.note_byte();
            return this.take_ahead(cx, buf);
        }
        if this.inner.poll_readable(cx).is_pending() {
            return this.poll_deadline(cx).map(Ok);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => {
                let hidden = this.patience.half_close && this.activity.hides_end(cx);
                if hidden { Poll::Pending } else { Poll::Ready(Ok(())) }
            }
            Poll::Ready(result) => {
                this.activity.wake();
                this.note_byte();
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
