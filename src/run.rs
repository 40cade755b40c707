//! Running one direction: the log, the runtime, the metrics and the signals around it.

use std::{
    io::Write,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use log::{debug, error, info, warn};
use mcp_bridge::{
    child,
    config::{self, Config, ConfigError, Role},
    connect,
    framing::hang_up::hang_up,
    health::{Check, Question},
    http::Shutdown,
    logging::{self, Log},
    memory,
    metrics::Metrics,
    monitor::{Monitor, Ready},
    serve,
    tls::{self, fips},
};
use tokio::runtime;

use crate::{
    Failure,
    reload::{Load, Reloader, Running},
    service::{self, Service},
    signals::Signals,
};

/// What both directions begin with.
struct Start {
    config: Config,
    load: Load,
    log: Log,
}

/// Runs what `config` says until its end; `load` reads the configuration again.
pub(crate) fn run(
    config: Config,
    load: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let log = logging::start(&config.logging).map_err(Failure::configuration)?;
    log_panics();
    info!("mcp-bridge {} with {}", env!("CARGO_PKG_VERSION"), openssl::version::version());
    if config.fips_required {
        let proof = fips::require().map_err(Failure::configuration)?;
        info!("FIPS mode: {proof}");
    }
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let start = Start { config, load: Box::new(load), log };
    match start.config.role.clone() {
        Role::Serve(config) => {
            built(&mut runtime::Builder::new_multi_thread())?.block_on(run_serve(start, &config))
        }
        Role::Connect(config) => {
            // One client: a single thread is never woken by another, and its heap is the only one.
            let runtime = built(&mut runtime::Builder::new_current_thread())?;
            let done = runtime.block_on(run_connect(start, &config));
            // A read of standard input can't be called off; the process ends around it.
            runtime.shutdown_background();
            done
        }
    }
}

/// Asks a running bridge, and prints its answer when that is a yes.
pub(crate) fn health(config: &Config, question: Question) -> Result<(), Failure> {
    let check = Check::new(config, question).map_err(Failure::configuration)?;
    let runtime = built(&mut runtime::Builder::new_current_thread())?;
    let answer = runtime.block_on(check.run()).map_err(Failure::running)?;
    writeln!(std::io::stdout(), "{answer}").map_err(Failure::running)
}

fn built(runtime: &mut runtime::Builder) -> Result<runtime::Runtime, Failure> {
    runtime.enable_all().build().map_err(Failure::running)
}

/// A panic is a defect: it is told like everything else, and the tasks around it go on.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| error!("{panic}")));
}

async fn run_serve(start: Start, config: &config::Serve) -> Result<(), Failure> {
    tokio::spawn(child::reap_orphans());
    tokio::spawn(memory::give_back());
    let prepared = serve::Prepared::load(config).map_err(Failure::configuration)?;
    let mut metrics = Metrics::of_serve(fips::status().is_some());
    if let Some(tls) = &prepared.tls {
        metrics.expose_tls(tls.clone());
    }
    let server = serve::Server::bind(prepared, &metrics).map_err(|e| match e {
        serve::StartError::Bind(_) => Failure::running(e),
        _ => Failure::configuration(e),
    })?;
    let (handle, status) = (server.handle(), format!("listening on {}", server.url()));
    let service = Service::new(&status);
    if let (Some(tls), Some(config)) = (&handle.tls, &config.tls) {
        attend(tls, &tls.warnings(), &tls.report(), config.policy.reload_interval);
    }
    let metrics = Arc::new(metrics);
    let monitor = monitor(start.config.metrics_listen, &metrics, server.ready())?;
    let signals = start.signals(Running::Serve(handle), &metrics, &service)?;
    info!("{status}");
    service.ready();
    tokio::spawn(service::keep_alive());
    server.run(signals.stop.cancelled_owned(), signals.cut.cancelled_owned()).await;
    monitor.stop.cancel();
    info!("stopped");
    Ok(())
}

async fn run_connect(start: Start, config: &config::Connect) -> Result<(), Failure> {
    tokio::spawn(memory::give_back());
    let mut metrics = Metrics::of_connect(fips::status().is_some());
    let client = connect::Client::load(config, &metrics).map_err(Failure::configuration)?;
    let tls = client.tls.clone();
    if let Some(tls) = &tls {
        metrics.expose_tls(tls.clone());
        attend(tls, &tls.warnings(), &tls.report(), config.tls.policy.reload_interval);
    }
    let metrics = Arc::new(metrics);
    let _monitor = monitor(start.config.metrics_listen, &metrics, Arc::new(AlwaysReady))?;
    let signals = start.signals(Running::Connect(tls), &metrics, &Service::none())?;
    let stop = async {
        tokio::select! {
            () = signals.stop.cancelled() => {}
            () = hang_up(std::io::stdout()) => debug!("nobody reads standard output any more"),
        }
    };
    client.run(tokio::io::stdin(), tokio::io::stdout(), stop).await;
    Ok(())
}

impl Start {
    fn signals(self, running: Running, metrics: &Metrics, service: &Service) -> Result<Signals, Failure> {
        let Self { config, load, log } = self;
        let (current, metrics) = (Mutex::new(config), metrics.reloads.clone());
        let reloader = Reloader { load, current, log, running, metrics, service: service.clone() };
        Signals::handle(reloader, service.clone()).map_err(Failure::running)
    }
}

/// Tells the policy in force, and what deserves attention about it; loads its files anew when they change.
fn attend<T: tls::Reload>(tls: &T, warnings: &[String], report: &tls::Report, interval: Duration) {
    for warning in warnings {
        warn!("{warning}");
    }
    report.to_string().lines().for_each(|line| debug!("{line}"));
    tokio::spawn(tls::watch(tls.clone(), interval));
}

/// Answers scrapers and probes where `metrics.listen` says, if it does.
fn monitor(
    address: Option<SocketAddr>,
    metrics: &Arc<Metrics>,
    ready: Arc<dyn Ready>,
) -> Result<Shutdown, Failure> {
    let shutdown = Shutdown::default();
    if let Some(address) = address {
        let monitor = Monitor::bind(address).map_err(Failure::running)?;
        info!("metrics on {}", monitor.url());
        tokio::spawn(monitor.run(Arc::clone(metrics), ready, shutdown.clone()));
    }
    Ok(shutdown)
}

/// A client that runs can do its work, or says in each answer why not.
struct AlwaysReady;

impl Ready for AlwaysReady {
    fn ready(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
