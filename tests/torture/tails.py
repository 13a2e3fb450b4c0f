"""The end of one stopped node's file is cut away; the node must notice, and be whole again by itself.

python -m tests.torture.tails --times 5 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

The journal, the database and the durable mark in turn. Confirmed by the file's size, and by opening a copy
of the files without the node: a cut that nothing misses was too short, and is made longer.
"""

import argparse
import os
import random
import sys

import trio

from esctl.exits import Exit
from esnode.damage import data_files
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load
from tests.torture.rejoining import bring_back
from tests.torture.stored import damage_in, mark_file


class CutTail:
    """The last bytes of a file are gone."""

    name = "tails"
    needs = Needs()

    def __init__(self) -> None:
        self._turn = 0

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        node = ring.cluster.node(target.number)
        await ring.kill([target.number])  # after a stop in peace there is no journal
        files = sorted([*data_files(ring.cluster.storage, node.data_dir), mark_file(node)])
        path = files[self._turn % len(files)]
        self._turn += 1
        size = path.stat().st_size
        gone, found = 0, ""
        while not found and gone < size:
            gone = min(size, max(source.randint(1, min(size, 4096)), 2 * gone))
            os.truncate(path, size - gone)
            found = await trio.to_thread.run_sync(damage_in, ring.cluster, node, ring.directory)
        left = path.stat().st_size
        told = await bring_back(ring, load, target.number, source, damaged=bool(found))
        what = f"the last {gone:,} of {size:,} bytes of {path.name} cut ({found}){told}"
        if not found:
            return Strike(what, "nothing that is read was missing")
        return Strike(what, "" if left == size - gone else f"the file had {left:,} bytes")


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("tails", [CutTail()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=5)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
