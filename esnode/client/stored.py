"""What an application reads: events with their offsets, or whole batches, which are faster.

Decides how a record that exceeds the requested range is cut. Checks every record's checksum.
Never connects. Called by `log.py`, `subscription.py` and `nodelink.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from esnode import limits
from esnode.dedup.batch import split_identities, split_keys
from esnode.errors import ProtocolError
from esnode.events import decode_event, split_payload
from esnode.raft.entry import Entry, EntryKind, parse


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the log, as its producer gave it."""

    offset: int
    event: dict[str, Any]
    partition: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """The events at `offset` to `next_offset` of one entry; nothing is decoded before it is asked for.

    Without events where a partition has adopted keys: these have taken the offsets before `next_offset`.
    """

    entry: Entry
    offset: int
    next_offset: int

    @property
    def count(self) -> int:
        """How many events."""
        return self.next_offset - self.offset

    def encoded(self) -> list[bytes]:
        """The bytes of each event; raises `ProtocolError`."""
        if not self.count:
            return []
        parts = split_payload(self.entry.payload)
        if len(parts) != self.entry.count:
            raise ProtocolError(
                f"the entry of index {self.entry.index} holds {len(parts)} events, not {self.entry.count}"
            )
        return parts[self._slice]

    def keys(self) -> tuple[bytes, ...]:
        """The key of each event."""
        return split_keys(self.entry.keys)[self._slice]

    def identities(self) -> tuple[bytes, ...]:
        """What tells each event from all others: the same whether its key has a token or not."""
        return split_identities(self.entry.keys)[self._slice]

    def events(self) -> list[StoredEvent]:
        """The events; raises `ProtocolError` where a producer stored something that is none."""
        return [
            stored_event(self.entry.partition, offset, encoded)
            for offset, encoded in enumerate(self.encoded(), start=self.offset)
        ]

    @property
    def _slice(self) -> slice:
        return slice(self.offset - self.entry.base_offset, self.next_offset - self.entry.base_offset)


def batches_of(
    records: Iterable[bytes], from_offset: int, end_offset: int = limits.MAX_INDEX
) -> Iterator[StoredBatch]:
    """The events of `records` from `from_offset` on, before `end_offset`; for adopted keys an empty batch.

    Raises `DamagedRecord`, and `ProtocolError` when an event between is missing.
    """
    for record in records:
        entry = parse(record)
        if not entry.count or entry.next_offset <= from_offset:
            continue
        if entry.base_offset > from_offset:
            raise ProtocolError(f"the node left out the events from {from_offset} to {entry.base_offset}")
        if from_offset >= end_offset:
            return
        if entry.kind is EntryKind.BATCH:
            batch = StoredBatch(entry, from_offset, min(entry.next_offset, end_offset))
        else:
            batch = StoredBatch(entry, entry.next_offset, entry.next_offset)
        yield batch
        from_offset = batch.next_offset


def stored_event(partition: int, offset: int, encoded: bytes) -> StoredEvent:
    """The event at `offset`; raises `ProtocolError` where its producer stored something else."""
    try:
        return StoredEvent(offset, decode_event(encoded), partition)
    except ProtocolError as error:
        raise ProtocolError(f"what is stored at offset {offset} is no event: {error}") from error
