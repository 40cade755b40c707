//! A stdio MCP server that does as little as can be: each call of a tool gets its text back.

use std::io::{self, BufRead, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}

/// Answers until standard input ends.
pub(crate) fn run(modern: bool) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut line, mut answer) = (String::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        answer.clear();
        if write_answer(&line, modern, &mut answer)? {
            answer.push(b'\n');
            output.write_all(&answer)?;
            output.flush()?;
        }
    }
}

/// Whether there is anything to answer.
fn write_answer(line: &str, modern: bool, out: &mut Vec<u8>) -> io::Result<bool> {
    let request: Request = serde_json::from_str(line)?;
    let (Some(id), Some(method)) = (request.id, request.method) else { return Ok(false) };
    let kind = if modern { r#""resultType":"complete","# } else { "" };
    let info = r#"{"name":"echo","version":"1"}"#;
    match (method, modern) {
        ("initialize", false) => write!(
            out,
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{info}}}}}"#
        )?,
        ("server/discover", true) => write!(
            out,
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{info}}}}}}}"#
        )?,
        ("tools/list", _) => {
            let hints = if modern { r#","ttlMs":0,"cacheScope":"private""# } else { "" };
            write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"tools":[{{"name":"echo","inputSchema":{{"type":"object"}}}}]{hints}}}}}"#
            )?;
        }
        ("tools/call", _) => {
            let params = request.params.map_or("{}", RawValue::get);
            let call: Call = serde_json::from_str(params)?;
            let text = call.arguments.text;
            write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"content":[{{"type":"text","text":{text}}}]}}}}"#
            )?;
        }
        _ => write!(
            out,
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#
        )?,
    }
    Ok(true)
}
