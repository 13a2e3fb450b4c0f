"""Applied, no effect, unknown: what each look at the nodes is judged to mean."""

from typing import Any

import pytest

from esctl.chaos import effect
from esctl.chaos.effect import Effect, EffectLook, EffectVerdict
from esctl.clusters.backends.interface import RunState
from esctl.faults import nodeorders
from esctl.faults.nodeorders import Order
from esctl.faults.partitionshapes import Partition, Shape, partition

APPLIED, NO_EFFECT, UNKNOWN = EffectVerdict.APPLIED, EffectVerdict.NO_EFFECT, EffectVerdict.UNKNOWN


def look(node: int, *, hits: int = 0, fault: str = "p", **status: Any) -> EffectLook:
    told = {"role": "follower", "leader": 1, "term": 2, "silence_ms": 40, **status}
    return EffectLook(node, RunState.RUNNING, told, {fault: hits})


def judged(cut: Partition, looks: list[EffectLook], elapsed_ms: int = 1000) -> dict[int, Effect]:
    """Node 1 led when the cut was made."""
    ordered = nodeorders.block(cut.cuts, "p")
    seen = {one.node: one for one in looks}
    return {one.node: one for one in effect.of_partition(cut, ordered, 1, seen, elapsed_ms)}


ALONE = partition(Shape.ISOLATE_LEADER, (1, 2, 3), 1)
DEPOSED = look(1, role="follower", leader=None, silence_ms=-1, hits=8)


def test_an_election_on_the_other_side_shows_that_the_cut_hits() -> None:
    found = judged(ALONE, [DEPOSED, look(2, role="leader", term=3), look(3, leader=2)])
    assert {one.verdict for one in found.values()} == {APPLIED}
    assert "leads now, in term 3" in found[2].evidence
    assert "follows node 2" in found[3].evidence
    assert "leads no longer; 8 messages lost" in found[1].evidence


def test_silence_shows_the_cut_before_the_election_does() -> None:
    found = judged(ALONE, [DEPOSED, look(2, silence_ms=480), look(3, silence_ms=-1, leader=None)], 450)
    assert found[2].verdict is APPLIED
    assert "480 ms" in found[2].evidence


def test_a_node_that_still_hears_its_leader_is_not_cut_off() -> None:
    found = judged(ALONE, [DEPOSED, look(2, silence_ms=90), look(3, leader=2)])
    assert found[2].verdict is NO_EFFECT
    assert found[2].open
    assert effect.of_all(found.values()) is NO_EFFECT


def test_at_first_it_is_too_early_to_say() -> None:
    found = judged(ALONE, [look(1, role="leader"), look(2, silence_ms=90), look(3)], 100)
    assert {one.verdict for one in found.values()} == {UNKNOWN}
    assert all(one.open for one in found.values())


def test_a_leader_that_goes_on_without_a_majority_is_not_cut_off() -> None:
    found = judged(ALONE, [look(1, role="leader", hits=9), look(2, leader=3), look(3, role="leader")], 2500)
    assert found[1].verdict is NO_EFFECT


def test_a_node_that_gives_no_answer_is_unknown() -> None:
    found = judged(ALONE, [EffectLook(1, RunState.PAUSED, None), look(2, leader=3), look(3, role="leader")])
    assert found[1].verdict is UNKNOWN
    assert found[1].evidence == "it is paused"


def test_a_link_between_followers_is_shown_by_what_was_lost_on_it() -> None:
    apart = partition(Shape.BRIDGE, (1, 2, 3), 1, 1)
    found = judged(apart, [look(2, hits=3), look(3)])
    assert found[2].verdict is APPLIED
    assert found[3].verdict is APPLIED, "what was sent to it is lost at the other end"
    idle = judged(apart, [look(2), look(3)])
    assert {one.verdict for one in idle.values()} == {UNKNOWN}


def test_a_struck_link_is_judged_by_what_it_has_counted() -> None:
    ordered = nodeorders.on_links([(1, 2), (2, 1)], "net", {"delay": {"delay_ms": 5}})
    looks = {1: look(1, hits=4, fault="net"), 2: look(2, hits=0, fault="net")}
    found = effect.of_orders(ordered, looks)
    assert [(one.verdict, one.evidence) for one in found] == [
        (APPLIED, "4 messages delayed"),
        (UNKNOWN, "nothing was sent"),
    ]


def test_a_fault_that_is_not_active_where_it_was_set_has_no_effect() -> None:
    found = effect.of_orders([Order(1, "net", "stall", (2,), "out")], {1: look(1, fault="other")})
    assert found[0].verdict is NO_EFFECT


@pytest.mark.parametrize("kind", ["disk-fail", "disk-full"])
def test_a_node_that_has_ended_shows_that_its_disk_refused(kind: str) -> None:
    ordered = [Order(1, "disk", kind)]
    ended = effect.of_orders(ordered, {1: EffectLook(1, RunState.DOWN, None)})
    assert ended[0].verdict is APPLIED
    idle = effect.of_orders(ordered, {1: look(1, fault="disk")})
    assert (idle[0].verdict, idle[0].evidence) == (UNKNOWN, "nothing was written")


@pytest.mark.parametrize("kind", ["disk-fail", "disk-full"])
def test_a_node_is_seen_between_the_refused_write_and_its_end(kind: str) -> None:
    found = effect.of_orders([Order(1, "disk", kind)], {1: look(1, hits=1, fault="disk")})
    assert (found[0].verdict, found[0].evidence) == (APPLIED, "1 write refused")


