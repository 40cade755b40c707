//! `subscriptions/listen` over `resources/subscribe` and what the server announces of itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde_json::json;

use super::{CallKey, Output, Own, Upgrade, handshake::Face, results, rewrite, too_many};
use crate::{
    era::{Refusal, Request},
    jsonrpc::{Message, Object, RequestId},
    mcp,
};

/// Most listens at once.
const MAX_LISTENS: usize = 64;
/// Most resources of one listen.
const MAX_RESOURCES: usize = 1000;
/// Most changes that wait for an acknowledgement; of more, the oldest are forgotten.
const MAX_EARLY: usize = 256;

/// All that clients listen to.
#[derive(Debug, Default)]
pub(super) struct Listens {
    open: BTreeMap<CallKey, Listen>,
    resources: HashMap<Box<str>, Resource>,
}

#[derive(Debug)]
struct Listen {
    id: RequestId,
    wants: Filter,
    acknowledged: bool,
    /// What came before the acknowledgement, which goes first.
    early: Vec<Message>,
}

/// What a listen asks for; then, what it gets.
#[derive(Debug, Default)]
struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    /// `None` when it is not spoken of.
    uris: Option<BTreeSet<Box<str>>>,
}

/// A resource that someone listens to.
#[derive(Debug)]
struct Resource {
    listeners: usize,
    /// The server has answered.
    subscribed: bool,
}

impl Filter {
    fn read(request: &Request) -> Result<Self, Refusal> {
        let bad = |what: &str| Refusal::InvalidParams(format!("params.notifications{what}"));
        let unusable = |e: serde_json::Error| bad(&format!(": {e}"));
        let outer = Object::parse(request.line.as_str()).map_err(unusable)?;
        let params = outer.object("params").map_err(unusable)?;
        let wanted = params.get("notifications").ok_or_else(|| bad(" is required"))?;
        let wanted = Object::parse(wanted.get()).map_err(unusable)?;
        let flag = |key: &str| match wanted.get(key) {
            None => Ok(false),
            Some(_) => wanted.read(key).ok_or_else(|| bad(&format!(".{key} must be true or false"))),
        };
        let uris = wanted.get("resourceSubscriptions").map(|uris| {
            serde_json::from_str::<BTreeSet<Box<str>>>(uris.get())
                .map_err(|_| bad(".resourceSubscriptions must be a list of strings"))
        });
        let uris = uris.transpose()?;
        if uris.as_ref().is_some_and(|uris| uris.len() > MAX_RESOURCES) {
            return Err(bad(&format!(".resourceSubscriptions: more than {MAX_RESOURCES}")));
        }
        Ok(Self {
            tools: flag("toolsListChanged")?,
            prompts: flag("promptsListChanged")?,
            resources: flag("resourcesListChanged")?,
            uris,
        })
    }

    /// Leaves out what the server does not offer.
    fn limit_to(&mut self, face: &Face) {
        self.tools &= face.tools_change;
        self.prompts &= face.prompts_change;
        self.resources &= face.resources_change;
        self.uris.take_if(|_| !face.subscribes);
    }

    fn uris(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().flatten().map(|uri| &**uri)
    }

    fn forget(&mut self, uri: &str) {
        if let Some(uris) = &mut self.uris {
            uris.remove(uri);
        }
    }

    /// Whether a notification is one of these.
    fn has(&self, method: &str, uri: Option<&str>) -> bool {
        match method {
            mcp::TOOLS_CHANGED => self.tools,
            mcp::PROMPTS_CHANGED => self.prompts,
            mcp::RESOURCES_CHANGED => self.resources,
            _ => uri.is_some_and(|uri| self.uris().any(|wanted| is_within(uri, wanted))),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let mut out = json!({});
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        for (name, _) in flags.iter().filter(|(_, set)| *set) {
            out[name] = json!(true);
        }
        if let Some(uris) = &self.uris {
            out["resourceSubscriptions"] = json!(uris);
        }
        out
    }
}

/// Whether a resource is the one that was subscribed to, or a part of it.
fn is_within(uri: &str, wanted: &str) -> bool {
    uri.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || wanted.ends_with('/') || rest.starts_with(['/', '?', '#']))
}

impl Listens {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Upgrade {
    /// Opens a listen, which is acknowledged when the server has answered for each resource.
    pub(super) fn listen(&mut self, key: CallKey, request: &Request, now: Instant) {
        let mut wants = match Filter::read(request) {
            Ok(filter) => filter,
            Err(refusal) => return self.refuse(key, &request.id, &refusal),
        };
        if self.listens.open.len() >= MAX_LISTENS {
            return self.answer(key, too_many().response(Some(&request.id)));
        }
        if let Some(face) = self.face() {
            wants.limit_to(face);
        }
        for uri in wants.uris() {
            if let Some(resource) = self.listens.resources.get_mut(uri) {
                resource.listeners += 1;
            } else {
                self.listens.resources.insert(uri.into(), Resource { listeners: 1, subscribed: false });
                self.ask_server(Own::Subscribe(uri.into()), mcp::SUBSCRIBE, &json!({ "uri": uri }), now);
            }
        }
        let listen = Listen { id: request.id.clone(), wants, acknowledged: false, early: Vec::new() };
        self.listens.open.insert(key, listen);
        self.acknowledge();
    }

