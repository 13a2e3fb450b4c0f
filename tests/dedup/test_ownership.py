"""What the log says of the ring: what may follow what, what holds after it, and its bytes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.dedup.ownership import (
    MAX_SWITCHES,
    Adopted,
    Adoption,
    Ownership,
    RingChange,
    RingPlan,
    RingSwitch,
    Switched,
    load,
    ring_of,
)
from esnode.errors import DamagedRecord

PLAN = RingPlan(2, 1, 4)


def after(*changes: tuple[RingChange, int, int]) -> Ownership:
    """Of changes, each with its base offset and its number of keys."""
    now = Ownership()
    for change, base_offset, count in changes:
        assert now.allows(change)
        now = now.after(change, base_offset, count, floor=0)
        assert now.is_done(change)
    return now


def test_a_log_that_says_nothing_of_the_ring_is_that_of_the_only_partition() -> None:
    assert (Ownership().version, Ownership().partitions) == (1, 1)
    assert Ownership().ring.partitions == (0,)
    assert (Ownership().dump(), Ownership().digest()) == (b"", b"")
    assert load(b"") == Ownership()


def test_one_plan_follows_another_only_when_that_has_ended() -> None:
    begun = after((PLAN, 0, 0))
    assert not begun.allows(RingPlan(3, 4, 5))
    ended = begun.after(replace(PLAN, ended=True), 0, 0, 0)
    assert ended.allows(RingPlan(3, 4, 5))
    assert ended.allows(RingPlan(3, 4, 1))
    assert not begun.is_done(replace(PLAN, ended=True))


@pytest.mark.parametrize(
    "plan",
    [
        RingPlan(3, 1, 4),
        RingPlan(1, 1, 4),
        RingPlan(2, 1, 1),
        RingPlan(2, 2, 4),
        RingPlan(2, 1, 4, ended=True),
    ],
    ids=[
        "a version skipped",
        "a version again",
        "no change",
        "another ring before",
        "an end without a begin",
    ],
)
def test_a_plan_that_cannot_be_the_first_is_not_allowed(plan: RingPlan) -> None:
    assert not Ownership().allows(plan)
    assert not Ownership().is_done(plan)


def test_a_partition_switches_forward_only_and_a_new_one_may_skip_rings() -> None:
    now = after((RingSwitch(4, 3), 50, 0))
    assert (now.version, now.partitions, now.since_offset) == (4, 3, 50)
    assert now.is_done(RingSwitch(4, 3))
    for version in (3, 4):
        assert not now.allows(RingSwitch(version, 2))
    assert now.allows(RingSwitch(5, 2))


def test_a_partition_remembers_where_it_has_switched_and_of_many_switches_the_last() -> None:
    now = after((RingSwitch(2, 4), 50, 0), (Adoption(3, 0, 0, 9, 0), 60, 4), (RingSwitch(3, 3), 64, 0))
    assert now.switches == (Switched(2, 4, 50), Switched(3, 3, 64))
    for version in range(4, MAX_SWITCHES + 10):
        now = now.after(RingSwitch(version, 2 + version % 2), 100 + version, 0, floor=0)
    assert len(now.switches) == MAX_SWITCHES
    assert now.switches[-1] == Switched(now.version, now.partitions, now.since_offset)
    assert load(now.dump()) == now


def test_what_was_written_without_the_history_is_read_and_means_the_same() -> None:
    now = after((RingSwitch(2, 4), 50, 0))
    older = replace(now, switches=())
    assert load(older.dump()) == older
    assert older.digest() == now.digest()


def test_adoptions_go_on_where_the_last_one_ended() -> None:
    now = after(
        (Adoption(2, 0, 0, 100, 7), 0, 40),
        (Adoption(2, 1, 0, 30, 0), 40, 5),
        (Adoption(2, 0, 100, 180, 9), 45, 0),
    )
    assert (now.adopted_up_to(2, 0), now.adopted_up_to(2, 1), now.adopted_up_to(2, 2)) == (180, 30, 0)
    assert now.adopting == (Adopted(0, 180, 9, 0), Adopted(1, 30, 0, 40))
    for wrong in (
        Adoption(2, 0, 100, 180, 9),
        Adoption(2, 0, 181, 190, 9),
        Adoption(2, 2, 5, 9, 0),
        Adoption(1, 2, 0, 9, 0),
    ):
        assert not now.allows(wrong)
    assert now.is_done(Adoption(2, 0, 100, 180, 9))
    assert not now.is_done(Adoption(2, 0, 180, 190, 9))
    assert not now.is_done(Adoption(2, 2, 0, 0, 0)), "one of nothing is still to be said"


def test_what_is_adopted_for_a_later_ring_begins_anew() -> None:
    now = after((Adoption(2, 0, 0, 100, 7), 0, 40), (Adoption(3, 0, 0, 20, 1), 40, 3))
    assert now.adopting == (Adopted(0, 20, 1, 40),)
    assert now.adopted_up_to(2, 0) == 0
    assert not now.allows(Adoption(2, 0, 0, 50, 0)), "a plan that is over"
    assert now.after(RingSwitch(4, 2), 43, 0, 0).adopted == (), "the keys were those of another ring"


def test_a_switch_keeps_what_was_adopted_for_it_and_forgets_what_is_below_the_window() -> None:
    now = after((Adoption(2, 0, 0, 100, 7), 10, 40), (Adoption(2, 1, 0, 9, 0), 70, 5))
    now = now.after(RingSwitch(2, 3), 75, 0, floor=50)
    assert now.adopted == (Adopted(0, 100, 7, 10), Adopted(1, 9, 0, 70))
    assert (now.adopting, now.adopting_for) == ((), 0)
    assert now.ranges == ((70, 75),)


def test_the_keys_that_were_adopted_for_a_ring_are_counted_without_those_of_the_rings_before() -> None:
    assert Ownership().moved_keys == 0
    second = after((Adoption(2, 0, 0, 9, 0), 0, 5), (RingSwitch(2, 2), 5, 0))
    assert second.moved_keys == 5
    adopting = second.after(Adoption(3, 0, 0, 20, 0), 5, 3, 0).after(Adoption(3, 2, 0, 9, 0), 10, 4, 0)
    assert adopting.moved_keys == 5, "it goes by the ring before still"
    assert adopting.after(RingSwitch(3, 1), 14, 0, floor=0).moved_keys == 7


def test_offsets_of_adopted_keys_are_told_from_those_of_events() -> None:
    now = after(
        (Adoption(2, 0, 0, 5, 0), 10, 3), (Adoption(2, 0, 5, 9, 0), 13, 2), (Adoption(2, 1, 0, 9, 0), 20, 1)
    )
    assert now.ranges == ((10, 15), (20, 21))
    assert [offset for offset in range(-1, 30) if now.is_adopted(offset)] == [*range(10, 15), 20]


def test_it_is_known_what_an_old_owner_stored_since_an_offset_unless_keys_were_forgotten() -> None:
    now = after((Adoption(2, 0, 0, 100, 7), 10, 40), (RingSwitch(2, 3), 50, 0))
    assert now.knows_since(0, 7, floor=10)
    assert now.knows_since(0, 100, floor=0)
    assert not now.knows_since(0, 6, floor=0), "the old owner had forgotten keys that came after it"
    assert not now.knows_since(0, 101, floor=0), "sent after the sources had moved: to whom, nobody knows"
    assert not now.knows_since(0, 50, floor=11), "adopted keys are forgotten"
    assert not now.knows_since(1, 50, floor=0), "of another one"


changes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 40), st.integers(0, 9)), max_size=12
)


@given(changes)
def test_its_bytes_lead_back_to_it(steps: list[tuple[int, int, int, int]]) -> None:
    now, offset = after((PLAN, 0, 0)), 0
    for owner, reach, count, floor in steps:
        start = now.adopted_up_to(now.version + 1, owner)
        change: RingChange = Adoption(now.version + 1, owner, start, start + reach, floor)
        if owner == 3:
            change = RingSwitch(now.version + 1, 2 + reach % 60)
        if not isinstance(change, Adoption):
            count = 0
        before, now = now, now.after(change, offset, count, floor)
        offset += count + 1
        assert load(now.dump()) == now
        assert (now.digest() == before.digest()) == (now == before)


def test_bytes_that_nothing_gave_are_refused() -> None:
    good = after((PLAN, 0, 0), (Adoption(2, 0, 0, 100, 7), 10, 40)).dump()
    for wrong in (good[:10], good[:-1], good + b"\0", b"\xff" * len(good)):
        with pytest.raises(DamagedRecord):
            load(wrong)
    no_ring = bytearray(good)
    no_ring[4:6] = (0).to_bytes(2, "big")
    too_many = bytearray(good)
    too_many[20:22] = (limits.MAX_PARTITIONS + 1).to_bytes(2, "big")
    for wrong in (bytes(no_ring), bytes(too_many)):
        with pytest.raises(DamagedRecord, match="no ring of"):
            load(wrong)


def test_a_ring_is_made_once() -> None:
    assert ring_of(2, 4) is ring_of(2, 4)
    assert ring_of(2, 4).partitions == (0, 1, 2, 3)
