"""Records for readers: from memory while they are at the tail, from disk when they are behind.

Decides nothing about consistency: it serves what is applied. Called by the sessions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esnode import limits
from esnode.errors import OffsetOutOfRange
from esnode.loop.view import View
from esnode.raft.entry import Entry
from esnode.storage.worker import StorageWorker

Tail = Callable[[int, int], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Page:
    """Whole records, and the offset that follows the last of them."""

    records: tuple[bytes, ...]
    next_offset: int


class Reader:
    """Reads the applied log by offset."""

    def __init__(self, view: View, worker: StorageWorker, tail: Tail) -> None:
        self._view = view
        self._worker = worker
        self._tail = tail

    async def page(self, offset: int, max_events: int, max_bytes: int) -> Page:
        """Records from the one that holds event `offset`; none at the end of the log.

        Raises `OffsetOutOfRange` when retention has cut it away.
        """
        if offset < self._view.first_offset:
            raise OffsetOutOfRange(
                f"event {offset} is not kept any more; the first one is {self._view.first_offset}"
            )
        end = self._view.next_offset
        if offset >= end:
            return Page((), offset)
        max_bytes = min(max_bytes, limits.MAX_READ_BYTES)
        entries = self._tail(offset, max_bytes) or await self._from_disk(offset, max_bytes)
        if entries and entries[0].base_offset > offset:
            raise OffsetOutOfRange(f"event {offset} has just been cut away")
        records: list[bytes] = []
        next_offset = offset
        for entry in entries:
            if entry.base_offset >= offset + max_events:
                break
            if entry.count:
                records.append(entry.record)
                next_offset = entry.next_offset
        return Page(tuple(records), next_offset)

    async def _from_disk(self, offset: int, max_bytes: int) -> Sequence[Entry]:
        last_index = self._view.applied_index
        storage = self._worker.storage
        first_index = await self._worker.call(lambda: storage.index_of_offset(offset))
        entries: list[Entry] = []
        # Entries without events (a new term's no-op) can fill a page: go on until there is one.
        while first_index <= last_index and not any(entry.count for entry in entries):
            entries += await self._worker.read(first_index, last_index, max_bytes)
            if not entries:
                raise OffsetOutOfRange(f"event {offset} has just been cut away")
            first_index = entries[-1].index + 1
        return entries
