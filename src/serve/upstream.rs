//! What a session runs over: a child of its own, or its translation of a modern server that it shares.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::net::unix::pipe;

use super::driver::End;
use crate::{
    auth::Principal,
    child::{Child, ChildCommand, Exit, Process},
    framing::{
        lines::{Framed, Lines},
        writer::Writer,
    },
    jsonrpc::{self, Invalid, Payload},
    session::Limits,
    upstream::{Downgraded, FromServer, LegacyServer, ModernServer},
};

/// Where the servers of sessions come from.
pub(super) enum Source {
    /// A child for each.
    Command(Box<ChildCommand>),
    /// One modern server for all.
    Modern(Box<dyn Fn(&Principal, Limits) -> Downgraded + Send + Sync>),
}

/// The server of one session.
#[derive(Debug)]
pub(super) enum Upstream {
    Child(Box<Child>),
    Modern(Box<Downgraded>),
}

/// Where a server's messages come from.
pub(super) enum Output<'a> {
    Child(&'a mut Lines<pipe::Receiver>),
    Modern(&'a mut Downgraded),
}

/// What came of a server.
pub(super) enum Said {
    Message(FromServer),
    Batch(Vec<jsonrpc::Message>),
    /// A line of so many bytes that is no message.
    Garbage(usize, Invalid),
    /// A line of so many bytes, which are too many.
    TooLong(u64),
}

impl Source {
    /// The modern server of each principal, for all sessions of it.
    pub(super) fn modern<S: ModernServer>(of: impl Fn(&Principal) -> Arc<S> + Send + Sync + 'static) -> Self {
        Self::Modern(Box::new(move |principal, limits| Downgraded::new(of(principal), limits)))
    }

    /// The server of a new session of `principal`'s, which the log knows by `label`, and the limits that are left for the
    /// session itself to keep.
    pub(super) fn start(
        &self,
        label: &str,
        principal: &Principal,
        limits: Limits,
    ) -> io::Result<(Upstream, Limits)> {
        match self {
            Self::Command(command) => Ok((Upstream::Child(Box::new(command.spawn(label)?)), limits)),
            Self::Modern(start) => Ok((Upstream::Modern(Box::new(start(principal, limits))), Limits::NONE)),
        }
    }
}

impl Upstream {
    /// Where the client's messages go.
    pub(super) fn stdin(&self) -> &Writer {
        match self {
            Self::Child(child) => &child.stdin,
            Self::Modern(server) => server.stdin(),
        }
    }

    /// The server's messages, and its end otherwise than by an end of those.
    pub(super) fn parts(&mut self) -> (Output<'_>, impl Future<Output = End>) {
        let (output, process) = match self {
            Self::Child(child) => {
                let Child { stdin, stdout, process } = &mut **child;
                (Output::Child(stdout), Some((&*stdin, process)))
            }
            Self::Modern(server) => (Output::Modern(server), None),
        };
        (output, async {
            match process {
                Some((stdin, process)) => gone(stdin, process).await,
                None => std::future::pending().await,
            }
        })
    }

    /// Ends the server, and returns when nothing of it is left; how its process ended, if it had one. A child has
    /// `grace` to do so by itself.
    pub(super) async fn stop(self, grace: Duration) -> Option<Exit> {
        match self {
            Self::Child(child) => Some(child.end(grace).await),
            Self::Modern(server) => {
                server.end().await;
                None
            }
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child(child) => write!(f, "child process {}", child.process.id()),
            Self::Modern(_) => f.write_str("on the shared MCP server"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => f.debug_tuple("Command").field(command).finish(),
            Self::Modern(_) => f.debug_tuple("Modern").finish_non_exhaustive(),
        }
    }
}

impl Output<'_> {
    /// What comes next. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Said, End> {
        match self {
            Self::Child(stdout) => match stdout.next().await {
                Ok(Some(framed)) => Ok(Said::of_child(framed)),
                Ok(None) => Err(End::OutputClosed),
                Err(e) => Err(End::OutputFailed(e)),
            },
            Self::Modern(server) => server.next().await.map(Said::Message).map_err(End::Lost),
        }
    }
}

impl Said {
    fn of_child(framed: Framed) -> Self {
        let text = match framed {
            Framed::Line(text) => text,
            Framed::TooLong { length, .. } => return Self::TooLong(length),
        };
        let length = text.len();
        match jsonrpc::parse(text) {
            Ok(Payload::Single(message)) => Self::Message(FromServer { message, about: None }),
            Ok(Payload::Batch(messages)) => Self::Batch(messages),
            Err(e) => Self::Garbage(length, e),
        }
    }
}

async fn gone(stdin: &Writer, process: &mut Process) -> End {
    tokio::select! {
        biased;
        () = process.exited() => End::Exited,
        () = stdin.closed() => End::InputClosed,
    }
}
