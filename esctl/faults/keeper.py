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
from esnode.errors import EventStreamError

LOOK_EVERY_S: Final = 0.2


def main(arguments: Sequence[str]) -> int:
    """The program; its exit code."""
    name, fault = arguments
    cluster = state.load(name)
    notes: list[StoppedNode | SeveredLinks] = [*leases.active(cluster), *severed.noted(cluster)]
    kept = next((one for one in notes if one.id == fault), None)
    if kept is None:
        return 1
    until = time.monotonic() + kept.until - time.time()  # a clock that is set meanwhile changes nothing
    sys.stdout.buffer.write(leases.READY)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    while leases.is_active(cluster, fault) or severed.is_active(cluster, fault):
        left_s = until - time.monotonic()
        if left_s <= 0:
            try:
                if isinstance(kept, SeveredLinks):
                    severed.end(cluster, kept)
                else:
                    leases.end(cluster, kept)
            except EventStreamError:
                return 1  # the note stays: `esctl fault ls` shows that it is overdue
            return 0
        time.sleep(min(left_s, LOOK_EVERY_S))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
