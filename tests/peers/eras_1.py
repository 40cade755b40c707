"""The Python SDK 1.x as a client of server-1.mjs or server-2.mjs; prints one line of JSON. Options: lib.py."""

import json

from mcp import ClientSession, McpError, types
from pydantic import AnyUrl

from eras import use
from lib import eventually, expect, options, run
from sdk_1 import cancel, connect, elicited


async def main():
    updates = []

    async def message(message):
        if isinstance(message, types.ServerNotification) and isinstance(message.root, types.ResourceUpdatedNotification):
            updates.append(str(message.root.params.uri))

    async with connect(options()) as (read, write, _):
        async with ClientSession(read, write, elicitation_callback=elicited, message_handler=message) as session:
            server = (await session.initialize()).serverInfo
            expect(server.name.startswith("peer-"), "the name of the server")

            async def hear(uri, change):
                await session.subscribe_resource(AnyUrl(uri))
                await change()
                await eventually(lambda: uri in updates, "the update of a resource")
                await session.unsubscribe_resource(AnyUrl(uri))

            report = await use(
                call=session.call_tool,
                list_tools=session.list_tools,
                read=lambda uri: session.read_resource(AnyUrl(uri)),
                request=lambda method: session.send_request(types.Request(method=method, params={}), types.EmptyResult),
                hear=hear,
                cancel=lambda tool: cancel(session, tool),
                refusal=McpError,
            )
    print(json.dumps({"client": "python-1", **report}))


run(main)
