"""The bodies of the rare messages: a CBOR array of the fields, in the order of the dataclass.

Strict: no indefinite lengths, no duplicate keys, no tags of any kind, bounded depth, nothing after the
array; then every field's kind (`fields`). Knows no message but `Hello`, which has fewer fields when a client
sends it. Called by `table`.
"""

import dataclasses
import enum
import io
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import cbor2

from esnode import limits
from esnode.errors import ProtocolError
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.wire.fields import Field
from esnode.wire.layout import Codec, prefix

HELLO_FIELDS: Final = 9
"""Fields of a client's `Hello`: the rest is for nodes."""
_LASTING_FIELDS: Final = 3
"""The first fields of a `Hello`, which every version has."""


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


def cbor(number: int, cls: type[Any], *kinds: Field) -> Codec:
    """The row of a message whose body is the array of its fields, one kind each."""
    names = [field.name for field in dataclasses.fields(cls)]

    def encode(message: Any) -> bytes:
        return _frame(number, [getattr(message, name) for name in names])

    def decode(data: bytes, start: int, end: int) -> Any:
        return _checked(cls, kinds, load(data[start:end]))

    return Codec(cls, number, encode, decode, kinds=kinds)


def hello(number: int, *kinds: Field) -> Codec:
    """The row of `Hello`: one that offers no version of ours may have other fields after the first three."""
    names = [field.name for field in dataclasses.fields(Hello)]

    def encode(message: Hello) -> bytes:
        shown = names[:HELLO_FIELDS] if message.side is Side.CLIENT else names
        return _frame(number, [getattr(message, name) for name in shown])

    def decode(data: bytes, start: int, end: int) -> Hello:
        values = load(data[start:end])
        listed = values if isinstance(values, list) else []
        of_a_client = len(listed) == HELLO_FIELDS or listed[:1] == [Side.CLIENT]
        expected = kinds[:HELLO_FIELDS] if of_a_client else kinds
        if _LASTING_FIELDS <= len(listed) != len(expected):
            side, low, high = (
                kind(value) for kind, value in zip(kinds[:_LASTING_FIELDS], listed, strict=False)
            )
            if not low <= PROTOCOL_VERSION <= high:
                return Hello(side, low, high, "", 0, 0, 0)
        read: Hello = _checked(Hello, expected, values)
        return read

    return Codec(Hello, number, encode, decode, kinds=kinds)


def _frame(number: int, values: list[Any]) -> bytes:
    body = cbor2.dumps([int(v) if isinstance(v, enum.IntEnum) else v for v in values])
    return prefix(number, len(body)) + body


def _checked(cls: type[Any], kinds: Sequence[Field], values: object) -> Any:
    """The message of type `cls`; raises `ProtocolError` that names the field."""
    if not isinstance(values, list) or len(values) != len(kinds):
        raise ProtocolError(f"{cls.__name__} must be an array of {len(kinds)}")
    checked = []
    for field, kind, value in zip(dataclasses.fields(cls), kinds, values, strict=False):
        try:
            checked.append(kind(value))
        except ProtocolError as error:
            raise ProtocolError(f"{cls.__name__}.{field.name} {error}") from error
    return cls(*checked)
