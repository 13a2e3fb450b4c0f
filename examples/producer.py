"""Put events in the log, one JSON object a line: python examples/producer.py ADDRESS... < events.ndjson"""

import json
import sys
from collections.abc import Iterable

import trio

from esnode.client import connect


async def main(addresses: list[str], lines: Iterable[str]) -> None:
    """Append every line, and say what became of it."""
    async with connect(addresses) as log:
        events = [json.loads(line) for line in lines]
        for event, ack in zip(events, await log.append_many(events), strict=True):
            known = " (it was there before)" if ack.duplicate else ""
            print(f"{event['source']} {event['id']} is at offset {ack.offset}{known}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1:] or ["127.0.0.1:7101"], sys.stdin)
