"""Rings that change, in CI; and that each world changes its ring under load, however often it is played."""

import os

import pytest

from tests.simulation.ring import world
from tests.simulation.ring.weather import CHANGES, draw
from tests.simulation.runner import play_all

SEEDS = 24
SECONDS = 5 * 60


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_many_rings_change_and_break_no_promise() -> None:
    summary = play_all("R", range(SEEDS), jobs=os.cpu_count() or 1)
    assert not summary.failed, [f"seed {each.seed}: {each.violation}" for each in summary.failed]
    counts = summary.counts
    assert counts["ring.plans ended"] >= 2 * SEEDS, counts
    assert counts["ring.adopted keys"] > 1_000 * SEEDS, counts
    assert counts["op.append"] > 100 * SEEDS, counts
    for name in (
        "struck.RingSwitch", "struck.asked", "ring.sent again elsewhere", "ring.client goes elsewhere",
        "op.WINDOW_PASSED", "net.mover lost", "net.snapshot", "fault.prefix cut",
    ):  # fmt: skip
        assert counts[name] >= 10, (name, counts)


def test_every_world_changes_its_ring_twice_at_least() -> None:
    assert min(map(len, CHANGES)) >= 2
    assert all(draw(seed, 0.1).changes for seed in range(20))


def test_a_seed_gives_one_trace() -> None:
    first, again = (world.run(1, minutes=0.05) for _ in range(2))
    assert first.trace_hash == again.trace_hash
    assert first.violation is None
