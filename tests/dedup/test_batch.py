"""The key of an event, and parts of batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode.dedup.batch import ProducerStamp, event_key, merge, select, split_keys

from .events import batch, key, numbers_of, packed

texts = st.text(max_size=20)


def test_an_event_has_the_same_key_in_every_version() -> None:
    assert event_key("/airport/JFK", "UA-1545").hex() == "7ef0d4299ab790e3bbfc4a3f3fdb0987"


@given(texts, texts, texts, texts)
def test_two_events_share_a_key_only_if_they_share_source_and_id(a: str, b: str, c: str, d: str) -> None:
    assert (event_key(a, b) == event_key(c, d)) == ((a, b) == (c, d))


def test_the_parts_of_a_key_do_not_run_together() -> None:
    assert event_key("ab", "c") != event_key("a", "bc")


@pytest.mark.parametrize("count", [0, 1, 64, 1024])
def test_packed_keys_come_apart_as_they_were_joined(count: int) -> None:
    assert split_keys(packed(range(count))) == tuple(map(key, range(count)))


@pytest.mark.parametrize("places", [[], [0], [2], [0, 2], [0, 1, 2]])
def test_a_part_of_a_batch_keeps_its_events_as_they_are(places: list[int]) -> None:
    stamp = ProducerStamp(7, 1, 30, 3)
    part = select(batch([10, 11, 12], stamp), places)
    assert part.count == len(places)
    assert part.keys == packed(10 + place for place in places)
    assert numbers_of(part.payload) == [10 + place for place in places]
    assert part.producer == stamp


@given(st.lists(st.integers(1, 300), min_size=1, max_size=3))
def test_batches_that_are_merged_are_the_batch_of_all_their_events(counts: list[int]) -> None:
    starts = [sum(counts[:n]) for n in range(len(counts))]
    parts = [batch(range(start, start + count)) for start, count in zip(starts, counts, strict=True)]
    assert merge(parts) == batch(range(sum(counts)))
