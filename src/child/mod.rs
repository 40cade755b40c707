//! The MCP server process: how it is found, started, fed, read and ended.

mod command;
mod orphans;
mod process;
mod scheduling;
mod stderr;

use std::{io, time::Duration};

use tokio::net::unix::pipe;

pub use self::{
    command::{ChildCommand, CommandError},
    orphans::reap_orphans,
    process::{Exit, Process},
};
use crate::framing::{lines::Lines, writer::Writer};

/// Longest message of a child, in bytes. A longer line is passed over.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A running MCP server with its three pipes.
#[derive(Debug)]
pub struct Child {
    /// Its standard input.
    pub stdin: Writer,
    /// Its standard output, line by line.
    pub stdout: Lines<pipe::Receiver>,
    /// The process and its group.
    pub process: Process,
}

impl Child {
    /// Takes leave: closes its input, reads the rest of its output, so that a child that still writes can end, and
    /// stops it as [`Process::stop`] does.
    pub async fn end(self, grace: Duration) -> Exit {
        let Self { stdin, mut stdout, process } = self;
        stdin.close();
        let rest = tokio::spawn(async move { while let Ok(Some(_)) = stdout.next().await {} });
        let exit = process.stop(grace).await;
        rest.abort();
        stdin.abandon();
        exit
    }
}

impl ChildCommand {
    /// Starts the child in a process group of its own. Its standard error goes to the log, line by line, under
    /// `label`.
    ///
    /// Must run inside a Tokio runtime.
    pub fn spawn(&self, label: &str) -> io::Result<Child> {
        let spawned = orphans::spawn(&mut self.command());
        let mut child = spawned.inspect_err(|_| self.metrics.not_started())?;
        if self.gives_way()
            && let Err(e) = scheduling::give_way(child.id())
        {
            log::debug!("{label}: mcp.scheduling: batch is not in force: {e}");
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on a failure drops `process`, which ends what was started.
        let mut process = Process::new(child, self.metrics.clone())?;
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe to the child is missing"));
        };
        process.attend(stderr::drain(pipe::Receiver::from_owned_fd(stderr.into())?, label.to_owned()));
        Ok(Child {
            stdin: Writer::new(pipe::Sender::from_owned_fd(stdin.into())?, self.senders),
            stdout: Lines::new(pipe::Receiver::from_owned_fd(stdout.into())?, MAX_MESSAGE),
            process,
        })
    }
}
