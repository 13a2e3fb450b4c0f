"""The table of faults, with a clock of its own: what strikes what, in which order, and for how long."""

import random
from math import inf
from typing import Any

import pytest

from esnode import limits
from esnode.errors import FaultsNotAllowed, InvalidRequest, StorageFailed
from esnode.faults import Direction, Fate, FaultTable, LinkFaults, fault_of, not_allowed, same
from esnode.messages import ListFaults, SetFault

LOST = Fate(0, 5.0)


def asked(
    kind: str,
    *peers: int,
    fault: str = "f",
    direction: str = "out",
    lease_ms: int = 1000,
    **parameters: int,
) -> SetFault:
    return SetFault(1, fault, kind, list(peers), direction, parameters, lease_ms)


def table(*messages: SetFault, now: float = 0.0) -> FaultTable:
    """That of node 1 of 3, with these faults set at `now`."""
    made = FaultTable(1, (2, 3), random.Random(1))
    for message in messages:
        made.set(fault_of(message), message.lease_ms, now)
    return made


def out(made: FaultTable, peer: int = 2) -> LinkFaults:
    faults = made.of_link(peer, Direction.OUT)
    assert faults is not None
    return faults


class Turns:
    """A chance that strikes every second time."""

    def __init__(self) -> None:
        self._asked = 0

    def random(self) -> float:
        self._asked += 1
        return 0.9 if self._asked % 2 == 0 else 0.0


def sent(faults: LinkFaults, frame: bytes, now: float) -> None:
    faults.hold(frame, faults.fate(len(frame), now), now)


def hits(made: FaultTable) -> dict[str, int]:
    return {picture["id"]: picture["hits"] for picture in made.pictures(0.0)}


# --- what is struck ---------------------------------------------------------------------------------


def test_a_table_without_faults_has_nothing_for_anybody() -> None:
    empty = table()
    assert empty.of_link(2, Direction.OUT) is None
    assert empty.of_link(2, Direction.IN) is None
    assert empty.of_disk() is None
    assert empty.next_expiry() == inf


@pytest.mark.parametrize(("direction", "struck"), [("out", "o"), ("in", "i"), ("both", "oi")])
def test_a_block_strikes_its_direction_of_its_peer_alone(direction: str, struck: str) -> None:
    blocked = table(asked("block", 2, direction=direction))
    assert (blocked.of_link(2, Direction.OUT) is not None) is ("o" in struck)
    assert (blocked.of_link(2, Direction.IN) is not None) is ("i" in struck)
    assert blocked.of_link(3, Direction.OUT) is None
    assert blocked.of_disk() is None


def test_a_block_loses_every_message_and_refuses_connections() -> None:
    blocked = table(asked("block", 2))
    assert [out(blocked).fate(10, 5.0) for _ in range(3)] == [LOST] * 3
    assert out(blocked).refuse()
    assert hits(blocked) == {"f": 4}


def test_a_drop_loses_its_share_of_the_messages() -> None:
    lossy = table(asked("drop", 2, permille=250))
    faults = out(lossy)
    lost = sum(faults.fate(10, 0.0).copies == 0 for _ in range(4000))
    assert 900 < lost < 1100
    assert hits(lossy) == {"f": lost}
    assert not faults.refuse()


def test_a_duplicate_lets_two_copies_leave() -> None:
    assert out(table(asked("duplicate", 2, permille=1000))).fate(10, 5.0) == Fate(2, 5.0)


def test_a_reordered_message_is_passed_by_those_that_follow_within_its_bound() -> None:
    # Every second message stands aside.
    faulty = FaultTable(1, (2, 3), Turns())
    faulty.set(fault_of(asked("reorder", 2, permille=500, hold_ms=100)), 1000, 0.0)
    faults = out(faulty)
    for at, frame in enumerate((b"a", b"b", b"c", b"d")):
        sent(faults, frame, at / 100)
    assert faults.ripe(0.05) == [b"b", b"d"]
    assert hits(faulty) == {"f": 0}, "none has arrived out of order yet"
    assert faults.ripe(0.2) == [b"a", b"c"]
    assert hits(faulty) == {"f": 2}


def test_a_reordered_message_that_nothing_passes_is_no_hit() -> None:
    faulty = table(asked("reorder", 2, permille=1000, hold_ms=100))
    for at in range(3):
        sent(out(faulty), b"x", at / 100)
    faults = out(faulty)
    for at in range(3):
        sent(faults, bytes([at]), at / 100)
    assert faults.ripe(1.0) == [b"\0", b"\1", b"\2"]
    assert hits(faulty) == {"f": 0}


def test_delayed_messages_keep_their_order_whatever_the_jitter() -> None:
    faults = out(table(asked("delay", 2, delay_ms=10, jitter_ms=40)))
    dues = [faults.fate(10, n / 1000).due for n in range(200)]
    assert dues == sorted(dues)
    assert all(due - n / 1000 >= 0.01 for n, due in enumerate(dues))
    assert max(due - n / 1000 for n, due in enumerate(dues)) <= 0.05


