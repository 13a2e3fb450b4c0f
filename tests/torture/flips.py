"""One bit of one stopped node's files is flipped; the node must notice, and be whole again by itself.

python -m tests.torture.flips --times 10 [--rate N] [--seed N] [--storage sqlite|rocksdb] [--home DIR]

Confirmed by reading the byte back, and by opening a copy of the files without the node: a flip that the
storage does not find wrong lay in unused bytes, is taken back, and another bit is drawn.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import Final

import trio

from esctl.exits import Exit
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load
from tests.torture.rejoining import bring_back, take_down
from tests.torture.stored import damage_in, data_files

MAX_DRAWS: Final = 40


class FlippedBit:
    """One bit in a file."""

    name = "flips"
    small_disks = apart = False

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        node = ring.cluster.node(target.number)
        how = await take_down(ring, target.number, source)
        found = path = None
        for _ in range(MAX_DRAWS):
            path = source.choice(data_files(ring.cluster, node))
            place, bit = source.randrange(path.stat().st_size), source.randrange(8)
            changed = flip(path, place, bit)
            what = f"{how}, bit {bit} of byte {place:,} of {path.name} flipped"
            found = await trio.to_thread.run_sync(damage_in, ring.cluster, node, ring.directory)
            if found:
                break
            flip(path, place, bit)
        else:
            await bring_back(ring, load, target.number, damaged=False)
            return Strike(how, f"{MAX_DRAWS} flipped bits changed nothing that is read")
        await bring_back(ring, load, target.number, damaged=True)
        return Strike(f"{what} ({found})", "" if changed else "the file reads as before")


def flip(path: Path, place: int, bit: int) -> bool:
    """Flip one bit and sync it; does the file read otherwise now?"""
    with path.open("r+b", buffering=0) as file:
        file.seek(place)
        before = file.read(1)[0]
        file.seek(place)
        file.write(bytes([before ^ (1 << bit)]))
    with path.open("rb", buffering=0) as file:
        file.seek(place)
        return file.read(1)[0] == before ^ (1 << bit)


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("flips", [FlippedBit()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
