//! The places of a message that name a request, and what is put there.

use super::Number;
use crate::{
    jsonrpc::{self, Line, Members, Message, Object, RequestId, Splice},
    mcp::{self, meta},
    word::Word,
};

/// A request as the child gets it.
pub(super) struct Sent {
    pub(super) line: Line,
    /// The progress token that it had.
    pub(super) token: Option<RequestId>,
}

/// What stands for a request in the messages about it.
pub(super) struct Told<'a> {
    pub(super) method: &'a str,
    /// What its sender knows a subscription by.
    pub(super) subscription: &'a RequestId,
    pub(super) token: Option<&'a RequestId>,
    /// What the child knows both by.
    pub(super) number: Number,
}

/// Puts `number` in the place of a request's id and progress token, and takes out its log level unless it `logs`.
pub(super) fn to_server(line: &Line, number: Number, logs: bool) -> serde_json::Result<Sent> {
    let mut splice = Splice::new(line);
    let message = Members::parse(splice.text())?;
    message.get("id").inspect(|id| splice.replace(id, &number));
    let mut token = None;
    if let Some(meta) = message.object("params").and_then(|params| params.object("_meta")) {
        if let Some(text) = meta.get(meta::PROGRESS_TOKEN) {
            // What is no token must not be taken for one either: another request has that number.
            token = RequestId::from_json(text);
            token.as_ref().inspect(|_| splice.replace(text, &number));
        }
        if !logs {
            splice.remove(&meta, meta::LOG_LEVEL);
        }
    }
    Ok(Sent { line: splice.finish(), token })
}

/// Puts the id in a response, and in that to a subscription the subscription's.
pub(super) fn response(
    line: &Line,
    id: &RequestId,
    subscription: Option<&RequestId>,
) -> serde_json::Result<Line> {
    let mut splice = Splice::new(line);
    let message = Members::parse(splice.text())?;
    message.get("id").inspect(|place| splice.replace(place, id));
    if let (Some(subscription), Some(meta)) =
        (subscription, message.object("result").and_then(|result| result.object("_meta")))
    {
        meta.get(meta::SUBSCRIPTION_ID).inspect(|place| splice.replace(place, subscription));
    }
    Ok(splice.finish())
}

/// The subscription that a notification says it belongs to, as the child knows it.
pub(super) fn subscription(line: &Line) -> serde_json::Result<Option<RequestId>> {
    static KEY: Word = Word::new(meta::SUBSCRIPTION_ID);
    if !KEY.is_in(line.bytes()) {
        return Ok(None);
    }
    let message = Members::parse(line.as_str())?;
    let meta = message.object("params").and_then(|params| params.object("_meta"));
    Ok(meta.and_then(|meta| RequestId::from_json(meta.get(meta::SUBSCRIPTION_ID)?)))
}

/// Puts what its sender knows a request by in a notification about it.
pub(super) fn notification(line: &Line, told: &Told<'_>) -> serde_json::Result<Line> {
    let mut splice = Splice::new(line);
    let message = Members::parse(splice.text())?;
    let Some(params) = message.object("params") else { return Ok(splice.finish()) };
    let number = RequestId::from(told.number);
    let about = match told.method {
        mcp::CANCELLED => (params.get("requestId"), Some(told.subscription)),
        mcp::PROGRESS => (params.get(meta::PROGRESS_TOKEN), told.token),
        _ => (None, None),
    };
    for (place, with) in [
        about,
        (params.object("_meta").and_then(|meta| meta.get(meta::SUBSCRIPTION_ID)), Some(told.subscription)),
    ] {
        if let (Some(place), Some(with)) = (place, with)
            && RequestId::from_json(place).as_ref() == Some(&number)
        {
            splice.replace(place, with);
        }
    }
    Ok(splice.finish())
}

/// The result that ends a subscription in good order (`basic/patterns/subscriptions`, "Graceful Closure").
pub(super) fn completion(id: &RequestId) -> Message {
    let (mut result, mut meta) = (Object::default(), Object::default());
    meta.put(meta::SUBSCRIPTION_ID, id);
    result.put("resultType", &"complete");
    result.put("_meta", &meta);
    jsonrpc::result(id, &result)
}
