//! The key that was probably meant.

use super::{
    Mode,
    schema::{KEYS, Key},
};

/// Keys that people look for under a name which has no counterpart here.
const NOT_OFFERED: [(&str, &str); 3] = [
    ("auth.oauth", "OAuth is not offered; use `auth.type: bearer`"),
    ("auth.bearer.validation_endpoint", "tokens are only checked against 'auth.bearer.tokens'"),
    ("<<", "merge keys are not supported; write the keys out"),
];

/// What one direction calls the thing that the other has under another name.
const COUNTERPARTS: [(&str, &str); 8] = [
    ("tls.ca_cert", "tls.client_ca_file"),
    ("tls.client_ca_file", "tls.ca_cert"),
    ("auth.bearer.token", "auth.bearer.tokens"),
    ("auth.bearer.token_file", "auth.bearer.tokens"),
    ("auth.bearer.token_env", "auth.bearer.tokens"),
    ("auth.bearer.tokens", "auth.bearer.token"),
    ("mcp.request_timeout", "client.timeout"),
    ("client.timeout", "mcp.request_timeout"),
];

/// Advice for an unknown key: the nearest valid one, or the ones there are.
pub(super) fn instead_of(path: &str, mode: Option<Mode>) -> String {
    if let Some((_, hint)) = NOT_OFFERED.iter().find(|(name, _)| *name == path) {
        return (*hint).to_owned();
    }
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings = siblings(section, mode);
    if let Some(near) = nearest(name, siblings.iter().copied()) {
        return format!("did you mean '{}'?", join(section, near));
    }
    let elsewhere = elsewhere(name, mode);
    if !elsewhere.is_empty() {
        return format!("did you mean {}?", elsewhere.join(" or "));
    }
    if let Some(near) = nearest(path, fitting(mode).map(|key| key.path)) {
        return format!("did you mean '{near}'?");
    }
    let whose = if section.is_empty() { "the top level".to_owned() } else { format!("'{section}'") };
    format!("{whose} has {}", siblings.join(", "))
}

/// The key of this direction that does what `path` does in the other.
pub(super) fn in_other_mode(path: &str, mode: Option<Mode>) -> Option<&'static str> {
    if let Some((_, counterpart)) = COUNTERPARTS.iter().find(|(name, _)| *name == path) {
        return Some(counterpart);
    }
    let name = path.rsplit('.').next()?;
    fitting(mode).map(|key| key.path).find(|key| last(key) == name)
}

/// The nearest of some words, when it is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    let near = (word.len() / 4).max(1);
    words
        .map(|candidate| (strsim::damerau_levenshtein(&word, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `certFile`, `cert-file` and `cert_file` are the same mistake.
fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-')).take(100).collect::<String>().to_ascii_lowercase()
}

fn fitting(mode: Option<Mode>) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.fits(mode))
}

/// The names that may stand in `section`.
fn siblings(section: &str, mode: Option<Mode>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in fitting(mode) {
        let rest = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Where else a key or section of this name stands, quoted.
fn elsewhere(name: &str, mode: Option<Mode>) -> Vec<String> {
    let mut paths = Vec::new();
    for key in fitting(mode) {
        let parts: Vec<&str> = key.path.split('.').collect();
        if let Some(depth) = parts.iter().position(|part| *part == name) {
            let path = format!("'{}'", parts[..=depth].join("."));
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths.truncate(3);
    paths
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}
