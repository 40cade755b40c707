//! Configuration → the log.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use env_logger::{Builder, Target, WriteStyle, fmt::Formatter};
use log::{LevelFilter, Record};

use crate::config::{LogFormat, LogOutput, Logging};

/// A new log file may be read by its owner and group.
const FILE_MODE: u32 = 0o640;

/// Starts logging. What the libraries below have to say is heard from `warn` on.
///
/// The error names the file that can't be opened.
pub fn start(config: &Logging) -> io::Result<()> {
    let format = match config.format {
        LogFormat::Text => text,
        LogFormat::Json => json,
    };
    let mut builder = Builder::new();
    builder
        .filter_level(config.level.min(LevelFilter::Warn))
        .filter_module("mcp_bridge", config.level)
        .write_style(WriteStyle::Never)
        .target(target(&config.output)?)
        .format(format);
    let started = builder.try_init();
    started.map_err(io::Error::other)
}

fn target(output: &LogOutput) -> io::Result<Target> {
    Ok(match output {
        LogOutput::Stderr => Target::Stderr,
        LogOutput::Stdout => Target::Stdout,
        LogOutput::File(path) => {
            let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
            let named =
                |e: io::Error| io::Error::new(e.kind(), format!("logging.output: {}: {e}", path.display()));
            Target::Pipe(Box::new(file.map_err(named)?))
        }
    })
}

fn text(out: &mut Formatter, record: &Record) -> io::Result<()> {
    let time = out.timestamp_millis();
    let message = one_line(&record.args().to_string());
    writeln!(out, "{time} {:<5} {message}", record.level())
}

fn json(out: &mut Formatter, record: &Record) -> io::Result<()> {
    let line = serde_json::json!({
        "time": out.timestamp_millis().to_string(),
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}

/// A record is one line, whatever a peer has put into it.
fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_can_not_forge_another() {
        assert_eq!(one_line("a\r\n2026 INFO b\u{1b}[2J é"), "a\\r\\n2026 INFO b\\u{1b}[2J é");
    }
}
