//! Noticing that nobody reads a pipe any more without writing to it.

use std::{future::pending, os::fd::AsFd, thread};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::oneshot;

/// Waits until the other end of `pipe` is closed. Never ready for what has no other end, such as a file.
///
/// A thread does the waiting, for as long as the pipe is open: Tokio watches only what it may switch to non-blocking, and
/// standard output is shared with other processes.
pub async fn hang_up(pipe: impl AsFd + Send + 'static) {
    let (told, gone) = oneshot::channel();
    let waiting = thread::Builder::new().name("hang-up".to_owned()).spawn(move || {
        if is_hung_up(&pipe, PollTimeout::NONE) == Ok(true) {
            let _ = told.send(());
        }
    });
    if let Err(e) = waiting {
        log::debug!("that standard output is closed will be noticed with the next message: {e}");
    }
    if gone.await.is_err() {
        pending::<()>().await;
    }
}

/// Waits for an error or the end of the other side, which are reported without being asked for; false at the timeout.
fn is_hung_up(pipe: &impl AsFd, within: PollTimeout) -> nix::Result<bool> {
    let mut watched = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut watched, within) {
            Err(Errno::EINTR) => {}
            polled => return polled.map(|found| found > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{self, Write},
        net::Shutdown,
        os::unix::net::UnixStream,
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    fn now(pipe: &impl AsFd) -> bool {
        is_hung_up(pipe, PollTimeout::ZERO).unwrap()
    }

    #[tokio::test]
    async fn a_pipe_without_a_reader_is_noticed() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"unread").unwrap();
        assert!(!now(&writer));
        let gone = tokio::spawn(hang_up(writer));
        drop(reader);
        timeout(Duration::from_secs(30), gone).await.unwrap().unwrap();
    }

    #[test]
    fn a_socket_is_gone_when_it_is_closed_and_not_when_it_only_says_no_more() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!now(&ours));
        drop(theirs);
        assert!(now(&ours));
    }

    #[test]
    fn what_has_no_other_end_is_never_gone() {
        assert!(!now(&File::options().write(true).open("/dev/null").unwrap()));
        assert!(!now(&tempfile::tempfile().unwrap()));
    }
}
