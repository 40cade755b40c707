//! Processes that nobody waits for: as process 1 of a container the bridge inherits them, and must take their statuses
//! lest they stay as zombies. It must never take that of a child of its own, which someone waits for.

use std::{
    collections::BTreeSet,
    io,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::{Pid, getpid},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// The numbers of our own children whose status was not taken yet. Of the process, as what it speaks of: the kernel has
/// one list of children for all of it.
static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// One of ours has gone, behind which others may have waited.
static GONE: Notify = Notify::const_new();

fn ours() -> MutexGuard<'static, BTreeSet<u32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child of our own.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    // Held throughout: a child that exits at once is ours before anybody looks.
    let mut ours = ours();
    let child = command.spawn()?;
    ours.insert(child.id());
    Ok(child)
}

/// The status of a child of our own, if it has exited. Its number may then be another's.
pub(super) fn take_status(child: &mut Child) -> Option<ExitStatus> {
    let mut ours = ours();
    let status = child.try_wait().ok().flatten()?;
    ours.remove(&child.id());
    GONE.notify_one();
    Some(status)
}

/// Nobody waits for this child any more.
pub(super) fn disown(child: &Child) {
    ours().remove(&child.id());
    GONE.notify_one();
}

/// Takes the statuses of inherited processes, for ever, if this is process 1; returns at once otherwise.
pub async fn reap_orphans() {
    if getpid() != Pid::from_raw(1) {
        return;
    }
    let mut exits = match signal(SignalKind::child()) {
        Ok(exits) => exits,
        Err(e) => return log::warn!("orphaned processes are not waited for: {e}"),
    };
    loop {
        while reap_one() {}
        tokio::select! {
            _ = exits.recv() => {}
            () = GONE.notified() => {}
        }
    }
}

/// Takes the status of one inherited process; false when there is none, or none before one of ours.
fn reap_one() -> bool {
    const LOOK: WaitPidFlag = WaitPidFlag::WEXITED.union(WaitPidFlag::WNOHANG).union(WaitPidFlag::WNOWAIT);
    let ours = ours();
    let exited = match waitid(Id::All, LOOK) {
        Ok(WaitStatus::StillAlive) => None,
        Ok(status) => status.pid(),
        Err(Errno::EINTR) => return true,
        Err(_) => None,
    };
    let Some(pid) = exited.filter(|pid| u32::try_from(pid.as_raw()).is_ok_and(|pid| !ours.contains(&pid)))
    else {
        return false;
    };
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(status) => log::debug!("an orphaned process was waited for: {status:?}"),
        Err(e) => log::debug!("an orphaned process can't be waited for: {e}"),
    }
    true
}
