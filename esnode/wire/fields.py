"""What a field of a message may be: the kinds that the rows of `table` are made of.

A kind is called with a value out of a CBOR body, and gives it back or refuses it. A `Number` with a code, and
`truth`, may stand in a packed body too (`packed`). Pure.
"""

from collections.abc import Callable
from typing import Any, Final

from esnode import limits
from esnode.errors import ProtocolError
from esnode.messages import Side

Field = Callable[[object], Any]
"""Returns the field's value, or raises `ProtocolError` with what it should have been."""

MAX_LIST: Final = 64
"""Items of a list in a rare message that a client sends."""
_DIGEST_BYTES: Final = 16


class Number:
    """A whole number from `low` to `high`; `code` is that of `struct` for it, where it can be packed."""

    __slots__ = ("code", "high", "low")

    def __init__(self, low: int, high: int, code: str = "") -> None:
        self.low = low
        self.high = high
        self.code = code

    def __call__(self, value: object) -> int:
        """The number; raises `ProtocolError`."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise ProtocolError(f"must be a whole number from {self.low} to {self.high}")
        return value


class Text:
    """A text of at most `max_bytes` in UTF-8."""

    __slots__ = ("max_bytes",)

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def __call__(self, value: object) -> str:
        """The text; raises `ProtocolError`."""
        if not isinstance(value, str) or len(value.encode()) > self.max_bytes:
            raise ProtocolError(f"must be a text of at most {self.max_bytes} bytes")
        return value


U32: Final = Number(0, 2**32 - 1, "I")
U64: Final = Number(0, 2**64 - 1, "Q")
INDEX: Final = Number(0, limits.MAX_INDEX, "Q")
TERM: Final = Number(0, limits.MAX_TERM, "Q")
VERSION: Final = Number(0, 2**16 - 1)
PARTITION: Final = Number(0, 2**16 - 1)
PARTITIONS: Final = Number(1, limits.MAX_PARTITIONS)
INDEX_OR_NONE: Final = Number(-1, limits.MAX_INDEX)
MILLISECONDS: Final = Number(-(2**63), 2**63 - 1)
LOG_TIME_MS: Final = Number(0, 2**63 - 1)
SNAPSHOT_BYTES: Final = Number(0, limits.MAX_SNAPSHOT_BYTES)
NAME: Final = Text(255)
SETTING: Final = Text(limits.MAX_SETTING_BYTES)
PRODUCER: Final = Text(limits.MAX_PRODUCER_NAME_BYTES)
TEXT: Final = Text(4096)
CODE: Final = Text(16)


def side(value: object) -> Side:
    """Who opens a connection."""
    if type(value) is not int or value not in (Side.CLIENT, Side.PEER):
        raise ProtocolError("must be 1 (client) or 2 (peer)")
    return Side(value)


def key(value: object) -> bytes:
    """The key of an event."""
    if not isinstance(value, bytes) or len(value) != limits.KEY_BYTES:
        raise ProtocolError(f"must be {limits.KEY_BYTES} bytes")
    return value


def digest(value: object) -> bytes:
    """A digest, or nothing."""
    if not isinstance(value, bytes) or len(value) not in (0, _DIGEST_BYTES):
        raise ProtocolError(f"must be {_DIGEST_BYTES} bytes, or none")
    return value


def truth(value: object) -> bool:
    """True or false; in a packed body, a bit of the flags."""
    if not isinstance(value, bool):
        raise ProtocolError("must be true or false")
    return value


def plain_map(value: object) -> dict[str, Any]:
    """Text keys, and plain values of any depth."""
    if not isinstance(value, dict):
        raise ProtocolError("must be a map")
    _check_plain(value)
    return value


def plain_maps(value: object) -> list[dict[str, Any]]:
    """Several of them."""
    if not isinstance(value, list):
        raise ProtocolError("must be an array of maps")
    return [plain_map(item) for item in value]


def nodes(value: object) -> list[int]:
    """Node ids."""
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise ProtocolError(f"must be an array of at most {MAX_LIST} node ids")
    return [U32(item) for item in value]


def parameters(value: object) -> dict[str, int]:
    """Names and whole numbers."""
    if not isinstance(value, dict) or len(value) > MAX_LIST:
        raise ProtocolError(f"must be a map of at most {MAX_LIST} whole numbers")
    return {NAME(name): MILLISECONDS(number) for name, number in value.items()}


def byte_strings(value: object) -> list[bytes]:
    """Any number of byte strings."""
    if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
        raise ProtocolError("must be an array of byte strings")
    return value


def ring_change(value: object) -> bytes:
    """What an entry says of the ring."""
    if not isinstance(value, bytes) or len(value) > MAX_LIST:
        raise ProtocolError(f"must be at most {MAX_LIST} bytes")
    return value


def adopted_keys(value: object) -> bytes:
    """As many packed keys as one entry may adopt."""
    most = limits.MAX_ADOPTED_KEYS * limits.KEY_BYTES
    if not isinstance(value, bytes) or len(value) > most or len(value) % limits.KEY_BYTES:
        raise ProtocolError(f"must be whole keys of {limits.KEY_BYTES} bytes, {most} bytes at most")
    return value


def snapshot_piece(value: object) -> bytes:
    """Part of a snapshot."""
    if not isinstance(value, bytes) or len(value) > limits.SNAPSHOT_CHUNK_BYTES:
        raise ProtocolError(f"must be at most {limits.SNAPSHOT_CHUNK_BYTES} bytes")
    return value


def _check_plain(value: object) -> None:
    """Null, truth, number, text, and arrays and text-keyed maps of those. `cbor.load` bounds the depth."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ProtocolError("must have text keys")
            _check_plain(item)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ProtocolError("must hold plain values only")
