"""`python -m esctl.faults.keeper CLUSTER FAULT`: wait for the end of a lease, then end what no node can.

Lets a node go on, or mends links. Outlives the `esctl` that started it. Ends early, and does nothing, when
the note of the fault is gone: somebody has healed it, or the cluster was destroyed. Never prints but to say
that it is there. Started by `leases.py` and `severed.py`.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from esctl import state
from esctl.faults import leases, severed
from esctl.faults.leases import StoppedNode
from esctl.faults.severed import SeveredLinks
from esctl.state import Cluster
from esnode.errors import EventStreamError

LOOK_EVERY_S: Final = 0.2


def main(arguments: Sequence[str]) -> int:
    """The program; its exit code."""
    name, fault = arguments
    cluster = state.load(name)
    kept = _noted(cluster, fault)
    if kept is None:
        return 1
    until = _until(kept)
    sys.stdout.buffer.write(leases.READY)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    while (noted := _noted(cluster, fault)) is not None:
        if noted.until != kept.until:  # the lease begins when the node is struck
            kept, until = noted, _until(noted)
        left_s = until - time.monotonic()
        if left_s <= 0:
            try:
                if isinstance(kept, SeveredLinks):
                    severed.end(cluster, kept)
                else:
                    leases.end(cluster, kept)
            except EventStreamError:
                return 1  # the note stays: `esctl fault ls` shows that it is overdue
            continue  # unless it was struck only now, the note is gone
        time.sleep(min(left_s, LOOK_EVERY_S))
    return 0


def _noted(cluster: Cluster, fault: str) -> StoppedNode | SeveredLinks | None:
    """The fault as its note has it now; None when it has ended."""
    stopped = leases.note_of(cluster, fault)
    return stopped or next((one for one in severed.noted(cluster) if one.id == fault), None)


def _until(kept: StoppedNode | SeveredLinks) -> float:
    """On the monotonic clock: a clock that is set meanwhile changes nothing."""
    return time.monotonic() + kept.until - time.time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
