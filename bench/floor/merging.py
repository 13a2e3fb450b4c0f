"""The batches of one turn as entries: as `esnode/raft/requests.py` puts them together, and looks nothing up.

A batch joins the entry before it up to the node's own bounds; each keeps its own ack. What an entry is made
of are parts of the buffer it came in: it must be used before more is received. Called by the leader.
"""

from typing import Final

from bench.floor.layouts import APPENDED, APPENDED_TYPE, LENGTH_BYTES, RECORD, RECORD_AT
from esnode import limits
from esnode.dedup.batch import ARRAY_HEADS

TERM: Final = 1
BATCH_KIND: Final = 1
CHECKSUM: Final = 0x9E3779B9
"""Stands where `esnode` has a checksum: as many bytes, computed by nobody."""
HEAD_BYTES: Final = tuple(map(len, ARRAY_HEADS))


class Entry:
    """One record in the making; `index` is its place in the log, `offset` that of its first event."""

    __slots__ = ("_given_bytes", "_keys", "_payloads", "acks", "count", "index", "offset", "payload_bytes")

    def __init__(self, index: int, offset: int) -> None:
        self.index = index
        self.offset = offset
        self.count = self.payload_bytes = self._given_bytes = 0
        self.acks: list[bytes] = []
        """One for each batch; due when the entry is."""
        self._keys: list[memoryview] = []
        self._payloads: list[memoryview] = []

    def takes(self, count: int, size: int) -> bool:
        """May a batch of so many events, with so large a payload, join those that are in it?"""
        return not self.count or (
            self.count + count <= limits.MAX_BATCH_EVENTS
            and self._given_bytes + size <= limits.MAX_MERGED_BYTES
        )

    def add(self, request: int, count: int, body: memoryview) -> None:
        """Let a batch join: its keys and its payload, the events of which go behind those before them."""
        keys_bytes, head_bytes = limits.KEY_BYTES * count, HEAD_BYTES[count]
        self._keys.append(body[:keys_bytes])
        self._payloads.append(body[keys_bytes + head_bytes :])
        self.acks.append(
            APPENDED.pack(
                APPENDED.size - LENGTH_BYTES, APPENDED_TYPE, request, 0, 1, self.offset + self.count, count
            )
        )
        self.count += count
        self.payload_bytes += len(body) - keys_bytes - head_bytes
        self._given_bytes += len(body) - keys_bytes

    @property
    def size_bytes(self) -> int:
        """Of the record, as it is stored."""
        return (
            RECORD.size
            - RECORD_AT
            + limits.KEY_BYTES * self.count
            + HEAD_BYTES[self.count]
            + self.payload_bytes
        )

    def parts(self) -> list[bytes | memoryview]:
        """The record with its length before it."""
        payload_bytes = HEAD_BYTES[self.count] + self.payload_bytes
        head = RECORD.pack(
            self.size_bytes, CHECKSUM, 2, BATCH_KIND, 0, self.index, TERM, self.offset, self.index,
            self.count, 0, 0, 0, 0, payload_bytes,
        )  # fmt: skip
        return [head, *self._keys, ARRAY_HEADS[self.count], *self._payloads]
