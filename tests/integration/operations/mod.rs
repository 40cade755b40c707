//! What operators rely on: metrics, logs, reloads, the service manager, and running as process 1.

mod exposure;
mod logs;
mod metrics;
mod reload;
mod scrape;
mod service;
