//! What goes wrong while the clients work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::World;
use crate::relay::Relay;
use crate::support::proc::children;

/// Longest time from one fault to the next, in milliseconds.
const PAUSE: u64 = 600;
/// Longest time that a process is stopped, in milliseconds.
const STOPPED: u64 = 2000;

/// How often each fault was made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) killed: u64,
    pub(crate) children_stopped: u64,
    pub(crate) clients_stopped: u64,
    pub(crate) cut: u64,
    pub(crate) reloads: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.killed += other.killed;
        self.children_stopped += other.children_stopped;
        self.clients_stopped += other.clients_stopped;
        self.cut += other.cut;
        self.reloads += other.reloads;
    }
}

/// Makes faults for a time; whatever was stopped goes on at its end.
pub(crate) async fn make(world: &Arc<World>, bridge: u32, relay: &Relay, time: Duration) -> Counts {
    let deadline = Instant::now() + time;
    let mut counts = Counts::default();
    let mut stopped = Vec::new();
    while Instant::now() < deadline {
        world.pause(PAUSE).await;
        let child = choose(world, children(bridge).into_iter().map(|(pid, _)| pid).collect());
        let client = choose(world, world.processes.lock().unwrap().iter().copied().collect());
        match (world.below(8), child, client) {
            (0, Some(child), _) => {
                let signal = if world.one_in(2) { Signal::SIGKILL } else { Signal::SIGTERM };
                counts.killed += u64::from(send(child, signal));
            }
            (1 | 2, Some(child), _) => {
                counts.children_stopped += 1;
                stopped.push(tokio::spawn(stop_for_a_while(Arc::clone(world), child)));
            }
            (3 | 4, _, Some(client)) => {
                counts.clients_stopped += 1;
                stopped.push(tokio::spawn(stop_for_a_while(Arc::clone(world), client)));
            }
            (5 | 6, _, _) => counts.cut += relay.cut(|| world.one_in(4)),
            (7, _, _) => counts.reloads += u64::from(send(bridge, Signal::SIGHUP)),
            _ => {}
        }
    }
    for process in stopped {
        process.await.unwrap();
    }
    counts
}

fn choose(world: &World, mut among: Vec<u32>) -> Option<u32> {
    among.sort_unstable();
    let n = world.below(among.len().max(1) as u64);
    among.get(usize::try_from(n).unwrap()).copied()
}

async fn stop_for_a_while(world: Arc<World>, pid: u32) {
    send(pid, Signal::SIGSTOP);
    world.pause(STOPPED).await;
    send(pid, Signal::SIGCONT);
}

/// False when the process is gone.
fn send(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).is_ok()
}
