//! What the tools of a server want repeated in headers: learnt from the lists that pass, asked for when that is not
//! enough.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::Call;
use crate::{
    era::{
        self,
        headers::{self, Annotations, InvalidTool, ToolHeaders},
    },
    jsonrpc::{Kind, Line, Message},
    mcp,
};

/// How long a server may take to list its tools.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most pages of one list.
const MAX_PAGES: usize = 64;

/// The tools of one server that are known.
#[derive(Debug, Default)]
pub struct Catalog {
    known: Mutex<Known>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
    /// How many lists have been asked for.
    lists: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    headers: ToolHeaders,
    /// The server has been asked for them.
    asked: bool,
}

/// A state of the catalog: what was asked for afterwards is newer.
#[derive(Debug, Clone, Copy)]
pub struct Edition(u64);

impl Catalog {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of now.
    pub fn edition(&self) -> Edition {
        Edition(self.lists.load(Ordering::Acquire))
    }

    /// Learns from a response to `tools/list`; returned are the tools that no client may use.
    pub fn learn(&self, response: &Line) -> Vec<InvalidTool> {
        self.known().headers.learn(response)
    }

    /// A message passes to a client: the tools may have changed.
    pub fn observe(&self, message: &Message) {
        if message.method() == Some(mcp::TOOLS_CHANGED) {
            *self.known() = Known::default();
        }
    }

    /// What is known of a tool: that it has no annotations, if the server was asked and did not name it.
    pub fn look_up(&self, tool: &str) -> Option<Arc<Annotations>> {
        let known = self.known();
        known.headers.get(tool).or_else(|| known.asked.then(Arc::default))
    }

    /// What a server says of a tool that is asked for its tools by `call`, in the name of `asker`, unless someone has
    /// done so since `edition`.
    pub async fn ask<F>(
        &self,
        edition: Edition,
        tool: &str,
        asker: &era::Meta,
        call: impl Fn(era::Request) -> F,
    ) -> Arc<Annotations>
    where
        F: Future<Output = Option<Call>>,
    {
        let _one_at_a_time = self.asking.lock().await;
        if self.lists.load(Ordering::Acquire) == edition.0 {
            let all = timeout(PATIENCE, self.list(asker, call)).await == Ok(Some(()));
            self.known().asked = true;
            self.lists.fetch_add(1, Ordering::AcqRel);
            if !all {
                log::warn!(
                    "the tools could not be listed: the headers of calls repeat what is known of them"
                );
            }
        }
        self.look_up(tool).unwrap_or_default()
    }

    /// Reads all pages; `None` when that fails.
    async fn list<F>(&self, asker: &era::Meta, call: impl Fn(era::Request) -> F) -> Option<()>
    where
        F: Future<Output = Option<Call>>,
    {
        let mut params = serde_json::Map::new();
        for _ in 0..MAX_PAGES {
            let mut call = call(era::Request::on_behalf_of(asker, mcp::LIST_TOOLS, &params)).await?;
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
