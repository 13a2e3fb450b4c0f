"""The bodies of the rare messages: a CBOR array of the fields, in the order of the dataclass.

Decides what each field may be. Strict: no indefinite lengths, no duplicate keys, no tags of any
kind, bounded depth, nothing after the array; then every field's type and range. Never sees the
frame around the body. Called by `frames`.
"""

import dataclasses
import enum
import io
from collections.abc import Callable
from typing import Any, Final, NoReturn

import cbor2

from esnode import limits
from esnode.errors import ProtocolError
from esnode.messages import (
    PROTOCOL_VERSION,
    CheckpointTaken,
    CutPrefix,
    Entries,
    ExplainKey,
    FaultsReply,
    FetchSnapshot,
    Goodbye,
    HealFault,
    Hello,
    KeyExplained,
    ListFaults,
    OpenProducerSession,
    PrefixCutTo,
    ProducerOpened,
    ReadEntries,
    Refused,
    SetFault,
    Side,
    SnapshotPiece,
    StatusReply,
    StatusRequest,
    TakeCheckpoint,
    TransferLeadership,
    Transferred,
    Welcome,
)

RareMessage = (
    Hello
    | Welcome
    | Goodbye
    | Refused
    | OpenProducerSession
    | ProducerOpened
    | StatusRequest
    | StatusReply
    | TransferLeadership
    | Transferred
    | ExplainKey
    | KeyExplained
    | SetFault
    | HealFault
    | ListFaults
    | FaultsReply
    | ReadEntries
    | Entries
    | FetchSnapshot
    | SnapshotPiece
    | CutPrefix
    | PrefixCutTo
    | TakeCheckpoint
    | CheckpointTaken
)
Field = Callable[[object], Any]
"""Returns the field's value, or raises `ProtocolError` with what it should have been."""

MAX_NAME_BYTES: Final = 255
DIGEST_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 4096
HELLO_FIELDS: Final = 9
"""Fields of a client's `Hello`: the rest is for nodes."""
MAX_LIST: Final = 64
"""Items of a list in a rare message that a client sends."""


class _NoTags(dict[int, Any]):
    """Stands in for the table of tag decoders, and refuses every tag, the built-in ones too."""

    def __contains__(self, tag: object) -> bool:
        return True

    def __getitem__(self, tag: int) -> NoReturn:
        raise ProtocolError(f"the CBOR tag {tag} is not allowed")

    def get(self, tag: int, default: object = None) -> NoReturn:
        raise ProtocolError(f"the CBOR tag {tag} is not allowed")


_NO_TAGS: Final = _NoTags()


def load(body: bytes) -> Any:
    """Decode one strict CBOR item; raises `ProtocolError`."""
    source = io.BytesIO(body)
    decoder = cbor2.CBORDecoder(
        source,
        semantic_decoders=_NO_TAGS,
        max_depth=limits.MAX_CBOR_DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORError, ProtocolError) as error:
        raise ProtocolError(f"the bytes are not CBOR of the kind allowed here: {error}") from error
    if source.tell() != len(body):
        raise ProtocolError(f"{len(body) - source.tell()} bytes follow the CBOR value")
    return value


def _integer(low: int, high: int) -> Field:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ProtocolError(f"must be a whole number from {low} to {high}")
        return value

    return check


def _text(max_bytes: int) -> Field:
    def check(value: object) -> str:
        if not isinstance(value, str) or len(value.encode()) > max_bytes:
            raise ProtocolError(f"must be a text of at most {max_bytes} bytes")
        return value

    return check


def _side(value: object) -> Side:
    if type(value) is not int or value not in (Side.CLIENT, Side.PEER):
        raise ProtocolError("must be 1 (client) or 2 (peer)")
    return Side(value)


