"""What the layouts of all frames share: a row of the table, the prefix, and the checks of ranges.

Every frame is a length (4 bytes, of what follows it), a type (1 byte) and a body; all integers are
big-endian. Never knows a message. Called by all other modules of the wire.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from esnode import limits
from esnode.errors import Bug, ProtocolError

_PREFIX: Final = struct.Struct(">IB")
"""Length of what follows the length, and type."""
LENGTH_BYTES: Final = 4
MAX_LOG_TIME_MS: Final = 2**63 - 1

_U32: Final = struct.Struct(">I")


class Codec(NamedTuple):
    """A row of the table: how one type of message becomes a frame and comes back.

    `encode` gives the whole frame; `decode(data, start, end)` reads the body `data[start:end]`. `parts` gives
    the frame in parts, where that saves a copy. `kinds` are those of the fields, where the row names them.
    """

    message: type[Any]
    number: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, int, int], Any]
    parts: Callable[[Any], list[bytes]] | None = None
    kinds: tuple[Callable[[object], Any], ...] = ()


def own(
    number: int,
    cls: type[Any],
    body_parts: Callable[[Any], list[bytes]],
    decode: Callable[[bytes, int, int], Any],
) -> Codec:
    """The row of a message with functions of its own; `body_parts` gives the body in a new list."""

    def parts(message: Any) -> list[bytes]:
        body = body_parts(message)
        body[0] = prefix(number, sum(map(len, body))) + body[0]
        return body

    def encode(message: Any) -> bytes:
        body = b"".join(body_parts(message))
        return prefix(number, len(body)) + body

    return Codec(cls, number, encode, decode, parts)


def prefix(number: int, body_bytes: int) -> bytes:
    """What every frame begins with. One over the frame limit is a `Bug` of this side."""
    if body_bytes >= limits.MAX_FRAME_BYTES:
        raise Bug(f"a frame of type {number:#04x} and {body_bytes + 1} bytes is over the frame limit")
    return _PREFIX.pack(1 + body_bytes, number)


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
