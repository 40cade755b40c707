//! The child's standard error goes to the log.

use tokio::net::unix::pipe;

use crate::framing::lines::{Framed, Lines};

/// Longest line that is logged whole, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// Reads until the last holder of the pipe has closed it. Always read, so that no child ever blocks on it.
pub(super) async fn drain(pipe: pipe::Receiver, label: String) {
    let mut lines = Lines::new(pipe, MAX_LINE);
    loop {
        match lines.next().await {
            Ok(Some(Framed::Line(line))) => {
                log::info!("child {label}: stderr: {}", String::from_utf8_lossy(&line));
            }
            Ok(Some(Framed::TooLong { length, head })) => {
                let head = String::from_utf8_lossy(&head);
                log::info!("child {label}: stderr: {head}… ({length} bytes)");
            }
            Ok(None) => return,
            Err(e) => return log::warn!("child {label}: stderr can't be read: {e}"),
        }
    }
}
