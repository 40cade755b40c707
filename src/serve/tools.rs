//! What the tools of the MCP server want repeated in headers, and whether clients do.

use hyper::HeaderMap;

use super::upstreams::Upstreams;
use crate::{
    auth::Principal,
    era::{self, Refusal, headers},
    jsonrpc::{Kind, Message},
    upstream::Catalog,
};

/// The tools that are known.
#[derive(Debug, Default)]
pub(super) struct Tools(Catalog);

impl Tools {
    /// A message passes to a client; `lists`: it is about a `tools/list`.
    pub(super) fn observe(&self, message: &Message, lists: bool) {
        if lists && matches!(message.kind, Kind::Response { is_error: false, .. }) {
            for tool in self.0.learn(&message.line) {
                log::warn!("tool {:?}: clients will not use it: {}", tool.name, tool.why);
            }
        }
        self.0.observe(message);
    }

    /// Checks the headers of a request. The tools are asked for when the one that is called is not known, and once more
    /// before a request is refused.
    pub(super) async fn check(
        &self,
        upstreams: &Upstreams,
        principal: &Principal,
        headers: &HeaderMap,
        request: &era::Request,
    ) -> Result<(), Refusal> {
        headers::check(headers, request, None)?;
        let Some(tool) = headers::called_tool(request) else { return Ok(()) };
        let edition = self.0.edition();
        let list = |request| async { upstreams.call(principal, request).await.ok() };
        let ask = || self.0.ask(edition, tool, &request.meta, list);
        let (annotations, asked) = match self.0.look_up(tool) {
            Some(annotations) => (annotations, false),
            None => (ask().await, true),
        };
        match headers::check(headers, request, Some(&annotations)) {
            Err(_) if !asked => headers::check(headers, request, Some(&*ask().await)),
            checked => checked,
        }
    }
}
