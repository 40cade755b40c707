//! The child's standard input, behind a bounded queue.

use std::{sync::Arc, time::Duration};

use bytes::Buf;
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::jsonrpc::Line;

/// Most bytes that wait for a child to read them; one larger message may wait alone.
const MAX_QUEUED: usize = 16 * 1024 * 1024;
/// What a message counts besides its text, so that their number is bounded too.
const OVERHEAD: usize = 256;
/// How long a message waits for room in the queue.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a message can't be given to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unwritable {
    /// It does not read what it was given before.
    #[error("the MCP server has not read its input for {PATIENCE:?}; it may hang")]
    Deaf,
    /// Its standard input is closed.
    #[error("the MCP server has closed its input")]
    Closed,
}

/// Gives lines to a child. Whole lines only: what was queued is written though nobody waits for it any more.
///
/// Its clones share one queue.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::UnboundedSender<(Line, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    closing: CancellationToken,
}

/// Room in the queue for one message.
#[derive(Debug)]
pub struct Reserved<'a> {
    writer: &'a Writer,
    permit: OwnedSemaphorePermit,
}

impl Writer {
    pub(super) fn new(pipe: pipe::Sender) -> Self {
        let (queue, lines) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(MAX_QUEUED));
        let closing = CancellationToken::new();
        // Ends with the queue, on `close`, or when the child is gone and so the pipe broken.
        tokio::spawn(write_all(lines, pipe, Arc::clone(&room), closing.clone()));
        Self { queue, room, closing }
    }

    /// Waits for room for `line`, in turn.
    pub async fn reserve(&self, line: &Line) -> Result<Reserved<'_>, Unwritable> {
        let permit = timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(cost(line)));
        match permit.await {
            Ok(Ok(permit)) => Ok(Reserved { writer: self, permit }),
            Ok(Err(_)) => Err(Unwritable::Closed),
            Err(_) => Err(Unwritable::Deaf),
        }
    }

    /// Queues `line` if there is room now.
    pub fn try_send(&self, line: Line) -> Result<(), Unwritable> {
        match Arc::clone(&self.room).try_acquire_many_owned(cost(&line)) {
            Ok(permit) => Reserved { writer: self, permit }.send(line),
            Err(_) if self.room.is_closed() => Err(Unwritable::Closed),
            Err(_) => Err(Unwritable::Deaf),
        }
    }

    /// Takes no more lines, and closes the child's standard input when those that wait are written.
    pub fn close(&self) {
        self.room.close();
        self.closing.cancel();
    }

    /// Waits until the child has closed its standard input.
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
    mut pipe: pipe::Sender,
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
        if let Err(e) = pipe.write_all_buf(&mut text).await {
            log::debug!("child: standard input: {e}");
            break;
        }
    }
    room.close();
}
