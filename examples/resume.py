"""Put the lines of a file in the log, each once, over restarts of this program, however long they take:

    python examples/resume.py NAME ADDRESS... < events.ndjson

The number of a line is its number in the producer session NAME. The log says which it has last, and this goes
on behind it. It may be killed and started again at any time, even beside one that still runs: that one ends.
"""

import json
import sys
from collections.abc import Iterable
from itertools import islice

import trio

from esnode.client import connect

AT_ONCE = 1000


async def main(name: str, lines: Iterable[str], addresses: list[str]) -> None:
    """Append what the log does not have."""
    async with connect(addresses, producer=name) as log:
        number = (await log.producer_state()).next_sequence
        print(f"{number} lines are in the log")
        rest = islice(lines, number, None)
        while events := [json.loads(line) for line in islice(rest, AT_ONCE)]:
            acks = await log.append_many(events, first_sequence=number)
            number += len(events)
            print(f"{number} lines are in the log, the last at offset {acks[-1].offset}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.stdin, sys.argv[2:] or ["127.0.0.1:7101"])
