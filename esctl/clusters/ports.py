"""Which ports a new cluster gets: free now, not another cluster's, and out of the ephemeral range.

Chosen once and kept in the cluster's description, so that addresses survive restarts. Called by
`cluster up`, and by the process backend before it starts a node.
"""

import random
import socket
from collections.abc import Collection
from typing import Final

from esctl.errors import PortTaken

HOST: Final = "127.0.0.1"
LOWEST: Final = 20_000
HIGHEST: Final = 31_999
"""Linux hands out ports from 32,768 on to outgoing connections; one of those could take a port of a
node that is down."""


def choose(count: int, reserved: Collection[int], base: int | None = None) -> list[int]:
    """`count` free ports in a row, none of them in `reserved`; from `base` on when it is given."""
    if base is not None:
        wanted = list(range(base, base + count))
        for port in wanted:
            if port in reserved:
                raise PortTaken(f"port {port} belongs to another cluster", next_step="esctl cluster ls")
            if not is_free(port):
                raise PortTaken(f"port {port} is in use", next_step="choose another --base-port")
        return wanted
    starts = list(range(LOWEST, HIGHEST - count, count))
    random.shuffle(starts)
    for start in starts:
        row = list(range(start, start + count))
        if not any(port in reserved for port in row) and all(is_free(port) for port in row):
            return row
    raise PortTaken(
        f"no {count} free ports in a row between {LOWEST} and {HIGHEST}", next_step="esctl doctor"
    )


def is_free(port: int, host: str = HOST) -> bool:
    """Could a server listen there now?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
