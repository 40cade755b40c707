"""The Python SDK as a server of HTTP+SSE, with the fixture server's tools that client.py and client.mjs call.

It takes a free port and says so on stderr: "Uvicorn running on http://127.0.0.1:PORT".
"""

import zlib

import anyio
from mcp import McpError, types
from mcp.server.fastmcp import Context, FastMCP

MIB16 = 16 * 1024 * 1024
server = FastMCP("fixture-server", host="127.0.0.1", port=0, max_request_body_size=MIB16)
cancelled_ids, news = [], anyio.Event()


@server.tool()
def echo(message: str) -> str:
    return message


@server.tool()
async def progress(ctx: Context, steps: int, ms: int = 0) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step)
        await anyio.sleep(ms / 1000)
    return f"{steps} steps"


@server.tool()
async def log(ctx: Context, data: str) -> str:
    await ctx.session.send_log_message("info", data, related_request_id=ctx.request_id)
    return "logged"


@server.tool()
async def sample(ctx: Context, prompt: str) -> types.CallToolResult:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return peer_said(await ctx.session.create_message([message], max_tokens=10))


@server.tool()
async def elicit(ctx: Context, message: str) -> types.CallToolResult:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    return peer_said(await ctx.session.elicit(message, schema))


@server.tool()
async def roots(ctx: Context) -> types.CallToolResult:
    return peer_said(await ctx.session.list_roots())


@server.tool()
async def list_changed(ctx: Context, after: bool = False) -> str:
    session = ctx.session

    async def tell():
        if after:
            await anyio.sleep(0.05)
        await session.send_tool_list_changed()

    if after:
        background.start_soon(tell)
    else:
        await tell()
    return "changed"


@server.tool()
def size(text: str) -> types.CallToolResult:
    return measured("measured", text)


@server.tool()
def big(bytes: int) -> types.CallToolResult:
    text = "x" * bytes
    return measured(text, text)


@server.tool()
async def never(ctx: Context) -> str:
    try:
        await ctx.report_progress(1)
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        global news
        cancelled_ids.append(ctx.request_id)
        news.set()
        news = anyio.Event()
        raise


@server.tool()
async def cancelled(wait: int = 0) -> types.CallToolResult:
    while len(cancelled_ids) < wait:
        await news.wait()
    return structured("cancelled", {"ids": cancelled_ids})


def peer_said(result):
    return structured("the client said", {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)})


def measured(text, of):
    data = of.encode()
    return structured(text, {"bytes": len(data), "adler32": zlib.adler32(data)})


def structured(text, content):
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structuredContent=content)


async def main():
    global background
    call = server._mcp_server.request_handlers[types.CallToolRequest]
    known = {tool.name for tool in await server.list_tools()}

    async def call_known(request):
        """This SDK answers the call of an unknown tool with a result; the fixture server with an error."""
        if request.params.name not in known:
            raise McpError(types.ErrorData(code=types.INVALID_PARAMS, message=f"no tool {request.params.name}"))
        return await call(request)

    server._mcp_server.request_handlers[types.CallToolRequest] = call_known
    async with anyio.create_task_group() as background:
        await server.run_sse_async()


anyio.run(main)
