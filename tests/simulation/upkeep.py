"""What a node of tier A does with its disk beside its log: checkpoints, and a look at what it did not read.

As `esnode/upkeep/checkpointer.py` and `esnode/upkeep/scrub.py`, on the simulated disk's time. Made by each
`Process`.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from esnode.dedup.keytable import KeyTable
from esnode.upkeep.checkpointer import Checkpointer, PendingCheckpoint, store_chunks
from esnode.upkeep.keyindexes import index_now

from .diskqueue import DiskQueue
from .schedule import MS, between
from .weather import checkpoint_every_ms

if TYPE_CHECKING:
    from .host import Host

PAGE_BYTES: Final = 20_000
SCRUB_MS: Final = (1, 100)
WRITE_MS: Final = (1, 300)
"""What goes by between the keys of a checkpoint and itself."""


class Upkeep:
    """One life's."""

    def __init__(self, host: "Host", disk: DiskQueue, checkpointer: Checkpointer, keys: KeyTable) -> None:
        self._host = host
        self._disk = disk
        self._checkpointer = checkpointer
        self._keys = keys
        self._life = host.life
        self._random = random.Random(f"{host.world.seed}:upkeep:{host.id}:{host.life}")
        self._every_ms = checkpoint_every_ms(host.world.seed)
        self._losses = host.losses

    def begin(self, unread_to: int) -> None:
        """Begin both."""
        if self._every_ms:
            self._later((0, self._every_ms), self._save)
        if unread_to:
            self._later(SCRUB_MS, partial(self._disk.call, partial(self._scrub, 0, unread_to)))

    def _save(self) -> None:
        self._later((self._every_ms // 2, 2 * self._every_ms), self._save)
        if not self._host.paused:
            pending = self._checkpointer.begin()
            self._disk.call(partial(self._save_keys, pending))

    def _save_keys(self, pending: PendingCheckpoint) -> None:
        if pending.chunks:
            stored = store_chunks(self._disk.storage, pending.first_chunk, pending.chunks)
            self._checkpointer.release(pending.first_chunk, pending.chunks, stored)
            self._host.world.counts["disk.chunks of keys"] += len(pending.chunks)
        self._later(WRITE_MS, partial(self._disk.call, partial(self._save_point, pending)))

    def _save_point(self, pending: PendingCheckpoint) -> None:
        self._disk.storage.save_checkpoint(pending.checkpoint)
        self._checkpointer.written(pending)
        index_now(self._disk.storage, self._keys)
        self._host.world.counts["disk.checkpoint"] += 1

    def _scrub(self, next_index: int, last_index: int) -> None:
        storage = self._disk.storage
        if not next_index:
            storage.load_snapshot()
        next_index = max(next_index, storage.recover().prefix_index + 1)
        if next_index <= last_index:
            page = storage.read(next_index, last_index, PAGE_BYTES)
            go_on = partial(self._scrub, page[-1].index + 1, last_index)
            self._later(SCRUB_MS, partial(self._disk.call, go_on))
            return
        self._host.world.counts["disk.scrubbed"] += 1
        if not self._host.rejoins and self._host.losses == self._losses:
            self._host.distrusted = False

    def _later(self, bounds_ms: tuple[int, int], call: Callable[[], object]) -> None:
        first, last = bounds_ms
        delay_ns = between(self._random, (first * MS, last * MS))
        self._host.world.schedule.after(delay_ns, self._if_alive, call)

    def _if_alive(self, call: Callable[[], object]) -> None:
        if self._life == self._host.life and self._host.up:
            call()