def seen(low_ms: int, high_ms: int, fault: str = "c") -> dict[int, EffectLook]:
    """Node 1, whose clock is ahead of this machine's by something between these."""
    return {1: EffectLook(1, RunState.RUNNING, {"role": "follower"}, {fault: 3}, (low_ms, high_ms))}


@pytest.mark.parametrize(
    ("by_ms", "before", "after", "verdict"),
    [
        (7_200_000, (0, 4), (7_199_990, 7_200_020), APPLIED),
        (-7_200_000, (0, 4), (-7_200_010, -7_199_990), APPLIED),
        (5_000, (60_000, 60_004), (65_000, 65_004), APPLIED),
        (7_200_000, (0, 4), (-2, 4), NO_EFFECT),
        (7_200_000, (0, 4), (-7_200_010, -7_199_990), NO_EFFECT),
        (1_000, (0, 4), (100, 104), NO_EFFECT),
    ],
)
def test_a_clock_that_jumped_is_judged_by_where_it_was(
    by_ms: int, before: tuple[int, int], after: tuple[int, int], verdict: EffectVerdict
) -> None:
    order = Order(1, "c", "clock-jump", parameters={"by_ms": by_ms})
    (found,) = effect.of_clock(order, seen(*before)[1], seen(*after))
    assert found.verdict is verdict


def test_a_clock_that_drifts_is_shown_as_soon_as_a_question_cannot_explain_it() -> None:
    order = Order(1, "c", "clock-drift", parameters={"permille": -50})
    before = seen(-3, 3)[1]
    (early,) = effect.of_clock(order, before, seen(-8, -2))
    assert (early.verdict, early.open) == (UNKNOWN, True)
    (later,) = effect.of_clock(order, before, seen(-40, -34))
    assert (later.verdict, later.evidence) == (APPLIED, "its clock is 31 ms behind where it was")


def test_a_clock_that_nobody_can_see_is_unknown_and_a_fault_that_is_gone_has_no_effect() -> None:
    order = Order(1, "c", "clock-jump", parameters={"by_ms": 5_000})
    (silent,) = effect.of_clock(order, seen(0, 1)[1], {1: EffectLook(1, RunState.DOWN, None)})
    assert silent.verdict is UNKNOWN
    (gone,) = effect.of_clock(order, seen(0, 1)[1], seen(5_000, 5_001, fault="other"))
    assert gone.verdict is NO_EFFECT


def test_each_frozen_node_shows_that_it_stands_still() -> None:
    looks = {1: EffectLook(1, RunState.PAUSED, None), 2: EffectLook(2, RunState.RUNNING, {"role": "leader"})}
    found = effect.of_processes([1, 2], RunState.PAUSED, looks)
    assert [one.verdict for one in found] == [APPLIED, NO_EFFECT]


def test_a_link_on_which_nothing_was_overtaken_yet_says_so() -> None:
    (found,) = effect.of_orders(
        [Order(1, "net", "reorder", (2,), "out", {"permille": 100})], {1: look(1, fault="net")}
    )
    assert (found.verdict, found.evidence) == (UNKNOWN, "no message was overtaken yet")


def test_one_part_without_effect_spoils_the_whole() -> None:
    parts = [Effect(1, APPLIED, ""), Effect(2, UNKNOWN, "")]
    assert effect.of_all(parts) is UNKNOWN
    assert effect.of_all([*parts, Effect(3, NO_EFFECT, "")]) is NO_EFFECT
    assert effect.of_all(parts[:1]) is APPLIED


def test_a_part_that_had_no_occasion_to_hit_does_not_spoil_the_whole() -> None:
    idle = Effect(2, UNKNOWN, "nothing was sent", idle=True)
    assert effect.of_all([Effect(1, APPLIED, ""), idle]) is APPLIED
    assert effect.of_all([idle, idle]) is UNKNOWN


def test_a_replica_that_was_killed_shows_by_the_process_that_answers() -> None:
    def of(status: dict[str, Any] | None) -> Effect:
        (found,) = effect.of_replicas([2], {2: EffectLook(2, RunState.RUNNING, status)}, {2: 70})
        return found

    assert (of({"pid": 71}).verdict, of({"pid": 71}).open) == (APPLIED, False)
    assert "started another one (pid 71)" in of({"pid": 71}).evidence
    assert (of(None).verdict, of(None).open) == (APPLIED, True)
    assert (of({"pid": 70}).verdict, of({"pid": 70}).open) == (NO_EFFECT, True)


def test_a_disk_that_ended_a_replica_has_hit_though_its_successor_has_no_such_fault() -> None:
    order = Order(2, "d", "disk-fail")

    def of(pid: int, pids: dict[int, int] | None) -> Effect:
        (found,) = effect.of_orders([order], {2: EffectLook(2, RunState.RUNNING, {"pid": pid})}, pids)
        return found

    assert of(71, {2: 70}).verdict is APPLIED
    assert of(70, {2: 70}).verdict is NO_EFFECT
    assert of(71, None).verdict is NO_EFFECT


def test_what_a_node_shows_says_its_partition_only_where_there_are_several() -> None:
    found = Effect(2, APPLIED, "paused", 1)
    assert "partition" not in found.as_data()
    assert found.as_data(0)["partition"] == 0
