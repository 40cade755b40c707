//! What is wrong with the configuration: the key, the file, and what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use openssl::error::ErrorStack;

/// A TLS setting that cannot be put into effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    key: &'static str,
    file: Option<PathBuf>,
    what: String,
    hint: Option<String>,
}

impl TlsError {
    /// `key` is the key path as written in the configuration: `tls.cert_file`.
    pub(super) fn new(key: &'static str, what: impl Into<String>) -> Self {
        Self { key, file: None, what: what.into(), hint: None }
    }

    /// The file that the key names.
    pub(super) fn file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// OpenSSL refused something that no rule of ours foresaw.
    pub(super) fn openssl(key: &'static str, doing: &str, stack: &ErrorStack) -> Self {
        Self::new(key, format!("OpenSSL cannot {doing}: {}", words(stack)))
    }

    /// The key path that the error is about.
    pub fn key(&self) -> &str {
        self.key
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TlsError {}

/// OpenSSL's reasons with their codes; the stack may be empty, which OpenSSL 3.5 likes to leave it.
pub(super) fn words(stack: &ErrorStack) -> String {
    let reasons: Vec<String> = stack
        .errors()
        .iter()
        .map(|error| format!("{} ({:08X})", error.reason().unwrap_or("unnamed reason"), error.code()))
        .collect();
    if reasons.is_empty() { "no reason given".to_owned() } else { reasons.join(", ") }
}

/// A file's bytes, or an error that names key and file.
pub(super) fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "let the bridge's user read it",
            _ => "check the file",
        };
        TlsError::new(key, format!("cannot be read: {error}")).file(path).hint(hint)
    })
}
