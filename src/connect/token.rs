//! The bearer token that is sent, and where it comes from.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use hyper::header::HeaderValue;

use super::StartError;
use crate::config::ClientAuth;

/// Longest token file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Gives the `Authorization` header; a file is read again when it has changed.
#[derive(Debug)]
pub(super) struct Token {
    source: ClientAuth,
    current: Mutex<Current>,
}

#[derive(Debug, Default, Clone)]
struct Current {
    header: Option<HeaderValue>,
    read_at: Option<SystemTime>,
}

impl Token {
    pub(super) fn load(source: ClientAuth) -> Result<Self, StartError> {
        let current = match &source {
            ClientAuth::None => Current::default(),
            ClientAuth::Bearer(token) => Current { header: header(token.expose()), read_at: None },
            ClientAuth::BearerFile(path) => read(path).map_err(StartError::Token)?,
        };
        Ok(Self { source, current: Mutex::new(current) })
    }

    /// The header to send now. A file that can't be read leaves the token as it was.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let ClientAuth::BearerFile(path) = &self.source {
            let changed_at = fs::metadata(path).and_then(|meta| meta.modified()).ok();
            if changed_at.is_some() && changed_at != current.read_at {
                reload(path, &mut current);
            }
        }
        current.header.clone()
    }

    /// After a 401 to `sent`: the file's token, if it is another one now.
    pub(super) fn renewed(&self, sent: Option<&HeaderValue>) -> Option<HeaderValue> {
        let ClientAuth::BearerFile(path) = &self.source else { return None };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        reload(path, &mut current);
        current.header.clone().filter(|header| Some(header) != sent)
    }
}

fn reload(path: &Path, current: &mut Current) {
    match read(path) {
        Ok(new) => *current = new,
        Err(e) => log::error!("auth.bearer.token_file: {e}; the old token stays in use"),
    }
}

fn read(path: &Path) -> Result<Current, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let meta = fs::metadata(path).map_err(|e| named(&e))?;
    if meta.len() > MAX_FILE {
        return Err(named(&io::Error::other("too large for a token")));
    }
    let text = fs::read_to_string(path).map_err(|e| named(&e))?;
    let header = header(text.trim());
    if header.is_none() {
        return Err(named(&"does not hold one token on one line"));
    }
    Ok(Current { header, read_at: meta.modified().ok() })
}

fn header(token: &str) -> Option<HeaderValue> {
    let fits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let mut header = fits.then(|| HeaderValue::from_str(&format!("Bearer {token}")).ok()).flatten()?;
    header.set_sensitive(true);
    Some(header)
}
