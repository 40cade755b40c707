"""The Python SDK 2.x as a client of server-1.mjs or server-2.mjs, as one of 2026-07-28; prints one line of JSON.

    URL
    --stdio COMMAND ARGS...

SSL_CERT_FILE names the authority to trust."""

import json
import os

import anyio
from mcp import Client, MCPError, StdioServerParameters, types

from eras import use
from lib import expect, options, run


async def elicited(_context, params):
    return types.ElicitResult(action="accept", content={"name": f"answer to {params.message}"})


async def main():
    opts = options()
    target = opts.url
    if opts.stdio:
        target = StdioServerParameters(command=opts.stdio[0], args=opts.stdio[1:], env=dict(os.environ))
    async with Client(target, elicitation_callback=elicited) as client:
        expect(client.protocol_version == "2026-07-28", "the client speaks the modern revision")
        expect(client.server_info.name.startswith("peer-"), "the name of the server")

        async def hear(uri, change):
            async with client.listen(resource_subscriptions=[uri]) as subscription:
                await change()
                with anyio.fail_after(20):
                    expect((await anext(subscription)).uri == uri, "the update of a resource")

        async def cancel(tool):
            async with anyio.create_task_group() as group:

                async def on_progress(*_):
                    group.cancel_scope.cancel()

                group.start_soon(lambda: client.call_tool(tool, {}, progress_callback=on_progress))

        report = await use(
            call=client.call_tool,
            list_tools=client.list_tools,
            read=client.read_resource,
            request=lambda method: client.session.send_request(types.Request(method=method, params={}), types.EmptyResult),
            hear=hear,
            cancel=cancel,
            refusal=MCPError,
        )
    print(json.dumps({"client": "python-2", **report}))


run(main)
