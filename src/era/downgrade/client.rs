//! Who the legacy client is, and how it speaks as a modern one.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::CallKey;
use crate::{
    era::{self, Meta, Refusal, Request},
    jsonrpc::{Message, Object},
    mcp::{self, LegacyRevision, meta},
};

/// The severities of log messages. Source: revision 2025-11-25, `server/utilities/logging`.
const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What a client said of itself in `initialize`, and afterwards.
#[derive(Debug)]
pub(super) struct Client {
    /// The revision that is spoken with it.
    pub(super) revision: LegacyRevision,
    info: Option<Box<RawValue>>,
    /// As a modern client declares them.
    capabilities: Box<RawValue>,
    pub(super) can: Abilities,
    log_level: Option<&'static str>,
}

/// What a client can be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Abilities {
    pub(super) forms: bool,
    pub(super) urls: bool,
    pub(super) sampling: bool,
    pub(super) sampling_with_tools: bool,
    pub(super) roots: bool,
}

impl Client {
    /// Reads the parameters of `initialize`.
    pub(super) fn read(params: &Object<'_>) -> Result<Self, Refusal> {
        let invalid = |what: &str| Refusal::InvalidParams(format!("params.{what}"));
        let version: Cow<str> =
            params.read("protocolVersion").ok_or_else(|| invalid("protocolVersion must be a string"))?;
        let revision = LegacyRevision::parse(&version).unwrap_or(LegacyRevision::LATEST);
        let declared = params.object("capabilities");
        let mut declared = declared.map_err(|e| invalid(&format!("capabilities: {e}")))?;
        modernize(&mut declared, revision);
        let info = params.get("clientInfo").filter(|info| Object::parse(info.get()).is_ok());
        Ok(Self {
            revision,
            info: info.map(ToOwned::to_owned),
            can: Abilities::declared(&declared),
            capabilities: declared.to_raw(),
            log_level: None,
        })
    }

    /// Remembers what `logging/setLevel` asks for; false when there is no such level.
    pub(super) fn set_level(&mut self, level: &str) -> bool {
        self.log_level = LOG_LEVELS.into_iter().find(|known| *known == level).or(self.log_level);
        self.log_level == Some(level)
    }

    /// A modern request of this client's. `logs` says whether it may bring log messages.
    ///
    /// # Errors
    /// When `params._meta` is no object.
    pub(super) fn request(
        &self,
        key: CallKey,
        method: &str,
        mut params: Object<'_>,
        logs: bool,
    ) -> Result<Request, Refusal> {
        let id = key.request_id();
        let mut own =
            params.object("_meta").map_err(|e| Refusal::InvalidParams(format!("params._meta: {e}")))?;
        own.put(meta::PROTOCOL_VERSION, &mcp::MODERN_REVISION);
        own.remove(meta::CLIENT_INFO);
        if let Some(info) = &self.info {
            own.set(meta::CLIENT_INFO, info.clone());
        }
        own.set(meta::CLIENT_CAPABILITIES, self.capabilities.clone());
        own.remove(meta::LOG_LEVEL);
        if let Some(level) = self.log_level.filter(|_| logs) {
            own.put(meta::LOG_LEVEL, &level);
        }
        let meta = Meta {
            client_info: self.info.clone(),
            capabilities: self.capabilities.clone(),
            log_level: own.get(meta::LOG_LEVEL).map(ToOwned::to_owned),
            progress_token: own.read(meta::PROGRESS_TOKEN),
        };
        let own = own.to_line();
        params.set("_meta", own);
        let named = era::named(method, &params);
        let line = Message::request(&id, method, params.to_line()).line;
        Ok(Request { id, method: method.into(), line, named, meta })
    }
}

/// Takes out what a modern client does not declare, and what the client's own revision does not know: elicitation
/// came with 2025-06-18, and its URL mode with 2025-11-25.
fn modernize(declared: &mut Object<'_>, revision: LegacyRevision) {
    declared.remove("tasks");
    without(declared, "extensions", mcp::TASKS_EXTENSION);
    without(declared, "roots", "listChanged");
    if revision < LegacyRevision::V2025_06_18 {
        declared.remove("elicitation");
    } else if revision < LegacyRevision::V2025_11_25 {
        without(declared, "elicitation", "url");
    }
}

/// Takes `member` out of the object that `of` names, if there is one.
pub(super) fn without(object: &mut Object<'_>, of: &'static str, member: &str) {
    let changed = object.object(of).ok().and_then(|mut inner| {
        inner.remove(member)?;
        Some(inner.to_line())
    });
    if let Some(changed) = changed {
        object.set(of, changed);
    }
}

impl Abilities {
    fn declared(capabilities: &Object<'_>) -> Self {
        let has = |name: &str| {
            let there = capabilities.get(name).is_some();
            capabilities.object(name).ok().filter(|_| there)
        };
        let (elicitation, sampling) = (has("elicitation"), has("sampling"));
        Self {
            // To declare no mode is to declare forms (`client/elicitation`, "Capabilities").
            forms: elicitation.as_ref().is_some_and(|e| e.get("form").is_some() || e.get("url").is_none()),
            urls: elicitation.is_some_and(|e| e.get("url").is_some()),
            sampling_with_tools: sampling.as_ref().is_some_and(|s| s.get("tools").is_some()),
            sampling: sampling.is_some(),
            roots: has("roots").is_some(),
        }
    }
}
