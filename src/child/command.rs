//! Which program the child is, and in what environment it runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use crate::{
    config::{self, Scheduling},
    framing::writer::Senders,
    metrics::Children,
};

/// What a child sees with `mcp.inherit_env: false`, besides `mcp.env`.
const BASIC_ENV: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// What the service manager says to the bridge, and to nobody else.
const SERVICE_ENV: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A child that could be started: its program and directory were there when this was made.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    config: config::Mcp,
    program: PathBuf,
    pub(super) metrics: Children,
    pub(super) senders: Senders,
}

/// Why no child could be started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Nothing of that name.
    #[error("mcp.command: {0}: no such program in PATH; install it or give its absolute path")]
    NotInPath(String),
    /// A path that leads to no program.
    #[error("mcp.command: {0}: {1}")]
    NotRunnable(PathBuf, &'static str),
    /// The working directory.
    #[error("mcp.dir: {0}: no such directory")]
    NoDirectory(PathBuf),
}

impl ChildCommand {
    /// Looks the configured program up, as a shell would in `mcp.dir`.
    pub fn resolve(config: &config::Mcp) -> Result<Self, CommandError> {
        if let Some(dir) = config.dir.as_ref().filter(|dir| !dir.is_dir()) {
            return Err(CommandError::NoDirectory(dir.clone()));
        }
        Ok(Self {
            program: find(config)?,
            config: config.clone(),
            metrics: Children::default(),
            senders: Senders::One,
        })
    }

    /// The same, whose children are counted.
    #[must_use]
    pub fn counted_by(self, metrics: Children) -> Self {
        Self { metrics, ..self }
    }

    /// The same, whose children serve many at once.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { senders: Senders::Many, ..self }
    }

    /// Counts a child that is to take the place of one that has ended.
    pub fn count_restart(&self) {
        self.metrics.restarted();
    }

    /// Whether the program and its directory are still there.
    pub fn check(&self) -> Result<(), CommandError> {
        Self::resolve(&self.config).map(drop)
    }

    pub(super) fn gives_way(&self) -> bool {
        self.config.scheduling == Scheduling::Batch
    }

    /// The program's file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(&self.config.command).args(&self.config.args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.config.dir {
            command.current_dir(dir);
        }
        command.env_clear().envs(self.environment());
        command
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let config = &self.config;
        let inherited = env::vars_os().filter(|(name, _)| {
            let withheld = config.withheld_env.iter().any(|n| OsStr::new(n) == name);
            let among = |names: &[&str]| names.iter().any(|n| OsStr::new(n) == name);
            !withheld && !among(&SERVICE_ENV) && (config.inherit_env || among(&BASIC_ENV))
        });
        let own = config.env.iter().map(|(name, value)| (name.into(), value.expose().into()));
        inherited.chain(own).collect()
    }
}

fn find(config: &config::Mcp) -> Result<PathBuf, CommandError> {
    let command = Path::new(&config.command);
    if config.command.contains('/') {
        let base = config.dir.clone().or_else(|| env::current_dir().ok()).unwrap_or_default();
        let path = std::path::absolute(base.join(command)).unwrap_or_else(|_| base.join(command));
        return runnable(&path).map(|()| path.clone()).map_err(|why| CommandError::NotRunnable(path, why));
    }
    let configured = config.env.get("PATH").map(|path| OsString::from(path.expose()));
    let path = configured.or_else(|| env::var_os("PATH")).unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = env::split_paths(&path).map(|dir| dir.join(command)).find(|p| runnable(p).is_ok());
    let absolute = found.and_then(|path| std::path::absolute(path).ok());
    absolute.ok_or_else(|| CommandError::NotInPath(config.command.clone()))
}

fn runnable(path: &Path) -> Result<(), &'static str> {
    match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err("permission denied on the way to it")
        }
        Err(_) => Err("no such file"),
        Ok(meta) if meta.is_dir() => Err("is a directory"),
        Ok(_) if access(path, AccessFlags::X_OK).is_err() => Err("is not executable by this user"),
        Ok(_) => Ok(()),
    }
}
