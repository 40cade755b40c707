//! How the kernel shares processors between children and the bridge.
#![allow(unsafe_code)]

use std::io;

/// Has a process, and the threads and processes that it starts from now on, run as `SCHED_BATCH`: woken by a message, it
/// takes a processor that is free or becomes free, and does not interrupt whoever works on one. See `sched(7)`.
///
/// Where many children share a core with the bridge, each message would else change from the bridge to the child and back
/// before the bridge has read the next one.
pub(super) fn give_way(process: u32) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
    let parameters = libc::sched_param { sched_priority: 0 }; // all that this policy takes
    // SAFETY: the pointer is to a whole `sched_param` that lives as long as the call, which only reads it.
    let result = unsafe { libc::sched_setscheduler(process, libc::SCHED_BATCH, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
