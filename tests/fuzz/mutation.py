"""How one input becomes the next: small wounds to bytes that were good.

Deterministic: everything follows from the generator that is passed in. Knows no format; a target that
wants its checksums mended after a wound does it itself. Called by the engine.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

MAX_INPUT_BYTES: Final = 4096
_NUMBERS: Final = (
    *(
        (2**power + beside) % 2**64
        for power in (0, 7, 8, 15, 16, 31, 32, 48, 56, 63)
        for beside in (-1, 0, 1)
    ),
    *(2**64 - 1, 2**64 - 2, 8 * 2**20, 8 * 2**20 + 1, 2**30),
)


def mutated(random_: random.Random, pool: Sequence[bytes]) -> bytes:
    """One of `pool`, wounded one to six times; now and then bytes of no origin at all."""
    if random_.random() < 0.02:
        return random_.randbytes(random_.randrange(200))
    data = bytearray(random_.choice(pool))
    for _ in range(min(6, 1 + int(random_.expovariate(0.8)))):
        random_.choice(_WOUNDS)(random_, data, pool)
    return bytes(data[:MAX_INPUT_BYTES])


def _flip(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    if data:
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)


def _byte(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    if data:
        data[random_.randrange(len(data))] = random_.randrange(256)


def _number(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    """An interesting number, 1 to 8 bytes wide, over what is there."""
    width = random_.choice((1, 2, 4, 4, 8, 8))
    if len(data) >= width:
        at = random_.randrange(len(data) - width + 1)
        data[at : at + width] = (random_.choice(_NUMBERS) % 256**width).to_bytes(width, "big")


def _step(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    """A number that is there, a little more or less."""
    width = random_.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = random_.randrange(len(data) - width + 1)
        value = int.from_bytes(data[at : at + width], "big") + random_.choice((-2, -1, 1, 2, 16))
        data[at : at + width] = (value % 256**width).to_bytes(width, "big")


def _span(random_: random.Random, data: bytearray) -> tuple[int, int]:
    begin = random_.randrange(len(data) + 1)
    return begin, min(len(data), begin + random_.choice((1, 1, 2, 4, 8, 16, 64)))


def _remove(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    begin, end = _span(random_, data)
    del data[begin:end]


def _repeat(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    begin, end = _span(random_, data)
    data[begin:begin] = data[begin:end] * random_.choice((1, 1, 2, 30))


def _insert(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    at = random_.randrange(len(data) + 1)
    data[at:at] = random_.randbytes(random_.choice((1, 1, 2, 4, 8)))


def _cut(random_: random.Random, data: bytearray, _pool: Sequence[bytes]) -> None:
    del data[random_.randrange(len(data) + 1) :]


def _splice(random_: random.Random, data: bytearray, pool: Sequence[bytes]) -> None:
    """The front of this, the back of another."""
    other = random_.choice(pool)
    data[random_.randrange(len(data) + 1) :] = other[random_.randrange(len(other) + 1) :]


def _append(random_: random.Random, data: bytearray, pool: Sequence[bytes]) -> None:
    data += random_.choice(pool)


_Wound = Callable[[random.Random, bytearray, Sequence[bytes]], None]
_WOUNDS: Final[tuple[_Wound, ...]] = (
    _flip,
    _flip,
    _byte,
    _number,
    _number,
    _step,
    _remove,
    _repeat,
    _insert,
    _cut,
    _splice,
    _append,
)
