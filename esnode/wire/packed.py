"""The bodies of the frequent messages whose fields are all numbers and truths: one struct.

The numbers come in the order of the dataclass. If there are truths, they are the bits of one byte of flags at
the end, the first one the lowest; a bit that is not known is refused. Knows no message. Called by `table`.
"""

import dataclasses
import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from esnode.errors import ProtocolError
from esnode.wire.fields import Field, Number, truth
from esnode.wire.layout import Codec, check_flags, exactly, prefix


def packed(number: int, cls: type[Any], *kinds: Field) -> Codec:
    """The row of a message with these kinds of fields: numbers that have a code, and `truth`."""
    named = list(zip((field.name for field in dataclasses.fields(cls)), kinds, strict=True))
    numbers = [(name, kind) for name, kind in named if isinstance(kind, Number)]
    flags = [name for name, kind in named if kind is truth]
    codes = "".join(kind.code for _, kind in numbers) + "B" * bool(flags)
    body, head = struct.Struct(">" + codes), prefix(number, struct.calcsize(">" + codes))
    pack, unpack, size = body.pack, body.unpack_from, body.size
    get, get_flags = _getter([name for name, _ in numbers]), _getter(flags)
    bounded = [
        (at, name, kind.high)
        for at, (name, kind) in enumerate(numbers)
        if kind.high < 256 ** struct.calcsize(">" + kind.code) - 1
    ]
    order = [([name for name, _ in numbers] + flags).index(name) for name, _ in named]

    def encode(message: Any) -> bytes:
        return head + pack(*get(message))

    def encode_flagged(message: Any) -> bytes:
        bits = 0
        for bit, is_set in enumerate(get_flags(message)):
            bits |= is_set << bit
        return head + pack(*get(message), bits)

    def numbers_of(data: bytes, start: int, end: int) -> tuple[int, ...]:
        if end - start != size:
            exactly(cls.__name__, start, size, end)
        values = unpack(data, start)
        for at, name, high in bounded:
            if values[at] > high:
                raise ProtocolError(f"{cls.__name__}.{name} is {values[at]}, over the limit of {high}")
        return values

    def decode(data: bytes, start: int, end: int) -> Any:
        return cls(*numbers_of(data, start, end))

    def decode_flagged(data: bytes, start: int, end: int) -> Any:
        *values, bits = numbers_of(data, start, end)
        check_flags(bits, known=(1 << len(flags)) - 1)
        values += [bits >> bit & 1 == 1 for bit in range(len(flags))]
        return cls(*[values[at] for at in order])

    if flags:
        return Codec(cls, number, encode_flagged, decode_flagged, kinds=kinds)
    return Codec(cls, number, encode, decode, kinds=kinds)


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """All these attributes at once."""
    if len(names) == 1:
        one = attrgetter(*names)
        return lambda message: (one(message),)
    return attrgetter(*names) if names else lambda _: ()
