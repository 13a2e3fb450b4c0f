"""Entries that say something of the ring: their records, and how a leader appends them."""

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch
from esnode.errors import DamagedRecord
from esnode.raft.entry import EntryKind, change_of, kind_and_payload, parse, seal, seal_ring_change
from esnode.raft.messages import Decision, Propose, ProposeRing, Transfer
from esnode.refusal import Refusal
from esnode.ring import Ring
from tests.dedup.events import batch as random_batch

from .machine import batch_of
from .solo import Solo

PLAN, SWITCH = RingPlan(2, 1, 2), RingSwitch(2, 2)
versions, partitions = st.integers(2, 2**32 - 1), st.integers(1, limits.MAX_PARTITIONS)
offsets = st.integers(0, limits.MAX_INDEX)
changes = st.one_of(
    st.builds(RingPlan, versions, partitions, partitions, st.booleans()),
    st.builds(RingSwitch, versions, partitions),
    st.builds(
        lambda version, owner, one, other, floor: Adoption(
            version, owner, min(one, other), max(one, other), floor
        ),
        versions,
        st.integers(0, limits.MAX_PARTITIONS - 1),
        offsets,
        offsets,
        offsets,
    ),
)


@given(changes, st.integers(0, 3))
def test_what_is_said_of_the_ring_is_read_back(change: RingChange, count: int) -> None:
    keys = bytes(limits.KEY_BYTES * count) if isinstance(change, Adoption) else b""
    entry = seal_ring_change(change, keys, index=7, term=2, base_offset=5, log_time_ms=9)
    assert parse(entry.record) == entry
    assert entry.ring_change == change
    assert (entry.keys, entry.count, entry.next_offset) == (keys, len(keys) // 16, 5 + len(keys) // 16)
    assert not entry.opens_producer


def test_an_entry_of_events_says_nothing_of_the_ring() -> None:
    assert seal(index=1, term=1, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0).ring_change is None


@pytest.mark.parametrize(
    "change",
    [
        RingPlan(1, 1, 2),
        RingPlan(2, 0, 2),
        RingPlan(2, 1, 65),
        RingSwitch(2, 0),
        RingSwitch(2, 65),
        Adoption(2, 64, 0, 0, 0),
        Adoption(2, 0, 5, 4, 0),
        Adoption(2, 0, 0, limits.MAX_INDEX + 1, 0),
        Adoption(2, 0, 0, 0, limits.MAX_INDEX + 1),
    ],
    ids=repr,
)
def test_a_record_that_says_what_cannot_be_is_damaged(change: RingChange) -> None:
    entry = seal_ring_change(change, index=7, term=2, base_offset=5, log_time_ms=9)
    with pytest.raises(DamagedRecord, match="there can be no"):
        parse(entry.record)
    with pytest.raises(DamagedRecord, match="there can be no"):
        change_of(*kind_and_payload(change))


def test_a_record_of_the_wrong_length_or_kind_says_nothing_of_the_ring() -> None:
    with pytest.raises(DamagedRecord, match="wrong size"):
        change_of(EntryKind.RING_SWITCH, b"\0" * 5)
    for kind in (EntryKind.BATCH, 0, 99):
        with pytest.raises(DamagedRecord, match="says nothing of the ring"):
            change_of(kind, b"")
    short = seal(
        index=1, term=1, kind=EntryKind.RING_SWITCH, base_offset=0, log_time_ms=0, payload=b"\0\0\0\2"
    )
    assert google_crc32c.value(short.record[4:]) == int.from_bytes(short.record[:4], "big")
    with pytest.raises(DamagedRecord, match="wrong size"):
        parse(short.record)


def leading() -> Solo:
    solo = Solo()
    solo.lead_with_commit()
    return solo


def test_a_change_is_appended_behind_what_was_proposed_before_it_and_counts_at_once() -> None:
    ready = leading().step(
        Propose(1, batch_of("a")),
        ProposeRing(2, RingSwitch(2, 64)),
        Propose(3, batch_of("b", "c", "d", "e", "f", "g", "h", "i", "j", "k")),
    )
    assert ready.write is not None
    assert [entry.kind for entry in ready.write.entries] == [EntryKind.BATCH, EntryKind.RING_SWITCH]
    assert [decision.refusal for decision in ready.decisions] == [None, None, Refusal.MOVED]
    assert ready.decisions[1] == Decision(2, 1, 3, (), 0, None)


def test_what_the_log_says_already_is_not_said_again_and_waited_for() -> None:
    solo = leading()
    solo.step(ProposeRing(1, PLAN))
    ready = solo.step(ProposeRing(2, PLAN), ProposeRing(3, SWITCH), ProposeRing(4, RingPlan(3, 2, 3)))
    assert ready.write is not None
    assert [entry.kind for entry in ready.write.entries] == [EntryKind.RING_SWITCH]
    assert [(one.token, one.wait_index, one.refusal) for one in ready.decisions] == [
        (2, 2, None),
        (3, 3, None),
        (4, 0, Refusal.RING_CONFLICT),
    ]


def test_adopted_keys_take_the_offsets_of_events() -> None:
    solo = leading()
    solo.step(Propose(1, batch_of("a", "b")))
    keys = batch_of("x", "y", "z").keys
    ready = solo.step(ProposeRing(2, Adoption(2, 1, 0, 30, 0), keys), Propose(3, batch_of("c")))
    assert ready.write is not None
    assert [(entry.base_offset, entry.count) for entry in ready.write.entries] == [(2, 3), (5, 1)]
    known = solo.step(Propose(4, batch_of("y"))).decisions[0]
    assert (known.ranges[0].base_offset, known.duplicates, known.wait_index) == (-1, 1, 3)


def test_a_node_that_does_not_lead_or_hands_over_changes_no_ring() -> None:
    assert [one.refusal for one in Solo().step(ProposeRing(1, PLAN)).decisions] == [Refusal.NOT_LEADER]
    solo = leading()
    solo.step(Transfer(2))
    assert [one.refusal for one in solo.step(ProposeRing(1, PLAN)).decisions] == [Refusal.BUSY]


def test_a_batch_of_a_turn_that_has_moved_takes_no_other_with_it() -> None:
    solo = leading()
    solo.step(ProposeRing(1, SWITCH))
    sent = [random_batch([number]) for number in range(12)]  # of a token of its own each
    ready = solo.step(*(Propose(10 + place, one) for place, one in enumerate(sent)))
    moved = {one.token for one in ready.decisions if one.refusal is Refusal.MOVED}
    strange = {10 + n for n, one in enumerate(sent) if not Ring(2, range(2)).owns_all(one.keys, 0)}
    assert moved == strange
    assert 0 < len(moved) < len(sent)
    assert ready.write is not None
    assert sum(entry.count for entry in ready.write.entries) == len(sent) - len(moved)
