//! Configuration → the log.
//!
//! A record is a sentence, and for some also facts (`log::kv`): text shows them as `key=value` after the sentence, JSON as
//! members. Each record is one line, whatever a peer has put into it.

use std::{
    fmt::{self, Write as _},
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use env_logger::{Builder, Logger, Target, WriteStyle, fmt::Formatter};
use log::{
    LevelFilter, Metadata, Record,
    kv::{self, Key, Value, VisitSource},
};

use nix::unistd::{AccessFlags, access};

use crate::{
    config::{LogFormat, LogOutput, Logging},
    jsonrpc::Line,
    text::{head, is_hidden, write_visible},
};

/// A new log file may be read by its owner and group.
const FILE_MODE: u32 = 0o640;
/// The target of the lines that requests leave, which are not heard with `logging.requests: false`.
pub const REQUESTS: &str = "mcp_bridge::requests";
/// The target of message bodies, which are heard with `logging.bodies` only.
const BODIES: &str = "mcp_bridge::bodies";
/// How much of a body is shown, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The process's log. Clones share it.
#[derive(Clone)]
pub struct Log(Arc<Current>);

/// A log that could be put into force: what it needs is open.
pub struct Prepared(Logger);

struct Current(RwLock<Logger>);

/// Starts logging. What the libraries below have to say is heard from `warn` on.
///
/// The error names the file that can't be opened.
pub fn start(config: &Logging) -> io::Result<Log> {
    let Prepared(logger) = prepare(config)?;
    log::set_max_level(logger.filter());
    let current = Arc::new(Current(RwLock::new(logger)));
    log::set_boxed_logger(Box::new(Arc::clone(&current))).map_err(io::Error::other)?;
    Ok(Log(current))
}

/// Opens what `config` names, and changes nothing.
///
/// The error names the file that can't be opened.
pub fn prepare(config: &Logging) -> io::Result<Prepared> {
    let format = match config.format {
        LogFormat::Text => text,
        LogFormat::Json => json,
    };
    let heard = |asked: bool| if asked { config.level } else { LevelFilter::Off };
    let mut builder = Builder::new();
    builder
        .filter_level(config.level.min(LevelFilter::Warn))
        .filter_module("mcp_bridge", config.level)
        .filter_module(REQUESTS, heard(config.requests))
        .filter_module(BODIES, heard(config.bodies))
        .write_style(WriteStyle::Never)
        .target(target(&config.output)?)
        .format(format);
    Ok(Prepared(builder.build()))
}

/// Whether [`prepare`] would succeed. Nothing is left behind: a log file that is not there yet is not created, lest it
/// belong to whoever asks.
///
/// The error names the file that can't be opened.
pub fn check(config: &Logging) -> io::Result<()> {
    let LogOutput::File(path) = &config.output else { return Ok(()) };
    let checked = match OpenOptions::new().append(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            access(parent.unwrap_or(Path::new(".")), AccessFlags::W_OK | AccessFlags::X_OK)
                .map_err(Into::into)
        }
        opened => opened.map(drop),
    };
    checked.map_err(|e| named(path, &e))
}

impl Log {
    /// Logs by `prepared` from now on; a file of before is closed.
    pub fn switch(&self, Prepared(logger): Prepared) {
        let level = logger.filter();
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = logger;
        log::set_max_level(level);
    }
}

impl Current {
    fn get(&self) -> RwLockReadGuard<'_, Logger> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Current {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.get().enabled(metadata)
    }

    fn log(&self, record: &Record) {
        self.get().log(record);
    }

    fn flush(&self) {
        self.get().flush();
    }
}

/// For a line that might be written thousands of times a second: it is written at once the first time, and then once a
/// minute at most.
#[derive(Debug, Default)]
pub struct Seldom {
    silent_until: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// What to put behind the line if it is to be written at `now`: how often it was not.
    pub fn due(&mut self, now: Instant) -> Option<String> {
        const SILENCE: Duration = Duration::from_secs(60);
        if self.silent_until.is_some_and(|until| now < until) {
            self.unsaid += 1;
            return None;
        }
        self.silent_until = Some(now + SILENCE);
        Some(match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            more => format!("; the same {more} times more since the last such line"),
        })
    }
}

/// A message's body, for whom `logging.bodies` is set. `session` is the beginning of an id; `way` says whose message it is.
pub fn body(session: Option<&str>, way: &str, line: &Line) {
    if !log::log_enabled!(target: BODIES, log::Level::Debug) {
        return;
    }
    let (shown, length) = (head(line.as_str(), MAX_BODY), line.len());
    let cut = if shown.len() < length { "…" } else { "" };
    let session = session.unwrap_or("none");
    log::debug!(target: BODIES, session, bytes = length; "{way}: {shown}{cut}");
}

