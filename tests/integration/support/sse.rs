//! Server-sent events, decoded on their own: a test of the bridge must not use the bridge's decoder.

/// What was on the stream, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Event(Event),
    Comment(String),
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    /// The field `event`.
    pub(crate) kind: Option<String>,
    pub(crate) retry: Option<String>,
    pub(crate) data: String,
}

/// Takes the next whole item off the buffer, as far as it has come.
pub(crate) fn take_item(buffer: &mut Vec<u8>) -> Option<Item> {
    let end = memchr::memmem::find(buffer, b"\n\n")?;
    let block: Vec<u8> = buffer.drain(..end + 2).collect();
    let block = String::from_utf8(block).expect("an event stream is UTF-8");
    let mut event = Event::default();
    let mut comment = None;
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => comment = Some(value.to_owned()),
            "id" => event.id = Some(value.to_owned()),
            "event" => event.kind = Some(value.to_owned()),
            "retry" => event.retry = Some(value.to_owned()),
            "data" => data.push(value),
            other => panic!("unknown field {other} in an event stream"),
        }
    }
    event.data = data.join("\n");
    match comment {
        Some(comment) if event == Event::default() => Some(Item::Comment(comment)),
        _ => Some(Item::Event(event)),
    }
}
