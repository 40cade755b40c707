"""The Python SDK as a client of the fixture server; prints one line of JSON. Options: lib.py."""

import json
import zlib

from mcp import ClientSession, McpError, types

from lib import eventually, expect, options, run
from sdk_1 import cancel, connect, elicited, http_client

MIB5 = 5 * 1024 * 1024


class Heard:
    """What the server sent of its own accord."""

    def __init__(self):
        self.logs, self.changes, self.progress = [], 0, []

    async def log(self, params):
        self.logs.append(params.data)

    async def message(self, message):
        if isinstance(message, types.ServerNotification) and isinstance(
            message.root, types.ToolListChangedNotification
        ):
            self.changes += 1

    async def on_progress(self, progress, _total, _message):
        self.progress.append(progress)


async def sampled(_context, params):
    text = f"sampled: {params.messages[0].content.text}"
    content = types.TextContent(type="text", text=text)
    return types.CreateMessageResult(role="assistant", model="fixture", content=content)


async def roots(_context):
    return types.ListRootsResult(roots=[types.Root(uri="file:///fixture", name="fixture")])


async def main():
    opts, heard = options(), Heard()
    async with connect(opts) as (read, write, session_id):
        async with ClientSession(
            read, write, sampling_callback=sampled, elicitation_callback=elicited, list_roots_callback=roots,
            logging_callback=heard.log, message_handler=heard.message,
        ) as session:
            report = {"client": "python", "over": "stdio" if opts.stdio else "http", "tls": bool(opts.ca)}
            report["protocol"] = (await session.initialize()).protocolVersion
            report["tools"] = await use(session, heard)
            session_name = session_id()
    if session_name:
        report["after_delete"] = await after_delete(opts, session_name)
    print(json.dumps(report))


async def use(session, heard):
    async def call(tool, **arguments):
        return await session.call_tool(tool, arguments)

    tools = (await session.list_tools()).tools
    expect(any(tool.name == "echo" for tool in tools), "tools/list has echo")

    message = "hällo \u2028 \U0001f980 \"quoted\"\n"
    expect((await call("echo", message=message)).content[0].text == message, "echo says the message")

    result = await session.call_tool("progress", {"steps": 5, "ms": 20}, progress_callback=heard.on_progress)
    expect(result.content[0].text == "5 steps", "the long call ends")
    await eventually(lambda: heard.progress == [1, 2, 3, 4, 5], "five steps of progress, in order")

    await call("log", data="python was here")
    await eventually(lambda: heard.logs == ["python was here"], "one log notification")

    sample = (await call("sample", prompt="why?")).structuredContent
    expect(sample["result"]["content"]["text"] == "sampled: why?", f"sampling: {sample}")
    answer = (await call("elicit", message="who?")).structuredContent
    expect(answer["result"]["content"]["name"] == "answer to who?", f"elicitation: {answer}")
    answer = (await call("roots")).structuredContent
    expect(answer["result"]["roots"][0]["name"] == "fixture", f"roots: {answer}")

    await call("list_changed")
    await eventually(lambda: heard.changes == 1, "list_changed within a call")
    await call("list_changed", after=True)
    await eventually(lambda: heard.changes == 2, "list_changed while no call is open")

    text = "0123456789abcdeé" * (MIB5 // 16)
    size = (await call("size", text=text)).structuredContent
    expect(size == measured(text), f"a large argument arrives whole: {size}")
    big = await call("big", bytes=MIB5)
    expect(big.structuredContent == measured(big.content[0].text), "a large result arrives whole")
    expect(len(big.content[0].text) == MIB5, "a large result has its length")

    await unknown_tool(call)
    await cancel_a_call(session, call)
    expect((await call("echo", message="bye")).content[0].text == "bye", "the session goes on after a cancelled call")
    return len(tools)


def measured(text):
    data = text.encode()
    return {"bytes": len(data), "adler32": zlib.adler32(data)}


async def unknown_tool(call):
    try:
        result = await call("no-such-tool")
    except McpError as error:
        expect(error.error.code == -32602, f"code of an unknown tool: {error.error}")
        expect("no-such-tool" in error.error.message, f"the server's own words: {error.error}")
    else:
        expect(False, f"an unknown tool is an error: {result}")


async def cancel_a_call(session, call):
    await cancel(session, "never")
    ids = (await call("cancelled", wait=1)).structuredContent["ids"]
    expect(len(ids) == 1, f"the server hears of one cancelled call: {ids}")


async def after_delete(opts, session_name):
    """The SDK sent DELETE: the session is gone."""
    headers = {"Mcp-Session-Id": session_name, "Accept": "application/json, text/event-stream"}
    async with http_client(opts) as http:
        answer = await http.post(opts.url, headers=headers, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    expect(answer.status_code == 404, f"a deleted session is unknown: {answer.status_code}")
    return answer.status_code


run(main)
