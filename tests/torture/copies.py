"""One node finds an older copy of its data directory, or an empty one; it must not act as if it knew.

python -m tests.torture.copies --times 6 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

Confirmed by what the files hold, read without the node: fewer events than this node had acked. It has to
rejoin (its log says so), and to show every acked event again before the next fault.
"""

import argparse
import random
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from esctl.clusters import nodelog
from esctl.clusters.state import Node
from esctl.exits import Exit
from tests.torture.arena import Arena, Target, Trouble
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load
from tests.torture.rejoining import wait_sound
from tests.torture.stored import next_offset_in

OLDER_BY: Final = 1_000
"""So many events are acked, at least, after the copy was taken."""


class OldCopy:
    """A backup that was put back, or a new disk."""

    name = "copies"
    needs = Needs()

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        number, node = target.number, ring.cluster.node(target.number)
        wiped = source.random() < 1 / 3
        backup = ring.directory / f"backup-of-node-{number}"
        await ring.stop([number])
        await trio.to_thread.run_sync(partial(put_back, node.data_dir, backup, empty=wiped))
        await ring.start([number])
        await ring.wait_caught_up()
        await load.wait_acked(OLDER_BY)
        await ring.kill([number])
        had = await trio.to_thread.run_sync(next_offset_in, ring.cluster, node, ring.directory)
        await trio.to_thread.run_sync(put_back, backup, node.data_dir)
        has = await trio.to_thread.run_sync(next_offset_in, ring.cluster, node, ring.directory)
        await ring.start([number])
        await wait_sound(ring, load, number)
        if not began_to_rejoin(ring, node):
            raise Trouble(f"node {number} went on with a log of {has:,} events; it had had {had:,}")
        shutil.rmtree(backup)
        what = f"{'an empty directory' if wiped else 'an older copy'}: {has:,} events, it had {had:,}"
        return Strike(what, "" if has < had else "the copy was not older")


def put_back(origin: Path, destination: Path, *, empty: bool = False) -> None:
    """Replace what is in `destination` by a copy of `origin`, or by nothing, as `rm -r` and `cp -r` do."""
    if destination.is_mount():
        for path in destination.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif destination.exists():
        shutil.rmtree(destination)
    destination.mkdir(mode=0o700, exist_ok=True)
    if not empty:
        shutil.copytree(origin, destination, dirs_exist_ok=True)


def began_to_rejoin(ring: Arena, node: Node) -> bool:
    """Does its log say so, since its last start?"""
    lines = nodelog.read(node.log, node.id, ring.log_ends[node.id])
    return any(line.event == "rejoin_begun" for line in lines)


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("copies", [OldCopy()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=6)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
