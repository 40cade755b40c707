//! What the process is told from outside.

use std::{io, sync::Arc};

use log::info;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{reload::Reloader, service::Service};

/// SIGTERM and SIGINT: the first one stops, the second one cuts.
pub(crate) struct Signals {
    /// End in good order.
    pub(crate) stop: CancellationToken,
    /// End now.
    pub(crate) cut: CancellationToken,
}

impl Signals {
    /// Listens from now on; SIGHUP reloads.
    pub(crate) fn handle(reloader: Reloader, service: Service) -> io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), cut: CancellationToken::new() };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let tokens = [signals.stop.clone(), signals.cut.clone()];
        tokio::spawn(end(terminate, interrupt, tokens, service));
        tokio::spawn(reload(signal(SignalKind::hangup())?, Arc::new(reloader), signals.stop.clone()));
        Ok(signals)
    }
}

async fn end(mut terminate: Signal, mut interrupt: Signal, tokens: [CancellationToken; 2], service: Service) {
    for (token, words) in tokens.into_iter().zip(["finishing what is in flight", "ending now"]) {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: {words}"),
            _ = interrupt.recv() => info!("SIGINT: {words}"),
        }
        service.stopping(words);
        token.cancel();
    }
}

async fn reload(mut hangup: Signal, reloader: Arc<Reloader>, stop: CancellationToken) {
    while hangup.recv().await.is_some() {
        if stop.is_cancelled() {
            info!("SIGHUP: not reloading, the bridge is ending");
            continue;
        }
        let reloader = Arc::clone(&reloader);
        // Files may be on a slow disk, and reading system roots takes 20 ms. A panic is in the log.
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}
