"""What the layouts of all frames share: the type numbers, the prefix, and the checks of ranges.

Every frame is a length (4 bytes, of what follows it), a type (1 byte) and a body; all integers are
big-endian. Never knows a message. Called by `frames`, `clients` and `peers`.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from esnode import limits
from esnode.errors import ProtocolError

PREFIX: Final = struct.Struct(">IB")
"""Length of what follows the length, and type."""
LENGTH_BYTES: Final = 4
MAX_LOG_TIME_MS: Final = 2**63 - 1

_U32: Final = struct.Struct(">I")


class FrameType(enum.IntEnum):
    """The byte that says what a frame is. Numbers are never used again for something else."""

    HELLO = 0x01
    WELCOME = 0x02
    GOODBYE = 0x03
    LEADER_IS = 0x04

    APPEND = 0x10
    APPENDED = 0x11
    REFUSED = 0x12
    OPEN_PRODUCER_SESSION = 0x13
    PRODUCER_OPENED = 0x14
    READ = 0x15
    SUBSCRIBE = 0x16
    RECORDS = 0x17
    STATUS_REQUEST = 0x18
    STATUS_REPLY = 0x19
    TRANSFER_LEADERSHIP = 0x1A
    TRANSFERRED = 0x1B
    EXPLAIN_KEY = 0x1C
    KEY_EXPLAINED = 0x1D
    SET_FAULT = 0x1E
    HEAL_FAULT = 0x1F
    LIST_FAULTS = 0x20
    FAULTS_REPLY = 0x21
    READ_ENTRIES = 0x28
    ENTRIES = 0x29
    FETCH_SNAPSHOT = 0x2A
    SNAPSHOT_PIECE = 0x2B
    CUT_PREFIX = 0x2C
    PREFIX_CUT_TO = 0x2D
    TAKE_CHECKPOINT = 0x2E
    CHECKPOINT_TAKEN = 0x2F

    VOTE_REQUEST = 0x40
    VOTE_REPLY = 0x41
    APPEND_ENTRIES = 0x42
    APPEND_REPLY = 0x43
    APPEND_REJECT = 0x44
    HEARTBEAT = 0x45
    HEARTBEAT_REPLY = 0x46
    TIMEOUT_NOW = 0x47
    SNAPSHOT_CHUNK = 0x48
    REJOIN = 0x49
    REJOIN_REPLY = 0x4A
    FRAGMENT = 0x4B


def layout(fields: str) -> tuple[struct.Struct, struct.Struct]:
    """The struct of a whole frame's fixed part, prefix included, and that of the body alone."""
    return struct.Struct(">IB" + fields), struct.Struct(">" + fields)


def exactly(name: str, start: int, size: int, end: int) -> None:
    """That the body is the fixed part and nothing else."""
    if end - start != size:
        raise ProtocolError(f"{name} has {end - start} bytes, not {size}")


def after(name: str, start: int, size: int, end: int) -> int:
    """Where the fixed part ends, if it is all there."""
    if end - start < size:
        raise ProtocolError(f"{name} has {end - start} bytes, fewer than {size}")
    return start + size


def check_terms(*terms: int) -> None:
    """That no term is over the limit: a huge one would leave no room for the next election."""
    for term in terms:
        if term > limits.MAX_TERM:
            raise ProtocolError(f"the term {term} is over the limit of {limits.MAX_TERM} (MAX_TERM)")


def check_indexes(*indexes: int) -> None:
    """That no index or offset is over the limit."""
    for index in indexes:
        if index > limits.MAX_INDEX:
            raise ProtocolError(
                f"the index or offset {index} is over the limit of {limits.MAX_INDEX} (MAX_INDEX)"
            )


def check_flags(flags: int, known: int) -> None:
    """That no bit is set which this version does not know."""
    if flags & ~known:
        raise ProtocolError(f"the flags {flags:#04x} hold an unknown bit")


def pack_records(records: Iterable[bytes]) -> list[bytes]:
    """Each record with its length in front, as parts to join."""
    parts: list[bytes] = []
    for record in records:
        parts += (_U32.pack(len(record)), record)
    return parts


def split_records(data: bytes, at: int, end: int, number: int) -> Iterator[bytes]:
    """The `number` records of `data[at:end]`, each with its length in front, and nothing after."""
    for _ in range(number):
        record_start = at + 4
        if record_start > end:
            raise ProtocolError("the records end early")
        (length,) = _U32.unpack_from(data, at)
        at = record_start + length
        if at > end:
            raise ProtocolError("a record is longer than its frame")
        yield data[record_start:at]
    if at != end:
        raise ProtocolError(f"{end - at} bytes follow the last record")
