"""All nodes killed at once, under load, again and again; then nothing may be missing.

python -m tests.torture.kill_all --times 10 --rate 10000 [--seed N] [--storage ENGINE] [--home DIR]

Confirmed by the process table. Says how long it took from the start of all nodes to the next ack.
"""

import argparse
import random
import sys

import trio

from esctl.clusters.backends import pidfile
from esctl.exits import Exit
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load


class KillAll:
    """SIGKILL for everybody."""

    name = "kill_all"
    needs = Needs()

    def __init__(self) -> None:
        self.start_to_ack_s: list[float] = []

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        pids = [ring.pid(number) for number in ring.numbers]
        await load.wait_acked(1)  # right after an ack: what was acked too early is not written yet
        await ring.kill(ring.numbers)
        alive = [pid for pid in pids if pidfile.facts_of(pid) is not None]
        begun = trio.current_time()
        await ring.start(ring.numbers)
        await load.wait_acked(1)
        self.start_to_ack_s.append(round(trio.current_time() - begun, 2))
        what = f"all killed, acks again {self.start_to_ack_s[-1]} s after the start"
        return Strike(what, f"processes {alive} are still there" if alive else "")


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    fault = KillAll()
    return run_campaign("kill_all", [fault], settings, lambda: {"start_to_ack_s": fault.start_to_ack_s})


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
