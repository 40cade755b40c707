//! A load with faults, for as long as one likes: `scripts/soak.sh MINUTES [SEED]`.
//!
//! `serve` runs over TLS with the fixture server. Clients of each [`Kind`] work through a relay that can cut their
//! connections, while servers are killed and stopped, clients are stopped, and the bridge reloads. At the end every
//! request must be accounted for, no answer may have been somebody else's, and the bridge must be as it was before.
//! Another kind of client is one more entry of [`KINDS`].
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what fails here fails the run, and the run talks to whoever started it"
)]

mod direct;
mod faults;
mod ledger;
mod modern;
mod relay;
mod report;
mod through_connect;
mod work;

#[allow(dead_code, reason = "shared with the tests; the run uses some of it")]
#[path = "../../tests/integration/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use ledger::Ledger;
use relay::Relay;
use report::{Check, Figures};
use support::bridge::{Bridge, Guard, Serve};
use support::certs::cert;
use support::http::Http;
use support::proc::{MARK, children, family, mark, memory, open_files, peak_memory};

/// One kind of client.
struct Kind {
    name: &'static str,
    /// How many of them work at a time.
    clients: usize,
    /// Works until the world stops.
    run: fn(Arc<World>, Arc<Ledger>, u64) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

const KINDS: [Kind; 3] = [
    Kind { name: "http", clients: 8, run: |world, ledger, n| Box::pin(direct::run(world, ledger, n)) },
    Kind { name: "modern", clients: 6, run: |world, ledger, n| Box::pin(modern::run(world, ledger, n)) },
    Kind {
        name: "connect",
        clients: 4,
        run: |world, ledger, n| Box::pin(through_connect::run(world, ledger, n)),
    },
];

/// The first part of the time, after which the memory is taken for what it should be; at most this long.
const WARM_UP: Duration = Duration::from_secs(120);
/// How much the memory may have grown since, besides a quarter of it.
const GROWTH: u64 = 16 << 20;

/// What all clients share.
struct World {
    /// The relay's address.
    url: String,
    /// The bridge's own, for those who must not lose their connection.
    direct: String,
    mark: String,
    stop: CancellationToken,
    /// The client processes, which faults may stop for a while.
    processes: Mutex<HashSet<u32>>,
    random: AtomicU64,
}

impl World {
    fn http(&self) -> Http {
        Http::new(&self.url).trust(&cert("ca.crt"))
    }

    fn steady_http(&self) -> Http {
        Http::new(&self.direct).trust(&cert("ca.crt"))
    }

    /// A number below `end`. The seed decides it, as far as the order of events does not.
    fn below(&self, end: u64) -> u64 {
        // SplitMix64.
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    /// True once in `n` times.
    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    async fn pause(&self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(most))).await;
    }
}

fn main() -> ExitCode {
    // `cargo bench` adds an option of its own.
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let Some(minutes) = numbers.first() else {
        eprintln!("usage: soak MINUTES [SEED]");
        return ExitCode::from(2);
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a seed may be any number")]
    let seed = numbers.get(1).map_or_else(|| u64::from(std::process::id()), |seed| *seed as u64);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let passed = runtime.block_on(soak(Duration::from_secs_f64(minutes * 60.0), seed));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn soak(time: Duration, seed: u64) -> bool {
    let began = Instant::now();
    let mark = mark("soak");
    let bridge = Serve::new(Guard::Tls)
        .config("server:\n  session:\n    max_sessions: 200\n    timeout: 5s\nmcp:\n  request_timeout: 60s\n  graceful_shutdown_timeout: 2s")
        .env(MARK, &mark)
        .start();
    let relay = Relay::start(&bridge.url).await;
    println!("soak: {time:?} with seed {seed}, {} through {}", bridge.url, relay.url);
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    settled(&bridge, &mark, usize::MAX).await;
    let files = open_files(bridge.pid());

    let world = || World {
        url: relay.url.clone(),
        direct: bridge.url.clone(),
        mark: mark.clone(),
        stop: CancellationToken::new(),
        processes: Mutex::default(),
        random: AtomicU64::new(seed),
    };
    let ledgers = KINDS.map(|kind| Arc::new(Ledger::new(kind.name)));
    let warm_up = WARM_UP.min(time / 4);
    let mut faults = load(Arc::new(world()), &ledgers, &bridge, &relay, warm_up).await;
    settled(&bridge, &mark, files).await;
    let memory_warm = memory(bridge.pid());
    let left = time.saturating_sub(began.elapsed());
    faults.add(&load(Arc::new(world()), &ledgers, &bridge, &relay, left).await);
    let quiet = settled(&bridge, &mark, files).await;

    let figures = Figures {
        files: (files, open_files(bridge.pid())),
        memory: (memory_warm, memory(bridge.pid()), peak_memory(bridge.pid())),
    };
    let mut checks = report::accounts(&ledgers);
    checks.push(Check::new("every session, child and connection is gone", quiet));
    checks.push(Check::new("open files are as many as at the start", figures.files.1 <= figures.files.0));
    let most = memory_warm + memory_warm / 4 + GROWTH;
    checks.push(Check::new("memory is what it was after the warm-up", figures.memory.1 <= most));
    let (log, exit) = stopped(bridge).await;
    checks.push(Check::new("nothing panicked", !log.contains("panicked")));
    checks.push(Check::new("the bridge ends with status 0", exit == Some(0)));
    checks.push(Check::new("no process is left", family(&mark).is_empty()));
    report::print(&ledgers, &faults, &figures, &checks);
    let passed = checks.iter().all(|check| check.passed);
    if !passed {
        let kept = std::env::temp_dir().join(format!("mcp-bridge-soak-{seed}.log"));
        std::fs::write(&kept, log).unwrap();
        println!("\nthe bridge's log is in {}", kept.display());
    }
    passed
}

/// All clients and faults for a time; returns when the last client has ended in good order.
async fn load(
    world: Arc<World>,
    ledgers: &[Arc<Ledger>],
    bridge: &Bridge,
    relay: &Relay,
    time: Duration,
) -> faults::Counts {
    let mut clients = Vec::new();
    for (kind, ledger) in KINDS.iter().zip(ledgers) {
        for n in 0..kind.clients {
            let client = (kind.run)(Arc::clone(&world), Arc::clone(ledger), n as u64);
            clients.push((Arc::clone(ledger), tokio::spawn(client)));
        }
    }
    let faults = faults::make(&world, bridge.pid(), relay, time).await;
    world.stop.cancel();
    for (ledger, client) in clients {
        if client.await.is_err() {
            ledger.panicked();
        }
    }
    faults
}

/// Waits until the bridge is alone and has no more than this many files open; false when that does not come.
async fn settled(bridge: &Bridge, mark: &str, files: usize) -> bool {
    let pid = bridge.pid();
    let deadline = Instant::now() + support::DEADLINE;
    while Instant::now() < deadline {
        if family(mark) == [pid] && children(pid).is_empty() && open_files(pid) <= files {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// What the bridge had logged when it was told to end, and its exit status.
async fn stopped(mut bridge: Bridge) -> (String, Option<i32>) {
    tokio::task::spawn_blocking(move || {
        let status = bridge.terminate();
        (bridge.stderr(), status.code())
    })
    .await
    .unwrap()
}
