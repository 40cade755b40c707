//! Processes on their cores, and what the kernel says of them.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::Error;

/// Where servers run.
pub(crate) const SERVER_CORE: usize = 0;
/// Where the load runs.
pub(crate) const LOAD_CORE: usize = 1;
/// How long a server may take to start.
const START: Duration = Duration::from_secs(5);
/// How long a process that has nothing to do is seen to do nothing, and how often it is looked at.
const REST: Duration = Duration::from_millis(3);
const MOST_LOOKS: usize = 100;

/// A process that ends with its owner.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command on the servers' core.
    pub(crate) fn start(command: &[&str]) -> Result<Self, Error> {
        Self::spawn(command, SERVER_CORE, Stdio::null(), Stdio::null(), Stdio::inherit())
    }

    /// As [`Self::start`], with its standard output as lines.
    pub(crate) fn start_speaking(
        command: &[&str],
    ) -> Result<(Self, impl Iterator<Item = String> + use<>), Error> {
        let mut process = Self::spawn(command, SERVER_CORE, Stdio::null(), Stdio::piped(), Stdio::inherit())?;
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        Ok((process, BufReader::new(stdout).lines().map_while(Result::ok)))
    }

    /// Starts a command on the load's core, to be talked to.
    pub(crate) fn start_piped(
        command: &[&str],
    ) -> Result<(Self, std::process::ChildStdin, std::process::ChildStdout), Error> {
        let mut process = Self::spawn(command, LOAD_CORE, Stdio::piped(), Stdio::piped(), Stdio::null())?;
        let stdin = process.child.stdin.take().ok_or("no standard input")?;
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        Ok((process, stdin, stdout))
    }

    fn spawn(
        command: &[&str],
        core: usize,
        stdin: Stdio,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self, Error> {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", &core.to_string()]).args(command);
        Ok(Self { child: pinned.stdin(stdin).stdout(stdout).stderr(stderr).spawn()? })
    }

    /// Waits until somebody listens on `address`.
    pub(crate) fn until_it_listens(&self, address: SocketAddr) -> Result<(), Error> {
        let end = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                return Err(format!("process {}: nobody listens on {address}", self.id()).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Its number; `taskset` becomes the command that it starts.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Keeps this process on the load's core.
pub(crate) fn settle() -> Result<(), Error> {
    let me = std::process::id().to_string();
    let mut command = Command::new("taskset");
    let done = command.args(["-apc", &LOAD_CORE.to_string(), &me]).stdout(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err("taskset failed".into()) }
}

/// The CPU time that a process and, for servers of several processes, its children have used.
pub(crate) fn cpu(id: u32, children: bool) -> Duration {
    let mut nanoseconds = tasks(id);
    if children {
        nanoseconds += children_of(id).into_iter().map(tasks).sum::<u64>();
    }
    Duration::from_nanos(nanoseconds)
}

/// As [`cpu`], once the process has done what it had to do.
pub(crate) async fn cpu_at_rest(id: u32, children: bool) -> Duration {
    let mut last = cpu(id, children);
    for _ in 0..MOST_LOOKS {
        tokio::time::sleep(REST).await;
        let now = cpu(id, children);
        if now == last {
            break;
        }
        last = now;
    }
    last
}

fn tasks(id: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return 0 };
    let spent = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(Result::ok).filter_map(spent).sum()
}

/// The children of a process.
pub(crate) fn children_of(id: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// The memory that is a process's own, in bytes: resident, without what is shared with files.
pub(crate) fn memory(id: u32) -> u64 {
    status_field(id, "RssAnon:")
}

/// The memory that a process has, in bytes: resident, with its program and libraries.
pub(crate) fn whole_memory(id: u32) -> u64 {
    status_field(id, "VmRSS:")
}

/// The most that [`whole_memory`] ever was.
pub(crate) fn peak_memory(id: u32) -> u64 {
    status_field(id, "VmHWM:")
}

fn status_field(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
}
