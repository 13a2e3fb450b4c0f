"""A batch of events as a client sends it, and the key that tells one event from another.

A payload is a CBOR array of byte strings, each the CBOR encoding of one event: so a part of it can
be taken out without decoding any event. Never looks inside an event but in `event_key`'s two texts.
Called by the client, the wire and the admission.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import cbor2

from esnode import limits
from esnode.dataclass import dataclass
from esnode.ring import TOKEN_BYTES, token_of

_LENGTH: Final = struct.Struct(">I")
_REMEMBERED_SOURCES: Final = 4096

UNKNOWN_OFFSET: Final = -1
"""In the log for certain (its sequence number says so), but no node remembers where."""


@dataclass(frozen=True, slots=True)
class ProducerStamp:
    """The place of a batch in a producer session.

    `sequence` is the number of the batch's first event in the session, dense from 0; `covered` is
    how many sequence numbers the batch accounts for. It is the event count as the client sends it;
    in the log it can be more, since events known by key are dropped and their numbers are not.
    """

    producer_id: int
    epoch: int
    sequence: int
    covered: int


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """`count` events in a row, the first at `base_offset`; with -1 for that, all at `UNKNOWN_OFFSET`."""

    base_offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """`count` events: 16 bytes of key each, packed in order, and the payload.

    `sent_after` is where the log ended, as far as the client knew, when it sent the batch for the first
    time: no event of it is in the log before that. -1 where the client does not say.
    `sent_to` is the partition whose log that was, if it is another one: the sources have moved since.
    """

    count: int
    keys: bytes
    payload: bytes
    producer: ProducerStamp | None = None
    partition: int = 0
    sent_after: int = UNKNOWN_OFFSET
    sent_to: int | None = None


def _array_head(count: int) -> bytes:
    """The head of a CBOR array of `count` items, in its shortest form (RFC 8949, 3.1 and 4.2.1)."""
    if count < 24:
        return bytes([0x80 | count])
    if count < 2**8:
        return bytes([0x98, count])
    return bytes([0x99]) + count.to_bytes(2, "big")


ARRAY_HEADS: Final = tuple(_array_head(count) for count in range(limits.MAX_BATCH_EVENTS + 1))
"""How the payload of so many events begins; the wire lets no other in."""


def event_key(source: str, event_id: str) -> bytes:
    """The token of `source` (4 bytes), then the identity: the last 12 bytes of a BLAKE2b digest of 16.

    That is the digest of `source` and `id`, each with its length in front: CloudEvents 1.0 asks that the
    pair be unique for each distinct event. Records of version 1 have the whole digest as their key, so an
    event that was stored under the old key has the same identity.
    """
    token, hash_of_source = _source_parts(source)
    id_bytes, hashed = event_id.encode(), hash_of_source()
    hashed.update(_LENGTH.pack(len(id_bytes)) + id_bytes)
    return token + hashed.digest()[TOKEN_BYTES:]


@lru_cache(_REMEMBERED_SOURCES)
def _source_parts(source: str) -> tuple[bytes, Callable[[], "hashlib.blake2b"]]:
    """What all keys of a source have in common: their token, and a hash that has taken in the source."""
    source_bytes = source.encode()
    hashed = hashlib.blake2b(_LENGTH.pack(len(source_bytes)) + source_bytes, digest_size=limits.KEY_BYTES)
    return token_of(source), hashed.copy


def identity_of(key: bytes) -> bytes:
    """The 12 bytes of a key that tell its event from all others, whatever partition it is in."""
    return key[TOKEN_BYTES:]


def split_keys(keys: bytes) -> tuple[bytes, ...]:
    """Packed keys, one by one."""
    return _key_unpacker(len(keys) // limits.KEY_BYTES).unpack(keys)


def split_identities(keys: bytes) -> tuple[bytes, ...]:
    """The identity of each of the packed keys."""
    return _identity_unpacker(len(keys) // limits.KEY_BYTES).unpack(keys)


def select(batch: Batch, positions: Sequence[int]) -> Batch:
    """The events of `batch` at `positions` (ascending), their encodings untouched."""
    keys = split_keys(batch.keys)
    encoded_events = cbor2.loads(batch.payload)
    return Batch(
        count=len(positions),
        keys=b"".join(keys[i] for i in positions),
        payload=cbor2.dumps([encoded_events[i] for i in positions]),
        producer=batch.producer,
        partition=batch.partition,
    )


def merge(batches: Sequence[Batch]) -> Batch:
    """The events of all these in one batch, their encodings untouched.

    None belongs to a producer session, all go to one partition, and there are `MAX_BATCH_EVENTS` at most.
    """
    count = sum(batch.count for batch in batches)
    parts: list[bytes | memoryview] = [ARRAY_HEADS[count]]
    parts += [memoryview(batch.payload)[len(ARRAY_HEADS[batch.count]) :] for batch in batches]
    keys = b"".join([batch.keys for batch in batches])
    return Batch(count, keys, b"".join(parts), partition=batches[0].partition)


@lru_cache(maxsize=limits.MAX_BATCH_EVENTS + 1)
def _key_unpacker(count: int) -> struct.Struct:
    return struct.Struct(f"{limits.KEY_BYTES}s" * count)


@lru_cache(maxsize=limits.MAX_BATCH_EVENTS + 1)
def _identity_unpacker(count: int) -> struct.Struct:
    return struct.Struct(f"{TOKEN_BYTES}x{limits.KEY_BYTES - TOKEN_BYTES}s" * count)
