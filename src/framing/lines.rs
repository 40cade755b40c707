//! Newline framing with a bound on the length of a line.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// What stood between two newlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// A line without its end (`\n` or `\r\n`); never empty.
    Line(Bytes),
    /// A line longer than the bound, passed over; its length in bytes, and its beginning.
    TooLong {
        /// How many bytes it had.
        length: u64,
        /// Its first bytes, up to [`HEAD`].
        head: Bytes,
    },
}

/// How much of a line that is too long is kept to show what it was.
pub const HEAD: usize = 512;

/// Reads lines from `R`.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How far `buffer` is known to hold no newline.
    searched: usize,
    max: usize,
    /// The too long line that is being passed over.
    skipped: Option<(u64, Bytes)>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Frames `reader`; lines of more than `max` bytes are passed over.
    pub fn new(reader: R, max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, max, skipped: None, ended: false }
    }

    /// The next line that is not empty; `None` at the end. Text after the last newline counts as a line.
    ///
    /// Cancel safe: nothing read is lost when the future is dropped.
    pub async fn next(&mut self) -> io::Result<Option<Framed>> {
        loop {
            match self.take() {
                Some(Framed::Line(line)) if line.is_empty() => {}
                Some(framed) => return Ok(Some(framed)),
                None if self.ended => return Ok(None),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            return poll_fn(|cx| self.poll_begin(cx)).await;
        }
        if self.buffer.capacity() - self.buffer.len() < READ_SIZE / 2 {
            // Doubling keeps the copying of a long line linear.
            self.buffer.reserve(READ_SIZE.max(self.buffer.len()));
        }
        if self.reader.read_buf(&mut self.buffer).await? == 0 {
            self.ended = true;
        }
        Ok(())
    }

    /// Reads the beginning of a line. Whoever is silent, as most are most of the time, is waited for without a buffer.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        self.ended = read.filled().is_empty();
        Poll::Ready(Ok(()))
    }

    /// Cuts the next line out of what has been read.
    fn take(&mut self) -> Option<Framed> {
        let newline = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        if let Some(at) = newline {
            let mut line = self.buffer.split_to(self.searched + at + 1);
            line.truncate(line.len() - 1);
            self.searched = 0;
            return Some(self.finish(&line.freeze()));
        }
        if self.ended && (!self.buffer.is_empty() || self.skipped.is_some()) {
            let rest = self.buffer.split().freeze();
            self.searched = 0;
            return Some(self.finish(&rest));
        }
        self.searched = self.buffer.len();
        if self.skipped.is_some() || self.buffer.len() > self.max {
            self.pass_over();
        }
        None
    }

    fn pass_over(&mut self) {
        let chunk = std::mem::take(&mut self.buffer);
        self.searched = 0;
        let (length, _) = self.skipped.get_or_insert_with(|| (0, head_of(&chunk)));
        *length += chunk.len() as u64;
    }

    fn finish(&mut self, line: &Bytes) -> Framed {
        if let Some((length, head)) = self.skipped.take() {
            return Framed::TooLong { length: length + line.len() as u64, head };
        }
        if line.len() > self.max {
            return Framed::TooLong { length: line.len() as u64, head: head_of(line) };
        }
        let end = line.len() - usize::from(line.ends_with(b"\r"));
        Framed::Line(line.slice(..end))
    }
}

fn head_of(chunk: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&chunk[..chunk.len().min(HEAD)])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(parts: &[&[u8]], max: usize) -> Vec<Framed> {
        let mut mock = tokio_test_io(parts);
        let mut lines = Lines::new(&mut mock, max);
        let mut out = Vec::new();
        while let Some(framed) = lines.next().await.unwrap() {
            out.push(framed);
        }
        out
    }

    /// A reader that gives each part by a read of its own.
    fn tokio_test_io(parts: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        struct Parts(std::collections::VecDeque<Vec<u8>>);
        impl AsyncRead for Parts {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if let Some(mut part) = self.0.pop_front() {
                    let n = part.len().min(buf.remaining());
                    buf.put_slice(&part[..n]);
                    if n < part.len() {
                        self.0.push_front(part.split_off(n));
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
        Parts(parts.iter().map(|p| p.to_vec()).collect())
    }

    fn line(text: &str) -> Framed {
        Framed::Line(Bytes::from(text.to_owned()))
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_reads_fall() {
        let out = all(&[b"on", b"e\ntwo\r", b"\n\n\nthree"], 100).await;
        assert_eq!(out, [line("one"), line("two"), line("three")]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let long = vec![b'x'; 5000];
        let out = all(&[b"a\n", &long, &long, b"\nb\n"], 100).await;
        let head = Bytes::from(vec![b'x'; HEAD]);
        assert_eq!(out, [line("a"), Framed::TooLong { length: 10_000, head }, line("b")]);
        let out = all(&[&[b'x'; 101], b"\n", &[b'y'; 100], b"\n"], 100).await;
        assert!(matches!(&out[..], [Framed::TooLong { length: 101, .. }, Framed::Line(l)] if l.len() == 100));
    }

    #[tokio::test]
    async fn waiting_takes_no_memory() {
        let (mut writer, reader) = tokio::io::duplex(100_000);
        let mut lines = Lines::new(reader, 100_000);
        for length in [3, 50_000] {
            let text = vec![b'x'; length];
            tokio::io::AsyncWriteExt::write_all(&mut writer, &[&text, &b"\n"[..]].concat()).await.unwrap();
            assert_eq!(lines.next().await.unwrap(), Some(Framed::Line(text.into())));
            assert!(polled_once(lines.next()).await.is_none());
            assert_eq!(lines.buffer.capacity(), 0);
        }
    }

    /// What a future says when it is polled once.
    async fn polled_once<F: Future>(future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn passing_over_takes_no_memory() {
        let mut lines = Lines::new(tokio::io::repeat(b'x').take(50_000_000), 1000);
        assert!(matches!(lines.next().await.unwrap(), Some(Framed::TooLong { length: 50_000_000, .. })));
        assert!(lines.buffer.capacity() < 10 * READ_SIZE);
    }
}
