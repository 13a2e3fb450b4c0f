"""Worlds of one partition of several: after all faults the node that is to lead does, and nothing is lost."""

import pytest

from .clients import Share
from .test_whole import played
from .world import run

SEEDS = range(3)
MANY = range(100, 110)


def play(seed: int) -> None:
    outcome = run(seed, share=Share(4, seed % 4))
    if outcome.violation is not None:
        raise outcome.violation


@pytest.mark.parametrize("seed", SEEDS)
def test_after_all_faults_the_leadership_comes_to_its_place_and_stays(seed: int) -> None:
    play(seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_worlds_come_to_rest_with_the_leader_in_its_place() -> None:
    for seed in MANY:
        play(seed)


def test_a_world_with_one_partition_hands_nothing_over_by_itself() -> None:
    assert not [name for name in played(0).counts if name.startswith("placement.")]
