//! The connections that the kernel has made and that wait to be accepted.

use std::{io, os::fd::AsFd};

use libc::{SOCK_CLOEXEC, SOCK_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, Socket};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::coop::consume_budget,
};

/// A socket that listens, and what waits there.
#[derive(Debug)]
pub struct Backlog(AsyncFd<Socket>);

impl Backlog {
    /// Of a socket that listens already.
    ///
    /// Must run inside a Tokio runtime.
    pub(super) fn new(listening: Socket) -> io::Result<Self> {
        listening.set_nonblocking(true)?;
        #[expect(
            deprecated,
            reason = "what it may not be given is a descriptor that changes; a socket's never does"
        )]
        let waiting = AsyncFd::with_interest(listening, Interest::READABLE)?;
        Ok(Self(waiting))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SockAddr> {
        self.0.get_ref().local_addr()
    }

    /// Takes the next connection, as a socket that does not block, with the address it came from. Cancel safe.
    pub(super) async fn next(&self) -> io::Result<(Socket, SockAddr)> {
        loop {
            consume_budget().await;
            let mut ready = self.0.readable().await?;
            let accept =
                |listening: &AsyncFd<Socket>| listening.get_ref().accept4(SOCK_NONBLOCK | SOCK_CLOEXEC);
            let Ok(accepted) = ready.try_io(accept) else { continue };
            // To accept in vain takes the kernel half as long as to accept: it makes the new socket first. Asking is
            // cheap.
            if accepted.is_ok() && self.is_empty() {
                ready.clear_ready();
            }
            return accepted;
        }
    }

    fn is_empty(&self) -> bool {
        let mut listening = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut listening, PollTimeout::ZERO) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_connection_is_taken_whether_it_came_alone_or_with_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let backlog = Backlog::new(listener.into()).unwrap();
        for at_once in [1, 3, 1] {
            let clients: Vec<_> = (0..at_once).map(|_| TcpStream::connect(address).unwrap()).collect();
            for client in clients {
                let (_, from) = timeout(Duration::from_secs(10), backlog.next()).await.unwrap().unwrap();
                assert_eq!(from.as_socket().unwrap(), client.local_addr().unwrap());
            }
            assert!(timeout(Duration::from_millis(1), backlog.next()).await.is_err());
        }
    }
}
