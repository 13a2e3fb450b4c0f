"""Keys, batches and entries for these tests: event `n` has a key and a payload that follow from `n`."""

import hashlib
from collections.abc import Iterable

import cbor2

from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp
from esnode.raft.entry import Entry, EntryKind, seal


def key(number: int) -> bytes:
    """The key of event `number`."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def packed(numbers: Iterable[int]) -> bytes:
    """The keys of several events, joined."""
    return b"".join(map(key, numbers))


def batch(numbers: Iterable[int], producer: ProducerStamp | None = None) -> Batch:
    """A batch whose events carry their numbers."""
    chosen = list(numbers)
    payload = cbor2.dumps([cbor2.dumps(number) for number in chosen])
    return Batch(len(chosen), packed(chosen), payload, producer)


def numbers_of(payload: bytes) -> list[int]:
    """The numbers that a payload carries."""
    return [cbor2.loads(event) for event in cbor2.loads(payload)]


def entry(
    index: int,
    base_offset: int,
    content: Batch | None = None,
    *,
    kind: EntryKind = EntryKind.BATCH,
    term: int = 1,
    log_time_ms: int = 0,
) -> Entry:
    """The entry that a leader makes of `content`."""
    if content is None:
        return seal(index=index, term=term, kind=kind, base_offset=base_offset, log_time_ms=log_time_ms)
    return seal(
        index=index,
        term=term,
        kind=kind,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
        count=content.count,
        keys=content.keys,
        payload=content.payload,
        producer=content.producer,
        partition=content.partition,
    )


def offsets_of(ranges: Iterable[OffsetRange]) -> list[int]:
    """Ranges, offset by offset."""
    found: list[int] = []
    for part in ranges:
        step = 0 if part.base_offset < 0 else 1
        found += [part.base_offset + step * place for place in range(part.count)]
    return found
