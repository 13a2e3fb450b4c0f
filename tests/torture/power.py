"""The power of one node, or of all at once, is cut under load: what was not synced is gone from the disks.

python -m tests.torture.power --times 10 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

Each node has an ext4 of its own; its processes are stopped, the file system is shut down without a flush,
and only then they are killed. Needs root. Confirmed by a file that was written just before and not synced:
its content must be gone.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import Final

import trio

from esctl.exits import Exit
from tests.torture import disks
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load
from tests.torture.pauses import wait_stopped

CANARY: Final = "canary"
CANARY_TEXT: Final = "written, not synced\n" * 1000
ALL_OF_2: Final = 1
"""In so many of two cuts the power of all nodes is cut."""


class PowerCut:
    """Unsynced data is lost."""

    name = "power"
    needs = Needs(plugs=True)

    def missing(self) -> str:
        return disks.plug_missing()

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        numbers = ring.numbers if source.randrange(2) < ALL_OF_2 else [target.number]
        places = [ring.cluster.node(number).data_dir for number in numbers]
        for place in places:
            place.joinpath(CANARY).write_text(CANARY_TEXT)
        await load.wait_acked(1)  # right after an ack: what was acked too early is not on the disk yet
        pids = [ring.backend.pause(ring.cluster, number) for number in numbers]
        stopped = [await wait_stopped(pid) for pid in pids]
        for number in numbers:
            ring.plugs[number].pull()
        await ring.kill(numbers)
        await trio.to_thread.run_sync(power_again, ring, numbers)
        kept = [place for place in places if survived(place)]
        await ring.start(numbers)
        await ring.wait_caught_up()
        what = "the power of all nodes was cut" if len(numbers) > 1 else "its power was cut"
        if not all(stopped):
            return Strike(what, "the processes did not stop")
        return Strike(what, f"what was not synced is still there: {kept}" if kept else "")


def power_again(ring: Arena, numbers: list[int]) -> None:
    """Mount the file systems again, from what had reached the disks."""
    for number in numbers:
        ring.plugs[number].unmount()
        ring.plugs[number].mount()


def survived(place: Path) -> bool:
    """Is the content of the canary there? Its name may be: another file's sync takes that along."""
    canary = place / CANARY
    if not canary.exists():
        return False
    content = canary.read_text()
    canary.unlink()
    return bool(content)


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("power", [PowerCut()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
