//! `requestState`: what a client gives back with its answers, so that they reach the call that waits for them.
//!
//! Source: revision 2026-07-28, `basic/patterns/mrtr`, "Server Requirements".

use std::time::{Duration, Instant};

use openssl::error::ErrorStack;

use super::{Refusal, Request};
use crate::{
    crypto::{self, MacKey},
    jsonrpc::{Object, canonical},
    mcp,
};

/// Bytes of a state before its tag: session, serial and expiry.
const PAYLOAD: usize = 3 * 8;

/// A request, by its value: method and parameters, without what differs from one attempt to the next.
pub type Digest = [u8; 32];

/// Makes states and knows them again; nobody else can make one. Its key ends with the process.
#[derive(Debug)]
pub struct Sealer {
    key: MacKey,
    epoch: Instant,
}

/// What a state stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The legacy session that holds the call.
    pub session: u64,
    /// The suspension, of which there is one for each state.
    pub serial: u64,
}

/// For whom and for what a state is good.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Who must present it.
    pub principal: &'a [u8],
    /// With which request.
    pub request: &'a Digest,
}

impl Sealer {
    /// A sealer with a new key.
    pub fn new() -> Result<Self, ErrorStack> {
        Ok(Self { key: MacKey::random()?, epoch: Instant::now() })
    }

    /// The state that stands for `ticket` until then.
    pub fn seal(&self, ticket: Ticket, until: Instant, holder: Holder<'_>) -> Result<String, ErrorStack> {
        let until = until.saturating_duration_since(self.epoch).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        let payload = [ticket.session, ticket.serial, until].map(u64::to_be_bytes).concat();
        let tag = self.tag(&payload, holder)?;
        Ok(crypto::hex(&payload) + &crypto::hex(&tag))
    }

    /// What a state stands for; `None` when it was not made here, has expired, or is another's.
    pub fn open(&self, state: &str, now: Instant, holder: Holder<'_>) -> Option<Ticket> {
        let bytes = unsealed(state)?;
        let (payload, tag) = bytes.split_at_checked(PAYLOAD)?;
        let made = self.tag(payload, holder).ok()?;
        if !crypto::digests_match(&made, tag.try_into().ok()?) {
            return None;
        }
        let [session, serial, until] = numbers(payload)?;
        let until = self.epoch.checked_add(Duration::from_millis(until));
        (until.is_none_or(|until| now < until)).then_some(Ticket { session, serial })
    }

    fn tag(&self, payload: &[u8], holder: Holder<'_>) -> Result<[u8; 32], ErrorStack> {
        // All but the last have a fixed length, so that no two make the same bytes.
        self.key.tag(&[payload, holder.request, holder.principal].concat())
    }
}

/// The state that a request brings back, if any; whether it is good is another matter.
///
/// # Errors
/// When it can't be one, or the request is none that is ever suspended.
pub fn presented(request: &Request) -> Result<Option<String>, Refusal> {
    let refusal = |why: &str| Refusal::InvalidParams(format!("{}{why}", mcp::REQUEST_STATE));
    let unusable = |e: serde_json::Error| Refusal::InvalidParams(e.to_string());
    let outer = Object::parse(request.line.as_str()).map_err(unusable)?;
    let params = outer.object("params").map_err(unusable)?;
    if params.get(mcp::REQUEST_STATE).is_none() {
        return Ok(None);
    }
    if !mcp::may_ask(&request.method) {
        return Err(refusal(": no request of this method is ever suspended"));
    }
    params.read(mcp::REQUEST_STATE).map(Some).ok_or_else(|| refusal(" must be a string"))
}

/// The session that a state names, which may be forged: whoever finds the session opens the state.
pub fn session_of(state: &str) -> Option<u64> {
    let bytes = unsealed(state)?;
    numbers(bytes.get(..PAYLOAD)?).map(|[session, ..]| session)
}

