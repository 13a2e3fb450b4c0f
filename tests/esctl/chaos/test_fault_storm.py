"""Storms: drawn from a seed alone, never more than a cluster can spare, and kept."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from esctl.chaos import storm as storms
from esctl.chaos.storm import KINDS, ON_PROCESSES, ScheduledFault, draw, kinds_of, struck_at
from esctl.commands.fault import storm as command
from esctl.errors import InvalidArgument, InvalidStorm
from esctl.exits import Exit
from esctl.faults.partitionshapes import between
from esnode.faults import fault_of
from esnode.messages import SetFault

SEEDS = range(60)


def test_the_same_seed_gives_the_same_storm_and_another_seed_another() -> None:
    assert draw(7, (1, 2, 3), 30_000) == draw(7, (3, 2, 1), 30_000)
    assert len({draw(seed, (1, 2, 3), 30_000).schedule for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize(("count", "spare"), [(3, 1), (5, 2)])
def test_never_more_nodes_are_struck_than_the_cluster_can_spare(count: int, spare: int) -> None:
    for seed in SEEDS:
        drawn = draw(seed, range(1, count + 1), 60_000, per_10_s=40)
        assert drawn.keeps_quorum
        for moment_ms in range(0, 60_000, 100):
            assert len(struck_at(drawn.schedule, moment_ms)) <= spare
    assert any(draw(seed, range(1, count + 1), 60_000, per_10_s=40).worst == spare for seed in SEEDS)


def test_a_storm_that_may_lose_the_quorum_does() -> None:
    drawn = [draw(seed, (1, 2, 3), 60_000, per_10_s=40, allow_quorum_loss=True) for seed in SEEDS]
    assert not all(one.keeps_quorum for one in drawn)
    assert max(one.worst for one in drawn) == 3


def test_a_node_that_is_down_or_paused_is_told_nothing_and_struck_by_nothing() -> None:
    for seed in SEEDS:
        schedule = draw(seed, (1, 2, 3), 60_000, per_10_s=40).schedule
        for scheduled in schedule:
            if scheduled.kind in ON_PROCESSES:
                beside = [
                    other
                    for other in schedule
                    if other is not scheduled
                    and other.weighs
                    and other.node == scheduled.node
                    and other.at_ms < scheduled.whole_again_ms
                    and scheduled.at_ms < other.whole_again_ms
                ]
                assert beside == []


def test_every_kind_comes_and_every_order_is_one_that_a_node_takes() -> None:
    seen = set()
    for seed in SEEDS:
        for scheduled in draw(seed, (1, 2, 3), 60_000, per_10_s=20).schedule:
            seen.add(scheduled.kind)
            assert storms.SHORTEST_MS <= scheduled.for_ms <= storms.LONGEST_MS
            assert scheduled.at_ms + scheduled.for_ms <= 60_000
            for order in scheduled.orders((1, 2, 3), "f"):
                told = SetFault(
                    1, order.id, order.kind, list(order.peers), order.direction, dict(order.parameters), 1000
                )
                assert fault_of(told).kind == order.kind
    assert seen == set(KINDS)


def test_a_storm_of_chosen_kinds_has_no_others() -> None:
    drawn = draw(1, (1, 2, 3), 60_000, kinds_of("pause, kill"))
    assert {scheduled.kind for scheduled in drawn.schedule} == {"kill", "pause"}
    with pytest.raises(InvalidArgument, match="'burn' is no part of a storm"):
        kinds_of("kill,burn")


def test_a_storm_that_was_saved_reads_back_as_it_was() -> None:
    drawn = draw(3, (1, 2, 3), 30_000)
    assert storms.read(json.dumps(drawn.as_data())) == drawn


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "esctl.storm/v9"},
        {"gusts": [{"at_ms": 0}]},
        {"gusts": [{"at_ms": 0, "for_ms": 500, "kind": "burn", "node": 1, "parameters": {}}]},
        {"gusts": [{"at_ms": 0, "for_ms": 500, "kind": "kill", "node": 9, "parameters": {}}]},
        {"voters": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_file_that_is_no_storm_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidStorm):
        storms.read(json.dumps(draw(3, (1, 2, 3), 30_000).as_data() | change))
    with pytest.raises(InvalidStorm):
        storms.read("{")


# --- how it ends ------------------------------------------------------------------------------------


class Load:
    def __init__(self, *, acked: int = 100, enough: bool = True) -> None:
        self.acked, self.enough = acked, enough


class FinishedRun:
    """A storm run that is over."""

    def __init__(self, load: Load, *, served: bool = True, missed: str = "") -> None:
        self.storm = draw(5, (1, 2, 3), 30_000)
        self.loads, self.served = [load], served
        self.results = [type("FaultResult", (), {"fault": self.storm.schedule[0], "missed": missed})()]


class Found:
    """An outcome."""

    def __init__(self, *, clean: bool = True, doubts: Sequence[str] = ()) -> None:
        self.clean, self.doubts = clean, doubts
        self.lost, self.duplicates, self.flaws = int(not clean), 0, ["event 5 is lost"]


@pytest.mark.parametrize(
    ("storm_run", "outcome", "code"),
    [
        (FinishedRun(Load()), Found(), Exit.OK),
        (FinishedRun(Load()), Found(clean=False), Exit.VERDICT_FAILED),
        (FinishedRun(Load(), served=False), None, Exit.VERDICT_FAILED),
        (FinishedRun(Load(), missed="node 2 is not running"), Found(), Exit.INCONCLUSIVE),
        (FinishedRun(Load(acked=0, enough=False)), Found(), Exit.INCONCLUSIVE),
        (FinishedRun(Load()), Found(doubts=["node 3: down"]), Exit.INCONCLUSIVE),
        (FinishedRun(Load(), missed="x"), Found(clean=False), Exit.VERDICT_FAILED),
    ],
)
def test_what_is_wrong_is_wrong_and_what_is_not_known_is_not_passed(
    storm_run: Any, outcome: Any, code: Exit
) -> None:
    outcomes = () if outcome is None else (outcome,)
    assert command.StormResult(storm_run, outcomes).code is code


def test_a_cut_of_a_storm_strikes_every_link_of_its_node() -> None:
    orders = ScheduledFault(0, 500, "isolate", 2).orders((1, 2, 3), "s-1")
    assert {(order.node, order.peers) for order in orders} == {(2, (1, 3)), (1, (2,)), (3, (2,))}
    delayed = ScheduledFault(0, 500, "delay", 2, {"delay_ms": 5}).orders((1, 2, 3), "s-1")
    assert {(order.node, peer) for order in delayed for peer in order.peers} == set(between([2], [1, 3]))
    assert ScheduledFault(0, 500, "kill", 2).orders((1, 2, 3), "s-1") == []


def test_with_several_partitions_half_of_the_faults_strike_the_process_of_one() -> None:
    storm = draw(7, (1, 2, 3), 300_000, per_10_s=20, partitions=4)
    struck = [fault.partition for fault in storm.schedule]
    assert set(struck) == {None, 0, 1, 2, 3}
    assert 0.3 < struck.count(None) / len(struck) < 0.7
    assert storm.keeps_quorum
    again = storms.read(json.dumps(storm.as_data()))
    assert [fault.partition for fault in again.schedule] == struck
    assert all(fault.partition is None for fault in draw(7, (1, 2, 3), 300_000, per_10_s=20).schedule)


def test_of_several_partitions_the_worst_is_told_with_its_number() -> None:
    storm_run: Any = FinishedRun(Load())
    outcomes: Any = (Found(), Found(clean=False))
    storm_run.loads.append(Load(acked=0, enough=False))
    result = command.StormResult(storm_run, outcomes)
    assert result.code is Exit.VERDICT_FAILED
    assert any("too little load" in doubt for doubt in result.doubts())
