//! The `mcp-bridge` program: reads its arguments, runs a command, tells once what went wrong.

mod check;
mod reload;
mod run;
mod service;
mod signals;

use std::{fmt::Display, path::Path, process::ExitCode};

use mcp_bridge::{
    cli::{self, Command},
    config::Written,
};

/// Exit codes, as the README promises them.
mod exit {
    /// Something failed while running.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage or configuration.
    pub(crate) const CONFIGURATION: u8 = 2;
}

fn main() -> ExitCode {
    // Before anything else of OpenSSL's: so initialised, it frees nothing at exit, when other threads may still use it
    // (OPENSSL_INIT_NO_ATEXIT of OPENSSL_init_crypto(3ssl)).
    openssl::init();
    let cli = cli::parse();
    let done = match cli.load_config() {
        Err(e) => Err(Failure::configuration(e)),
        Ok((command, config)) => {
            let (file, written) = (config.file.clone(), config.written.clone());
            let done = match command {
                Command::Check { json } => check::run(&config, json),
                Command::Run => run::run(config, move || cli.load_config().map(|(_, config)| config)),
                Command::Health(question) => run::health(&config, question),
            };
            done.map_err(|failure| failure.placed(file.as_deref(), &written))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

/// Why the program ends before its time.
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The configuration, or what it names, is not usable.
    pub(crate) fn configuration(error: impl Display) -> Self {
        Self { message: error.to_string(), code: exit::CONFIGURATION }
    }

    /// Something else.
    pub(crate) fn running(error: impl Display) -> Self {
        Self { message: error.to_string(), code: exit::FAILED }
    }

    /// With the place where the key stands that it is about, if it is about one.
    fn placed(self, file: Option<&Path>, written: &Written) -> Self {
        Self { message: written.place(file, &self.message), ..self }
    }

    #[expect(clippy::print_stderr, reason = "the one place that speaks to whoever started the program")]
    fn print(&self) {
        eprintln!("mcp-bridge: {}", self.message);
    }
}
