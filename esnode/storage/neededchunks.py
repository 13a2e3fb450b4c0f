"""Which chunks of keys must stay on disk: what others than the checkpoint need of them.

Decides nothing about what a snapshot is, and deletes nothing. Called by the checkpoints of each engine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from esnode.apply import sealed_in
from esnode.dedup.keywindow import NO_CHUNKS
from esnode.errors import DamagedRecord


class NeededChunks:
    """From which chunk on others than the checkpoint need them: the snapshot, and whoever holds some."""

    def __init__(self) -> None:
        self._by_snapshot: int | None = None
        """None: there is none, or it has all its keys itself."""
        self._held: list[int] = []
        self._changing = threading.Lock()

    def note_snapshot(self, state: bytes | bytearray) -> None:
        """This is the stored one's state from now on."""
        try:
            sealed = sealed_in(state)
            first_chunk = None if sealed is NO_CHUNKS else sealed.first_chunk
        except DamagedRecord:
            first_chunk = 0  # whoever reads it says so; until then nothing that it may need goes
        with self._changing:
            self._by_snapshot = first_chunk

    @contextmanager
    def held(self, first_chunk: int) -> Iterator[None]:
        """Keep all chunks from this number on while the block lasts."""
        with self._changing:
            self._held.append(first_chunk)
        try:
            yield
        finally:
            with self._changing:
                self._held.remove(first_chunk)

    @contextmanager
    def first(self, by_checkpoint: int) -> Iterator[int]:
        """The first that anybody needs; nobody begins to need an earlier one while the block lasts."""
        with self._changing:
            by_snapshot = by_checkpoint if self._by_snapshot is None else self._by_snapshot
            yield min(by_checkpoint, by_snapshot, *self._held)
