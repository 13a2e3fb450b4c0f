"""Waits for the end of processes, by pidfd: nothing is asked again and again.

Called by the process backend.
"""

import os
from typing import Final

import trio

from esctl.clusters.backends import pidfile
from esctl.clusters.state import Node
from esctl.errors import MachineRefused

KILL_TIMEOUT_S: Final = 10.0
"""A killed process that is still there after this hangs in the kernel."""


async def until_gone(node: Node, pid: int) -> None:
    """Wait until a process that was killed has ended. Raises `MachineRefused`."""
    with trio.move_on_after(KILL_TIMEOUT_S) as patience:
        await gone(pid)
    if patience.cancelled_caught:
        raise MachineRefused(f"node {node.id} (pid {pid}) was killed and does not go: it hangs in the kernel")


async def gone(pid: int) -> int | None:
    """Wait until the process has ended; its exit code if it was a child of ours, minus the signal if one
    ended it, otherwise None."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if pidfile.facts_of(pid) is not None:
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    return pidfile.reap(pid)
