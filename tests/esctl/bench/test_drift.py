"""Whether a curve rises: a line by least squares, judged by what it comes to over the time watched."""

import pytest

from esctl.bench.drift import FEWEST_POINTS, FLAT_SHARE, needed_s, trend


def line(per_hour: float, minutes: int) -> list[tuple[float, float]]:
    """A point each ten seconds, from 100 on."""
    return [(130.0 + 10 * n, 100.0 + per_hour * 10 * n / 3600) for n in range(minutes * 6 + 1)]


def test_a_line_is_found_again() -> None:
    found = trend(line(36.0, minutes=60))
    assert found is not None
    assert found.per_hour == pytest.approx(36.0)
    assert found.span_s == 3600
    assert found.mean == pytest.approx(118.0)
    assert found.share == pytest.approx(36 / 118)


def test_what_rises_in_the_first_two_minutes_does_not_count() -> None:
    filling = [(float(n), float(n)) for n in range(0, 120, 10)]
    found = trend([*filling, *line(0.0, minutes=5)])
    assert found is not None
    assert found.per_hour == pytest.approx(0.0, abs=1e-6)


def test_noise_around_a_level_is_flat() -> None:
    noisy = [(x, y + (0.5 if n % 2 else -0.5)) for n, (x, y) in enumerate(line(0.0, minutes=10))]
    found = trend(noisy)
    assert found is not None
    assert abs(found.share) < FLAT_SHARE


def test_a_leak_is_seen_within_ten_minutes() -> None:
    found = trend(line(30.0, minutes=10))  # 5 MB of 100 in ten minutes
    assert found is not None
    assert found.share > FLAT_SHARE


def test_too_few_points_give_no_trend() -> None:
    points = line(1.0, minutes=10)
    assert trend(points[: FEWEST_POINTS - 1]) is None
    assert trend(points[:FEWEST_POINTS]) is not None
    assert trend([]) is None
    assert needed_s(10) == 120 + 10 * FEWEST_POINTS


def test_a_curve_of_zeros_is_flat() -> None:
    found = trend([(200.0 + n, 0.0) for n in range(10)])
    assert found is not None
    assert found.share == 0.0
