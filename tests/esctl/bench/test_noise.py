"""The noise band: where its edges are, and how often two equal systems are called different."""

import math
import random
from collections.abc import Callable
from statistics import median

import pytest

from esctl.bench import noise
from esctl.bench.noise import NoiseSource, band, is_higher_at_the_top


def test_the_band_of_three_runs_is_twice_the_mean_range_of_both_sides() -> None:
    assert band([90, 100, 110], [95, 100, 105]) == noise.Band(30, NoiseSource.RUNS)


def test_the_side_with_fewer_runs_decides_the_factor() -> None:
    assert band([90, 100, 110], [90, 100, 110] * 3).width == 40
    assert band([90, 100, 100, 110] * 2, [90, 100, 110] * 3).width == noise.FACTORS[8] * 20


def test_no_band_is_narrower_than_what_is_tolerated() -> None:
    assert band([100, 100, 100], [100, 100, 100]) == noise.Band(5, NoiseSource.TOLERANCE)
    assert band([100, 100, 100], [100, 100, 100], 2.5) == noise.Band(2.5, NoiseSource.TOLERANCE)
    assert band([99, 100, 101], [99, 100, 101], 0) == noise.Band(4, NoiseSource.RUNS)


def test_too_few_runs_have_no_band_but_a_coarse_one_or_the_one_that_is_given() -> None:
    assert band([100], [100]) == noise.Band(25, NoiseSource.COARSE)
    assert band([100, 100], [100, 100, 100]) == noise.Band(25, NoiseSource.COARSE)
    assert band([100], [100], coarse_percent=100) == noise.Band(100, NoiseSource.COARSE)
    assert band([100], [100], 7) == noise.Band(7, NoiseSource.GIVEN)


def test_what_few_runs_show_of_the_noise_widens_a_coarse_band() -> None:
    assert band([80, 120], [100]) == noise.Band(40, NoiseSource.COARSE)


def test_an_outlier_among_many_runs_does_not_widen_the_band() -> None:
    steady = [100.0 + n % 5 for n in range(20)]
    assert band(steady, steady).width == band([*steady[:-1], 900], steady).width


DRAWS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda r: 100 + r.gauss(0, 10),
    "log-normal": lambda r: 100 * math.exp(r.gauss(0, 0.3)),
    "outliers": lambda r: 100 + r.gauss(0, 5) + (200 if r.random() < 0.1 else 0),
    "some slow": lambda r: 100 + r.gauss(0, 10) + (40 if r.random() < 0.3 else 0),
}


@pytest.mark.parametrize("runs", [3, 4, 5, 7, 10, 11, 20])
@pytest.mark.parametrize("kind", DRAWS)
def test_two_equal_systems_are_hardly_ever_told_apart(kind: str, runs: int) -> None:
    chance = random.Random(f"{kind} {runs}")
    alarms = 0
    for _ in range(1000):
        base, other = ([DRAWS[kind](chance) for _ in range(runs)] for _ in range(2))
        alarms += median(other) - median(base) > band(base, other, 0).width
    assert alarms / 1000 <= 0.025


@pytest.mark.parametrize(("runs", "deviations"), [(3, 6), (5, 4), (10, 3), (20, 2.5)])
def test_a_change_well_beyond_the_noise_is_seen(runs: int, deviations: float) -> None:
    chance = random.Random(runs)
    seen = 0
    for _ in range(500):
        base = [chance.gauss(100, 1) for _ in range(runs)]
        other = [chance.gauss(100 + deviations, 1) for _ in range(runs)]
        seen += median(other) - median(base) > band(base, other, 0).width
    assert seen / 500 > 0.85


def test_a_longer_tail_is_told_from_chance() -> None:
    base = [float(n) for n in range(20)]
    assert not is_higher_at_the_top([*base[6:], *[30.0] * 6], base, 0)
    assert is_higher_at_the_top([*base[7:], *[30.0] * 7], base, 0)
    assert not is_higher_at_the_top([*base[7:], *[19.5] * 7], base, tolerance_percent=5)


def test_equal_tails_are_hardly_ever_told_apart() -> None:
    chance = random.Random(1)
    alarms = 0
    for _ in range(2000):
        base, other = ([chance.expovariate(1) for _ in range(25)] for _ in range(2))
        alarms += is_higher_at_the_top(other, base, 0)
    assert alarms / 2000 <= 0.01
