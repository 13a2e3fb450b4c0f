"""`python -m esctl.faults.watchdog CLUSTER FAULT`: wait for the end of a lease, then end what no node can.

Lets a node go on, or mends links. Outlives the `esctl` that started it. Ends early, and does nothing, when
the note of the fault is gone: somebody has healed it, or the cluster was destroyed. Never prints but to say
that it is there. Started by `leasestore.py`.
"""

import sys
import time
from collections.abc import Sequence
from typing import Final

from esctl.clusters import state
from esctl.clusters.detached import say_ready
from esctl.clusters.state import Cluster
from esctl.faults import leases, linkcuts
from esctl.faults.leases import StoppedNode
from esctl.faults.linkcuts import LinkCuts
from esnode.errors import EventStreamError

LOOK_EVERY_S: Final = 0.2
TRY_AGAIN_AFTER_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""A node may be slow to start on a busy machine, and what is in its way may go."""


def main(arguments: Sequence[str]) -> int:
    """The program; its exit code."""
    name, fault = arguments
    cluster = state.load(name)
    if _noted(cluster, fault) is None:
        return 1
    say_ready()
    return watch(cluster, fault)


def watch(cluster: Cluster, fault: str) -> int:
    """End the fault when its lease is over; 1 when that could not be done, again and again."""
    pauses = list(TRY_AGAIN_AFTER_S)
    struck, until = None, 0.0
    while (noted := _noted(cluster, fault)) is not None:
        if struck is None or noted.until != struck.until:  # the lease begins when the node is struck
            struck, until = noted, _until(noted)
        left_s = until - time.monotonic()
        if left_s > 0:
            time.sleep(min(left_s, LOOK_EVERY_S))
            continue
        try:
            _end(cluster, struck)  # unless it was struck only now, the note is gone then
        except EventStreamError:
            if not pauses:
                return 1  # the note stays: `esctl fault ls` shows that it is overdue
            time.sleep(pauses.pop(0))
    return 0


def _end(cluster: Cluster, struck: StoppedNode | LinkCuts) -> None:
    if isinstance(struck, LinkCuts):
        linkcuts.end(cluster, struck)
    else:
        leases.end(cluster, struck)


def _noted(cluster: Cluster, fault: str) -> StoppedNode | LinkCuts | None:
    """The fault as its note has it now; None when it has ended."""
    return leases.STORE.get(cluster, fault) or linkcuts.STORE.get(cluster, fault)


def _until(struck: StoppedNode | LinkCuts) -> float:
    """On the monotonic clock: a clock that is set meanwhile changes nothing."""
    return time.monotonic() + struck.until - time.time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
