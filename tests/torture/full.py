"""One node's disk is full, under load; the node must end, and go on after there is space again.

python -m tests.torture.full --times 3 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

Each data directory is a small file system in memory. A file takes nearly all of the space, and the log
itself takes the rest. Confirmed by the file system's own figures, and by the node's exit code and error.
"""

import argparse
import random
import sys
from typing import Final

import trio

from esctl.exits import Exit
from esnode.errors import StorageFailed
from tests.torture import disks
from tests.torture.arena import Arena, Target, Trouble
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load

MAX_LEFT_BYTES: Final = 1024 * 1024
FULL_BYTES: Final = 64 * 1024
"""With less than this free a write of a few pages fails."""
END_TIMEOUT_S: Final = 60.0
ROUND_S: Final = 0.005


class FullDisk:
    """No space left on the device."""

    name = "full"
    needs = Needs(small_disks=True)

    def missing(self) -> str:
        return disks.missing()

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        number = target.number
        place = ring.cluster.node(number).data_dir
        left = source.randint(0, MAX_LEFT_BYTES)
        disks.fill(place, left)
        least, code = await self._wait_end(ring, number)
        words = ring.last_words(number) if code is not None else ""
        disks.make_space(place)
        what = f"its disk was full, after {left:,} more bytes"
        if code is None:
            return Strike(
                what, f"the node lived on for {END_TIMEOUT_S:g} s; at least {least:,} bytes were free"
            )
        await ring.start([number])
        await ring.wait_caught_up()
        if code != 1 or not words.startswith(StorageFailed.code):
            raise Trouble(f"with a full disk node {number} ended with {code}: {words}")
        return Strike(f"{what}; {words}", "" if least < FULL_BYTES else f"{least:,} bytes were free")

    async def _wait_end(self, ring: Arena, number: int) -> tuple[int, int | None]:
        """The least that was free meanwhile, and the exit code."""
        place = ring.cluster.node(number).data_dir
        least, code = disks.free_bytes(place), None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal least
                while True:
                    least = min(least, disks.free_bytes(place))
                    await trio.sleep(ROUND_S)  # a file system tells nobody that it is full

            nursery.start_soon(watch)
            code = await ring.wait_end(number, END_TIMEOUT_S)
            nursery.cancel_scope.cancel()
        return least, code


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("full", [FullDisk()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=3)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
