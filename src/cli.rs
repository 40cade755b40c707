//! The command line.
//!
//! Options become settings laid over the configuration file, so that they pass the same checks.

mod args;
mod settings;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use clap::{CommandFactory, Parser};

use args::{Action, Common};

use crate::{
    config::{self, Config, ConfigError, Environment},
    health::Question,
};

const DEFAULT_FILE: &str = "/etc/mcp-bridge/config.yaml";

const FILE_VARIABLE: &str = "MCP_BRIDGE_CONFIG";

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), openssl::version::version()));

/// Reads the arguments of the process. Wrong ones end it with exit code 2, `--help` and `--version` with 0.
pub fn parse() -> Cli {
    Cli::parse()
}

/// The definition of the command line, of which manual pages and completions are made.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Join the stdio and the Streamable HTTP transport of the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(
    name = "mcp-bridge",
    version = VERSION.as_str(),
    after_help = "\
Examples:
  mcp-bridge serve --listen 127.0.0.1:8080 -- python -m my_server
  mcp-bridge serve --listen :8443 --cert server.crt --key server.key -- ./server
  mcp-bridge connect https://mcp.example.com/mcp --ca-cert ca.crt
  mcp-bridge check -c config.yaml
  mcp-bridge health --ready -c config.yaml
  mcp-bridge -c config.yaml

The configuration file is the one of -c, else $MCP_BRIDGE_CONFIG, else /etc/mcp-bridge/config.yaml.
A command after `--` or a URL needs no file: then only -c reads one. Options win over the file.

Exit status: 0 done, 1 failed while running, 2 wrong usage or configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    common: Common,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run the direction that it says.
    Run,
    /// Load and resolve everything, start nothing, and tell what was found.
    Check {
        /// For machines.
        json: bool,
    },
    /// Ask the bridge that runs with it.
    Health(Question),
}

impl Cli {
    /// Finds the file, if one is needed, and loads the configuration from it and the options.
    ///
    /// # Errors
    ///
    /// As [`config::load`]'s, or that there is no file.
    pub fn load_config(&self) -> Result<(Command, Config), ConfigError> {
        self.load_config_from(&|name| std::env::var_os(name))
    }

    fn load_config_from(&self, env: Environment<'_>) -> Result<(Command, Config), ConfigError> {
        let file = self.file(env)?;
        let config = config::load(file.as_deref(), &settings::options(self)?, env)?;
        Ok((self.chosen(), config))
    }

    fn chosen(&self) -> Command {
        match &self.action {
            Some(Action::Check(args)) => Command::Check { json: args.json },
            Some(Action::Health(args)) if args.ready => Command::Health(Question::Ready),
            Some(Action::Health(_)) => Command::Health(Question::Up),
            _ => Command::Run,
        }
    }

    fn file(&self, env: Environment<'_>) -> Result<Option<PathBuf>, ConfigError> {
        if let Some(file) = &self.common.config {
            return Ok(Some(file.clone()));
        }
        if self.stands_alone() {
            return Ok(None);
        }
        if let Some(file) = env(FILE_VARIABLE).filter(|file: &OsString| !file.is_empty()) {
            return Ok(Some(file.into()));
        }
        if Path::new(DEFAULT_FILE).exists() {
            return Ok(Some(DEFAULT_FILE.into()));
        }
        Err(ConfigError::command_line(format!(
            "no configuration: {DEFAULT_FILE} does not exist and ${FILE_VARIABLE} is not set; give a file with -c, \
             or run `mcp-bridge serve -- COMMAND` or `mcp-bridge connect URL` (see --help)"
        )))
    }

    /// A short form says all that is needed.
    fn stands_alone(&self) -> bool {
        match &self.action {
            Some(Action::Serve(args)) => !args.command.is_empty(),
            Some(Action::Connect(args)) => args.url.is_some(),
            Some(Action::Health(args)) => args.url.is_some(),
            Some(Action::Check(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests;
