"""What the Python peers share: the options of their command line, and how they are run and fail.

    [--ca FILE] [--cert FILE --key FILE] [--token-env VAR] URL
    --stdio COMMAND ARGS...
"""

import argparse
import sys
import time

import anyio

DEADLINE = 120  # for a whole script


class Failed(Exception):
    """An expectation that did not hold."""


def expect(holds, what):
    if not holds:
        raise Failed(what)


async def eventually(condition, what, limit=20):
    """Waits for the condition; polling is for the client's own state only, which nothing announces."""
    end = time.monotonic() + limit
    while not condition():
        expect(time.monotonic() < end, f"{what}: not within {limit} s")
        await anyio.sleep(0.005)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--token-env")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--stdio", nargs=argparse.REMAINDER)
    parser.add_argument("url", nargs="?")
    return parser.parse_args()


def run(main):
    """Runs the script; a failed expectation is one line on stderr and status 1."""

    async def bounded():
        with anyio.fail_after(DEADLINE):
            await main()

    try:
        anyio.run(bounded)
    except BaseException as error:  # noqa: BLE001 - also an exception group of the SDK's tasks
        failed = find(error, Failed)
        if failed is None:
            raise
        print(f"FAILED: {failed}", file=sys.stderr)
        sys.exit(1)


def find(error, kind):
    """The first exception of that kind inside a group of groups."""
    if isinstance(error, kind):
        return error
    return next((found for inner in getattr(error, "exceptions", ()) if (found := find(inner, kind))), None)
