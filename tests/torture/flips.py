"""One bit of one node's files is flipped; the node must notice, and be whole again by itself.

python -m tests.torture.flips --times 10 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

The node was killed, or stopped in peace, or runs. Confirmed by reading the byte back, and by opening a copy
of the files without the node: a flip that the storage does not find wrong lay in unused bytes, is taken
back, and another bit is drawn. A running node rejoins once its log is read; sometimes it is killed then.
With --retention-bytes N there are snapshots to be damaged, too.
"""

import argparse
import contextlib
import random
import sys
from typing import Final

import trio

from esctl.exits import Exit
from esnode.damage import MAX_DRAWS, Flip, data_files
from esnode.errors import EventStreamError
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.judgement import keys_of
from tests.torture.load import Load
from tests.torture.rejoining import bring_back, wait_renamed, wait_sound
from tests.torture.stored import damage_in, directory_name

NOTICE_S: Final = 3.0
"""A running node that has not put its files aside by then has not read what was flipped."""


class FlippedBit:
    """One bit in a file."""

    name = "flips"
    needs = Needs()

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        match source.choice(("killed", "stopped", "running")):
            case "killed":
                await ring.kill([target.number])
                return await self._at_rest(ring, load, target.number, source, "killed")
            case "stopped":
                await ring.stop([target.number])
                return await self._at_rest(ring, load, target.number, source, "stopped")
            case _:
                return await self._while_running(ring, load, target.number, source)

    async def _at_rest(self, ring: Arena, load: Load, number: int, source: random.Random, how: str) -> Strike:
        node = ring.cluster.node(number)
        for _ in range(MAX_DRAWS):
            flip = Flip.drawn(data_files(ring.cluster.storage, node.data_dir), source)
            changed = flip.carry_out()
            found = await trio.to_thread.run_sync(damage_in, ring.cluster, node, ring.directory)
            if found:
                told = await bring_back(ring, load, number, source, damaged=True)
                return Strike(f"{how}, {flip} ({found}){told}", "" if changed else "the file reads as before")
            flip.carry_out()
        await bring_back(ring, load, number, source, damaged=False)
        return Strike(how, f"{MAX_DRAWS} flipped bits changed nothing that is read")

    async def _while_running(self, ring: Arena, load: Load, number: int, source: random.Random) -> Strike:
        node = ring.cluster.node(number)
        await ring.stop([number])
        await ring.start([number])  # what it had in memory is gone
        flip = Flip.drawn(data_files(ring.cluster.storage, node.data_dir, at_rest=False), source)
        before = directory_name(node)
        changed = flip.carry_out()
        with contextlib.suppress(EventStreamError):  # it may well refuse, or end
            await keys_of(ring, number)
        if ring.runs(number) and await wait_renamed(node, before, NOTICE_S):
            await wait_sound(ring, load, number)
            return Strike(
                f"running, {flip} (it began to rejoin at once)", "" if changed else "it reads as before"
            )
        # The node did not need these bytes, or it had them in memory, or it has ended by itself.
        if ring.runs(number):
            await ring.kill([number])
        words = ring.last_words(number)
        found = await trio.to_thread.run_sync(damage_in, ring.cluster, node, ring.directory)
        if not found:
            return await self._at_rest(ring, load, number, source, "running, not noticed, killed")
        told = await bring_back(ring, load, number, source, damaged=True)
        return Strike(
            f"running, {flip} ({words}; after its end: {found}){told}", "" if changed else "reads as before"
        )


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("flips", [FlippedBit()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
