"""What the peers on the Python SDK 1.x share: a connection to the server they name, and what a client does."""

import os
import ssl
from contextlib import asynccontextmanager

import anyio
import httpx
from mcp import StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


def http_client(opts):
    """The SDK's own settings, with our trust and identity."""
    verify = True
    if opts.url.startswith("https:"):
        verify = ssl.create_default_context(cafile=opts.ca)
        if opts.cert:
            verify.load_cert_chain(opts.cert, opts.key)
    headers = {"Authorization": f"Bearer {os.environ[opts.token_env]}"} if opts.token_env else {}
    return httpx.AsyncClient(verify=verify, headers=headers, timeout=httpx.Timeout(30, read=300), trust_env=False)


@asynccontextmanager
async def connect(opts):
    """Yields the two streams of a session, and a function that tells its id over HTTP."""
    if opts.stdio:
        parameters = StdioServerParameters(command=opts.stdio[0], args=opts.stdio[1:], env=dict(os.environ))
        async with stdio_client(parameters) as (read, write):
            yield read, write, lambda: None
    else:
        async with http_client(opts) as http, streamable_http_client(opts.url, http_client=http) as streams:
            yield streams


async def elicited(_context, params):
    return types.ElicitResult(action="accept", content={"name": f"answer to {params.message}"})


async def cancel(session, tool):
    """Calls a tool, and cancels that when it has reported progress. This SDK leaves it to the caller to tell the server."""
    started = anyio.Event()

    async def on_progress(*_):
        started.set()

    async with anyio.create_task_group() as group:
        request_id = session._request_id  # the one that the next request gets
        group.start_soon(lambda: session.call_tool(tool, {}, progress_callback=on_progress))
        await started.wait()
        params = types.CancelledNotificationParams(requestId=request_id, reason="enough")
        await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        group.cancel_scope.cancel()
