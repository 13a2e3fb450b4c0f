"""A system without servers, for what measures systems: it acks at once, but for a while after a kill."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from bench.peers.client import Receipt
from bench.peers.peer import NODES, Facts, Habits
from esctl.events.producer import Appender
from esnode.dedup.batch import Batch, OffsetRange

ACK_S = 0.0005


class FakePeer:
    """See `bench.peers.peer.Peer`. Its nodes are processes that sleep."""

    version = "fake 1"

    def __init__(self, outage_s: float = 0.0) -> None:
        self.starts = self.stops = 0
        self.ends: list[int | None] = []
        """The exit codes of the nodes as `stop` found them; None for those that were alive."""
        self._outage_s = outage_s
        self._silent_until_s = 0.0
        self._asked = 0
        self._nodes: list[subprocess.Popen[bytes]] = []

    @property
    def facts(self) -> Facts:
        return Facts("fake", "no", "none", "none", "none")

    async def start(self, directory: Path) -> None:
        assert os.listdir(directory) == []
        self.starts += 1
        self._nodes = [_sleeper() for _ in range(NODES)]

    async def wait_whole(self) -> None:
        self._asked = 0

    async def stop(self) -> None:
        self.stops += 1
        self.ends = [node.poll() for node in self._nodes]
        for node in self._nodes:
            node.kill()
            node.wait()

    def client(self, leader: int, _habits: Habits) -> AbstractAsyncContextManager[Appender]:
        assert leader == 1

        @asynccontextmanager
        async def opened() -> AsyncIterator[Appender]:
            yield self

        return opened()

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> Receipt:
        if on_sent is not None:
            on_sent()
        await trio.sleep_until(max(self._silent_until_s, trio.current_time() + ACK_S))
        return Receipt((OffsetRange(-1, batch.count),), 0, False)

    async def leader(self) -> int:
        self._asked += 1
        if self._asked == 2:  # the second time is just before the kill
            self._silent_until_s = trio.current_time() + self._outage_s
        return 1

    def pids(self) -> Sequence[int]:
        return [node.pid for node in self._nodes]


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])
