"""The record of an entry: sealed once, read back the same, any damage found."""

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.dedup.batch import ProducerStamp
from esnode.dedup.producers import Opening
from esnode.errors import DamagedRecord, NewerFormat
from esnode.raft.entry import HEADER_BYTES, Entry, EntryKind, parse, seal, seal_opening

from .solo import events, noop

POSITIVE = st.integers(1, 2**48)


@given(
    index=POSITIVE,
    term=POSITIVE,
    base_offset=POSITIVE,
    log_time_ms=POSITIVE,
    keys=st.lists(st.binary(min_size=limits.KEY_BYTES, max_size=limits.KEY_BYTES), max_size=5),
    payload=st.binary(max_size=200),
    partition=st.integers(0, 65_535),
    producer=st.none() | st.builds(ProducerStamp, POSITIVE, st.integers(0, 9), POSITIVE, st.integers(0, 9)),
)
def test_a_record_is_read_back_as_it_was_sealed(
    index: int,
    term: int,
    base_offset: int,
    log_time_ms: int,
    keys: list[bytes],
    payload: bytes,
    partition: int,
    producer: ProducerStamp | None,
) -> None:
    entry = seal(
        index=index,
        term=term,
        kind=EntryKind.BATCH,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
        count=len(keys),
        keys=b"".join(keys),
        payload=payload,
        producer=producer,
        partition=partition,
    )
    assert parse(entry.record) == entry
    assert (entry.keys, entry.payload) == (b"".join(keys), payload)
    assert entry.next_offset == base_offset + len(keys)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_out(position: int, bit: int) -> None:
    record = bytearray(events(3, 2, 7, "a", "b").record)
    record[position % len(record)] ^= 1 << bit
    with pytest.raises(DamagedRecord):
        parse(bytes(record))


def forged(entry: Entry, at: int, value: int) -> bytes:
    """The record with one byte changed and a checksum that fits."""
    record = bytearray(entry.record)
    record[at] = value
    record[:4] = google_crc32c.value(bytes(record[4:])).to_bytes(4, "big")
    return bytes(record)


@pytest.mark.parametrize(("at", "value", "complaint"), [(4, 9, "of format 9"), (5, 200, "of the kind 200")])
def test_a_whole_record_that_a_newer_version_wrote_is_refused_as_that(
    at: int, value: int, complaint: str
) -> None:
    with pytest.raises(NewerFormat, match=complaint):
        parse(forged(noop(1, 1), at, value))


@pytest.mark.parametrize(("at", "complaint"), [(4, "version 0"), (HEADER_BYTES - 1, "not what it says")])
def test_a_record_that_contradicts_itself_is_refused(at: int, complaint: str) -> None:
    with pytest.raises(DamagedRecord, match=complaint):
        parse(forged(noop(1, 1), at, 1 if at > 4 else 0))


def test_a_torn_record_is_refused() -> None:
    record = events(1, 1, 0, "a").record
    for length in range(len(record)):
        with pytest.raises(DamagedRecord):
            parse(record[:length])


def test_an_entry_tells_that_its_keys_begin_with_tokens() -> None:
    assert events(1, 1, 0, "a").keys_have_tokens


def test_an_entry_tells_what_kind_it_is() -> None:
    producer = seal(index=1, term=1, kind=EntryKind.PRODUCER, base_offset=0, log_time_ms=0)
    assert (producer.opens_producer, noop(1, 1).opens_producer) == (True, False)


@given(
    st.builds(
        Opening,
        st.integers(1, limits.MAX_INDEX),
        st.integers(1, 2**32 - 1),
        st.integers(0, limits.MAX_INDEX),
        st.text(max_size=60),
        st.integers(0, 2**64 - 1),
    )
)
def test_the_opening_of_a_session_is_read_back_as_it_was_sealed(opening: Opening) -> None:
    entry = seal_opening(opening, index=7, term=2, base_offset=5, log_time_ms=60)
    assert parse(entry.record) == entry
    assert entry.opening == opening
    assert entry.opens_producer


def test_a_new_session_without_a_name_is_sealed_as_older_versions_read_it() -> None:
    entry = seal_opening(Opening(7, 1, 0), index=7, term=2, base_offset=5, log_time_ms=60)
    assert entry == seal(index=7, term=2, kind=EntryKind.PRODUCER, base_offset=5, log_time_ms=60)
    assert entry.opening == Opening(7, 1, 0)
    assert noop(1, 1).opening is None


@pytest.mark.parametrize(
    ("stamp", "payload", "count"),
    [
        (None, bytes(8), 0),
        (ProducerStamp(5, 0, 0, 0), bytes(8), 0),
        (ProducerStamp(2**57, 1, 0, 0), bytes(8), 0),
        (ProducerStamp(5, 1, 2**57, 0), bytes(8), 0),
        (ProducerStamp(5, 1, 0, 0), bytes(7), 0),
        (ProducerStamp(5, 1, 0, 0), bytes(8) + b"\xff", 0),
        (ProducerStamp(5, 1, 0, 0), bytes(8) + b"a" * 256, 0),
        (ProducerStamp(5, 1, 0, 0), bytes(8), 1),
    ],
    ids=["no id", "no epoch", "id", "number", "no holder", "no text", "too long", "events"],
)
def test_an_opening_that_there_cannot_be_is_refused(
    stamp: ProducerStamp | None, payload: bytes, count: int
) -> None:
    entry = seal(
        index=1,
        term=1,
        kind=EntryKind.PRODUCER_EPOCH,
        base_offset=0,
        log_time_ms=0,
        count=count,
        keys=bytes(limits.KEY_BYTES * count),
        payload=payload,
        producer=stamp,
    )
    with pytest.raises(DamagedRecord):
        parse(entry.record)
