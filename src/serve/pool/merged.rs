//! One subscription on several instances, of which each knows only its own changes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    instance::{Instance, Processes},
    shutting_down,
};
use crate::{
    era::{self, shared::Owner},
    jsonrpc::{Kind, Message, RequestId},
    mcp,
    upstream::{self, Call, Item, Replies},
};

/// Longest request that is kept to be sent again, in bytes. A subscription by a longer one ends with the first process
/// that ends.
const MAX_KEPT: usize = 64 * 1024;

/// Opens a subscription on each instance, on all at once. The client sees one: it is acknowledged once, goes on while
/// one of them is open, and ends when a child says that it does. A process that takes the place of another is asked
/// too, and what may have changed there meanwhile is told as if it had.
pub(super) fn listen(instances: &[Arc<Instance>], owner: &Owner, request: era::Request) -> Call {
    let (replies, call) = upstream::call(|| ());
    tokio::spawn(Merged::new(instances, owner, request).run(replies));
    call
}

struct Merged {
    parts: Vec<Part>,
    owner: Owner,
    id: RequestId,
    /// What a process is asked that takes the place of another.
    again: Option<era::Request>,
    /// The client has been told that it is subscribed.
    acknowledged: bool,
}

/// The subscription on one instance.
struct Part {
    instance: Arc<Instance>,
    stage: Stage,
    /// The client took itself for subscribed before this process was asked.
    late: bool,
}

enum Stage {
    /// It is asked as soon as it has a process.
    Asking(Asking),
    /// It is asked again as soon as it has another process.
    Returning(Asking),
    Open(Call, Processes),
    /// It refuses, or has no process any more.
    Over,
}

/// A subscription that is being opened; `None` when there is nobody to ask.
type Asking = Pin<Box<dyn Future<Output = Option<(Call, Processes)>> + Send>>;

async fn ask(instance: Arc<Instance>, owner: Owner, request: era::Request) -> (Call, Processes) {
    let (processes, id) = (instance.processes(), request.id.clone());
    let call = instance.call(&owner, request).await;
    (call.unwrap_or_else(|_| Call::answered(shutting_down().response(Some(&id)))), processes)
}

impl Part {
    fn new(instance: &Arc<Instance>, owner: &Owner, request: &era::Request) -> Self {
        let asked = ask(Arc::clone(instance), Arc::clone(owner), request.clone());
        let stage = Stage::Asking(Box::pin(async { Some(asked.await) }));
        Self { instance: Arc::clone(instance), stage, late: false }
    }

    /// What has come; `None` in it when the process is gone.
    fn poll(&mut self, acknowledged: bool, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            match &mut self.stage {
                Stage::Asking(asking) | Stage::Returning(asking) => match asking.as_mut().poll(cx) {
                    Poll::Ready(Some((call, processes))) => {
                        self.late = acknowledged;
                        self.stage = Stage::Open(call, processes);
                    }
                    Poll::Ready(None) => self.stage = Stage::Over,
                    Poll::Pending => return Poll::Pending,
                },
                Stage::Open(call, _) => return call.poll_next(cx),
                Stage::Over => return Poll::Pending,
            }
        }
    }

    /// Its process is gone: waits for the next, and asks that. False when the process is there, and only unheard.
    fn come_back(&mut self, owner: &Owner, request: &era::Request) -> bool {
        let mut processes = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(_, processes) if processes.has_next() => processes,
            _ => return false,
        };
        log::info!("{}: a subscription goes on with the others until it is back", self.instance);
        let (instance, owner, request) = (Arc::clone(&self.instance), Arc::clone(owner), request.clone());
        self.stage = Stage::Returning(Box::pin(async move {
            if processes.next().await { Some(ask(instance, owner, request).await) } else { None }
        }));
        true
    }
}

impl Merged {
    fn new(instances: &[Arc<Instance>], owner: &Owner, request: era::Request) -> Self {
        let parts = instances.iter().map(|instance| Part::new(instance, owner, &request)).collect();
        let id = request.id.clone();
        let again = (request.line.len() <= MAX_KEPT)
            .then(|| era::Request { line: request.line.detached(), ..request });
        Self { parts, owner: Arc::clone(owner), id, again, acknowledged: false }
    }

    /// Passes on what comes until the end, or until the client has left. What is open then is cancelled by being dropped.
    async fn run(mut self, replies: Replies) {
        loop {
            let (index, item) = tokio::select! {
                next = self.next() => next,
                () = replies.left() => return,
            };
            let goes_on = match item {
                Some(item) => self.take(index, item, &replies),
                None => self.lose(index),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// What comes next, and from which part.
    async fn next(&mut self) -> (usize, Option<Item>) {
        std::future::poll_fn(|cx| {
            let mut parts = self.parts.iter_mut().enumerate();
            let ready = parts.find_map(|(index, part)| match part.poll(self.acknowledged, cx) {
                Poll::Ready(item) => Some((index, item)),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Takes what a child has said; whether the subscription goes on.
    fn take(&mut self, index: usize, item: Item, replies: &Replies) -> bool {
        if item.message.method() == Some(mcp::ACKNOWLEDGED) && self.acknowledged {
            return !self.parts[index].late || self.announce(&item.message, replies);
        }
        self.acknowledged |= item.message.method() == Some(mcp::ACKNOWLEDGED);
        let refused = matches!(item.message.kind, Kind::Response { is_error: true, .. });
        if refused {
            self.parts[index].stage = Stage::Over;
            if self.is_left() {
                log::info!("{}: a subscription goes on without it", self.parts[index].instance);
                return true;
            }
        }
        // An end that a child speaks of itself is the server's word, and the client's end too.
        let last = item.last;
        replies.push(item).is_ok() && !last
    }

    /// Tells the client that what it listens to may have changed; whether it reads.
    fn announce(&self, acknowledged: &Message, replies: &Replies) -> bool {
        let changes = era::may_have_changed(&acknowledged.line, &self.id);
        changes.into_iter().all(|message| replies.push(Item { message, last: false }).is_ok())
    }

    /// Nothing more comes from a process; whether the subscription goes on.
    fn lose(&mut self, index: usize) -> bool {
        let comes_back =
            self.again.as_ref().is_some_and(|request| self.parts[index].come_back(&self.owner, request));
        comes_back && self.is_left()
    }

    /// Whether there is one that the client hears, or may hear before it is told that it does.
    fn is_left(&self) -> bool {
        self.parts.iter().any(|part| match part.stage {
            Stage::Open(..) => true,
            Stage::Asking(_) => !self.acknowledged,
            Stage::Returning(_) | Stage::Over => false,
        })
    }
}
