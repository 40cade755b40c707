//! What must hold for any bytes. The fuzz targets and the replay of their corpus (`cargo test corpus`) share it.

use std::path::Path;

use bytes::{Buf, Bytes};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use mcp_bridge::{
    auth::Authenticator,
    config::{self, AcceptedToken, Options, Secret, ServerAuth},
    era::{
        self,
        headers::{Annotations, check, to_send},
    },
    framing::{
        lines::{Framed, Lines},
        sse::{Decoder, Event, encode},
    },
    jsonrpc::{self, Kind, Message, Payload},
    mcp,
    serve::media::{self, Accepts},
    session::EventId,
};
use serde_json::value::RawValue;

/// A message becomes one line that means the same.
pub fn envelope(data: &[u8]) {
    match jsonrpc::parse(Bytes::copy_from_slice(data)) {
        Err(e) => assert!(!e.to_string().is_empty()),
        Ok(Payload::Single(message)) => {
            is_one_line(&message);
            same_value(data, message.line.bytes());
        }
        Ok(Payload::Batch(messages)) => {
            assert!(!messages.is_empty());
            messages.iter().for_each(is_one_line);
        }
    }
}

fn is_one_line(message: &Message) {
    let text = message.line.as_str();
    assert!(!text.is_empty());
    assert!(!text.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']));
    let Ok(Payload::Single(again)) = jsonrpc::parse(message.line.bytes().clone()) else {
        panic!("the line is no message: {text}")
    };
    assert_eq!((&again.line, &again.kind), (&message.line, &message.kind));
    if let Kind::Request { id, .. } = &message.kind {
        let written = id.to_string();
        assert_eq!(jsonrpc::RequestId::from_json(&written).as_ref(), Some(id), "{written}");
    }
}

/// `serde_json` gives up on deep nesting, and rounds what only the text can say; both are no matter here.
fn same_value(a: &[u8], b: &[u8]) {
    let value = |text| serde_json::from_slice::<serde_json::Value>(text).ok();
    if let (Some(a), Some(b)) = (value(a), value(b)) {
        assert_eq!(a, b);
    }
}

/// Lines are what stands between newlines, however the bytes arrive. The first byte says how many do at once; the
/// second means nothing.
pub fn lines(data: &[u8]) {
    const MAX: usize = 64;
    let Some((&[chunk, ..], text)) = data.split_first_chunk::<2>() else { return };
    let found = read_lines(text, usize::from(chunk).max(1), MAX);
    let wanted = text.split(|b| *b == b'\n').map(|line| (line, line.len() > MAX));
    let wanted: Vec<_> = wanted
        .map(|(line, long)| if long { line } else { line.strip_suffix(b"\r").unwrap_or(line) })
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(found.len(), wanted.len());
    for (framed, line) in found.iter().zip(wanted) {
        match framed {
            Framed::Line(found) => assert_eq!(found, line),
            Framed::TooLong { length, head } => {
                assert_eq!(*length, line.len() as u64);
                assert!(line.starts_with(head) || head.is_empty());
            }
        }
    }
}

fn read_lines(text: &[u8], chunk: usize, max: usize) -> Vec<Framed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut lines = Lines::new(Chunks { text, chunk }, max);
        let mut found = Vec::new();
        while let Some(framed) = lines.next().await.expect("memory can be read") {
            found.push(framed);
        }
        found
    })
}

/// A reader that gives a few bytes at a time.
struct Chunks<'a> {
    text: &'a [u8],
    chunk: usize,
}

impl tokio::io::AsyncRead for Chunks<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let n = self.chunk.min(self.text.len()).min(buf.remaining());
        let (now, later) = self.text.split_at(n);
        buf.put_slice(now);
        self.text = later;
        std::task::Poll::Ready(Ok(()))
    }
}

/// Events are the same however their bytes arrive, and what is encoded is decoded. The first byte says where to cut.
pub fn sse(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = decode(&[stream]);
    let (a, b) = stream.split_at(usize::from(cut).min(stream.len()));
    let parts = decode(&[a, b]);
    if let (Some(whole), Some(parts)) = (&whole, &parts) {
        assert_eq!(whole, parts);
    }
    if let Ok(Payload::Single(message)) = jsonrpc::parse(Bytes::copy_from_slice(stream)) {
        let mut event = encode(Some("e1-1"), message.line.pieces());
        let event = event.copy_to_bytes(event.remaining());
        let events = decode(&[&event]).unwrap_or_default();
        assert_eq!(events.len(), 1);
        assert_eq!(&events[0].data, message.line.bytes());
    }
}