def _key(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != limits.KEY_BYTES:
        raise ProtocolError(f"must be {limits.KEY_BYTES} bytes")
    return value


def _digest(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (0, DIGEST_BYTES):
        raise ProtocolError(f"must be {DIGEST_BYTES} bytes, or none")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError("must be true or false")
    return value


def _status(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError("must be a map")
    _check_plain(value)
    return value


def _nodes(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise ProtocolError(f"must be an array of at most {MAX_LIST} node ids")
    return [_U32(item) for item in value]


def _parameters(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > MAX_LIST:
        raise ProtocolError(f"must be a map of at most {MAX_LIST} whole numbers")
    return {_NAME(name): _MILLISECONDS(number) for name, number in value.items()}


def _maps(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ProtocolError("must be an array of maps")
    return [_status(item) for item in value]


def _records(value: object) -> list[bytes]:
    if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
        raise ProtocolError("must be an array of byte strings")
    return value


def _piece(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) > limits.SNAPSHOT_CHUNK_BYTES:
        raise ProtocolError(f"must be at most {limits.SNAPSHOT_CHUNK_BYTES} bytes")
    return value


def _check_plain(value: object) -> None:
    """Null, truth, number, text, and arrays and text-keyed maps of those. `load` bounds the depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ProtocolError("must have text keys")
            _check_plain(item)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ProtocolError("must hold plain values only")


_U32: Final = _integer(0, 2**32 - 1)
_U64: Final = _integer(0, 2**64 - 1)
_VERSION: Final = _integer(0, 2**16 - 1)
_INDEX: Final = _integer(0, limits.MAX_INDEX)
_INDEX_OR_NONE: Final = _integer(-1, limits.MAX_INDEX)
_MILLISECONDS: Final = _integer(-(2**63), 2**63 - 1)
_TERM: Final = _integer(0, limits.MAX_TERM)
_LOG_TIME_MS: Final = _integer(0, 2**63 - 1)
_SNAPSHOT_BYTES: Final = _integer(0, limits.MAX_SNAPSHOT_BYTES)
_NAME: Final = _text(MAX_NAME_BYTES)
_SETTING: Final = _text(limits.MAX_SETTING_BYTES)
_PRODUCER: Final = _text(limits.MAX_PRODUCER_NAME_BYTES)
_TEXT: Final = _text(MAX_TEXT_BYTES)
_CODE: Final = _text(16)

SCHEMAS: Final[dict[type[RareMessage], tuple[Field, ...]]] = {
    Hello: (
        *(_side, _VERSION, _VERSION, _NAME, _U32, _U32, _U64, _digest, _truth),
        *(_digest, _SETTING, _digest, _SETTING, _INDEX, _INDEX),
    ),
    Welcome: (_VERSION, _NAME, _U32, _U64),
    Goodbye: (_CODE, _TEXT),
    Refused: (_U64, _CODE, _TEXT),
    OpenProducerSession: (_U64, _PRODUCER, _INDEX, _U64),
    ProducerOpened: (_U64, _INDEX, _U32, _INDEX_OR_NONE, _INDEX_OR_NONE),
    StatusRequest: (_U64,),
    StatusReply: (_U64, _status),
    TransferLeadership: (_U64, _U32),
    Transferred: (_U64, _U32, _U32),
    ExplainKey: (_U64, _key),
    KeyExplained: (_U64, _INDEX_OR_NONE, _MILLISECONDS),
    SetFault: (_U64, _NAME, _NAME, _nodes, _NAME, _parameters, _MILLISECONDS),
    HealFault: (_U64, _NAME),
    ListFaults: (_U64,),
    FaultsReply: (_U64, _maps),
    ReadEntries: (_U64, _INDEX, _U32, _truth),
    Entries: (_U64, _INDEX, _INDEX, _records),
    FetchSnapshot: (_U64,),
    SnapshotPiece: (
        _U64,
        _INDEX,
        _TERM,
        _INDEX,
        _LOG_TIME_MS,
        _SNAPSHOT_BYTES,
        _SNAPSHOT_BYTES,
        _piece,
    ),
    CutPrefix: (_U64, _INDEX),
    PrefixCutTo: (_U64, _INDEX, _INDEX),
    TakeCheckpoint: (_U64,),
    CheckpointTaken: (_U64, _INDEX),
}


def encode_body(message: RareMessage) -> bytes:
    """The CBOR array of the message's fields."""
    values = [getattr(message, field.name) for field in dataclasses.fields(message)]
    if isinstance(message, Hello) and message.side is Side.CLIENT:
        values = values[:HELLO_FIELDS]
    return cbor2.dumps([int(v) if isinstance(v, enum.IntEnum) else v for v in values])


def decode_body(cls: type[RareMessage], body: bytes) -> RareMessage:
    """The message of type `cls`; raises `ProtocolError` that names the field."""
    schema = SCHEMAS[cls]
    values = load(body)
    listed = values if isinstance(values, list) else []
    if cls is Hello and (len(listed) == HELLO_FIELDS or listed[:1] == [Side.CLIENT]):
        schema = schema[:HELLO_FIELDS]
    if not isinstance(values, list) or len(values) != len(schema):
        if cls is Hello and (other := _hello_of_another_version(values)) is not None:
            return other
        raise ProtocolError(f"{cls.__name__} must be an array of {len(schema)}")
    fields = []
    for field, check, value in zip(dataclasses.fields(cls), schema, values, strict=False):
        try:
            fields.append(check(value))
        except ProtocolError as error:
            raise ProtocolError(f"{cls.__name__}.{field.name} {error}") from error
    return cls(*fields)


def _hello_of_another_version(values: object) -> Hello | None:
    """A `Hello` with other fields, that offers no version of ours: the first three never change."""
    if not isinstance(values, list) or len(values) < len(_LASTING):
        return None
    side, low, high = (check(value) for check, value in zip(_LASTING, values, strict=False))
    if low <= PROTOCOL_VERSION <= high:
        return None
    return Hello(side, low, high, "", 0, 0, 0)


_LASTING: Final = SCHEMAS[Hello][:3]