fn target(output: &LogOutput) -> io::Result<Target> {
    Ok(match output {
        LogOutput::Stderr => Target::Stderr,
        LogOutput::Stdout => Target::Stdout,
        LogOutput::File(path) => {
            let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
            Target::Pipe(Box::new(file.map_err(|e| named(path, &e))?))
        }
    })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("logging.output: {}: {error}", path.display()))
}

fn text(out: &mut Formatter, record: &Record) -> io::Result<()> {
    let mut line = Text(String::with_capacity(256));
    let written = line.write(record);
    writeln!(out, "{} {:<5} {}", out.timestamp_millis(), record.level(), line.0)?;
    written.map_err(io::Error::other)
}

/// What follows time and level on a line of text.
struct Text(String);

impl Text {
    fn write(&mut self, record: &Record) -> Result<(), kv::Error> {
        match record.args().as_str() {
            Some(fixed) => write_visible(&mut self.0, fixed)?,
            None => write_visible(&mut self.0, &record.args().to_string())?,
        }
        record.key_values().visit(self)
    }
}

impl<'kvs> VisitSource<'kvs> for Text {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = value.to_string();
        write!(self.0, " {key}=")?;
        Ok(write_value(&mut self.0, &value)?)
    }
}

/// In quotes when it could be taken for more than one value.
fn write_value(out: &mut String, value: &str) -> fmt::Result {
    let plain = |c: char| !c.is_whitespace() && !is_hidden(c) && !matches!(c, '"' | '\\' | '=');
    if !value.is_empty() && value.chars().all(plain) {
        return out.write_str(value);
    }
    out.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            c => write_visible(out, c.encode_utf8(&mut [0; 4]))?,
        }
    }
    out.write_char('"')
}

fn json(out: &mut Formatter, record: &Record) -> io::Result<()> {
    let mut line = serde_json::Map::new();
    line.insert("time".into(), out.timestamp_millis().to_string().into());
    line.insert("level".into(), record.level().as_str().to_ascii_lowercase().into());
    line.insert("message".into(), record.args().to_string().into());
    record.key_values().visit(&mut Members(&mut line)).map_err(io::Error::other)?;
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

struct Members<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Members<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let number = || value.to_f64().filter(|_| value.to_borrowed_str().is_none());
        let value = match value.to_u64() {
            Some(number) => number.into(),
            None => number().map_or_else(|| value.to_string().into(), Into::into),
        };
        self.0.insert(key.as_str().to_owned(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::kv::Source;

    use super::*;

    #[test]
    fn a_line_that_is_due_often_is_written_seldom() {
        let (mut line, start) = (Seldom::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(line.due(at(0)).as_deref(), Some(""));
        assert_eq!((line.due(at(0)), line.due(at(59))), (None, None));
        let more = line.due(at(60)).unwrap();
        assert!(more.contains("2 times more"), "{more}");
        assert_eq!((line.due(at(61)), line.due(at(200)).is_some()), (None, true));
        assert_eq!(line.due(at(300)).as_deref(), Some(""));
    }

    fn facts(value: &str) -> String {
        let pairs = [("name", Value::from(value)), ("status", Value::from(200))];
        let mut line = Text(String::new());
        let record = Record::builder().args(format_args!("POST /mcp")).key_values(&pairs).build();
        line.write(&record).unwrap();
        line.0
    }

    #[test]
    fn facts_follow_the_sentence_and_can_not_forge_another() {
        assert_eq!(facts("echo"), "POST /mcp name=echo status=200");
        assert_eq!(facts("é/1.0"), "POST /mcp name=é/1.0 status=200");
        assert_eq!(facts(""), "POST /mcp name=\"\" status=200");
        assert_eq!(facts("a status=500"), "POST /mcp name=\"a status=500\" status=200");
        assert_eq!(facts("\" status=\"5"), "POST /mcp name=\"\\\" status=\\\"5\" status=200");
        assert_eq!(facts("a\nb\u{202e}"), "POST /mcp name=\"a\\nb\\u{202e}\" status=200");
    }

    #[test]
    fn numbers_are_numbers_in_json_and_text_is_text() {
        let pairs = [("a", Value::from(7)), ("b", Value::from(1.5)), ("c", Value::from("7"))];
        let mut line = serde_json::Map::new();
        let source: &[(&str, Value<'_>)] = &pairs;
        source.visit(&mut Members(&mut line)).unwrap();
        assert_eq!(serde_json::Value::from(line).to_string(), r#"{"a":7,"b":1.5,"c":"7"}"#);
    }
}
