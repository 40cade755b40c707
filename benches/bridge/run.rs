//! The tables.

use std::time::{Duration, Instant};

use openssl::ssl::SslVersion;

use crate::{
    Error,
    client::{Dialer, Era},
    figures::{Latencies, Table, bytes, median, shown},
    load::{Clients, handshakes as make_handshakes},
    process,
    scene::{Scene, Server},
    stdio::StdioClient,
};

/// How long the slices are, how many, and how many clients a table may go up to.
#[derive(Clone, Copy)]
struct Effort {
    slice: Duration,
    slices: usize,
    most: usize,
}

const FULL: Effort = Effort { slice: Duration::from_millis(1500), slices: 7, most: 10_000 };
const QUICK: Effort = Effort { slice: Duration::from_millis(300), slices: 3, most: 256 };

const TABLES: [&str; 8] =
    ["requests", "handshakes", "large", "connect", "idle", "sessions", "payload", "start"];

/// Measures what the arguments name.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Error> {
    let mut effort = FULL;
    let mut tables = Vec::new();
    for &argument in arguments {
        match argument {
            "--quick" => effort = QUICK,
            name if TABLES.contains(&name) => tables.push(name),
            other => return Err(format!("{other}: there are the tables {}", TABLES.join(", ")).into()),
        }
    }
    if tables.is_empty() {
        tables = TABLES.to_vec();
    }
    process::settle()?;
    let scene = Scene::new(env!("CARGO_BIN_EXE_mcp-bridge"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if runtime.block_on(scene.modern_bridge())?.is_none() {
        println!("\nThis bridge does not speak 2026-07-28: there are no rows of a shared modern child.");
    }
    for table in tables {
        runtime.block_on(async {
            match table {
                "requests" => requests(&scene, effort).await,
                "handshakes" => handshakes(&scene, effort).await,
                "large" => large(&scene, effort).await,
                "connect" => connect(&scene, effort).await,
                "idle" => idle(&scene, effort).await,
                "sessions" => sessions(&scene, effort).await,
                "payload" => payload(&scene, effort).await,
                _ => start(&scene, effort),
            }
        })?;
    }
    Ok(())
}

/// Loads a server that was started by hand with a certificate of this folder's authority.
pub(crate) fn load(address: &str, clients: usize, seconds: u64) -> Result<(), Error> {
    process::settle()?;
    let dialer = Dialer::new(address.parse()?, "certs-fixtures/ca.crt", SslVersion::TLS1_3)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let slice = runtime.block_on(async {
        let mut clients = Clients::connect(&dialer, Era::Legacy, clients, 100, false).await?;
        let slice = clients.run(std::process::id(), Duration::from_secs(seconds)).await?;
        clients.close().await?;
        Ok::<_, Error>(slice)
    })?;
    println!("{} requests/s", shown(slice.rate));
    Ok(())
}

/// One thing that is compared.
struct Contender {
    name: &'static str,
    server: Server,
    clients: Clients,
    latencies: Latencies,
    rates: Vec<f64>,
    cpu: Vec<f64>,
}

impl Contender {
    async fn new(
        name: &'static str,
        server: Server,
        era: Era,
        number: usize,
        payload: usize,
    ) -> Result<Self, Error> {
        let echoes = name != CEILING;
        let clients = Clients::connect(&server.dialer()?, era, number, payload, echoes).await?;
        Ok(Self {
            name,
            server,
            clients,
            latencies: Latencies::default(),
            rates: Vec::new(),
            cpu: Vec::new(),
        })
    }

    async fn slice(&mut self, duration: Duration) -> Result<(), Error> {
        let slice = self.clients.run(self.server.process.id(), duration).await?;
        self.latencies.extend(&slice.latencies);
        self.rates.push(slice.rate);
        self.cpu.push(slice.cpu);
        Ok(())
    }
}

const CEILING: &str = "ceiling";
const LEGACY: &str = "bridge, a child per session";
const INTERRUPTED: &str = "bridge, the same, mcp.scheduling: inherit";
const LOGGING: &str = "bridge, the same, requests logged";
const MODERN: &str = "bridge, shared modern child";

/// The contenders in turn, after one slice that does not count.
async fn compare(contenders: &mut [Contender], effort: Effort) -> Result<(), Error> {
    for contender in &mut *contenders {
        contender.clients.run(contender.server.process.id(), effort.slice / 3).await?;
    }
    for _ in 0..effort.slices {
        for contender in &mut *contenders {
            contender.slice(effort.slice).await?;
        }
    }
    Ok(())
}

async fn contenders(scene: &Scene, number: usize, payload: usize) -> Result<Vec<Contender>, Error> {
    let mut all = vec![
        Contender::new(CEILING, scene.ceiling(false)?, Era::Legacy, number, payload).await?,
        Contender::new(PIPE, scene.ceiling(true)?, Era::Legacy, number, payload).await?,
        Contender::new(LEGACY, scene.bridge()?, Era::Legacy, number, payload).await?,
        Contender::new(INTERRUPTED, scene.interrupted_bridge()?, Era::Legacy, number, payload).await?,
        Contender::new(LOGGING, scene.logging_bridge()?, Era::Legacy, number, payload).await?,
    ];
    if let Some(server) = scene.modern_bridge().await? {
        all.push(Contender::new(MODERN, server, Era::Modern, number, payload).await?);
    }
    Ok(all)
}

/// TLS and a pipe beside the bridge, for one client.
async fn beside_pipe(scene: &Scene, payload: usize) -> Result<Vec<Contender>, Error> {
    let mut all = vec![
        Contender::new(PIPE, scene.ceiling(true)?, Era::Legacy, 1, payload).await?,
        Contender::new(LEGACY, scene.bridge()?, Era::Legacy, 1, payload).await?,
    ];
    if let Some(server) = scene.modern_bridge().await? {
        all.push(Contender::new(MODERN, server, Era::Modern, 1, payload).await?);
    }
    Ok(all)
}

fn ratio(value: f64, ceiling: f64) -> String {
    format!("{} ({:.2} ×)", shown(value), value / ceiling)
}

async fn requests(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut table = Table::new(&[
        "clients",
        "server",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "server CPU µs per request",
    ]);
    for number in [1, 16, 256] {
        let mut all = contenders(scene, number, 100).await?;
        compare(&mut all, effort).await?;
        let (mut base_cpu, mut base_p50) = (f64::NAN, f64::NAN);
        for contender in &mut all {
            let (cpu, p50) = (median(contender.cpu.clone()), contender.latencies.percentile(0.5));
            if contender.name == CEILING {
                (base_cpu, base_p50) = (cpu, p50);
            }
            table.row(vec![
                number.to_string(),
                contender.name.to_owned(),
                shown(median(contender.rates.clone())),
                format!("{} ({:+.0})", shown(p50), p50 - base_p50),
                shown(contender.latencies.percentile(0.99)),
                shown(contender.latencies.percentile(0.999)),
                ratio(cpu, base_cpu),
            ]);
        }
    }
    table.print("Requests: tools/call of 100 bytes, TLS 1.3, keep-alive");
    Ok(())
}

async fn handshakes(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut table =
        Table::new(&["handshake", "server", "a second, one after the other", "server CPU µs each"]);
    let nginx = scene.nginx()?;
    if nginx.is_none() {
        println!("\nnginx is not installed; the handshakes are compared with the ceiling's only");
    }
    let mut servers = vec![(CEILING, scene.ceiling(false)?), ("bridge", scene.bridge()?)];
    if let Some(nginx) = nginx {
        servers.insert(0, ("nginx", nginx));
    }
    for (version, words) in [(SslVersion::TLS1_3, "TLS 1.3"), (SslVersion::TLS1_2, "TLS 1.2")] {
        for resume in [false, true] {
            let mut dialers = Vec::new();
            for (_, server) in &servers {
                let dialer = server.dialer_of(version)?;
                if resume {
                    dialer.get_session().await?;
                }
                dialers.push((dialer, Vec::new(), Vec::new()));
            }
            // The ratios are close, so the slices are short and many.
            for _ in 0..=effort.slices * 8 {
                for ((name, server), (dialer, cpu, rate)) in servers.iter().zip(&mut dialers) {
                    let (spent, made) = make_handshakes(
                        dialer,
                        server.process.id(),
                        *name == "nginx",
                        resume,
                        effort.slice / 16,
                    )
                    .await?;
                    cpu.push(spent);
                    rate.push(made);
                }
            }
            let base = median(dialers[0].1[1..].to_vec());
            for ((name, _), (_, cpu, rate)) in servers.iter().zip(&dialers) {
                let kind = if resume { "resumed" } else { "full" };
                table.row(vec![
                    format!("{words}, {kind}"),
                    (*name).to_owned(),
                    shown(median(rate[1..].to_vec())),
                    ratio(median(cpu[1..].to_vec()), base),
                ]);
            }
        }
    }
    table.print("Handshakes: ECDSA P-256");
    Ok(())
}

async fn large(scene: &Scene, effort: Effort) -> Result<(), Error> {
    const SIZE: usize = 10 * 1024 * 1024;
    let mut servers = beside_pipe(scene, SIZE).await?;
    servers.push(Contender::new(UPGRADED, scene.bridge()?, Era::Modern, 1, SIZE).await?);
    if let Some(server) = scene.modern_bridge().await? {
        servers.push(Contender::new(DOWNGRADED, server, Era::Legacy, 1, SIZE).await?);
    }
    let remotes = [(CONNECT, scene.ceiling(true)?), (BOTH, scene.bridge()?)];
    let mut clients = Vec::new();
    for (name, remote) in &remotes {
        clients.push((*name, StdioClient::start(&scene.bridge, remote, SIZE, true)?, Vec::new()));
    }
    let of_servers = servers.iter().map(|contender| contender.server.process.id());
    let ids: Vec<_> = of_servers.chain(clients.iter().map(|(_, client, _)| client.process.id())).collect();
    let before: Vec<_> = ids.iter().map(|id| process::whole_memory(*id)).collect();
    for _ in 0..=effort.slices {
        for contender in &mut servers {
            contender.slice(effort.slice).await?;
        }
        for (_, client, rates) in &mut clients {
            let began = Instant::now();
            let answers = client.run(effort.slice)?.len() as f64;
            rates.push(answers / began.elapsed().as_secs_f64());
        }
    }
    let mut table = Table::new(&["way", "bytes/s, each way", "memory before", "most memory"]);
    let rates = servers.iter().map(|contender| (contender.name, &contender.rates));
    let rates = rates.chain(clients.iter().map(|(name, _, rates)| (*name, rates)));
    // The first slice does not count.
    let rates = rates.map(|(name, rates)| (name, median(rates[1..].to_vec())));
    let base = median(servers[0].rates[1..].to_vec());
    for (((name, rate), id), before) in rates.zip(&ids).zip(before) {
        let (before, most) = (before as f64, process::peak_memory(*id) as f64);
        table.row(vec![
            name.to_owned(),
            format!("{} ({:.2} ×)", bytes(rate * SIZE as f64), rate / base),
            bytes(before),
            format!("{} (+{:.1} messages)", bytes(most), (most - before) / SIZE as f64),
        ]);
    }
    table.print("Messages of 10 MiB, there and back, one client");
    Ok(())
}

const PIPE: &str = "TLS and a pipe to a child per connection, no bridge";
const UPGRADED: &str = "bridge, modern client, a child of legacy revisions";
const DOWNGRADED: &str = "bridge, legacy client, shared modern child";
const CONNECT: &str = "connect, to TLS and a pipe";
const BOTH: &str = "connect, to the bridge with a child per session";

async fn connect(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let server = scene.ceiling(false)?;
    let mut direct = Clients::connect(&server.dialer()?, Era::Legacy, 1, 100, false).await?;
    let mut client = StdioClient::start(&scene.bridge, &server, 100, false)?;
    let (mut through, mut straight) = (Latencies::default(), Latencies::default());
    for slice in 0..=effort.slices {
        let slice_of_direct = direct.run(server.process.id(), effort.slice).await?;
        let slice_of_connect = client.run(effort.slice)?;
        if slice > 0 {
            straight.extend(&slice_of_direct.latencies);
            through.extend(&slice_of_connect);
        }
    }
    let mut table = Table::new(&["way", "p50 µs", "p99 µs"]);
    let base = straight.percentile(0.5);
    table.row(vec!["HTTPS, direct".to_owned(), shown(base), shown(straight.percentile(0.99))]);
    let p50 = through.percentile(0.5);
    table.row(vec![
        "through connect".to_owned(),
        format!("{} ({:+.0})", shown(p50), p50 - base),
        shown(through.percentile(0.99)),
    ]);
    table.print("connect: a call, one after the other");
    Ok(())
}

async fn idle(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut table = Table::new(&["server", "idle clients", "memory of the server", "each"]);
    let few = effort.most.min(256);
    let mut base = f64::NAN;
    let mut rows = vec![
        (CEILING, scene.ceiling(false)?, Era::Legacy, effort.most.min(1000)),
        (CEILING, scene.ceiling(false)?, Era::Legacy, effort.most),
        (LEGACY, scene.bridge()?, Era::Legacy, few),
    ];
    for number in [effort.most.min(1000), effort.most] {
        if let Some(server) = scene.modern_bridge().await? {
            rows.push((MODERN, server, Era::Modern, number));
        }
    }
    for (name, server, era, number) in rows {
        let dialer = server.dialer()?;
        // What the first clients bring about is not theirs.
        let mut first = Clients::connect(&dialer, era, 8, 1, false).await?;
        first.call_once().await?;
        let before = process::memory(server.process.id());
        let mut clients = Clients::connect(&dialer, era, number, 1, false).await?;
        clients.call_once().await?;
        let after = settled_memory(server.process.id()).await;
        let each = after.saturating_sub(before) as f64 / number as f64;
        if base.is_nan() {
            base = each;
        }
        table.row(vec![
            name.to_owned(),
            number.to_string(),
            bytes(after as f64),
            format!("{} ({:.2} ×)", bytes(each), each / base),
        ]);
    }
    table.print("Idle TLS connections, each with its session if legacy");
    Ok(())
}

/// The memory of a process once it has stopped to change: freed memory goes back to the system some seconds later.
async fn settled_memory(id: u32) -> u64 {
    const STILL: u32 = 15;
    const MOST: u32 = 60;
    let (mut last, mut still) = (process::memory(id), 0);
    for _ in 0..MOST {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = process::memory(id);
        still = if now.abs_diff(last) < last / 100 { still + 1 } else { 0 };
        last = now;
        if still == STILL {
            break;
        }
    }
    last
}

async fn sessions(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut table = Table::new(&[
        "sessions, each with a child",
        "server CPU µs per request, all active",
        "16 of them active",
    ]);
    for number in [1, 16, 256, 500, 2000].into_iter().filter(|n| *n <= effort.most) {
        let mut all = Contender::new(LEGACY, scene.bridge()?, Era::Legacy, number, 100).await?;
        let mut cells = vec![number.to_string()];
        for _ in 0..effort.slices {
            all.slice(effort.slice).await?;
        }
        cells.push(shown(median(std::mem::take(&mut all.cpu))));
        let few = Clients::connect(&all.server.dialer()?, Era::Legacy, 16, 100, true).await?;
        let idle = std::mem::replace(&mut all.clients, few);
        for _ in 0..effort.slices {
            all.slice(effort.slice).await?;
        }
        cells.push(shown(median(all.cpu)));
        all.clients.close().await?;
        idle.close().await?;
        table.row(cells);
    }
    table.print("How cost grows with sessions");
    Ok(())
}

async fn payload(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut table =
        Table::new(&["payload", "server", "requests/s", "server CPU µs per request", "CPU ns per byte"]);
    for size in [100, 1024, 10 * 1024, 100 * 1024, 1024 * 1024, 10 * 1024 * 1024] {
        let mut all = beside_pipe(scene, size).await?;
        compare(&mut all, effort).await?;
        let base = median(all[0].cpu.clone());
        for contender in &all {
            let cpu = median(contender.cpu.clone());
            table.row(vec![
                bytes(size as f64),
                contender.name.to_owned(),
                shown(median(contender.rates.clone())),
                ratio(cpu, base),
                shown(cpu * 1000.0 / size as f64),
            ]);
        }
    }
    table.print("How cost grows with the payload, one client");
    Ok(())
}

fn start(scene: &Scene, effort: Effort) -> Result<(), Error> {
    let mut times = Vec::new();
    for _ in 0..effort.slices * 3 {
        let began = Instant::now();
        let server = scene.bridge()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        drop(server);
    }
    let size = std::fs::metadata(&scene.bridge)?.len();
    let mut table = Table::new(&["ms from exec to the first connection", "size of the program"]);
    table.row(vec![shown(median(times)), bytes(size as f64)]);
    table.print("Start");
    Ok(())
}
