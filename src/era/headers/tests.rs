use super::*;
use crate::jsonrpc::{Payload, parse};

const SCHEMA: &str = r#"{"type":"object","properties":{
    "region":{"type":"string","x-mcp-header":"Region"},
    "n":{"type":"integer","x-mcp-header":"Count"},
    "where":{"type":"object","properties":{"dry":{"type":"boolean","x-mcp-header":"Dry-Run"}}},
    "x-mcp-header":{"type":"string"}}}"#;

fn annotations(schema: &str) -> Result<Annotations, String> {
    Annotations::of(&RawValue::from_string(schema.to_owned()).unwrap())
}

fn request(method: &str, members: &str) -> Request {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{members}{meta}}}}}"#);
    let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{members}") };
    Request::read(message).unwrap()
}

fn call(arguments: &str) -> Request {
    request("tools/call", &format!(r#""name":"query","arguments":{arguments},"#))
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let basic = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "query")];
    let mut map = HeaderMap::new();
    for (name, value) in basic.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name)) {
        map.append(*name, value.parse().unwrap());
    }
    for (name, value) in headers.iter().filter(|(_, value)| *value != "-") {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    map
}

fn checked(headers: &[(&str, &str)], request: &Request) -> bool {
    let result = check(&map(headers), request, Some(&annotations(SCHEMA).unwrap()));
    result.inspect_err(|refusal| assert_eq!(refusal.code(), mcp::code::HEADER_MISMATCH)).is_ok()
}

#[test]
fn the_examples_of_the_specification_are_encoded_as_it_says() {
    for (text, header) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("", ""),
    ] {
        assert_eq!(value::encode(text).unwrap(), header);
        assert_eq!(value::decode(header).unwrap(), text);
    }
}

#[test]
fn what_is_not_strictly_base64_of_utf8_is_refused() {
    for text in ["YQ", "YQ=", "YR==", "Y Q==", "YQ==\n", " YQ==", "YQ==YQ==", "****", "/w=="] {
        assert_eq!(value::decode(&format!("=?base64?{text}?=")), None, "{text}");
    }
    for text in ["=?BASE64?YQ==?=", "=?base64?YQ==", "YQ==?="] {
        assert_eq!(value::decode(text).as_deref(), Some(text));
    }
}