def test_a_rate_sends_one_message_after_the_other() -> None:
    slow = table(asked("rate", 2, bytes_per_s=1000))
    faults = out(slow)
    assert [faults.fate(100, 0.0).due for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert faults.fate(100, 9.0).due == pytest.approx(9.1)
    assert faults.pace(100, 9.0) == pytest.approx(9.2)


def test_a_stall_holds_everything_until_it_is_over() -> None:
    faults = out(table(asked("stall", 2)))
    assert faults.fate(10, 0.0)[:2] == (1, inf)
    assert faults.pace(10, 0.0) == inf


def test_a_reset_breaks_the_connection_with_its_share() -> None:
    assert out(table(asked("reset", 2, permille=1000))).fate(10, 5.0) == Fate(0, 5.0, reset=True)


def test_faults_of_one_link_add_up() -> None:
    both = table(asked("delay", 2, fault="d", delay_ms=100), asked("duplicate", 2, fault="t", permille=1000))
    assert out(both).fate(10, 5.0)[:2] == (2, pytest.approx(5.1))
    assert hits(both) == {"d": 1, "t": 1}


def test_frames_that_are_held_come_back_in_order_when_due() -> None:
    faults = out(table(asked("delay", 2, delay_ms=100)))
    for frame in (b"a", b"bc"):
        sent(faults, frame, 0.0)
    assert faults.held_bytes == 3
    assert faults.next_due == pytest.approx(0.1)
    assert faults.ripe(0.05) == []
    assert faults.ripe(0.2) == [b"a", b"bc"]
    assert (faults.held_bytes, faults.next_due) == (0, inf)


def test_a_second_fault_lets_nothing_go_that_the_first_holds_back() -> None:
    both = table(asked("stall", 2, fault="s"))
    before = out(both)
    sent(before, b"a", 0.0)
    both.set(fault_of(asked("drop", 2, fault="d", permille=1)), 1000, 0.1)
    after = out(both)
    after.take_over(before)
    assert (after.ripe(0.2), after.held_bytes, before.held_bytes) == ([], 1, 0)
    both.heal("d")
    last = out(both)
    last.take_over(after)
    assert last.next_due == inf


def test_when_one_of_two_faults_ends_what_is_held_waits_for_the_other() -> None:
    both = table(asked("delay", 2, fault="d", delay_ms=300), asked("stall", 2, fault="s"))
    before = out(both)
    for frame in (b"a", b"b"):
        sent(before, frame, 0.0)
    both.heal("s")
    after = out(both)
    after.take_over(before)
    sent(after, b"c", 0.1)
    assert after.ripe(0.29) == []
    assert after.ripe(0.31) == [b"a", b"b"]
    assert after.ripe(0.41) == [b"c"]


def test_what_no_fault_holds_any_more_waits_for_what_is_ahead_of_it() -> None:
    first = table(asked("delay", 2, fault="d", delay_ms=300))
    before = out(first)
    sent(before, b"a", 0.0)
    first.set(fault_of(asked("stall", 2, fault="s")), 1000, 0.1)
    both = out(first)
    both.take_over(before)
    sent(both, b"b", 0.1)
    first.heal("s")
    after = out(first)
    after.take_over(both)
    assert after.ripe(0.31) == [b"a"]
    assert after.ripe(0.41) == [b"b"]


def test_a_slow_disk_hesitates_and_counts_its_commits() -> None:
    slow = table(asked("disk-slow", delay_ms=200))
    disk = slow.of_disk()
    assert disk is not None
    assert disk.before_commit() == pytest.approx(0.2)
    assert hits(slow) == {"f": 1}


@pytest.mark.parametrize(
    ("kind", "words"), [("disk-fail", "Input/output error"), ("disk-full", "No space left")]
)
def test_a_disk_that_refuses_says_what_a_real_one_says(kind: str, words: str) -> None:
    disk = table(asked(kind)).of_disk()
    assert disk is not None
    with pytest.raises(StorageFailed, match=words):
        disk.before_commit()


def test_a_clock_that_jumps_is_off_by_so_much_and_one_that_drifts_more_and_more() -> None:
    jumped = table(asked("clock-jump", fault="j", by_ms=-7_200_000))
    clock = jumped.of_clock()
    assert clock is not None
    clock.begin(1000.0)
    assert clock.seen(1000.0) == pytest.approx(1000.0 - 7200)
    assert hits(jumped) == {"j": 1}
    drifting = table(asked("clock-drift", permille=50))
    clock = drifting.of_clock()
    assert clock is not None
    clock.begin(1000.0)
    assert [clock.seen(at) for at in (1000.0, 1010.0, 1020.0)] == pytest.approx([1000.0, 1010.5, 1021.0])


def test_a_drift_goes_on_from_where_it_was_when_another_fault_is_set() -> None:
    both = table(asked("clock-drift", fault="d", permille=100))
    first = both.of_clock()
    assert first is not None
    first.begin(1000.0)
    both.set(fault_of(asked("clock-jump", fault="j", by_ms=5_000)), 1000, 0.0)
    second = both.of_clock()
    assert second is not None
    second.begin(1010.0)
    assert second.seen(1010.0) == pytest.approx(1010.0 + 1.0 + 5.0)


# --- leases -----------------------------------------------------------------------------------------


def test_a_fault_is_over_when_its_lease_is() -> None:
    leased = table(asked("block", 2, lease_ms=1000), now=10.0)
    assert leased.next_expiry() == 11.0
    assert leased.expire(10.99) == []
    assert [one.fault.id for one in leased.expire(11.0)] == ["f"]
    assert leased.of_link(2, Direction.OUT) is None


def test_a_picture_shows_what_is_left_of_the_lease_and_no_fault_that_is_over() -> None:
    leased = table(asked("block", 2, lease_ms=1000), now=10.0)
    assert leased.pictures(10.4) == [
        {
            "id": "f",
            "kind": "block",
            "peers": [2],
            "direction": "out",
            "parameters": {},
            "lease_ms": 1000,
            "left_ms": 600,
            "hits": 0,
        }
    ]
    assert leased.pictures(11.0) == []


def test_the_same_fault_set_again_is_renewed_and_keeps_its_hits() -> None:
    leased = table(asked("block", 2), now=10.0)
    before = out(leased)
    before.fate(10, 10.0)
    leased.set(fault_of(asked("block", 2)), 1000, 10.9)
    assert leased.next_expiry() == pytest.approx(11.9)
    assert [one["hits"] for one in leased.pictures(10.9)] == [1]
    assert same(before, out(leased))


def test_another_fault_of_the_same_id_takes_its_place() -> None:
    leased = table(asked("block", 2), asked("delay", 3, delay_ms=5))
    assert leased.of_link(2, Direction.OUT) is None
    assert not same(out(leased, 3), out(table(asked("delay", 3, delay_ms=5)), 3))


def test_healing_ends_one_fault_or_all_and_none_that_is_not_there() -> None:
    three = table(*(asked("block", 2, fault=name) for name in "abc"))
    assert [one.fault.id for one in three.heal("b")] == ["b"]
    assert three.heal("b") == []
    assert [one.fault.id for one in three.heal("")] == ["a", "c"]


# --- what cannot be set -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (asked("burn", 2), "'burn'"),
        (asked("block", 2, direction="up"), "'up'"),
        (asked("block", 9), "node 9 is no peer of node 1; its peers are 2, 3"),
        (asked("block"), "names no peer"),
        (asked("disk-slow", 2, delay_ms=5), "strikes the disk"),
        (asked("clock-jump", 2, by_ms=5), "strikes the clock"),
        (asked("clock-jump"), "needs by_ms from -31622400000 to 31622400000, not None"),
        (asked("reorder", 2, direction="in", permille=5), "its direction can only be out"),
        (asked("drop", 2), "needs permille from 1 to 1000, not None"),
        (asked("drop", 2, permille=1001), "not 1001"),
        (asked("block", 2, permille=5), "no parameter permille; it has none"),
        (asked("delay", 2, direction="both", delay_ms=5), "its direction can only be out"),
        (asked("block", 2, lease_ms=0), "not from 100 to 600000 ms"),
        (asked("block", 2, lease_ms=limits.MAX_FAULT_LEASE_MS + 1), "MAX_FAULT_LEASE_MS"),
        (asked("block", 2, fault=""), "1 to 64 bytes"),
        (asked("block", 2, fault="x" * 65), "1 to 64 bytes"),
        (asked("block", 2, fault="a\nb"), "1 to 64 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(message: SetFault, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        table(message)
    assert words in str(caught.value)


def test_no_more_than_a_bounded_number_of_faults_is_active() -> None:
    full = table(*(asked("block", 2, fault=str(n)) for n in range(limits.MAX_FAULTS)))
    with pytest.raises(InvalidRequest, match="MAX_FAULTS"):
        full.set(fault_of(asked("block", 2)), 1000, 0.0)
    full.set(fault_of(asked("block", 3, fault="0")), 1000, 0.0)


def test_a_node_that_does_not_allow_faults_names_the_setting() -> None:
    with pytest.raises(FaultsNotAllowed, match=r"\[faults\] allowed = true") as caught:
        not_allowed(ListFaults(1))
    assert "[faults]" in caught.value.next_step


def test_pictures_are_plain_values_that_a_status_can_carry() -> None:
    (picture,) = table(asked("delay", 2, delay_ms=5)).pictures(0.0)
    plain: tuple[type[Any], ...] = (str, int, list, dict)
    assert all(type(value) in plain for value in picture.values())
