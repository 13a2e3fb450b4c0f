"""Taking checkpoints, so that the next start need not replay the whole log.

Decides when one is due: after a number of entries or bytes of log since the last one. The event loop collects
the state between two turns of the driver; a thread writes it, in pieces and at a limited rate. Cuts nothing:
the log is as long as before. A task of `node.py`.
"""

from dataclasses import dataclass
from functools import partial

import trio

from esnode import limits
from esnode.apply import Checkpoint, Machine
from esnode.storage.interface import Storage
from esnode.storage.worker import StorageWorker


@dataclass(frozen=True, slots=True)
class PendingCheckpoint:
    """A checkpoint to be written: first those of its `chunks` that are not on disk, then itself."""

    checkpoint: Checkpoint
    first_chunk: int
    chunks: list[memoryview]


class Checkpointer:
    """Takes a new checkpoint of one node whenever the last one is old."""

    def __init__(self, machine: Machine, storage: Storage, last: Checkpoint | None) -> None:
        """`last`: the one that this process has pending with; its chunks are on disk for certain."""
        self._machine = machine
        self._storage = storage
        self._last = last
        self._last_index = 0 if last is None else last.index
        self._size_bytes = 0 if last is None else storage.size_bytes()
        self._turn = trio.Lock()

    @property
    def last_index(self) -> int:
        """The index of the last checkpoint that is on disk; 0 when there is none."""
        return 0 if self._last is None else self._last.index

    async def run(self, worker: StorageWorker) -> None:
        """Look every now and then, for ever."""
        while True:
            await trio.sleep(limits.CHECKPOINT_CHECK_S)
            if self._is_due():
                await self.take(worker)

    async def take(self, worker: StorageWorker) -> Checkpoint:
        """Take one now; it is on disk when this returns."""
        async with self._turn:
            pending, step = self.begin(), limits.CHECKPOINT_PIECE_CHUNKS
            for at in range(0, len(pending.chunks), step):
                piece = pending.chunks[at : at + step]
                await worker.aside(partial(self._storage.keep_keys, pending.first_chunk + at, piece))
                await trio.sleep(limits.CHECKPOINT_PAUSE_S)
            # A leader's snapshot is in the state before it is on disk, and may be on its way there still.
            await worker.call(self._storage.recover)
            await worker.aside(partial(self._storage.save_checkpoint, pending.checkpoint))
            self.written(pending)
            return pending.checkpoint

    def begin(self) -> PendingCheckpoint:
        """Look at the state as it is now."""
        checkpoint = self._machine.checkpoint()
        self._last_index, self._size_bytes = checkpoint.index, self._storage.size_bytes()
        first_chunk = self._first_new_chunk(checkpoint)
        return PendingCheckpoint(checkpoint, first_chunk, self._machine.keys.sealed_chunks(first_chunk))

    def written(self, pending: PendingCheckpoint) -> None:
        """It is on disk, and its chunks are."""
        self._last = pending.checkpoint

    def _is_due(self) -> bool:
        size_bytes = self._storage.size_bytes()
        self._size_bytes = min(self._size_bytes, size_bytes)  # its prefix may have been cut
        return (
            self._machine.applied_index - self._last_index >= limits.CHECKPOINT_ENTRIES
            or size_bytes - self._size_bytes >= limits.CHECKPOINT_BYTES
        )

    def _first_new_chunk(self, checkpoint: Checkpoint) -> int:
        """The first chunk of `checkpoint` that is not on disk yet."""
        last = self._last
        if last is None or not last.first_chunk <= checkpoint.first_chunk <= last.open_chunk:
            return checkpoint.first_chunk
        return last.open_chunk
