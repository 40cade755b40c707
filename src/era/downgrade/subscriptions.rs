//! The one `subscriptions/listen` that stands for a session's subscriptions and the changes of lists.
//!
//! Source: revision 2026-07-28, `basic/patterns/subscriptions`; revision 2025-11-25, `server/resources`, "Subscriptions".

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    CallKey, Context,
    exchanges::timed_out,
    no_answer,
    out::{Out, response},
};
use crate::{
    era::Refusal,
    jsonrpc::{ErrorObject, Kind, Message, Object, RequestId, code},
    mcp::{self, meta},
    session::Limits,
};

/// Most resources that a session subscribes to, and most bytes of their names.
const MAX_URIS: usize = 1024;
const MAX_URI_BYTES: usize = 1024 * 1024;
/// How long the server may take to acknowledge.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long after a break it is asked again: first, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Some of [`mcp::LISTS`].
pub(super) type Lists = [bool; 3];

type Uris = BTreeSet<Box<str>>;

/// What the client is told without having asked for it each time.
#[derive(Debug)]
pub(super) struct Subscriptions {
    patience: Duration,
    /// Lists whose changes the client wants.
    lists: Lists,
    /// What the client has subscribed to.
    confirmed: Uris,
    /// Subscriptions that wait for an acknowledgement.
    waiting: Vec<(RequestId, Box<str>)>,
    /// The call in force, and since when there has been one.
    active: Option<CallKey>,
    since: Option<Instant>,
    /// The one that is to take its place.
    opening: Option<Opening>,
    /// The one whose place was taken, with what it may still have brought.
    closing: Option<CallKey>,
    /// What is wanted is not what was asked for last.
    stale: bool,
    /// Changes may have been missed.
    missed: bool,
    /// When to ask again after a break, and how long to wait after the next.
    again: Option<Instant>,
    wait: Duration,
}

/// A call that is not acknowledged yet.
#[derive(Debug)]
struct Opening {
    key: CallKey,
    uris: Uris,
    until: Instant,
}

/// The part of a filter that the server honours.
#[derive(Debug, Default)]
struct Honoured {
    lists: Lists,
    uris: Uris,
}

