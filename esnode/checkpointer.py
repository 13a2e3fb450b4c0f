"""Keeping savepoints, so that the next start need not replay the whole log.

Decides when one is due: so many entries, or so many bytes of log, after the one before. The state is looked
at in the event loop, between two turns of the driver, and written beside it, in pieces and without hurry.
Cuts nothing: the log is as long as before. A task of `node.py`.
"""

from dataclasses import dataclass
from functools import partial

import trio

from esnode import limits
from esnode.apply import Machine, Savepoint
from esnode.storage.interface import Storage
from esnode.storage.worker import StorageWorker


@dataclass(frozen=True, slots=True)
class Begun:
    """A savepoint to be written: first those of its `chunks` that are not on disk, then itself."""

    savepoint: Savepoint
    first_chunk: int
    chunks: list[memoryview]


class SavepointKeeper:
    """Keeps the last savepoint of one node young."""

    def __init__(self, machine: Machine, storage: Storage, last: Savepoint | None) -> None:
        """`last`: the one that this process has begun with; its chunks are on disk for certain."""
        self._machine = machine
        self._storage = storage
        self._last = last
        self._last_index = 0 if last is None else last.index
        self._size_bytes = 0 if last is None else storage.size_bytes()
        self._turn = trio.Lock()

    @property
    def last_index(self) -> int:
        """The index of the last savepoint that is on disk; 0 when there is none."""
        return 0 if self._last is None else self._last.index

    async def run(self, worker: StorageWorker) -> None:
        """Look every now and then, for ever."""
        while True:
            await trio.sleep(limits.SAVEPOINT_CHECK_S)
            if self._is_due():
                await self.keep(worker)

    async def keep(self, worker: StorageWorker) -> Savepoint:
        """Keep one now; it is on disk when this returns."""
        async with self._turn:
            begun, step = self.begin(), limits.SAVEPOINT_PIECE_CHUNKS
            for at in range(0, len(begun.chunks), step):
                piece = begun.chunks[at : at + step]
                await worker.aside(partial(self._storage.keep_keys, begun.first_chunk + at, piece))
                await trio.sleep(limits.SAVEPOINT_PAUSE_S)
            # A leader's snapshot is in the state before it is on disk, and may be on its way there still.
            await worker.call(self._storage.recover)
            await worker.aside(partial(self._storage.keep_savepoint, begun.savepoint))
            self.kept(begun)
            return begun.savepoint

    def begin(self) -> Begun:
        """Look at the state as it is now."""
        savepoint = self._machine.savepoint()
        self._last_index, self._size_bytes = savepoint.index, self._storage.size_bytes()
        first_chunk = self._first_new_chunk(savepoint)
        return Begun(savepoint, first_chunk, self._machine.keys.sealed_chunks(first_chunk))

    def kept(self, begun: Begun) -> None:
        """It is on disk, and its chunks are."""
        self._last = begun.savepoint

    def _is_due(self) -> bool:
        size_bytes = self._storage.size_bytes()
        self._size_bytes = min(self._size_bytes, size_bytes)  # its prefix may have been cut
        return (
            self._machine.applied_index - self._last_index >= limits.SAVEPOINT_ENTRIES
            or size_bytes - self._size_bytes >= limits.SAVEPOINT_BYTES
        )

    def _first_new_chunk(self, savepoint: Savepoint) -> int:
        """The first chunk of `savepoint` that is not on disk yet."""
        last = self._last
        if last is None or not last.first_chunk <= savepoint.first_chunk <= last.open_chunk:
            return savepoint.first_chunk
        return last.open_chunk
