"""What a client of either era does with server-1.mjs and server-2.mjs."""

import anyio

from lib import expect

NOTE = "test://note"


async def use(call, list_tools, read, request, hear, cancel, refusal):
    """`call`, `list_tools`, `read`, `request`: one request each. `hear` waits for the update of a resource that a change brings
    about, `cancel` cancels a call of a tool that has reported progress, `refusal` is the SDK's error."""

    async def say(name, arguments=None, **options):
        return (await call(name, arguments or {}, **options)).content[0].text

    value = "hällo \u2028 \U0001f980 \"quoted\"\n"
    expect(await say("echo", {"value": value}) == value, "echo says the value")

    tools = [tool.name for tool in (await list_tools()).tools]
    expect("echo" in tools, f"tools: {tools}")

    steps = []
    async with anyio.create_task_group() as group:

        async def on_progress(progress, _total, _message):
            steps.append(progress)
            group.start_soon(list_tools)

        done = await say("steps", progress_callback=on_progress)
    expect(done == "3 steps" and steps == [1, 2, 3], f"progress: {steps}")

    answer = await say("ask")
    expect(answer == "accept: answer to who?", f"elicitation: {answer}")
    await hear(NOTE, lambda: say("touch"))

    await cancel("wait")
    count = await say("cancelled")
    expect(count == "1", f"the server hears of one cancelled call: {count}")

    async def refused(made, words):
        try:
            result = await made
        except refusal as error:
            expect(words in error.error.message, f"the server's own words: {error.error}")
            return error.error.code
        expect(False, f"no error: {result}")

    return {
        "unknown_method": await refused(request("no/such/method"), ""),
        "missing_resource": await refused(read("test://missing"), "Resource not found"),
        "unknown_tool": await refused(call("no-such-tool", {}), "no-such-tool"),
    }
