//! The process and its group: noticed when it exits, ended when nobody needs it, never leaked.

use std::{fmt, future::Future, io, os::unix::process::ExitStatusExt, process, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::{
    signal::unix::{self, SignalKind},
    task::JoinHandle,
    time::timeout,
};

use super::orphans;
use crate::metrics::Children;

/// How long the last lines of a child that has exited are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long a killed process may take to go; longer only in the kernel's hands, or when it is another user's now.
const DEATH: Duration = Duration::from_secs(5);
/// How often [`Process`] looks, when dropped, whether what it killed has gone, and how long it waits between.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(Option<process::ExitStatus>);

impl Exit {
    /// One word for it.
    fn reason(self) -> &'static str {
        match self.0.map(|status| (status.code(), status.signal())) {
            Some((Some(0), _)) => "success",
            Some((Some(_), _)) => "failure",
            Some((None, _)) => "signal",
            None => "unknown",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.0 else { return f.write_str("can't be ended") };
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "exited with status {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "was ended by signal {number} ({signal})"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            (None, None) => f.write_str("ended"),
        }
    }
}

/// A child process that leads a group of its own. Dropping it kills the group at once and reaps the leader.
///
/// The leader is reaped only after its group was killed: until then no other process can have its number.
#[derive(Debug)]
pub struct Process {
    child: process::Child,
    group: Pid,
    children: unix::Signal,
    exit: Option<Exit>,
    attendant: Option<JoinHandle<()>>,
    metrics: Children,
}

impl Process {
    /// Takes charge of `child`, which leads its own process group.
    pub(super) fn new(mut child: process::Child, metrics: Children) -> io::Result<Self> {
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        match unix::signal(SignalKind::child()) {
            Ok(children) => {
                metrics.started();
                Ok(Self { child, group, children, exit: None, attendant: None, metrics })
            }
            Err(e) => {
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait();
                orphans::disown(&child);
                Err(e)
            }
        }
    }

    /// Runs `task` for as long as the child is there.
    pub(super) fn attend(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.attendant = Some(tokio::spawn(task));
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the child has exited. It is not reaped yet. Cancel safe.
    pub async fn exited(&mut self) {
        while !self.has_exited() {
            // One wake-up may stand for many children, so each looks for itself.
            if self.children.recv().await.is_none() {
                return;
            }
        }
    }

    /// Whether the child has exited.
    pub fn has_exited(&self) -> bool {
        const LOOK: WaitPidFlag =
            WaitPidFlag::WEXITED.union(WaitPidFlag::WNOHANG).union(WaitPidFlag::WNOWAIT);
        self.exit.is_some()
            || !matches!(waitid(Id::Pid(self.group), LOOK), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Ends the child, whose standard input has been closed, and everything else in its group: waits for half of
    /// `grace`, sends SIGTERM, and at the end of `grace` SIGKILL.
    pub async fn stop(mut self, grace: Duration) -> Exit {
        if timeout(grace / 2, self.exited()).await.is_err() {
            self.signal(Signal::SIGTERM);
            if timeout(grace / 2, self.exited()).await.is_err() {
                log::warn!("child {}: did not end on SIGTERM within {grace:?}, killing it", self.id());
            }
        }
        self.signal(Signal::SIGKILL);
        let _ = timeout(DEATH, self.exited()).await;
        let exit = self.reap();
        if let Some(attendant) = &mut self.attendant {
            let _ = timeout(LAST_WORDS, attendant).await;
        }
        exit
    }

    fn signal(&self, signal: Signal) {
        match killpg(self.group, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => log::warn!("child {}: {signal}: {e}", self.id()),
        }
    }

    /// Kills what is left of the group, then takes the leader's status if it has one.
    fn reap(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        self.signal(Signal::SIGKILL);
        let status = (0..LOOKS).find_map(|look| {
            if look > 0 {
                std::thread::sleep(BETWEEN_LOOKS);
            }
            orphans::take_status(&mut self.child)
        });
        let exit = Exit(status);
        self.exit = Some(exit);
        self.metrics.exited(exit.reason());
        if status.is_none() {
            orphans::disown(&self.child);
        }
        exit
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
        if let Some(attendant) = &self.attendant {
            attendant.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command, time::Instant};

    use nix::sys::signal::kill;

    use super::*;

    /// A leader that ignores SIGTERM, with a child of its own, in a runtime that is about to end.
    fn leader() -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 1000 & wait"]).process_group(0);
        Process::new(orphans::spawn(&mut command).unwrap(), Children::default()).unwrap()
    }

    fn group_is_gone(group: Pid) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        // The grandchild is reaped by whoever inherits it.
        while killpg(group, None).is_ok() && Instant::now() < end {
            std::thread::yield_now();
        }
        killpg(group, None).is_err() && kill(group, None).is_err()
    }

    #[test]
    fn a_panic_leaves_nothing_of_the_group() {
        let (send, group) = std::sync::mpsc::channel();
        let panicked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let leader = leader();
                send.send(leader.group).unwrap();
                panic!("as a defect would");
            });
        });
        assert!(panicked.join().is_err());
        assert!(group_is_gone(group.recv().unwrap()));
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed_with_its_group() {
        let leader = leader();
        let group = leader.group;
        let exit = leader.stop(Duration::from_millis(50)).await;
        assert_eq!(exit.to_string(), "was ended by signal 9 (SIGKILL)");
        assert!(group_is_gone(group));
    }
}
