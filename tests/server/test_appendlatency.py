"""What a node tells of how long appends take: bounds that hold each batch, an eighth apart."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode.server.appendlatency import STEPS, AppendLatency


@given(st.floats(0, 10_000))
def test_a_batch_is_counted_below_a_bound_that_is_at_most_an_eighth_too_high(seconds: float) -> None:
    latency = AppendLatency()
    latency.note(seconds)
    ((bound_us, count),) = latency.picture()
    assert count == 1
    assert int(seconds * 1e6) < bound_us <= max(16, int(seconds * 1e6) * 1.125 + 1)


def test_bounds_grow_and_every_batch_is_in_one_of_them() -> None:
    latency = AppendLatency()
    for microseconds in range(0, 200_000, 7):
        latency.note(microseconds / 1e6)
    told = latency.picture()
    assert all(one[0] < other[0] for one, other in pairwise(told))
    assert sum(count for _, count in told) == len(range(0, 200_000, 7))
    assert len(told) < STEPS


@pytest.mark.parametrize("seconds", [1e5, 1e12])
def test_what_takes_longer_than_anything_is_in_the_last_step(seconds: float) -> None:
    latency = AppendLatency()
    latency.note(seconds)
    latency.note(0.001)
    assert [count for _, count in latency.picture()] == [1, 1]


def test_nothing_is_told_of_nothing() -> None:
    assert AppendLatency().picture() == []
