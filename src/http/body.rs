//! Bodies of answers and requests.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    Response, StatusCode,
    body::{Frame, Incoming, SizeHint},
    header::{self, HeaderValue},
};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    unread::{Unread, Waiting},
    watched::InFlight,
};
use crate::pieces::Pieces;

/// How much of a body is given out at once, in bytes: hyper copies each piece before it is sent.
const PIECE: usize = 64 * 1024;

/// Where a streamed body's pieces come from.
pub trait EventSource: Send {
    /// What comes next; `None` ends the body.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pieces>>;

    /// Whether a peer that closes its half of the connection has left: there is no answer that it could wait for.
    fn ends_with_peer(&self) -> bool;
}

/// Notes what becomes of a body, and ends with it.
pub trait Tally: Send {
    /// So many bytes go out.
    fn sent(&mut self, bytes: usize);
}

/// The body of an answer.
pub struct Body {
    content: Content,
    tally: Option<Box<dyn Tally>>,
    /// Tells the connection that a request is in flight until the body has gone.
    in_flight: Option<InFlight>,
    /// Tells the connection that there is more for the client to take.
    unread: Option<Waiting>,
}

enum Content {
    Whole(Pieces),
    /// With what is left of the newest event.
    Stream(Box<dyn EventSource>, Pieces),
}

impl Body {
    /// A body that is there already.
    pub fn whole(pieces: impl Into<Pieces>) -> Self {
        Self::new(Content::Whole(pieces.into()))
    }

    /// A body that comes piece by piece.
    pub fn stream(source: impl EventSource + 'static) -> Self {
        Self::new(Content::Stream(Box::new(source), Pieces::default()))
    }

    fn new(content: Content) -> Self {
        Self { content, tally: None, in_flight: None, unread: None }
    }

    /// The same, noted by `tally`.
    #[must_use]
    pub fn tallied(self, tally: impl Tally + 'static) -> Self {
        Self { tally: Some(Box::new(tally)), ..self }
    }

    pub(super) fn hold(mut self, in_flight: InFlight) -> Self {
        if matches!(&self.content, Content::Stream(source, _) if source.ends_with_peer()) {
            in_flight.ends_with_peer();
        }
        self.in_flight = Some(in_flight);
        self
    }

    /// The same; while a body that is there already is not read, it is one of `unread`.
    pub(super) fn awaits(mut self, unread: &Arc<Unread>) -> Self {
        self.unread =
            matches!(&self.content, Content::Whole(pieces) if pieces.has_remaining()).then(|| unread.begin());
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let next = match &mut this.content {
            Content::Whole(pieces) => Poll::Ready(pieces.next(PIECE)),
            Content::Stream(source, left) => poll_piece(&mut **source, left, cx),
        };
        if let (Poll::Ready(Some(bytes)), Some(tally)) = (&next, &mut this.tally) {
            tally.sent(bytes.len());
        }
        this.unread.iter().for_each(Waiting::taken);
        next.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(pieces) if !pieces.has_remaining())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(pieces) => SizeHint::with_exact(pieces.remaining() as u64),
            Content::Stream(..) => SizeHint::default(),
        }
    }
}

fn poll_piece(source: &mut dyn EventSource, left: &mut Pieces, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    loop {
        if let Some(piece) = left.next(PIECE) {
            return Poll::Ready(Some(piece));
        }
        match ready!(source.poll_next(cx)) {
            Some(next) => *left = next,
            None => return Poll::Ready(None),
        }
    }
}

/// A line of text for people and probes.
pub fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(format!("{text}\n")));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request's body was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// More than the limit; read no further.
    #[error("the body is larger than {0} bytes (server.max_body_size)")]
    TooLarge(usize),
    /// It did not come in time.
    #[error("the body did not arrive within {0:?} (server.read_timeout)")]
    TooSlow(Duration),
    /// The connection broke.
    #[error("the body ended early")]
    Broken,
}

/// Reads a whole body of at most `max` bytes within `patience`.
pub async fn collect(body: &mut Incoming, max: usize, patience: Duration) -> Result<Bytes, BodyError> {
    let refused = |e: GatherError| match e {
        GatherError::TooLarge => BodyError::TooLarge(max),
        GatherError::Broken(_) => BodyError::Broken,
    };
    let mut gathered = pin!(gather(body, max));
    // Mostly all of it came with the head, and then no timer is needed.
    if let Poll::Ready(whole) = poll_fn(|cx| Poll::Ready(gathered.as_mut().poll(cx))).await {
        return whole.map_err(refused);
    }
    match timeout(patience, gathered).await {
        Ok(whole) => whole.map_err(refused),
        Err(_) => Err(BodyError::TooSlow(patience)),
    }
}

/// Why there is no whole body.
#[derive(Debug, Error)]
pub enum GatherError {
    /// More than the limit; read no further.
    #[error("the body is too large")]
    TooLarge,
    /// The connection broke.
    #[error("the body ended early")]
    Broken(#[source] hyper::Error),
}

/// Reads a whole body of at most `max` bytes, however long that takes. What is announced as larger is not read at all.
///
/// The pieces go into one buffer of the size that was announced, so that no body is held twice.
pub async fn gather(body: &mut Incoming, max: usize) -> Result<Bytes, GatherError> {
    use hyper::body::Body as _;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > max {
        return Err(GatherError::TooLarge);
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(GatherError::Broken)?.into_data() else { continue };
        if first.len().max(all.len()) + piece.len() > max {
            return Err(GatherError::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = piece; // mostly all there is
            continue;
        }
        if all.is_empty() {
            all.reserve(announced.max(first.len() + piece.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
