//! Lines to a reader that may be slow, behind a bounded queue.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::queue::{self, NoRoom, Receiver, Room, Sender};
use crate::{aside::Aside, jsonrpc::Line};

/// Most bytes that wait for the reader; one larger message may wait alone.
const MAX_QUEUED: u32 = 16 * 1024 * 1024;
/// How long a message waits for room in the queue.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a message can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unwritable {
    /// The reader does not take what was written before.
    #[error("it has not read its input for {PATIENCE:?} and may hang")]
    Deaf,
    /// The reader has closed its end.
    #[error("it has closed its input")]
    Closed,
}

impl From<NoRoom> for Unwritable {
    fn from(e: NoRoom) -> Self {
        match e {
            NoRoom::Full => Self::Deaf,
            NoRoom::Closed => Self::Closed,
        }
    }
}

/// Writes lines to a pipe. Whole lines only: what was queued is written though nobody waits for it any more.
///
/// Its clones share one queue.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: Sender<Line>,
    closing: CancellationToken,
    abandoned: CancellationToken,
}

/// Room in the queue for one message.
#[derive(Debug)]
pub struct Reserved<'a> {
    writer: &'a Writer,
    room: Room,
}

impl Writer {
    /// Takes charge of `pipe`. Must run inside a Tokio runtime.
    pub fn new(pipe: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (writer, lines) = Self::queue();
        let given_up = writer.abandoned.clone();
        tokio::spawn(async move {
            let given_up = pin!(given_up.cancelled());
            tokio::select! {
                () = write_all(lines, pipe) => {}
                () = Aside::new(given_up) => {}
            }
        });
        writer
    }

    /// A writer to a reader within the bridge.
    pub fn queue() -> (Self, Queued) {
        let (queue, lines) = queue::bounded(MAX_QUEUED);
        let closing = CancellationToken::new();
        let queued = Queued { lines, closing: closing.clone() };
        (Self { queue, closing, abandoned: CancellationToken::new() }, queued)
    }

    /// Waits for room for `line`, in turn, for as long as a reader that works would need.
    pub async fn reserve(&self, line: &Line) -> Result<Reserved<'_>, Unwritable> {
        let room = self.queue.reserve_within(line.len(), PATIENCE).await?;
        Ok(Reserved { writer: self, room })
    }

    /// Queues `line` when there is room, however long that takes.
    pub async fn send(&self, line: Line) -> Result<(), Unwritable> {
        let room = self.queue.reserve(line.len()).await?;
        Reserved { writer: self, room }.send(line)
    }

    /// Queues `line` if there is room now.
    pub fn try_send(&self, line: Line) -> Result<(), Unwritable> {
        let room = self.queue.try_reserve(line.len())?;
        Reserved { writer: self, room }.send(line)
    }

    /// Takes no more lines, and closes the pipe when those that wait are written.
    pub fn close(&self) {
        self.queue.close();
        self.closing.cancel();
    }

    /// Gives up what is still to be written.
    pub fn abandon(&self) {
        self.queue.close();
        self.abandoned.cancel();
    }

    /// Waits until nothing more is written: the reader has closed its end, or all is done after [`Self::close`].
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl Reserved<'_> {
    /// Queues the line that room was reserved for.
    pub fn send(self, line: Line) -> Result<(), Unwritable> {
        if self.writer.queue.send(line, self.room) { Ok(()) } else { Err(Unwritable::Closed) }
    }
}

/// The lines that wait for the reader.
#[derive(Debug)]
pub struct Queued {
    lines: Receiver<Line>,
    closing: CancellationToken,
}

impl Queued {
    /// The next line, with its room; `None` once the writer is closed and everything read. Cancel safe.
    pub async fn next(&mut self) -> Option<(Line, Room)> {
        tokio::select! {
            biased;
            next = self.lines.recv() => next,
            () = self.closing.cancelled() => None,
        }
    }
}

/// Ends with the queue, on [`Writer::close`], or when the reader is gone and so the pipe broken.
async fn write_all(queued: Queued, mut pipe: impl AsyncWrite + Unpin) {
    let Queued { mut lines, closing } = queued;
    let closing = pin!(closing.cancelled());
    let mut closing = Aside::new(closing);
    loop {
        let next = tokio::select! {
            biased;
            next = lines.recv() => next,
            () = &mut closing => None,
        };
        let Some((line, _room)) = next else { break };
        let mut text = line.pieces().chain(&b"\n"[..]);
        let written = async {
            pipe.write_all_buf(&mut text).await?;
            pipe.flush().await
        };
        if let Err(e) = written.await {
            log::debug!("a line can't be written: {e}");
            break;
        }
    }
}
