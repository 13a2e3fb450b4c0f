"""The bodies of the rare messages: a CBOR array of the fields, in the order of the dataclass.

Strict: no indefinite lengths, no duplicate keys, no tags of any kind, bounded depth, nothing after the
array; then every field's kind (`fields`). Fields that came later stand last, and are left out while they have
their defaults: so older versions read what does not need them. Knows no message but `Hello`, which has fewer
fields when a client sends it. Called by `table`.
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
"""Fields of a client's `Hello`, but for its partition: the rest is for nodes."""
_LATER_HELLO_FIELDS: Final = 1
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


def cbor(number: int, cls: type[Any], *kinds: Field, later: int = 0) -> Codec:
    """The row of a message whose body is the array of its fields, one kind each; the last came `later`."""
    layout = _Layout(cls, range(len(kinds)), kinds, later)

    def encode(message: Any) -> bytes:
        return _frame(number, layout.shown(message))

    def decode(data: bytes, start: int, end: int) -> Any:
        return layout.read(load(data[start:end]))

    return Codec(cls, number, encode, decode, kinds=kinds)


def hello(number: int, *kinds: Field) -> Codec:
    """The row of `Hello`: one that offers no version of ours may have other fields after the first three."""
    early = len(kinds) - _LATER_HELLO_FIELDS
    of_client = _Layout(Hello, (*range(HELLO_FIELDS), early), kinds, 1)
    of_peer = _Layout(Hello, range(len(kinds)), kinds, _LATER_HELLO_FIELDS)

    def encode(message: Hello) -> bytes:
        layout = of_client if message.side is Side.CLIENT else of_peer
        return _frame(number, layout.shown(message))

    def decode(data: bytes, start: int, end: int) -> Hello:
        values = load(data[start:end])
        listed = values if isinstance(values, list) else []
        layout = of_client if len(listed) == HELLO_FIELDS or listed[:1] == [Side.CLIENT] else of_peer
        try:
            read: Hello = layout.read(values)
        except ProtocolError:
            if (versions := _other_versions(kinds, listed)) is None:
                raise
            return Hello(*versions, "", 0, 0, 0)
        return read

    return Codec(Hello, number, encode, decode, kinds=kinds)


def _other_versions(kinds: Sequence[Field], values: Sequence[object]) -> tuple[Side, int, int] | None:
    """What every version says first, where it offers none of ours: then all else may mean something else."""
    if len(values) < _LASTING_FIELDS:
        return None
    try:
        side, low, high = (kind(value) for kind, value in zip(kinds[:_LASTING_FIELDS], values, strict=False))
    except ProtocolError:
        return None
    return None if low <= PROTOCOL_VERSION <= high else (side, low, high)


class _Layout:
    """Which fields of a message are in its array, in which order; the last `later` of them may be missing."""

    def __init__(self, cls: type[Any], places: Sequence[int], kinds: Sequence[Field], later: int) -> None:
        fields = dataclasses.fields(cls)
        self._cls = cls
        self._fields = [(fields[place], kinds[place]) for place in places]
        self._least = len(places) - later
        self._names = [field.name for field, _ in self._fields]

    def fits(self, count: int) -> bool:
        """Whether an array of so many may be one."""
        return self._least <= count <= len(self._fields)

    def shown(self, message: object) -> list[Any]:
        """What is sent of it."""
        values = [getattr(message, name) for name in self._names]
        while len(values) > self._least and values[-1] == self._fields[len(values) - 1][0].default:
            values.pop()
        return values

    def read(self, values: object) -> Any:
        """The message; raises `ProtocolError` that names the field."""
        name = self._cls.__name__
        if not isinstance(values, list) or not self.fits(len(values)):
            most = len(self._fields)
            count = str(most) if most == self._least else f"{self._least} to {most}"
            raise ProtocolError(f"{name} must be an array of {count}")
        checked = {}
        for (field, kind), value in zip(self._fields, values, strict=False):
            try:
                checked[field.name] = kind(value)
            except ProtocolError as error:
                raise ProtocolError(f"{name}.{field.name} {error}") from error
        return self._cls(**checked)


def _frame(number: int, values: list[Any]) -> bytes:
    body = cbor2.dumps([int(v) if isinstance(v, enum.IntEnum) else v for v in values])
    return prefix(number, len(body)) + body
