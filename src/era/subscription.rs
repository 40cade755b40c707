//! What a subscription may have missed while nobody listened.
//!
//! Source: revision 2026-07-28, `basic/patterns/subscriptions`.

use crate::{
    jsonrpc::{Line, Message, Object, RequestId},
    mcp::{self, meta},
};

/// What the acknowledgement of the subscription `id` promises to tell of, as if it had happened: for a client that was
/// told of an earlier acknowledgement, and not of what has changed since.
pub fn may_have_changed(acknowledged: &Line, id: &RequestId) -> Vec<Message> {
    // Not by way of a `Value`, which does not hold each number that an id may be.
    let mut meta = Object::default();
    meta.put(meta::SUBSCRIPTION_ID, id);
    let mut params = Object::default();
    params.put("_meta", &meta);
    let read = || {
        let envelope = Object::parse(acknowledged.as_str()).ok()?;
        let promised = envelope.object("params").ok()?;
        let filter = promised.object("notifications").ok()?;
        let lists = mcp::LISTS.iter().filter(|list| filter.read(list.filter) == Some(true));
        let mut changes: Vec<_> =
            lists.map(|list| Message::notification(list.changed, &params, None)).collect();
        let uris: Vec<String> = filter.read("resourceSubscriptions").unwrap_or_default();
        changes.extend(uris.iter().map(|uri| {
            let mut params = params.clone();
            params.put("uri", uri);
            Message::notification(mcp::RESOURCE_UPDATED, &params, None)
        }));
        Some(changes)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    fn line(text: &str) -> Line {
        let Ok(Payload::Single(message)) = parse(text.to_owned().into()) else { panic!("{text}") };
        message.line
    }

    #[test]
    fn all_that_was_promised_may_have_changed() {
        let acknowledged = line(concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":"#,
            r#"{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["a:1"]}}}"#
        ));
        let changes = may_have_changed(&acknowledged, &RequestId::from_json("1e400").unwrap());
        let lines: Vec<_> = changes.iter().map(|message| message.line.as_str()).collect();
        let meta = r#""_meta":{"io.modelcontextprotocol/subscriptionId":1e400}"#;
        let told = |method: &str, more: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{{meta}{more}}}}}"#)
        };
        assert_eq!(lines, [told("tools/list_changed", ""), told("resources/updated", r#","uri":"a:1""#)]);
        let nothing = line(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#);
        assert!(may_have_changed(&nothing, &RequestId::from(1)).is_empty());
    }
}
