"""Leaders and followers that stand still for a while and wake up: SIGSTOP and SIGCONT, under load.

python -m tests.torture.pauses --times 20 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

Confirmed by /proc: all threads in state T at both ends of the pause, and neither time on a processor nor
a byte read or written in between.
"""

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from esctl.exits import Exit
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load

SHORTEST_S: Final = 0.05
LONGEST_S: Final = 3.0
STOP_WITHIN_S: Final = 2.0
"""A thread in the middle of an fsync stops after it."""


class Pause:
    """SIGSTOP, some time, SIGCONT."""

    name = "pauses"
    needs = Needs()

    def __init__(self, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S) -> None:
        self._bounds_s = shortest_s, longest_s

    def missing(self) -> str:
        return "" if Path("/proc/self/io").exists() else "there is no /proc/PID/io"

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        pid = ring.backend.pause(ring.cluster, target.number)
        try:
            stopped = await wait_stopped(pid)
            before = motion(pid)
            pause_s = source.uniform(*self._bounds_s)
            await trio.sleep(pause_s)
            after, still_stopped = motion(pid), states(pid) == {"T"}
        finally:
            ring.backend.resume(ring.cluster, target.number)
        what = f"paused for {pause_s * 1000:.0f} ms"
        if not (stopped and still_stopped):
            return Strike(what, "its threads did not stop")
        return Strike(what, "" if before == after else f"it went on: {before} and {after}")


@dataclass(frozen=True, slots=True)
class Motion:
    """What the kernel has counted of a process; none of it grows while it is stopped."""

    cpu_ns: int
    bytes_read: int
    bytes_written: int


def motion(pid: int) -> Motion:
    """Now, all threads together."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    ticks = [thread.joinpath("schedstat").read_text().split()[0] for thread in threads(pid)]
    return Motion(sum(map(int, ticks)), int(counters["rchar"]), int(counters["wchar"]))


def states(pid: int) -> set[str]:
    """The letters of its threads' states; T is stopped."""
    return {t.joinpath("stat").read_text().rpartition(")")[2].split()[0] for t in threads(pid)}


def threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


async def wait_stopped(pid: int) -> bool:
    """Have all threads stopped, within a bound?"""
    with trio.move_on_after(STOP_WITHIN_S):
        while True:
            if states(pid) == {"T"}:
                return True
            await trio.sleep(0.002)  # nothing tells when a process stops
    return False


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("pauses", [Pause()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=20)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