impl Subscriptions {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            patience: limits.silence.map_or(PATIENCE, |silence| silence.min(PATIENCE)),
            lists: Lists::default(),
            confirmed: Uris::new(),
            waiting: Vec::new(),
            active: None,
            since: None,
            opening: None,
            closing: None,
            stale: false,
            missed: false,
            again: None,
            wait: FIRST_WAIT,
        }
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, id: &RequestId) -> bool {
        self.waiting.iter().any(|(waiting, _)| waiting == id)
    }

    /// The client is ready to hear of changes of these lists.
    pub(super) fn begin(&mut self, lists: Lists, cx: &mut Context<'_>) {
        if self.lists != lists {
            self.lists = lists;
            self.changed(cx);
        }
    }

    /// `resources/subscribe`.
    pub(super) fn subscribe(&mut self, id: &RequestId, uri: &str, cx: &mut Context<'_>) {
        if self.confirmed.contains(uri) {
            return cx.out.done(id);
        }
        let all = || self.confirmed.iter().chain(self.waiting.iter().map(|(_, uri)| uri));
        if all().count() >= MAX_URIS || all().map(|uri| uri.len()).sum::<usize>() + uri.len() > MAX_URI_BYTES
        {
            let text = format!("a session may subscribe to {MAX_URIS} resources ({MAX_URI_BYTES} bytes)");
            return cx.out.fail(id, &ErrorObject::internal("too_many_subscriptions", text));
        }
        self.waiting.push((id.clone(), uri.into()));
        self.changed(cx);
    }

    /// `resources/unsubscribe`.
    pub(super) fn unsubscribe(&mut self, id: &RequestId, uri: &str, cx: &mut Context<'_>) {
        // Whoever waits for the same subscription has it, for as long as it took.
        let waiting = self.take_waiting(&Uris::from([uri.into()]));
        for (waiting, _) in &waiting {
            cx.out.done(waiting);
        }
        cx.out.done(id);
        if self.confirmed.remove(uri) || !waiting.is_empty() {
            self.changed(cx);
        }
    }

    /// The client no longer waits for a subscription; who waits has a call that is being opened, after which what is
    /// wanted is looked at again.
    pub(super) fn forget(&mut self, id: &RequestId) {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| waiting != id);
        self.stale |= self.waiting.len() < before;
    }

    fn changed(&mut self, cx: &mut Context<'_>) {
        self.stale = true;
        self.again = None;
        self.refresh(cx);
    }

    fn wanted(&self) -> Uris {
        self.confirmed.iter().chain(self.waiting.iter().map(|(_, uri)| uri)).cloned().collect()
    }

    /// Opens a call for what is wanted now, unless one is being opened.
    fn refresh(&mut self, cx: &mut Context<'_>) {
        if !self.stale || self.opening.is_some() || self.again.is_some() {
            return;
        }
        self.stale = false;
        let uris = self.wanted();
        if !uris.is_empty() || self.lists.contains(&true) {
            self.open(uris, cx);
        } else if let Some(key) = self.active.take() {
            self.since = None;
            cx.out.cancel(key);
        }
    }

    fn open(&mut self, uris: Uris, cx: &mut Context<'_>) {
        let key = cx.out.new_call();
        let mut filter = Object::default();
        for (list, _) in mcp::LISTS.iter().zip(self.lists).filter(|(_, wanted)| *wanted) {
            filter.put(list.filter, &true);
        }
        if !uris.is_empty() {
            filter.put("resourceSubscriptions", &uris);
        }
        let mut params = Object::default();
        params.put("notifications", &filter);
        // These parameters have no `_meta` that could be wrong; log messages never come by this way.
        if let Ok(request) = cx.client.request(key, mcp::LISTEN, params, false) {
            cx.out.call(key, request);
            self.opening = Some(Opening { key, uris, until: cx.now + self.patience });
        }
    }

    /// One of the calls brought a message.
    pub(super) fn heard(&mut self, key: CallKey, message: &Message, cx: &mut Context<'_>) {
        let opening = self.opening.as_ref().is_some_and(|opening| opening.key == key);
        let known = self.active == Some(key) || self.closing == Some(key);
        match (&message.kind, message.method()) {
            (Kind::Response { .. }, _) => self.over(key, Some(message), cx),
            (_, Some(mcp::CANCELLED)) if opening || known => {
                cx.out.cancel(key);
                self.over(key, None, cx);
            }
            (_, Some(mcp::ACKNOWLEDGED)) if opening => self.acknowledged(message, cx),
            (_, Some(mcp::ACKNOWLEDGED | mcp::PROGRESS)) => {}
            (Kind::Notification { .. }, _) if known => {
                cx.out.tell(without_subscription(message), None);
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, message: &Message, cx: &mut Context<'_>) {
        let Some(opening) = self.opening.take() else { return };
        self.closing = self.active.replace(opening.key);
        if let Some(key) = self.closing {
            cx.out.cancel(key);
        }
        self.since.get_or_insert(cx.now);
        let honoured = Honoured::read(message);
        for (id, uri) in self.take_waiting(&opening.uris) {
            if honoured.uris.contains(&uri) {
                cx.out.done(&id);
                self.confirmed.insert(uri);
            } else {
                let text = "the MCP server takes no subscription to this resource".to_owned();
                cx.out.refuse(&id, &Refusal::InvalidParams(text));
            }
        }
        if std::mem::take(&mut self.missed) {
            self.announce(&honoured, cx.out);
        }
        self.refresh(cx);
    }

    fn take_waiting(&mut self, uris: &Uris) -> Vec<(RequestId, Box<str>)> {
        let (taken, left) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, uri)| uris.contains(uri));
        self.waiting = left;
        taken
    }

    /// Says of everything that is listened to that it may have changed.
    fn announce(&self, honoured: &Honoured, out: &mut Out) {
        for (list, _) in mcp::LISTS.iter().zip(honoured.lists).filter(|(_, honoured)| *honoured) {
            out.tell_own(list.changed, &json!({}));
        }
        for uri in self.confirmed.intersection(&honoured.uris) {
            out.tell_own(mcp::RESOURCE_UPDATED, &json!({ "uri": uri }));
        }
    }

    /// A call has ended, with an answer or without.
    pub(super) fn over(&mut self, key: CallKey, answer: Option<&Message>, cx: &mut Context<'_>) {
        if self.closing == Some(key) {
            self.closing = None;
        } else if self.active == Some(key) {
            self.active = None;
            self.missed = true;
            // A server that breaks each call soon is not asked ever again at once.
            if self.since.take().is_some_and(|since| cx.now.duration_since(since) >= LONGEST_WAIT) {
                self.wait = FIRST_WAIT;
            }
            self.later(cx);
        } else if self.opening.as_ref().is_some_and(|opening| opening.key == key) {
            self.refused(answer, &no_answer(), cx);
        }
    }

    /// The call that was to be opened is not.
    fn refused(&mut self, answer: Option<&Message>, otherwise: &ErrorObject, cx: &mut Context<'_>) {
        let Some(opening) = self.opening.take() else { return };
        let error = answer.and_then(|answer| Object::parse(answer.line.as_str()).ok());
        let mut error = error.filter(|error| error.get("error").is_some());
        for (id, _) in self.take_waiting(&opening.uris) {
            match &mut error {
                Some(error) => {
                    error.put("id", &id);
                    cx.out.answer(&id, response(error.to_line(), &id, true));
                }
                None => cx.out.fail(&id, otherwise),
            }
        }
        let code = error.and_then(|error| error.object("error").ok()?.read::<i32>("code"));
        if code != Some(code::METHOD_NOT_FOUND) {
            self.later(cx);
        }
        self.refresh(cx);
    }

    /// Asks again: at once if someone waits, else after a while.
    fn later(&mut self, cx: &mut Context<'_>) {
        if self.opening.is_some() {
            return;
        }
        self.stale = true;
        if self.waiting.is_empty() {
            self.again = cx.now.checked_add(self.wait);
            self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
        }
        self.refresh(cx);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.again.into_iter().chain(self.opening.as_ref().map(|opening| opening.until)).min()
    }

    /// Gives up on what has waited too long, and asks again for what has rested.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        if let Some(opening) = self.opening.as_ref().filter(|opening| opening.until <= cx.now) {
            cx.out.cancel(opening.key);
            self.refused(None, &timed_out(self.patience), cx);
        }
        if self.again.is_some_and(|again| again <= cx.now) {
            self.changed(cx);
        }
    }
}

impl Honoured {
    fn read(message: &Message) -> Self {
        let read = || {
            let line = Object::parse(message.line.as_str()).ok()?;
            let params = line.object("params").ok()?;
            let filter = params.object("notifications").ok()?;
            Some(Self {
                lists: mcp::LISTS.map(|list| filter.read(list.filter).unwrap_or(false)),
                uris: filter.read("resourceSubscriptions").unwrap_or_default(),
            })
        };
        read().unwrap_or_default()
    }
}

/// The message as a legacy client knows it.
fn without_subscription(message: &Message) -> Message {
    let read = || {
        let mut line = Object::of(&message.line).ok()?;
        let mut params = line.object("params").ok()?;
        let mut own = params.object("_meta").ok()?;
        own.remove(meta::SUBSCRIPTION_ID)?;
        let own = if own.is_empty() { None } else { Some(own.to_line()) };
        match own {
            Some(own) => params.set("_meta", own),
            None => {
                params.remove("_meta");
            }
        }
        let params = params.to_line();
        line.set("params", params);
        Some(Message { line: line.to_line(), kind: message.kind.clone() })
    };
    read().unwrap_or_else(|| message.clone())
}
