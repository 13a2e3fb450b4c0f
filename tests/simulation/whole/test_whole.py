"""Whole nodes in simulated worlds: a few seeds here, many in the runner; and that a seed is one world."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from trio._core import _run as scheduler

from esnode import limits

from .world import run

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(2)
ONE_WORLD = """
from tests.simulation.whole.world import run
outcome = run(3)
print(outcome.trace_hash, outcome.simulated_s, sorted(outcome.counts.items()))
"""


played = cache(run)
"""Each world once, whichever tests look at it."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_of_whole_nodes_keeps_every_promise(seed: int) -> None:
    outcome = played(seed)
    if outcome.violation is not None:
        raise outcome.violation


def test_one_seed_is_one_world_whatever_the_hash_seed() -> None:
    """Tells when another version of trio schedules in another way, and when something new is random."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_WORLD],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "1", "random")
    ]
    told = [process.communicate(timeout=100)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert told[0]
    assert told[0] == told[1] == told[2]


def test_another_seed_is_another_world() -> None:
    assert played(0).trace_hash != played(1).trace_hash


def test_a_world_leaves_trio_and_the_limits_as_they_were() -> None:
    before = (vars(limits).copy(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r)
    run(1)
    assert before == (vars(limits), scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r)
