//! What `/proc` tells of processes.

use std::fs;

/// The environment variable that marks a bridge and whatever descends from it.
pub(crate) const MARK: &str = "MCP_BRIDGE_TEST_FAMILY";

/// A value of [`MARK`] that no other test has, not even that of another test program.
pub(crate) fn mark(name: &str) -> String {
    format!("{name} of {}", std::process::id())
}

/// Whether a process runs; one that has ended and was not reaped yet does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// The processes with this parent, zombies too, with their state.
pub(crate) fn children(parent: u32) -> Vec<(u32, char)> {
    let known = processes().filter_map(|pid| state(pid).map(|(state, ppid)| (pid, state, ppid)));
    known.filter(|(_, _, ppid)| *ppid == parent).map(|(pid, state, _)| (pid, state)).collect()
}

/// The living processes that were started with the mark, at whatever depth.
pub(crate) fn family(mark: &str) -> Vec<u32> {
    let line = format!("{MARK}={mark}");
    let marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|variable| variable == line.as_bytes())
    };
    processes().filter(|pid| is_alive(*pid)).filter(marked).collect()
}

/// How many files a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The memory that a process holds now, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS")
}

/// The most memory that a process has held, in bytes.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    status(pid, "VmHWM")
}

fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The length of a long message, in bytes.
pub(crate) const LONG: usize = 10 * 1024 * 1024;

/// What memory long messages take.
pub(crate) struct Footprint {
    pid: u32,
    before: u64,
}

impl Footprint {
    /// Of a process that has had none of them yet.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, before: memory(pid) }
    }

    /// They have come to the process, and none took so many times its length or more: that is what is held at once, and
    /// what the C library keeps of what was freed.
    pub(crate) fn is_below(&self, times: u64) {
        let more = peak_memory(self.pid) - self.before;
        assert!(more > LONG as u64 && more < times * LONG as u64, "{more} bytes");
    }

    /// Whether the process holds nothing of them any more.
    pub(crate) fn is_gone(&self) -> bool {
        memory(self.pid) < self.before + LONG as u64 / 2
    }
}

/// What `ps` shows of a process.
pub(crate) fn command_line(pid: u32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8_lossy(&text).replace('\0', " ")
}

/// The number of the policy that a process is scheduled by, as `sched(7)` has them.
pub(crate) fn scheduling_policy(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The 41st field; the third follows the name.
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(41 - 3).unwrap().parse().unwrap()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// State and parent. The name before them may hold anything, so they are found from its end.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
