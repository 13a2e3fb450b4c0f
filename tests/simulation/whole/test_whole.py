"""Whole nodes in simulated worlds: a few seeds here, many in the runner; and that a seed is one world."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esnode.errors import StorageFailed

from .world import run

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(10)
ONE_WORLD = """
from tests.simulation.whole.world import run
outcome = run(3)
print(outcome.trace_hash, outcome.simulated_s, sorted(outcome.counts.items()))
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_of_whole_nodes_keeps_every_promise(seed: int) -> None:
    outcome = run(seed)
    if outcome.violation is not None:
        raise outcome.violation
    assert outcome.counts["op.acked"] > 0, "a run without load proves nothing"


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
    assert run(1).trace_hash != run(10).trace_hash


def test_a_disk_that_fails_ends_its_node_and_the_world_goes_on() -> None:
    outcome = run(1)
    assert outcome.counts["fault.failed_sync"]
    assert StorageFailed.code == "ES3103"
