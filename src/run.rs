//! Running one direction: the log, the runtime and the signals around it.

use std::{
    io::{self, Write},
    process,
    time::Duration,
};

use log::{debug, error, info, warn};
use mcp_bridge::{
    child,
    config::{self, Config, Role},
    connect,
    health::{Check, Question},
    logging, serve,
    tls::{self, Reload, fips},
};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// Threads of `connect`, which serves one client.
const CONNECT_THREADS: usize = 2;

pub(crate) fn run(config: Config) -> Result<(), Failure> {
    logging::start(&config.logging).map_err(Failure::configuration)?;
    log_panics();
    info!("mcp-bridge {} with {}", env!("CARGO_PKG_VERSION"), openssl::version::version());
    if config.fips_required {
        let proof = fips::require().map_err(Failure::configuration)?;
        info!("FIPS mode: {proof}");
    }
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    match config.role {
        Role::Serve(config) => runtime(None)?.block_on(run_serve(*config)),
        Role::Connect(config) => {
            let runtime = runtime(Some(CONNECT_THREADS))?;
            let done = runtime.block_on(run_connect(*config));
            // A read of standard input can't be called off; the process ends around it.
            runtime.shutdown_background();
            done
        }
    }
}

/// Asks a running bridge, and prints its answer when that is a yes.
pub(crate) fn health(config: &Config, question: Question) -> Result<(), Failure> {
    let check = Check::new(config, question).map_err(Failure::configuration)?;
    let answer = runtime(Some(1))?.block_on(check.run()).map_err(Failure::running)?;
    writeln!(io::stdout(), "{answer}").map_err(Failure::running)
}

fn runtime(threads: Option<usize>) -> Result<runtime::Runtime, Failure> {
    let mut builder = runtime::Builder::new_multi_thread();
    threads.map(|n| builder.worker_threads(n));
    builder.enable_all().build().map_err(Failure::running)
}

/// A panic is a defect: it is told like everything else, and the tasks around it go on.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| error!("{panic}")));
}

async fn run_serve(config: config::Serve) -> Result<(), Failure> {
    let prepared = serve::Prepared::load(&config).map_err(Failure::configuration)?;
    let reload = prepared.tls.clone();
    let interval = config.tls.as_ref().map(|tls| tls.policy.reload_interval);
    let server = serve::Server::bind(config, prepared).map_err(|e| match e {
        serve::StartError::Bind(_) => Failure::running(e),
        _ => Failure::configuration(e),
    })?;
    if let Some(tls) = &reload {
        tell(&tls.warnings(), &tls.report());
    }
    let signals = Signals::handle(reload, interval).map_err(Failure::running)?;
    let orphans = tokio::spawn(child::reap_orphans());
    info!("listening on {}", server.url());
    server.run(signals.stop.cancelled_owned(), signals.cut.cancelled_owned()).await;
    orphans.abort();
    info!("stopped");
    Ok(())
}

async fn run_connect(config: config::Connect) -> Result<(), Failure> {
    let interval = config.tls.policy.reload_interval;
    let client = connect::Client::load(&config).map_err(Failure::configuration)?;
    if let Some(tls) = &client.tls {
        tell(&tls.warnings(), &tls.report());
    }
    let signals = Signals::handle(client.tls.clone(), Some(interval)).map_err(Failure::running)?;
    client.run(tokio::io::stdin(), tokio::io::stdout(), signals.stop.cancelled()).await;
    Ok(())
}

/// The policy in force, and what deserves attention about it.
fn tell(warnings: &[String], report: &tls::Report) {
    for warning in warnings {
        warn!("{warning}");
    }
    report.to_string().lines().for_each(|line| debug!("{line}"));
}

/// What the process is told from outside.
struct Signals {
    /// End in good order.
    stop: CancellationToken,
    /// End now.
    cut: CancellationToken,
}

impl Signals {
    /// SIGTERM and SIGINT stop, a second one cuts; SIGHUP, and a change of its files, reloads `target`.
    fn handle<T: Reload>(target: Option<T>, interval: Option<Duration>) -> io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), cut: CancellationToken::new() };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(end(terminate, interrupt, signals.stop.clone(), signals.cut.clone()));
        tokio::spawn(reload(signal(SignalKind::hangup())?, target.clone()));
        if let (Some(target), Some(interval)) = (target, interval) {
            tokio::spawn(tls::watch(target, interval));
        }
        Ok(signals)
    }
}

async fn end(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken, cut: CancellationToken) {
    for (token, words) in [(stop, "finishing what is in flight"), (cut, "ending now")] {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: {words}"),
            _ = interrupt.recv() => info!("SIGINT: {words}"),
        }
        token.cancel();
    }
}

async fn reload<T: Reload>(mut hangup: Signal, target: Option<T>) {
    while hangup.recv().await.is_some() {
        info!("SIGHUP (process {}): reloading", process::id());
        let Some(target) = target.clone() else { continue };
        // What went wrong is in the log, and the old state is in force.
        let _ = tokio::task::spawn_blocking(move || target.reload()).await;
    }
}
