//! Lines to a reader that may be slow, behind a bounded queue.

use std::{future::poll_fn, io, iter, pin::pin, task::Poll, time::Duration};

use bytes::{Buf, Bytes};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::queue::{self, NoRoom, Receiver, Room, Sender};
use crate::{aside::Aside, jsonrpc::Line, memory, pieces::Pieces};

/// Most bytes that wait for the reader; one larger message may wait alone.
const MAX_QUEUED: u32 = 16 * 1024 * 1024;
/// How long a message waits for room in the queue.
const PATIENCE: Duration = Duration::from_secs(30);
/// From this length on, in bytes, what a line has taken is worth giving back to the system.
const LONG: usize = 1024 * 1024;
/// Most lines that go out in one write.
const MAX_TOGETHER: usize = 32;

/// Whose lines come to a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders {
    /// One: each line goes out at once.
    One,
    /// Many at once: those that are about to send do so first, and then all goes out together.
    Many,
}

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
    pub fn new(pipe: impl AsyncWrite + Send + Unpin + 'static, senders: Senders) -> Self {
        let (writer, lines) = Self::queue();
        let given_up = writer.abandoned.clone();
        tokio::spawn(async move {
            let given_up = pin!(given_up.cancelled());
            tokio::select! {
                () = write_all(lines, pipe, senders) => {}
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
async fn write_all(queued: Queued, mut pipe: impl AsyncWrite + Unpin, senders: Senders) {
    let Queued { mut lines, closing } = queued;
    let closing = pin!(closing.cancelled());
    let mut closing = Aside::new(closing);
    loop {
        let next = tokio::select! {
            biased;
            next = lines.recv() => next,
            () = &mut closing => None,
        };
        let Some(first) = next else { break };
        let long = first.0.len() >= LONG;
        if senders == Senders::Many {
            behind_others().await;
        }
        let written = match lines.try_recv() {
            None => {
                let (line, _room) = first;
                write(&mut pipe, line.pieces().chain(&b"\n"[..])).await
            }
            Some(second) => {
                let more = iter::from_fn(|| lines.try_recv()).take(MAX_TOGETHER - 2);
                // With their rooms, which are given back when all is written.
                let together: Vec<_> = [first, second].into_iter().chain(more).collect();
                write(&mut pipe, text_of(&together)).await
            }
        };
        if let Err(e) = written {
            log::debug!("a line can't be written: {e}");
            break;
        }
        if long {
            memory::note_freed();
        }
    }
}

fn text_of(lines: &[(Line, Room)]) -> Pieces {
    lines.iter().flat_map(|(line, _)| line.pieces().into_iter().chain([Bytes::from_static(b"\n")])).collect()
}

async fn write(pipe: &mut (impl AsyncWrite + Unpin), mut text: impl Buf) -> io::Result<()> {
    pipe.write_all_buf(&mut text).await?;
    pipe.flush().await
}

/// Lets the tasks of this thread run that are ready now.
///
/// Not `yield_now`, which also looks for what has become ready meanwhile.
async fn behind_others() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        io::IoSlice,
        pin::Pin,
        sync::{Arc, Mutex},
        task::Context,
    };

    use super::*;
    use crate::jsonrpc;

    /// What was written, write by write.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl AsyncWrite for Recorder {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(text)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.0.lock().unwrap().push(String::from_utf8(all).unwrap());
            Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_many_send_at_once_goes_out_together_in_order() {
        let recorder = Recorder::default();
        let writer = Writer::new(recorder.clone(), Senders::Many);
        let lines: Vec<_> = (0..MAX_TOGETHER + 3).map(|n| jsonrpc::notification("x", &[n])).collect();
        for line in &lines {
            let (writer, line) = (writer.clone(), line.clone());
            tokio::spawn(async move { writer.try_send(line).unwrap() });
        }
        while recorder.0.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        let text = |lines: &[Line]| lines.iter().map(Line::as_str).collect::<Vec<_>>().join("\n") + "\n";
        let (first, rest) = lines.split_at(MAX_TOGETHER);
        assert_eq!(*recorder.0.lock().unwrap(), [text(first), text(rest)]);
        writer.close();
        writer.closed().await;
    }
}
