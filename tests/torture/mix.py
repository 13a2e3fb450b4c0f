"""All faults in turn on one cluster, in an order that the seed gives.

python -m tests.torture.mix --times 30 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

What this machine cannot do (strace, root) is left out, and said. With root each node has a network
namespace and a file system of its own.
"""

import argparse
import sys

from esctl.exits import Exit
from tests.torture.campaign import Fault, Settings, options, say, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.copies import OldCopy
from tests.torture.flips import FlippedBit
from tests.torture.fsyncs import FailedFsync
from tests.torture.full import FullDisk
from tests.torture.kill_all import KillAll
from tests.torture.kills import Kill
from tests.torture.partitions import Partition
from tests.torture.pauses import Pause
from tests.torture.power import PowerCut
from tests.torture.tails import CutTail


def everything() -> list[Fault]:
    """Every fault there is."""
    return [
        Kill(),
        KillAll(),
        Pause(),
        FailedFsync(),
        FlippedBit(),
        CutTail(),
        OldCopy(),
        FullDisk(),
        Partition(),
        PowerCut(),
    ]


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    possible: list[Fault] = []
    for fault in everything():
        if lack := fault.missing():
            say(f"left out: {fault.name}: {lack}")
        else:
            possible.append(fault)
    return run_campaign("mix", possible, settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=30)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
