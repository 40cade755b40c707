//! The promises of the README, each over real sockets, pipes and processes. One module per topic.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "what fails here fails a test"
)]

mod bad_input;
mod children;
mod conformance;
mod connect;
mod corpus;
mod downgrade;
mod eras;
mod fixture;
mod haproxy;
mod health;
mod host_and_origin;
mod hostile_child;
mod hostile_client;
mod http_sse;
mod isolation;
mod modern;
mod operations;
mod peers;
mod resting;
mod resume;
mod revisions;
mod routing;
mod sessions;
mod start;
#[allow(dead_code, reason = "what the topics share; each uses some of it")]
mod support;
mod tls;
mod tls_process;
mod upgraded;
