"""Events for measurements: real CloudEvents of an exact size, each with an id of its own, cheap to make.

One event is encoded once; the others are its bytes with another id of the same width. Keys are digests of
`source` and `id` as for any event. So what `bench` measures is the log, not the making of its events; the
tests hold these batches equal to what `esnode.events.make_batch` gives. All events of a batch are of one
source, so also of one partition. Called by `esctl bench`.
"""

import hashlib
import struct
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import cbor2

from esctl.errors import InvalidArgument
from esnode import limits
from esnode.dedup.batch import Batch
from esnode.events import encode_event
from esnode.ring import TOKEN_BYTES, Ring, token_of

SOURCE: Final = "/bench"
TYPE: Final = "bench.event"
DIGITS: Final = 12
_LENGTH: Final = struct.Struct(">I")
_FILLING: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def sources_of(ring: Ring) -> tuple[str, ...]:
    """A source for each partition of a ring; the only partition has the one of all other measurements."""
    if len(ring.partitions) == 1:
        return (SOURCE,)
    found: dict[int, str] = {}
    for number in count(1):
        source = f"{SOURCE}/{number}"
        found.setdefault(ring.owner_of(source), source)
        if len(found) == len(ring.partitions):
            break
    return tuple(found[partition] for partition in ring.partitions)


class Generator:
    """Batches of events whose ids are `RUN-000000000000`, `RUN-000000000001` and so on.

    `run` must be new for each run: it is what makes the ids unique. `size` is the encoded size of each
    event in bytes; raises `InvalidArgument` where no event can have it. Batches are of one of the `sources`
    after the other.
    """

    def __init__(self, run: str, size: int, batch: int, sources: Sequence[str] = (SOURCE,)) -> None:
        self.size = size
        """Of each event, encoded, in bytes."""
        self._run = run
        self._batch = batch
        self._made = 0
        self._moulds = [_Mould(run, size, batch, source) for source in sources]

    @property
    def made(self) -> int:
        """How many events were made so far."""
        return self._made

    def id_of(self, number: int) -> str:
        """The id of event `number`."""
        return _id_of(self._run, number)

    def next_batch(self) -> Batch:
        """The next batch of events; none of them was made before."""
        mould = self._moulds[self._made // self._batch % len(self._moulds)]
        numbers = [b"%012d" % number for number in range(self._made, self._made + self._batch)]
        self._made += self._batch
        return mould.cast(numbers)


class _Mould:
    """What the batches of one source have in common."""

    def __init__(self, run: str, size: int, batch: int, source: str) -> None:
        self._batch = batch
        encoded = encode_event(_event(_id_of(run, 0), size, source))
        assert len(encoded) == size
        number = f"{0:0{DIGITS}}".encode()
        front, back = encoded.split(f"{run}-".encode() + number)
        front += f"{run}-".encode()
        # One event of a batch: the CBOR head of a byte string, then the event around its number.
        head = _cbor_head(0x40, size)
        self._start = _cbor_head(0x80, batch) + head + front
        self._between = back + head + front
        self._end = back
        if batch * (size + len(head)) > limits.MAX_BATCH_BYTES:
            raise InvalidArgument(
                f"a batch of {batch} events of {size} bytes is over the limit of {limits.MAX_BATCH_BYTES}"
                " bytes (MAX_BATCH_BYTES)",
                next_step=f"--batch {max(1, limits.MAX_BATCH_BYTES // (size + len(head)))}",
            )
        encoded_source = source.encode()
        id_head = f"{run}-".encode()
        hashed = _LENGTH.pack(len(encoded_source)) + encoded_source
        hashed += _LENGTH.pack(len(id_head) + DIGITS) + id_head
        self._digest = hashlib.blake2b(hashed, digest_size=limits.KEY_BYTES)
        self._token = token_of(source)

    def cast(self, numbers: Sequence[bytes]) -> Batch:
        """The batch of the events with these numbers."""
        begin, token = self._digest.copy, self._token
        keys = []
        for number in numbers:
            digest = begin()
            digest.update(number)
            keys.append(token + digest.digest()[TOKEN_BYTES:])
        payload = b"".join((self._start, self._between.join(numbers), self._end))
        return Batch(self._batch, b"".join(keys), payload)


def _id_of(run: str, number: int) -> str:
    return f"{run}-{number:0{DIGITS}}"


def _event(event_id: str, size: int, source: str) -> dict[str, Any]:
    """An event of `source` with `event_id` whose encoding has `size` bytes."""
    if size > limits.MAX_EVENT_BYTES:
        raise InvalidArgument(
            f"an event of {size} bytes is over the limit of {limits.MAX_EVENT_BYTES} (MAX_EVENT_BYTES)",
            next_step=f"--size {limits.MAX_EVENT_BYTES}",
        )
    event = {"specversion": "1.0", "id": event_id, "source": source, "type": TYPE, "data": ""}
    smallest = len(encode_event(event))
    # A longer text has a longer head in CBOR (RFC 8949, 3): for a few sizes another field takes the rest.
    for filler in ({}, {"x": ""}, {"x": "0"}):
        for head in range(5):
            room = size - len(encode_event({**event, **filler})) - head
            if room >= 0:
                filling = (_FILLING * (room // len(_FILLING) + 1))[:room]
                filled = {**event, **filler, "data": filling}
                if len(encode_event(filled)) == size:
                    return filled
    raise InvalidArgument(
        f"no event of this run has {size} bytes; the smallest has {smallest}", next_step=f"--size {smallest}"
    )


def _cbor_head(major: int, length: int) -> bytes:
    """The head of a CBOR byte string (0x40) or array (0x80) of `length`."""
    example = cbor2.dumps(bytes(length)) if major == 0x40 else cbor2.dumps([0] * length)
    return example[: len(example) - length]
