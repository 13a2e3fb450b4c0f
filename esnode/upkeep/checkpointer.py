"""Taking checkpoints, so that the next start need not replay the whole log.

Decides when one is due: after a number of entries or bytes of log since the last one. The event loop collects
the state between two turns of the driver; a thread writes it, in pieces and at a limited rate. Sealed keys
that are on disk leave the memory, and then get their indexes there. Cuts nothing: the log is as long as
before. A task of `node.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import trio

from esnode import limits
from esnode.apply import Checkpoint, Machine
from esnode.coalescing import sleep_to_next
from esnode.dedup.keychunk import StoredChunk
from esnode.storage.interface import Storage
from esnode.storage.worker import StorageWorker
from esnode.upkeep.keyindexes import write_index


@dataclass(frozen=True, slots=True)
class PendingCheckpoint:
    """A checkpoint to be written: first those of its `chunks` that are not on disk, then itself."""

    checkpoint: Checkpoint
    first_chunk: int
    chunks: list[memoryview]


def store_chunks(storage: Storage, first_chunk: int, chunks: Sequence[memoryview]) -> Sequence[StoredChunk]:
    """Put sealed chunks of keys on disk. Takes long, and may run in any thread. Raises `StorageFailed`."""
    storage.keep_keys(first_chunk, chunks)
    return [
        StoredChunk.of(storage.chunk_source(number), chunk)
        for number, chunk in enumerate(chunks, first_chunk)
    ]


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
            await sleep_to_next(limits.CHECKPOINT_CHECK_S)
            if self._is_due():
                await self.take(worker)
            await self.index(worker)

    async def take(self, worker: StorageWorker) -> Checkpoint:
        """Take one now; it is on disk when this returns."""
        async with self._turn:
            pending, step = self.begin(), limits.CHECKPOINT_PIECE_CHUNKS
            for at in range(0, len(pending.chunks), step):
                first_chunk, piece = pending.first_chunk + at, pending.chunks[at : at + step]
                stored = await worker.aside(partial(store_chunks, self._storage, first_chunk, piece))
                self.release(first_chunk, piece, stored)
                await trio.sleep(limits.CHECKPOINT_PAUSE_S)
            # A leader's snapshot is in the state before it is on disk, and may be on its way there still.
            await worker.call(self._storage.recover)
            await worker.aside(partial(self._storage.save_checkpoint, pending.checkpoint))
            self.written(pending)
            return pending.checkpoint

    async def index(self, worker: StorageWorker) -> None:
        """Write the indexes of keys that are stored, and let the fingerprints grow with their number."""
        keys = self._machine.keys
        async with self._turn:
            while (growth := keys.next_growth()) is not None:
                await worker.aside(growth.run)
                keys.grown(growth)
            while (new := keys.next_segment()) is not None:
                keys.publish(new, await worker.aside(partial(write_index, self._storage, new)))

    def begin(self) -> PendingCheckpoint:
        """Look at the state as it is now."""
        checkpoint = self._machine.checkpoint()
        self._last_index, self._size_bytes = checkpoint.index, self._storage.size_bytes()
        first_chunk = self._machine.keys.window.first_chunk_in_memory
        return PendingCheckpoint(checkpoint, first_chunk, self._machine.keys.sealed_chunks(first_chunk))

    def release(self, first_chunk: int, chunks: Sequence[memoryview], stored: Sequence[StoredChunk]) -> None:
        """Let the memory of chunks go: they are on disk, and read there from now on."""
        self._machine.keys.store(first_chunk, chunks, stored)

    def written(self, pending: PendingCheckpoint) -> None:
        """It is on disk, and its chunks are."""
        self._last = pending.checkpoint

    def _is_due(self) -> bool:
        size_bytes = self._storage.size_bytes()
        self._size_bytes = min(self._size_bytes, size_bytes)  # its prefix may have been cut
        return (
            self._machine.applied_index - self._last_index >= limits.CHECKPOINT_ENTRIES
            or size_bytes - self._size_bytes >= limits.CHECKPOINT_BYTES
            or self._machine.keys.has_full_segment
        )
