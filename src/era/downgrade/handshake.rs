//! The answer to `server/discover` becomes the answer to `initialize`.

use serde_json::value::RawValue;

use super::{client::without, subscriptions::Lists};
use crate::{
    jsonrpc::{Line, Object},
    mcp::{self, LegacyRevision, meta},
};

/// What the server says it can do, as far as the machine answers for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offers {
    pub(super) logging: bool,
    pub(super) subscribe: bool,
    /// Of which lists it tells changes.
    pub(super) lists: Lists,
}

/// Turns the answer, in which only the id has been changed, into that of a legacy server.
///
/// # Errors
/// When it is no such answer.
pub(super) fn initialized(
    answer: &Line,
    revision: LegacyRevision,
) -> Result<(Line, Offers), serde_json::Error> {
    let mut answer = Object::of(answer)?;
    let result = answer.object("result")?;
    let mut capabilities = result.object("capabilities")?;
    let offers = Offers::read(&capabilities);
    capabilities.remove("tasks");
    without(&mut capabilities, "extensions", mcp::TASKS_EXTENSION);
    let mut own = result.object("_meta")?;
    let info = server_info(own.remove(meta::SERVER_INFO).as_deref());

    let mut initialized = Object::default();
    initialized.put("protocolVersion", &revision.as_str());
    initialized.set("capabilities", capabilities.to_line());
    initialized.set("serverInfo", info);
    if let Some(instructions) = result.line("instructions") {
        initialized.set("instructions", instructions);
    }
    if !own.is_empty() {
        initialized.set("_meta", own.to_line());
    }
    let initialized = initialized.to_line();
    answer.set("result", initialized);
    Ok((answer.to_line(), offers))
}

/// What a legacy client can't do without: a name and a version.
fn server_info(said: Option<&RawValue>) -> Line {
    const UNKNOWN: &str = "unknown";
    let mut info = said.and_then(|said| Object::parse(said.get()).ok()).unwrap_or_default();
    info.put_if_absent("name", &UNKNOWN);
    info.put_if_absent("version", &UNKNOWN);
    info.to_line()
}

impl Offers {
    fn read(capabilities: &Object<'_>) -> Self {
        let says = |of: &str, what: &str| {
            capabilities.object(of).ok().and_then(|of| of.read::<bool>(what)).unwrap_or(false)
        };
        Self {
            logging: capabilities.get("logging").is_some(),
            subscribe: says("resources", "subscribe"),
            lists: mcp::LISTS.map(|list| says(list.capability, "listChanged")),
        }
    }
}
