//! One subscription on several instances, of which each knows only its own changes.

use std::{sync::Arc, task::Poll};

use super::{Instance, NotBegun};
use crate::{
    era, mcp,
    upstream::{self, Call, Item, Replies},
};

/// Opens a subscription on each instance that works. The client sees one: it is acknowledged once, and ends with the
/// first of them that ends.
pub(super) async fn listen(instances: &[Arc<Instance>], request: &era::Request) -> Result<Call, NotBegun> {
    let mut calls = Vec::new();
    for instance in instances.iter().filter(|instance| instance.failure().is_none()) {
        calls.push(instance.call(request.clone()).await?);
    }
    match (calls.pop(), calls.is_empty()) {
        (None, _) => match instances.first() {
            Some(failed) => failed.call(request.clone()).await,
            None => Err(NotBegun::ShuttingDown),
        },
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            calls.push(last);
            let (replies, merged) = upstream::call(|| ());
            tokio::spawn(merge(calls, replies));
            Ok(merged)
        }
    }
}

/// Passes on what comes on any of `calls`, until one ends or the client has left; the others are cancelled by that.
async fn merge(mut calls: Vec<Call>, replies: Replies) {
    let mut acknowledged = false;
    loop {
        let item = tokio::select! {
            item = next(&mut calls) => item,
            () = replies.left() => return,
        };
        let Some(item) = item else { return };
        let again = acknowledged && item.message.method() == Some(mcp::ACKNOWLEDGED);
        acknowledged |= item.message.method() == Some(mcp::ACKNOWLEDGED);
        let last = item.last;
        if !again && replies.push(item).is_err() || last {
            return;
        }
    }
}

async fn next(calls: &mut [Call]) -> Option<Item> {
    std::future::poll_fn(|cx| {
        let ready = calls.iter_mut().find_map(|call| match call.poll_next(cx) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
