//! As process 1 of a container the bridge inherits every process whose parent has ended, and nobody else reaps them.

use std::{
    collections::BTreeSet,
    fs, io, process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

/// The number of the process that inherits orphans.
const INIT: u32 = 1;

/// The children that [`super::Process`] reaps. Held while one is started, so that none is taken for an orphan.
static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<u32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is ours to reap, until this is dropped.
#[derive(Debug)]
pub(super) struct Ours(u32);

impl Drop for Ours {
    fn drop(&mut self) {
        ours().remove(&self.0);
    }
}

/// Starts a child that is ours to reap.
pub(super) fn spawn(command: &mut process::Command) -> io::Result<(process::Child, Ours)> {
    let mut ours = ours();
    let child = command.spawn()?;
    ours.insert(child.id());
    let mark = Ours(child.id());
    Ok((child, mark))
}

/// Reaps orphans for as long as it is polled; returns at once unless this is process 1.
///
/// Must run inside a Tokio runtime.
pub async fn reap_orphans() -> io::Result<()> {
    if process::id() != INIT {
        return Ok(());
    }
    let mut ended = signal(SignalKind::child())?;
    while ended.recv().await.is_some() {
        sweep();
    }
    Ok(())
}

fn sweep() {
    let ours = ours();
    for orphan in zombies_of(INIT).filter(|pid| !ours.contains(pid)) {
        let Ok(pid) = i32::try_from(orphan) else { continue };
        if let Err(e) = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            log::debug!("process {orphan}: can't be reaped: {e}");
        }
    }
}

/// The children of `parent` that have ended and were not reaped.
fn zombies_of(parent: u32) -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_zombie_of(parent, &stat)
    })
}

/// Reads `/proc/PID/stat` (proc(5)). The name before state and parent may hold anything, so they are found from its end.
fn is_zombie_of(parent: u32, stat: &str) -> bool {
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.next() == Some("Z") && fields.next().is_some_and(|ppid| ppid.parse() == Ok(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_told_by_its_state_and_parent_whatever_its_name() {
        assert!(is_zombie_of(1, "7 (sh) Z 1 7 7 0"));
        assert!(is_zombie_of(1, "7 (a) S 9) Z 1 7 7 0"));
        for other in ["7 (sh) S 1 7 7 0", "7 (sh) Z 17 7 7 0", "7 (Z 1) R 2 7", ""] {
            assert!(!is_zombie_of(1, other), "{other}");
        }
    }

    #[test]
    fn a_child_is_ours_until_its_mark_goes() {
        let (mut child, mark) = spawn(&mut process::Command::new("true")).unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(ours().contains(&pid));
        drop(mark);
        assert!(!ours().contains(&pid));
    }
}
