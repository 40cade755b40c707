//! Measures mcp-bridge beside its ceiling, in one run: `scripts/bench.sh`.
//!
//! ```text
//! run [--quick] [TABLE…]            every table, or those named; as Markdown
//! echo [--modern]                   a stdio MCP server that does as little as can be
//! ceiling CONFIG [--pipe PROGRAM]   hyper over tokio-openssl with the bridge's own context, no bridge; by a pipe to a
//!                                   child for each connection, or without one
//! load ADDRESS CLIENTS SECONDS      legacy clients for a server that runs, so that it can be looked into
//! ```
//!
//! Servers run on the first core, the load on the second. CPU times are the kernel's (`/proc/PID/task/*/schedstat`). The two that
//! are compared take turns in short slices, and what is shown are medians: a machine changes its pace from second to second.

#![allow(clippy::print_stdout, reason = "it is a program for people")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are shown with three digits"
)]

mod ceiling;
mod client;
mod echo;
mod figures;
mod load;
mod process;
mod run;
mod scene;
mod stdio;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["echo"] => Ok(echo::run(false)?),
        ["echo", "--modern"] => Ok(echo::run(true)?),
        ["ceiling", config] => ceiling::run(config, None),
        ["ceiling", config, "--pipe", program] => ceiling::run(config, Some(program)),
        ["load", address, clients, seconds] => run::load(address, clients.parse()?, seconds.parse()?),
        ["run", ref rest @ ..] => run::run(rest),
        _ => Err("run, load, echo or ceiling; the first lines of benches/bridge/main.rs say more".into()),
    }
}
