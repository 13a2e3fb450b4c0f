"""SIGKILLs of random nodes under load, each node started again after a second; then nothing may be missing.

python -m tests.torture.kills --times 50 --rate 10000 [--seed N] [--storage ENGINE] [--home DIR]

Confirmed by the process table: the process was there before, and is gone after.
"""

import argparse
import random
import sys
from typing import Final

import trio

from esctl.clusters.backends import pidfile
from esctl.exits import Exit
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load

DOWN_S: Final = 1.0
"""How long a killed node is down."""


class Kill:
    """SIGKILL."""

    name = "kills"
    needs = Needs()

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        pid = ring.pid(target.number)
        await ring.kill([target.number])
        alive = pidfile.facts_of(pid) is not None
        await trio.sleep(DOWN_S)
        await ring.start([target.number])
        return Strike("killed", "the process is still there" if alive else "")


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("kills", [Kill()], settings)


def parser() -> argparse.ArgumentParser:
    parser = options(__doc__, times=100)
    same = argparse.SUPPRESS
    parser.add_argument("--kills", dest="times", type=int, default=same, help="the same as --times")
    return parser


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
