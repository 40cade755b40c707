"""Many clients at once, each of which counts its request ids from 0 and may see only what is its own.

Options: lib.py, and --clients N. Prints one line of JSON.
"""

import json

import anyio
from mcp import ClientSession, types

from lib import eventually, expect, options, run
from sdk_1 import connect

ROUNDS = 5


class Client:
    def __init__(self, opts, number):
        self.opts, self.marker = opts, f"client-{number}"
        self.logs, self.progress, self.sampled, self.pid = [], [], 0, None

    async def live(self, all_ready):
        async with connect(self.opts) as (read, write, _):
            async with ClientSession(
                read, write, sampling_callback=self.on_sample, logging_callback=self.on_log
            ) as session:
                await session.initialize()
                self.pid = (await session.call_tool("echo", {"message": self.marker, "pid": True})).structuredContent["pid"]
                await all_ready()
                for number in range(ROUNDS):
                    await self.one_round(session, f"{self.marker} round {number}")
                await eventually(lambda: len(self.logs) == ROUNDS, f"{self.marker} gets its logs: {self.logs}")
                await eventually(lambda: len(self.progress) == 3 * ROUNDS, f"{self.marker} gets its progress")

    async def one_round(self, session, marker):
        """Four calls in flight at once."""

        async def echo():
            text = (await session.call_tool("echo", {"message": marker})).content[0].text
            expect(text == marker, f"{marker} got the answer {text!r}")

        async def log():
            await session.call_tool("log", {"data": marker})

        async def sample():
            answer = (await session.call_tool("sample", {"prompt": marker})).structuredContent
            expect(answer["result"]["content"]["text"] == marker, f"{marker} got the sample {answer}")

        async def progress():
            await session.call_tool("progress", {"steps": 3, "ms": 10}, progress_callback=self.on_progress)

        async with anyio.create_task_group() as group:
            for call in (echo, log, sample, progress):
                group.start_soon(call)

    def is_mine(self, text, what):
        expect(str(text).startswith(self.marker + " "), f"{self.marker} got {what} of another: {text!r}")

    async def on_log(self, params):
        self.is_mine(params.data, "a log")
        self.logs.append(params.data)

    async def on_progress(self, progress, *_):
        self.progress.append(progress)

    async def on_sample(self, _context, params):
        text = params.messages[0].content.text
        self.is_mine(text, "a sampling request")
        self.sampled += 1
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", model="fixture", content=content)


async def main():
    opts = options()
    clients = [Client(opts, number) for number in range(opts.clients)]
    waiting, everyone = [], anyio.Event()

    async def all_ready():
        waiting.append(1)
        if len(waiting) == len(clients):
            everyone.set()
        await everyone.wait()

    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(client.live, all_ready)

    for client in clients:
        expect(client.sampled == ROUNDS, f"{client.marker} was asked {client.sampled} times to sample")
        expect(len(set(client.logs)) == ROUNDS, f"{client.marker} got a log twice: {client.logs}")
    pids = {client.pid for client in clients}
    expect(len(pids) == len(clients), f"each client has a server process of its own: {len(pids)}")
    print(json.dumps({"client": "python", "clients": len(clients), "calls": len(clients) * (1 + 4 * ROUNDS)}))


run(main)
