"""Which rates a sweep measures, and where it finds the knee."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.bench.knee import CLOSE, Search, rounded


def swept(search: Search, capacity: float) -> list[float]:
    """The rates that were asked for, of a log that takes `capacity`."""
    asked: list[float] = []
    while (rate := search.next_rate()) is not None and rate < 1e8:
        asked.append(rate)
        search.took(rate, good=rate <= capacity)
    return asked


def test_rates_double_until_one_breaks_and_then_the_gap_is_halved() -> None:
    search = Search(first=10_000, factor=2, refine=3)
    asked = swept(search, 183_000)
    assert asked == [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 226_000, 190_000, 174_000]
    assert (search.knee, search.broken) == (174_000, 190_000)


def test_rates_go_no_higher_than_asked() -> None:
    search = Search(first=10_000, factor=2, highest=50_000, refine=3)
    assert swept(search, 183_000) == [10_000, 20_000, 40_000]
    assert (search.knee, search.broken) == (40_000, None)


def test_listed_rates_are_measured_from_the_lowest_up() -> None:
    search = Search([70_000, 10_000, 30_000], refine=0)
    assert swept(search, 30_000) == [10_000, 30_000, 70_000]
    assert search.knee == 30_000


def test_a_first_rate_that_breaks_ends_the_search_without_a_knee() -> None:
    search = Search(first=10_000, refine=3)
    assert swept(search, 9_000) == [10_000]
    assert search.knee is None


def test_a_list_that_never_breaks_ends_with_its_highest_rate() -> None:
    search = Search([1000, 2000], refine=3)
    assert swept(search, 1e9) == [1000, 2000]
    assert (search.knee, search.broken) == (2000, None)


def test_a_lucky_rate_above_a_broken_one_is_no_knee() -> None:
    search = Search([100, 200, 400], refine=0)
    search.took(100, good=True)
    search.took(200, good=False)
    search.took(400, good=True)
    assert (search.knee, search.broken) == (100, 200)


@given(st.floats(1e3, 1e7), st.floats(1.3, 4.0), st.integers(0, 8))
def test_the_knee_is_never_above_what_the_log_takes(capacity: float, factor: float, refine: int) -> None:
    search = Search(first=1000, factor=factor, refine=refine)
    asked = swept(search, capacity)
    assert search.knee is not None
    assert search.knee <= capacity
    assert search.broken is not None
    assert search.broken > capacity
    assert len(asked) == len(set(asked))
    # Each halving takes the root of what is left, down to rates that are as good as equal.
    gap = search.broken / search.knee
    assert gap <= max(factor ** (0.5**refine) * 1.02, CLOSE**2 * 1.02)


@pytest.mark.parametrize(
    ("rate", "digits"),
    [(84_853, 84_900), (999_600, 1_000_000), (12.345, 12.3), (1.5, 1.5)],
)
def test_rates_have_three_digits(rate: float, digits: float) -> None:
    assert rounded(rate) == digits