fn unsealed(state: &str) -> Option<Vec<u8>> {
    if state.len() == 2 * (PAYLOAD + size_of::<Digest>()) { crypto::unhex(state) } else { None }
}

fn numbers(payload: &[u8]) -> Option<[u64; 3]> {
    let (numbers, _) = payload.as_chunks::<8>();
    numbers.try_into().ok().map(|numbers: [[u8; 8]; 3]| numbers.map(u64::from_be_bytes))
}

/// The digest of a request, which does not depend on the order of members or on white space.
pub fn digest(request: &Request) -> Result<Digest, ErrorStack> {
    let outer = Object::parse(request.line.as_str()).unwrap_or_default();
    let mut params = outer.object("params").unwrap_or_default();
    params.retain(|name, _| !["_meta", mcp::INPUT_RESPONSES, mcp::REQUEST_STATE].contains(&name));
    let text = format!("{}\n{}", request.method, canonical(&params.to_raw()));
    crypto::sha256(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    const TICKET: Ticket = Ticket { session: 3, serial: 1 << 40 };
    const MINUTE: Duration = Duration::from_secs(60);

    fn digest_of(method: &str, params: &str) -> Digest {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}"_meta":{{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28","x":{},
            "io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#,
            params.len()
        );
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{params}") };
        digest(&Request::read(message).unwrap()).unwrap()
    }

    #[test]
    fn a_state_is_known_again_by_who_made_it_for_whom_and_for_what_it_was_made() {
        let (sealer, now) = (Sealer::new().unwrap(), Instant::now());
        let holder = Holder { principal: b"p", request: &[7; 32] };
        let state = sealer.seal(TICKET, now + MINUTE, holder).unwrap();
        assert_eq!(session_of(&state), Some(3));
        assert_eq!(sealer.open(&state, now, holder), Some(TICKET));
        assert_eq!(sealer.open(&state, now + MINUTE, holder), None);
        assert_eq!(sealer.open(&state, now, Holder { principal: b"q", ..holder }), None);
        assert_eq!(sealer.open(&state, now, Holder { request: &[8; 32], ..holder }), None);
        assert_eq!(Sealer::new().unwrap().open(&state, now, holder), None);
    }

    #[test]
    fn a_state_that_was_changed_anywhere_is_none() {
        let (sealer, now) = (Sealer::new().unwrap(), Instant::now());
        let holder = Holder { principal: b"p", request: &[7; 32] };
        let state = sealer.seal(TICKET, now + MINUTE, holder).unwrap();
        for at in 0..state.len() {
            let mut forged = state.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(sealer.open(std::str::from_utf8(&forged).unwrap(), now, holder), None, "{at}");
            assert_eq!(sealer.open(&state[..at], now, holder), None, "{at}");
        }
        for text in ["", "é", &format!("{state}00"), &state.to_uppercase()] {
            assert_eq!(sealer.open(text, now, holder), None, "{text}");
        }
    }

    #[test]
    fn a_request_is_the_same_by_its_value() {
        let one = digest_of("tools/call", r#""name":"x","arguments":{"a":1,"b":[2]},"#);
        assert_eq!(one, digest_of("tools/call", r#""arguments": {"b": [ 2.0 ], "a": 1}, "name": "\u0078","#));
        let more = r#""requestState":"s","name":"x","inputResponses":{},"arguments":{"a":1,"b":[2]},"#;
        assert_eq!(one, digest_of("tools/call", more));
        for (method, params) in [
            ("prompts/get", r#""name":"x","arguments":{"a":1,"b":[2]},"#),
            ("tools/call", r#""name":"y","arguments":{"a":1,"b":[2]},"#),
            ("tools/call", r#""name":"x","arguments":{"a":1,"b":[2,3]},"#),
            ("tools/call", r#""name":"x","#),
        ] {
            assert_ne!(one, digest_of(method, params), "{method} {params}");
        }
    }
}
