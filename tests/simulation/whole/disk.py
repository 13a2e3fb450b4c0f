"""A node's disk in simulated time: how long a commit takes, and what goes wrong while it does.

The data is in a `MemoryDisk`; this decides when it is synced. Made by `world.py` for each life of a node,
told by `faults.py`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from esnode.raft.messages import Write
from esnode.storage.memory import MemoryStorage


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """How fast a disk is while nothing is wrong with it."""

    commit_s: tuple[float, float] = (0.0002, 0.003)
    hiccup: float = 0.01
    """How likely it is that a commit takes fifty times as long."""
    read_s: tuple[float, float] = (0.00005, 0.0005)


class SimulatedPace:
    """The `Pace` of one node's storage."""

    def __init__(self, storage: MemoryStorage, speed: DiskSpeed, source: random.Random) -> None:
        self.slow_until = 0.0
        """No commit that begins before ends before."""
        self._storage = storage
        self._speed = speed
        self._source = source

    async def commit(self, writes: Sequence[Write]) -> None:
        """Into the cache at once, onto the disk later."""
        took_s = self._source.uniform(*self._speed.commit_s)
        if self._source.random() < self._speed.hiccup:
            took_s *= 50
        self._storage.write_unsynced(writes)
        await trio.sleep_until(max(trio.current_time() + took_s, self.slow_until))
        self._storage.sync()

    async def call(self) -> None:
        """As long as a read takes."""
        await trio.sleep_until(
            max(trio.current_time() + self._source.uniform(*self._speed.read_s), self.slow_until)
        )
