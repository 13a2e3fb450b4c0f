"""The chain of a log: entries that follow each other without a gap, and the hash of their events.

Decides what may follow what: index by index, offset by offset, terms and log time never falling. Pure, and
bounded in memory. Called by the writer of a backup, so that nothing broken gets in, and by its reader.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from esnode import limits
from esnode.dedup.batch import split_keys
from esnode.errors import DamagedBackup, ProtocolError
from esnode.events import split_payload
from esnode.raft.entry import Entry, EntryKind

HASH_BYTES: Final = 16


class ContentHash:
    """The hash of the events from one offset to another: each one's key, then its bytes as they are stored.

    Equal for logs that hold the same events at the same offsets, however they are cut into entries.
    """

    def __init__(self, first_offset: int, end_offset: int = limits.MAX_INDEX) -> None:
        self._first_offset = first_offset
        self._end_offset = end_offset
        self._hash: Any = hashlib.blake2b(digest_size=HASH_BYTES)

    def add(self, entry: Entry) -> None:
        """The next entry; raises `DamagedBackup` where its payload is not what its head says."""
        if entry.kind is not EntryKind.BATCH:
            return
        begin = max(0, self._first_offset - entry.base_offset)
        end = min(entry.count, self._end_offset - entry.base_offset)
        if begin >= end:
            return
        try:
            encoded = split_payload(entry.payload)
        except ProtocolError as error:
            raise DamagedBackup(f"the payload of entry {entry.index} is none: {error}") from error
        if len(encoded) != entry.count:
            raise DamagedBackup(f"entry {entry.index} holds {len(encoded)} events, not {entry.count}")
        keys = split_keys(entry.keys)
        self._hash.update(
            b"".join(key + one for key, one in zip(keys[begin:end], encoded[begin:end], strict=True))
        )

    def hexdigest(self) -> str:
        """Of all that was added."""
        return str(self._hash.hexdigest())


@dataclass(slots=True)
class Chain:
    """How far a log has come: after the entry at `index`, or after a snapshot of it."""

    index: int = 0
    term: int = 0
    next_offset: int = 0
    log_time_ms: int = 0
    entries: int = 0
    content: ContentHash = field(default_factory=lambda: ContentHash(0))

    @classmethod
    def after(cls, index: int, term: int, next_offset: int, log_time_ms: int) -> "Chain":
        """The log that begins behind what a snapshot stands for."""
        return cls(index, term, next_offset, log_time_ms, 0, ContentHash(next_offset))

    def follow(self, entry: Entry) -> None:
        """Take the next entry; raises `DamagedBackup` when it cannot be that."""
        if entry.index != self.index + 1:
            raise DamagedBackup(f"entry {entry.index} comes where entry {self.index + 1} is next")
        if entry.base_offset != self.next_offset:
            raise DamagedBackup(
                f"entry {entry.index} begins at offset {entry.base_offset}, not {self.next_offset}"
            )
        if entry.term < self.term or entry.log_time_ms < self.log_time_ms:
            raise DamagedBackup(f"term or log time falls at entry {entry.index}")
        self.content.add(entry)
        self.index, self.term = entry.index, entry.term
        self.next_offset, self.log_time_ms = entry.next_offset, entry.log_time_ms
        self.entries += 1
