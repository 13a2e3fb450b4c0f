"""Follow the log from its beginning until Ctrl-C: python examples/consumer.py ADDRESS..."""

import json
import sys

import trio

from esnode.client import connect


async def main(addresses: list[str], from_offset: int = 0) -> None:
    """Print each event once, whatever happens to the nodes meanwhile."""
    async with connect(addresses) as log, log.subscribe(from_offset) as events:
        async for stored in events:
            print(stored.offset, json.dumps(stored.event))


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1:] or ["127.0.0.1:7101"])
    except* KeyboardInterrupt:
        print("stopped", file=sys.stderr)
