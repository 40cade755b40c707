//! Lines to a reader that may be slow, behind a bounded queue.

use std::{sync::Arc, time::Duration};

use bytes::Buf;
use thiserror::Error;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::jsonrpc::Line;

/// Most bytes that wait for the reader; one larger message may wait alone.
const MAX_QUEUED: usize = 16 * 1024 * 1024;
/// What a message counts besides its text, so that their number is bounded too.
const OVERHEAD: usize = 256;
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

/// Writes lines to a pipe. Whole lines only: what was queued is written though nobody waits for it any more.
///
/// Its clones share one queue.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::UnboundedSender<(Line, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    closing: CancellationToken,
    abandoned: CancellationToken,
}

/// Room in the queue for one message.
#[derive(Debug)]
pub struct Reserved<'a> {
    writer: &'a Writer,
    permit: OwnedSemaphorePermit,
}

impl Writer {
    /// Takes charge of `pipe`. Must run inside a Tokio runtime.
    pub fn new(pipe: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (queue, lines) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(MAX_QUEUED));
        let (closing, abandoned) = (CancellationToken::new(), CancellationToken::new());
        // Ends with the queue, on `close`, or when the reader is gone and so the pipe broken.
        let writing = write_all(lines, pipe, Arc::clone(&room), closing.clone());
        let given_up = abandoned.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = writing => {}
                () = given_up.cancelled() => {}
            }
        });
        Self { queue, room, closing, abandoned }
    }

    /// Waits for room for `line`, in turn, for as long as a reader that works would need.
    pub async fn reserve(&self, line: &Line) -> Result<Reserved<'_>, Unwritable> {
        let permit = timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(cost(line)));
        match permit.await {
            Ok(Ok(permit)) => Ok(Reserved { writer: self, permit }),
            Ok(Err(_)) => Err(Unwritable::Closed),
            Err(_) => Err(Unwritable::Deaf),
        }
    }

    /// Queues `line` when there is room, however long that takes.
    pub async fn send(&self, line: Line) -> Result<(), Unwritable> {
        let permit = Arc::clone(&self.room).acquire_many_owned(cost(&line)).await;
        Reserved { writer: self, permit: permit.map_err(|_| Unwritable::Closed)? }.send(line)
    }

    /// Queues `line` if there is room now.
    pub fn try_send(&self, line: Line) -> Result<(), Unwritable> {
        match Arc::clone(&self.room).try_acquire_many_owned(cost(&line)) {
            Ok(permit) => Reserved { writer: self, permit }.send(line),
            Err(_) if self.room.is_closed() => Err(Unwritable::Closed),
            Err(_) => Err(Unwritable::Deaf),
        }
    }

    /// Takes no more lines, and closes the pipe when those that wait are written.
    pub fn close(&self) {
        self.room.close();
        self.closing.cancel();
    }

    /// Gives up what is still to be written.
    pub fn abandon(&self) {
        self.room.close();
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
        self.writer.queue.send((line, self.permit)).map_err(|_| Unwritable::Closed)
    }
}

fn cost(line: &Line) -> u32 {
    u32::try_from((line.len() + OVERHEAD).min(MAX_QUEUED)).unwrap_or(u32::MAX)
}

async fn write_all(
    mut lines: mpsc::UnboundedReceiver<(Line, OwnedSemaphorePermit)>,
    mut pipe: impl AsyncWrite + Unpin,
    room: Arc<Semaphore>,
    closing: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = lines.recv() => next,
            () = closing.cancelled() => None,
        };
        let Some((line, _permit)) = next else { break };
        let mut text = line.bytes().clone().chain(&b"\n"[..]);
        let written = async {
            pipe.write_all_buf(&mut text).await?;
            pipe.flush().await
        };
        if let Err(e) = written.await {
            log::debug!("a line can't be written: {e}");
            break;
        }
    }
    room.close();
}
