"""`python -m esctl.faults.keeper CLUSTER FAULT`: wait for the end of a lease, then let the node go on.

Outlives the `esctl` that started it. Ends early, and does nothing, when the note of the fault is gone:
somebody has healed it, or the cluster was destroyed. Never prints but to say that it is there. Started by
`leases.py`.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from esctl import state
from esctl.faults import leases
from esnode.errors import EventStreamError

LOOK_EVERY_S: Final = 0.2


def main(arguments: Sequence[str]) -> int:
    """The program; its exit code."""
    name, fault = arguments
    cluster = state.load(name)
    stopped = next((one for one in leases.active(cluster) if one.id == fault), None)
    if stopped is None:
        return 1
    until = time.monotonic() + stopped.until - time.time()  # a clock that is set meanwhile changes nothing
    sys.stdout.buffer.write(leases.READY)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    while leases.is_active(cluster, fault):
        left_s = until - time.monotonic()
        if left_s <= 0:
            try:
                leases.end(cluster, stopped)
            except EventStreamError:
                return 1  # the note stays: `esctl fault ls` shows that it is overdue
            return 0
        time.sleep(min(left_s, LOOK_EVERY_S))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