fn decode(parts: &[&[u8]]) -> Option<Vec<Event>> {
    let mut decoder = Decoder::new(1 << 20);
    let mut events = Vec::new();
    for part in parts {
        decoder.feed(part, &mut events).ok()?;
    }
    Some(events)
}

/// A configuration loads or is refused in words that name its file, and never show what a secret variable holds.
pub fn config(data: &[u8]) {
    const SECRET: &str = "xyzzy-plugh-secret";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let env = |name: &str| (name == "SECRET").then(|| SECRET.into());
    match config::parse(Path::new("fuzz.yaml"), text, &Options::default(), &env) {
        Ok(config) => assert!(config.file.is_some()),
        Err(e) => {
            let words = e.to_string();
            assert!(words.starts_with("fuzz.yaml"), "{words}");
            assert!(!words.contains(SECRET), "{words}");
        }
    }
}

/// The bytes are one header's value, and then what headers repeat.
pub fn headers(data: &[u8]) {
    of_any_request(data);
    of_a_modern_request(data);
}

/// Header values of any kind are judged without a panic, and no other token than the right one is let in.
fn of_any_request(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers =
        HeaderMap::from_iter([ACCEPT, AUTHORIZATION, CONTENT_TYPE].map(|name| (name, value.clone())));
    let accepts = Accepts::of(&headers);
    if !data.contains(&b'/') {
        assert_eq!(accepts, Accepts { json: false, events: false });
    }
    if media::is_json(&headers) {
        assert!(data.to_ascii_lowercase().windows(media::JSON.len()).any(|w| w == media::JSON.as_bytes()));
    }
    let tokens = vec![AcceptedToken::Plain(Secret::new("right"))];
    let authenticator = Authenticator::new(&ServerAuth::Bearer(tokens)).expect("SHA-256 is there");
    let let_in = authenticator.principal(&headers, None).is_ok();
    let (scheme, token) = data.split_at(data.len().min(7));
    assert_eq!(let_in, scheme.eq_ignore_ascii_case(b"bearer ") && token.trim_ascii() == b"right");
    if let Some(id) = value.to_str().ok().and_then(|text| text.parse::<EventId>().ok()) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// The headers that a call is sent with are those that are accepted with it, and for its name there is one other text at
/// most. The lines are the tool's name, a foreign `Mcp-Name`, the arguments and, to the end, the tool's input schema.
fn of_a_modern_request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let [name, foreign, arguments, schema] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let Some(request) = call(name, arguments) else { return };
    let annotations = raw(schema)
        .and_then(|schema| Annotations::of(&schema).inspect_err(|why| assert!(!why.is_empty())).ok());
    let mut headers: HeaderMap = to_send(&request, annotations.as_ref()).into_iter().collect();
    assert_eq!(check(&headers, &request, annotations.as_ref()), Ok(()));
    let Ok(foreign) = HeaderValue::from_bytes(foreign.as_bytes()) else { return };
    let accepted = foreign.to_str().is_ok_and(|text| is_name(text.trim_matches([' ', '\t']), name));
    headers.insert(mcp::NAME_HEADER, foreign);
    assert_eq!(check(&headers, &request, annotations.as_ref()).is_ok(), accepted);
}

/// A modern call of a tool, without arguments where they are no JSON.
fn call(tool: &str, arguments: &str) -> Option<era::Request> {
    let params = serde_json::json!({
        "name": tool,
        "_meta": {mcp::meta::PROTOCOL_VERSION: mcp::MODERN_REVISION, mcp::meta::CLIENT_CAPABILITIES: {}},
    });
    let arguments =
        raw(arguments).map(|arguments| format!(r#""arguments":{arguments},"#)).unwrap_or_default();
    let params = params.to_string().replacen('{', &format!("{{{arguments}"), 1);
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    match jsonrpc::parse(text.into()) {
        Ok(Payload::Single(message)) => era::Request::read(message).ok(),
        _ => None,
    }
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

/// Whether a header's value is a name, as it is or in Base64, of which there is one for each.
fn is_name(value: &str, name: &str) -> bool {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(base64) => base64 == openssl::base64::encode_block(name.as_bytes()),
        None => value == name,
    }
}