#[test]
fn what_is_sent_is_what_is_accepted() {
    let annotations = annotations(SCHEMA).unwrap();
    for arguments in [
        r#"{"region":"us-west1","n":7,"where":{"dry":true}}"#,
        r#"{"region":" é\n","n":-0.0,"where":{"dry":false}}"#,
        r#"{"region":"","n":null,"where":null}"#,
        r#"{"region":"=?base64?YQ==?=","n":1e2}"#,
        r#"{"n":-1.5e999}"#,
        "{}",
    ] {
        let request = call(arguments);
        let headers: HeaderMap = to_send(&request, Some(&annotations)).into_iter().collect();
        assert_eq!(check(&headers, &request, Some(&annotations)), Ok(()), "{arguments}");
    }
    let request = request("resources/read", r#""uri":"file:///é","#);
    let headers: HeaderMap = to_send(&request, None).into_iter().collect();
    assert_eq!(headers["mcp-name"], "=?base64?ZmlsZTovLy/DqQ==?=");
    assert_eq!(check(&headers, &request, None), Ok(()));
}

#[test]
fn headers_must_say_what_the_body_says() {
    let request = call(r#"{"region":"us","n":42,"where":{"dry":true}}"#);
    let all = [("mcp-param-region", "us"), ("mcp-param-count", "42"), ("mcp-param-dry-run", "true")];
    let with = |name: &'static str, value: &'static str| {
        let mut headers: Vec<_> = all.into_iter().filter(|(known, _)| *known != name).collect();
        headers.push((name, value));
        checked(&headers, &request)
    };
    assert!(checked(&all, &request));
    assert!(with("mcp-param-region", " us\t") && with("mcp-param-region", "=?base64?dXM=?="));
    assert!(with("mcp-param-count", "42.0") && with("mcp-param-count", "4.2e1"));
    assert!(with("mcp-name", "=?base64?cXVlcnk=?=") && with("x-other", "1"));
    for (name, value) in [
        ("mcp-protocol-version", "-"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "-"),
        ("mcp-method", "Tools/Call"),
        ("mcp-method", "=?base64?dG9vbHMvY2FsbA==?="),
        ("mcp-name", "-"),
        ("mcp-name", "other"),
        ("mcp-param-region", "-"),
        ("mcp-param-region", "eu"),
        ("mcp-param-region", "US"),
        ("mcp-param-region", "us\u{e9}"),
        ("mcp-param-region", "=?base64?dXM?="),
        ("mcp-param-count", "43"),
        ("mcp-param-count", "042"),
        ("mcp-param-count", "42x"),
        ("mcp-param-dry-run", "True"),
    ] {
        assert!(!with(name, value), "{name}: {value}");
    }
    let doubled = [all[0], all[0], all[1], all[2]];
    assert!(!checked(&doubled, &request));
    assert!(!checked(&all, &call(r#"{"n":42,"where":{"dry":true}}"#)), "a header for no value");
    assert!(!checked(&all, &call(r#"{"region":null,"n":42,"where":{"dry":true}}"#)), "a header for null");
    assert!(checked(&[], &call(r#"{"region":null,"where":7}"#)));
}

#[test]
fn a_doubled_or_missing_standard_header_is_a_mismatch() {
    let request = request("tools/list", "");
    let list = ("mcp-method", "tools/list");
    assert!(checked(&[list, ("mcp-name", "-")], &request));
    assert!(checked(&[list], &request), "no name is expected, and none is compared");
    assert!(!checked(&[list, list], &request));
    assert!(!checked(&[("mcp-method", "-")], &request));
}

#[test]
fn annotations_are_read_where_properties_lead_to_them() {
    let found: Vec<_> = annotations(SCHEMA).unwrap().iter().map(|a| a.header.as_str().to_owned()).collect();
    assert_eq!(found, ["mcp-param-region", "mcp-param-count", "mcp-param-dry-run"]);
    for schema in [
        r#"{"properties":{"a":{"type":"string","default":{"x-mcp-header":"A"}}}}"#,
        r#"{"properties":{"a":{"type":"string","enum":[{"x-mcp-header":"A"}]}}}"#,
        r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#,
        "true",
    ] {
        assert_eq!(annotations(schema).unwrap(), Annotations::default(), "{schema}");
    }
}

#[test]
fn an_annotation_that_is_not_as_it_must_be_is_told() {
    let string =
        |name: &str| format!(r#"{{"properties":{{"a":{{"type":"string","x-mcp-header":{name}}}}}}}"#);
    let inner = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#;
    let mut bad: Vec<String> =
        [r#""""#, r#""a b""#, r#""a\r\nb""#, r#""é""#, "7", "null", r#""a:b""#].map(string).into();
    bad.extend(["number", "object", "array", "null"].map(|kind| string("\"A\"").replace("string", kind)));
    bad.push(string("\"A\"").replace(r#""type":"string","#, ""));
    bad.push(string("\"A\"").replace(r#""string""#, r#"["string","null"]"#));
    bad.push(r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#.into());
    bad.push(r#"{"type":"string","x-mcp-header":"A"}"#.into());
    for keyword in SCHEMA_KEYWORDS {
        bad.push(format!(r#"{{"properties":{{"x":{{"{keyword}":{inner}}}}}}}"#));
    }
    bad.push(format!(r#"{{"anyOf":[true,{inner}]}}"#));
    bad.push(format!(r#"{{"$defs":{{"x":{inner}}}}}"#));
    bad.push(format!("{}{inner}{}", r#"{"properties":{"x":"#.repeat(200), "}}".repeat(200)));
    for schema in bad {
        assert!(annotations(&schema).is_err(), "{schema}");
    }
}

const SCHEMA_KEYWORDS: [&str; 8] = ["items", "oneOf", "anyOf", "allOf", "not", "if", "then", "else"];

#[test]
fn the_table_learns_from_lists_and_stays_bounded() {
    let list = |tools: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}],"nextCursor":"2"}}}}"#);
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{tools}") };
        message.line
    };
    let mut table = ToolHeaders::default();
    let good =
        format!(r#"{{"name":"query","inputSchema":{SCHEMA}}},7,{{"name":"plain","inputSchema":{{}}}}"#);
    let line = list(&good);
    assert_eq!(table.learn(&line), []);
    assert_eq!(next_cursor(&line).as_deref(), Some("2"));
    assert_eq!(table.get("query").unwrap().iter().count(), 3);
    assert_eq!(table.get("plain").unwrap().iter().count(), 0);
    assert!(table.get("other").is_none());
    let invalid = table.learn(&list(&good.replace("Region", "a b")));
    assert_eq!(invalid[0].name, "query");
    assert!(table.get("query").is_none() && table.get("plain").is_some());
    let many: Vec<_> = (0..5000).map(|n| format!(r#"{{"name":"t{n}","inputSchema":{{}}}}"#)).collect();
    table.learn(&list(&many.join(",")));
    assert!(table.get("t0").is_some() && table.get("t4999").is_none());
}
