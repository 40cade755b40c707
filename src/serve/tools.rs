//! What the tools of the MCP server want repeated in headers: learnt from the lists that pass, asked for when that is
//! not enough.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::HeaderMap;
use tokio::time::timeout;

use super::upstreams::Upstreams;
use crate::{
    auth::Principal,
    era::{
        self, Refusal,
        headers::{self, Annotations, ToolHeaders},
    },
    jsonrpc::{Kind, Line, Message},
    mcp,
};

/// How long the MCP server may take to list its tools.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most pages of one list.
const MAX_PAGES: usize = 64;

/// The tools that are known.
#[derive(Debug, Default)]
pub(super) struct Tools {
    known: Mutex<Known>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
    /// How many lists have been asked for.
    lists: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    headers: ToolHeaders,
    /// The server has been asked for all; what it did not name has no annotations.
    asked: bool,
}

impl Tools {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message passes to a client; `lists`: it is about a `tools/list`.
    pub(super) fn observe(&self, message: &Message, lists: bool) {
        match &message.kind {
            Kind::Response { is_error: false, .. } if lists => self.learn(&message.line),
            Kind::Notification { method, .. } if &**method == mcp::TOOLS_CHANGED => {
                *self.known() = Known::default();
            }
            _ => {}
        }
    }

    fn learn(&self, response: &Line) {
        for tool in self.known().headers.learn(response) {
            log::warn!("tool {:?}: clients will not use it: {}", tool.name, tool.why);
        }
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
        let before = self.lists.load(Ordering::Acquire);
        let (annotations, asked) = match self.look_up(&tool) {
            Some(annotations) => (annotations, false),
            None => (self.ask(upstreams, principal, before, &tool).await, true),
        };
        match headers::check(headers, request, Some(&annotations)) {
            Err(_) if !asked => {
                let annotations = self.ask(upstreams, principal, before, &tool).await;
                headers::check(headers, request, Some(&annotations))
            }
            checked => checked,
        }
    }

    /// What is known of a tool: that it has no annotations, if the server was asked and did not name it.
    fn look_up(&self, tool: &str) -> Option<Arc<Annotations>> {
        let known = self.known();
        known.headers.get(tool).or_else(|| known.asked.then(Arc::default))
    }

    /// Asks for the tools, unless someone has done so since there were `before` lists.
    async fn ask(
        &self,
        upstreams: &Upstreams,
        principal: &Principal,
        before: u64,
        tool: &str,
    ) -> Arc<Annotations> {
        let _one_at_a_time = self.asking.lock().await;
        if self.lists.load(Ordering::Acquire) == before {
            let listed = timeout(PATIENCE, self.list(upstreams, principal)).await == Ok(Some(()));
            self.known().asked = true;
            self.lists.fetch_add(1, Ordering::AcqRel);
            if !listed {
                log::warn!(
                    "the tools could not be listed: headers of calls are checked as far as tools are known"
                );
            }
        }
        self.look_up(tool).unwrap_or_default()
    }

    /// Reads all pages; `None` when that fails.
    async fn list(&self, upstreams: &Upstreams, principal: &Principal) -> Option<()> {
        let mut params = serde_json::Map::new();
        for _ in 0..MAX_PAGES {
            let request = era::Request::own(mcp::LIST_TOOLS, params.clone());
            let mut call = upstreams.call(principal, request).await.ok()?;
            let page = loop {
                let item = call.next().await?;
                if item.last {
                    break item.message;
                }
            };
            if !matches!(page.kind, Kind::Response { is_error: false, .. }) {
                return None;
            }
            self.learn(&page.line);
            match headers::next_cursor(&page.line) {
                Some(cursor) => params.insert("cursor".to_owned(), cursor.into()),
                None => return Some(()),
            };
        }
        None
    }
}
