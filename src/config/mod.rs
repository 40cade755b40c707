//! The file as written → checked, resolved settings.
//!
//! The way through it: `yaml` reads the text into a tree that remembers where each value was written;
//! `compat` turns older layouts into ours; `schema` refuses unknown keys; `options` lays the command line
//! over the file; `resolve` reads typed values (`reader`), fills in defaults and checks what belongs together.

mod compat;
mod duration;
mod error;
mod expand;
mod leaf;
mod node;
mod options;
mod reader;
mod resolve;
mod schema;
mod secret;
mod settings;
mod size;
mod suggest;
mod yaml;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, fs::File, io::Read, path::Path};

pub use error::ConfigError;
pub use options::{Options, Setting, SettingValue};
pub use secret::Secret;
pub use settings::*;

use error::Fault;
use node::Node;

/// The largest configuration file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// `mode`: which direction to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `mode: server`, the subcommand `serve`.
    Server,
    /// `mode: client`, the subcommand `connect`.
    Client,
}

impl Mode {
    /// The word of the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Looks an environment variable up. A parameter, so that tests need not change the process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Loads `file`, if any, lays `options` over it and checks the whole.
///
/// Files that the configuration names are not opened here. Relative paths stay as written and so are taken from the
/// working directory of the process.
///
/// # Errors
///
/// The first thing that is wrong, with its file, line and key or its command line option, and what to do about it.
/// A value that may be a secret is never part of it.
pub fn load(file: Option<&Path>, options: &Options, env: Environment<'_>) -> Result<Config, ConfigError> {
    let Some(path) = file else {
        let root = Node::empty_map();
        return settle(root, options, env, false).map_err(Fault::on_command_line);
    };
    let bytes = read(path).map_err(|message| ConfigError::file(path, message))?;
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(&e).in_file(path, ""))?;
    parse(path, &text, options, env)
}

/// As [`load`], with the `text` of `file` at hand.
pub fn parse(
    file: &Path,
    text: &str,
    options: &Options,
    env: Environment<'_>,
) -> Result<Config, ConfigError> {
    let settled = yaml::parse(text).and_then(|root| settle(root, options, env, true));
    let mut config = settled.map_err(|fault| fault.in_file(file, text))?;
    config.file = Some(file.to_owned());
    Ok(config)
}

fn settle(mut root: Node, options: &Options, env: Environment<'_>, file: bool) -> Result<Config, Fault> {
    let compat = compat::adopt(&mut root)?;
    let mode = resolve::mode(&root, options.mode, file, env)?;
    schema::check(&root, Some(mode))?;
    options.apply(&mut root);
    schema::check(&root, Some(mode))?;
    resolve::config(&root, mode, env, compat)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err("is larger than 1 MiB, which no configuration should be; check the path".into());
    }
    Ok(bytes)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Fault {
    let valid = error.utf8_error().valid_up_to();
    let line = 1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..valid]).count();
    Fault::on_line(line, "the file is not UTF-8 from here on; save it as UTF-8")
}