    /// The server has answered `resources/subscribe`.
    pub(super) fn subscribed(&mut self, uri: &str, done: bool, now: Instant) {
        let Some(resource) = self.listens.resources.get_mut(uri) else { return };
        resource.subscribed = done;
        let wanted = resource.listeners > 0;
        if !done || !wanted {
            self.listens.resources.remove(uri);
        }
        if !done {
            self.listens.open.values_mut().for_each(|listen| listen.wants.forget(uri));
        } else if !wanted {
            self.unsubscribe(uri, now);
        }
        self.acknowledge();
    }

    /// The server may yet do what it was asked.
    pub(super) fn subscription_timed_out(&mut self, uri: &str, now: Instant) {
        self.subscribed(uri, false, now);
        self.unsubscribe(uri, now);
    }

    fn unsubscribe(&mut self, uri: &str, now: Instant) {
        self.ask_server(Own::Other, mcp::UNSUBSCRIBE, &json!({ "uri": uri }), now);
    }

    /// Acknowledges the listens whose resources have all been answered for.
    fn acknowledge(&mut self) {
        let Listens { open, resources } = &mut self.listens;
        let is_answered = |uri: &str| resources.get(uri).is_none_or(|resource| resource.subscribed);
        let ready = open.iter_mut().filter(|(_, l)| !l.acknowledged && l.wants.uris().all(is_answered));
        let mut out = Vec::new();
        for (key, listen) in ready {
            listen.acknowledged = true;
            let mut params = Object::default();
            rewrite::put_subscription(&mut params, &listen.id);
            params.put("notifications", &listen.wants.to_json());
            out.push((*key, Message::notification(mcp::ACKNOWLEDGED, &params, None)));
            out.extend(listen.early.drain(..).map(|message| (*key, message)));
        }
        for (key, message) in out {
            self.pass(key, message);
        }
    }

    /// The server says that something of its own has changed.
    pub(super) fn changed(&mut self, message: &Message) {
        let outer = Object::parse(message.line.as_str()).unwrap_or_default();
        let uri: Option<String> = outer.object("params").ok().and_then(|params| params.read("uri"));
        let Some(method) = message.method() else { return };
        let mut out = Vec::new();
        for (key, listen) in &mut self.listens.open {
            if !listen.wants.has(method, uri.as_deref()) {
                continue;
            }
            let marked =
                rewrite::notification(message, |params| rewrite::put_subscription(params, &listen.id));
            match marked {
                Some(marked) if listen.acknowledged => out.push((*key, marked)),
                Some(marked) if listen.early.iter().all(|early| early.line != marked.line) => {
                    if listen.early.len() >= MAX_EARLY {
                        listen.early.remove(0);
                    }
                    listen.early.push(marked);
                }
                _ => {}
            }
        }
        for (key, message) in out {
            self.pass(key, message);
        }
    }

    /// Undoes what a listen has begun; its id.
    pub(super) fn unlisten(&mut self, key: CallKey, now: Instant) -> Option<RequestId> {
        let listen = self.listens.open.remove(&key)?;
        for uri in listen.wants.uris() {
            let Some(resource) = self.listens.resources.get_mut(uri) else { continue };
            resource.listeners -= 1;
            // While the answer is awaited, whoever else begins to listen shares it.
            if resource.listeners == 0 && resource.subscribed {
                self.listens.resources.remove(uri);
                self.unsubscribe(uri, now);
            }
        }
        Some(listen.id)
    }

    /// Ends every listen of the bridge's own accord, with a result that says so.
    pub fn end_listens(&mut self, now: Instant) {
        let keys: Vec<_> = self.listens.open.keys().copied().collect();
        for key in keys {
            let Some(id) = self.unlisten(key, now) else { continue };
            let mut result = Object::default();
            let server = self.face().and_then(|face| face.info.as_deref());
            results::complete(&mut result, mcp::LISTEN, server);
            rewrite::put_subscription(&mut result, &id);
            let result = result.to_line();
            self.answer(key, rewrite::result(&id, result));
        }
    }

    /// The server is gone: each listen ends without a result.
    pub(super) fn cut_listens(&mut self) {
        let listens = std::mem::take(&mut self.listens);
        self.out.extend(listens.open.into_keys().map(Output::Ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_resource_belong_to_it() {
        for (uri, wanted, within) in [
            ("file:///a", "file:///a", true),
            ("file:///a/b", "file:///a", true),
            ("file:///a/b", "file:///a/", true),
            ("x:a#1", "x:a", true),
            ("x:a?b", "x:a", true),
            ("file:///ab", "file:///a", false),
            ("file:///", "file:///a", false),
        ] {
            assert_eq!(is_within(uri, wanted), within, "{uri} {wanted}");
        }
    }
}
