//! Which instance issued what a request names: its state, its cursor, its task.
//!
//! Servers need no such memory if what they issue says it all itself; those that keep something are met again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::{
    crypto, era,
    jsonrpc::{Line, Members},
};

/// Most names remembered; the oldest is forgotten for a new one.
const MAX_NAMES: usize = 65_536;

/// What of a result names something, and what of the parameters of a request names it again.
const NAMES: [(&str, &str); 3] =
    [("requestState", "requestState"), ("nextCursor", "cursor"), ("taskId", "taskId")];

/// A digest of a name, which may itself be long.
type Name = [u8; 32];

/// Name → the index of the instance that issued it.
#[derive(Debug, Default)]
pub(super) struct Affinity(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    by_name: HashMap<Name, usize>,
    /// Oldest first.
    order: VecDeque<Name>,
}

impl Affinity {
    /// An instance gave an answer.
    pub(super) fn learn(&self, index: usize, response: &Line) {
        let Some(result) = members(response).and_then(|message| message.object("result")) else { return };
        for (name, kind) in NAMES {
            if let Some(name) = result.get(name).and_then(|value| digest(kind, value)) {
                self.remember(name, index);
            }
        }
    }

    fn remember(&self, name: Name, index: usize) {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.by_name.insert(name, index).is_none() {
            issued.order.push_back(name);
        }
        if issued.order.len() > MAX_NAMES
            && let Some(oldest) = issued.order.pop_front()
        {
            issued.by_name.remove(&oldest);
        }
    }

    /// The instance that issued what a request names.
    pub(super) fn issuer(&self, request: &era::Request) -> Option<usize> {
        let params = members(&request.line)?.object("params")?;
        let mut names = NAMES.iter().filter_map(|(_, kind)| digest(kind, params.get(kind)?));
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.find_map(|name| issued.by_name.get(&name).copied())
    }
}

fn members(line: &Line) -> Option<Members<'_>> {
    Members::parse(line.as_str()).ok()
}

/// Of a string's value, since it may come back with other escapes.
fn digest(kind: &str, value: &str) -> Option<Name> {
    let value: String = serde_json::from_str(value).ok()?;
    crypto::sha256(format!("{kind} {value}").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    fn request(params: &str) -> era::Request {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{{meta}{params}}}}}"#);
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{params}") };
        era::Request::read(message).unwrap()
    }

    fn learn(affinity: &Affinity, index: usize, result: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{result}") };
        affinity.learn(index, &message.line);
    }

    #[test]
    fn who_issued_a_name_is_found_again_by_it() {
        let affinity = Affinity::default();
        learn(&affinity, 3, r#"{"requestState":"s\u0061","nextCursor":"c"}"#);
        learn(&affinity, 2, r#"{"resultType":"task","taskId":"t"}"#);
        learn(&affinity, 1, "[]");
        for (params, index) in [
            (r#","requestState":"sa""#, Some(3)),
            (r#","cursor":"c""#, Some(3)),
            (r#","taskId":"t""#, Some(2)),
            (r#","taskId":"c""#, None),
            (r#","cursor":7"#, None),
            ("", None),
        ] {
            assert_eq!(affinity.issuer(&request(params)), index, "{params}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let affinity = Affinity::default();
        for n in 0..=MAX_NAMES {
            affinity.remember(digest("cursor", &format!("\"{n}\"")).unwrap(), 1);
        }
        assert_eq!(affinity.issuer(&request(r#","cursor":"0""#)), None);
        assert_eq!(affinity.issuer(&request(r#","cursor":"1""#)), Some(1));
    }
}
