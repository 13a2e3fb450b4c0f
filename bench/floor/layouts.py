"""The bytes of the floor: frames and records as long as those of `esnode`, with nothing in them to check.

A test holds them equal in length to what `esnode.wire` and `esnode.raft.entry` make of the same batch.
Called by both kinds of node and by the client.
"""

import struct
from typing import Final

LENGTH_BYTES: Final = 4
"""Of the length that a frame begins with; it counts what follows it."""

APPEND: Final = struct.Struct(">IBQIHIqHQIQII")
"""A client's batch: length, type, request id, run, partition, count, the log's end and whose that is, four of
its producer, payload size."""
APPENDED: Final = struct.Struct(">IBQIIqI")
"""The ack: length, type, request id, duplicates, number of ranges (1), base offset, count."""
ENTRIES: Final = struct.Struct(">IBQQQQI")
"""To a follower: length, type, term, previous index and term, commit, number of records."""
REPLY: Final = struct.Struct(">IBQQ")
"""From a follower: length, type, term, the last index that it has on disk."""
RECORD: Final = struct.Struct(">IIBBHQQQQIQIQII")
"""In `ENTRIES`: the record's length; then the record's head, which is stored with it: checksum, version,
kind, partition, index, term, base offset, log time, count, four of the producer, payload's length."""
RECORD_AT: Final = LENGTH_BYTES
"""Where the stored record begins, in a `RECORD` and what follows it."""
BASE_OFFSET: Final = struct.Struct(">Q")
BASE_OFFSET_AT: Final = 24
"""Where the base offset is in a stored record."""

APPEND_TYPE: Final = 0x10
APPENDED_TYPE: Final = 0x11
ENTRIES_TYPE: Final = 0x42
REPLY_TYPE: Final = 0x43
