"""Sources that move from one partition to another: refused here, known there."""

from dataclasses import replace

import cbor2
import pytest

from esnode import limits
from esnode.config import Dedup
from esnode.dedup.batch import UNKNOWN_OFFSET, Batch, OffsetRange, ProducerStamp, event_key, split_keys
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.dedup.movingkeys import KeyRange
from esnode.dedup.ownership import Adoption, RingPlan, RingSwitch
from esnode.refusal import Refusal
from esnode.ring import Ring

from .events import offsets_of
from .leader import FOREVER, Leader

RING = Ring(2, range(2))
SWITCH = RingSwitch(2, 2)
SOURCES = [f"/s{n}" for n in range(40)]
STAYS = [one for one in SOURCES if RING.owner_of(one) == 0]
MOVES = [one for one in SOURCES if RING.owner_of(one) == 1]


def of(sources: list[str], ids: range = range(1)) -> Batch:
    """An event of each source for each id."""
    keys = [event_key(source, str(number)) for number in ids for source in sources]
    payload = [b"%d" % place for place in range(len(keys))]
    return Batch(len(keys), b"".join(keys), cbor2.dumps(payload))


def moved(old: Leader, *, partition: int = 1) -> Leader:
    """The new owner, after all keys are copied and both have switched."""
    new = Leader(FOREVER, partition=partition)
    assert old.change_ring(SWITCH) is None
    old.commit()
    copy(old, new)
    assert new.change_ring(SWITCH) is None
    new.commit()
    return new


def copy(old: Leader, new: Leader) -> None:
    upto = new.machine.ring.now.adopted_up_to(2, 0)
    keys, end = KeyRange.of(old.machine.keys.window, upto).moving(RING, new.partition)
    floor = old.machine.keys.first_offset
    assert new.change_ring(Adoption(2, 0, upto, end, floor), keys) is None
    new.commit()


def test_a_new_partition_takes_nothing_before_it_owns_something() -> None:
    new = Leader(partition=1)
    assert new.send_batch(of(STAYS)).refusal is Refusal.MOVED
    assert new.send_batch(of(MOVES)).refusal is Refusal.MOVED


def test_a_partition_refuses_what_it_loses_from_the_switch_on_whether_that_is_committed_or_not() -> None:
    old = Leader()
    assert old.send_batch(of(SOURCES)).refusal is None
    old.change_ring(SWITCH)
    old.commit(2)  # the switch is not among them
    for _ in range(2):
        assert old.send_batch(of(MOVES, range(1, 2))).refusal is Refusal.MOVED
        assert old.send_batch(of(SOURCES, range(1, 2))).refusal is Refusal.MOVED, "refused whole"
        assert old.send_batch(of(STAYS, range(1, 2))).refusal is None
        old.commit()


def test_a_new_leader_keeps_to_a_switch_that_it_has_not_applied_and_forgets_one_that_is_lost() -> None:
    old = Leader()
    old.commit()
    old.change_ring(SWITCH)
    old.lose(keep=1)
    assert old.send_batch(of(MOVES)).refusal is Refusal.MOVED
    old.lose()
    assert old.send_batch(of(MOVES)).refusal is None
    assert old.machine.ring.now.version == 1


def test_a_moved_event_is_a_duplicate_in_its_new_partition_and_its_offset_is_another_s() -> None:
    old = Leader()
    old.send_batch(of(SOURCES))
    new = moved(old)
    again = new.send_batch(of(MOVES, range(2)))
    assert again.duplicates == len(MOVES)
    assert offsets_of(again.ranges)[: len(MOVES)] == [UNKNOWN_OFFSET] * len(MOVES)
    assert again.ranges[-1] == OffsetRange(len(MOVES), len(MOVES)), (
        "adopted keys have taken the offsets before"
    )
    assert again.fresh is not None
    assert again.fresh.count == len(MOVES)
    known = new.send_batch(of(MOVES))
    assert (known.fresh, known.ranges) == (None, (OffsetRange(UNKNOWN_OFFSET, len(MOVES)),))


def test_an_adopted_key_that_is_not_applied_yet_is_waited_for() -> None:
    old, new = Leader(), Leader(partition=1)
    old.send_batch(of(MOVES))
    old.commit()
    keys, end = KeyRange.of(old.machine.keys.window, 0).moving(RING, 1)
    new.change_ring(Adoption(2, 0, 0, end, 0), keys)
    new.change_ring(SWITCH)
    again = new.send_batch(of(MOVES))
    assert (again.duplicates, again.wait_index_of_duplicates) == (len(MOVES), 2)
    assert offsets_of(again.ranges) == [UNKNOWN_OFFSET] * len(MOVES)


def test_a_session_that_goes_on_in_another_partition_is_told_of_its_moved_events() -> None:
    old = Leader()
    old.send_batch(of(MOVES))
    new = moved(old)
    session = new.open_producer()
    sent = replace(of(MOVES, range(2)), producer=ProducerStamp(session, 1, 0, 2 * len(MOVES)))
    first = new.send_batch(sent)
    assert first.duplicates == len(MOVES)
    new.commit()
    assert new.send_batch(sent).fresh is None


def test_a_batch_that_was_first_sent_to_the_old_partition_is_known_as_far_as_keys_are() -> None:
    dedup = Dedup.of_keys(2 * CHUNK_KEYS)
    old = Leader(dedup)
    for n in range(3):
        assert old.send_batch(of(SOURCES[:1], range(n * 1000, n * 1000 + 1000))).refusal is None
    old.commit()
    new = moved(old)
    sent = of(MOVES, range(90, 91))
    resent = replace(sent, sent_after=2_000, sent_to=0, partition=1)
    assert new.send_batch(resent).refusal is None
    stranger = replace(of(MOVES, range(91, 92)), sent_after=2_000, sent_to=7, partition=1)
    assert new.send_batch(stranger).refusal is Refusal.WINDOW_PASSED
    known = replace(sent, sent_after=2_000, sent_to=7, partition=1)
    assert new.send_batch(known).refusal is None, "nothing of it is new"
    session = new.open_producer()
    numbered = replace(stranger, producer=ProducerStamp(session, 1, 0, stranger.count))
    assert new.send_batch(numbered).refusal is Refusal.WINDOW_PASSED, "its number was another one there"


def test_only_a_change_that_follows_is_appended() -> None:
    leader = Leader()
    assert leader.change_ring(RingPlan(2, 1, 2)) is None
    assert leader.change_ring(RingPlan(3, 2, 3)) is Refusal.RING_CONFLICT
    assert leader.admission.says_already(RingPlan(2, 1, 2))
    leader.commit()
    assert leader.admission.says_already(RingPlan(2, 1, 2))
    assert not leader.admission.says_already(SWITCH)


def test_keys_are_found_over_sealed_and_open_chunks_from_any_offset() -> None:
    leader = Leader()
    ids = range(2 * CHUNK_KEYS // len(SOURCES) + 3)
    for start in range(0, len(ids), 25):
        leader.send_batch(of(SOURCES, ids[start : start + 25]))
    leader.commit()
    window = leader.machine.keys.window
    every = [event_key(source, str(number)) for number in ids for source in SOURCES]
    for offset in (
        0,
        1,
        CHUNK_KEYS - 1,
        CHUNK_KEYS,
        2 * CHUNK_KEYS + 5,
        window.next_offset,
        window.next_offset + 9,
    ):
        found, end = KeyRange.of(window, offset).moving(RING, 1)
        wanted = [key for key in every[offset:] if RING.owner(int.from_bytes(key[:4])) == 1]
        assert list(split_keys(found)) == wanted
        assert end == window.next_offset


def test_no_more_keys_are_given_at_once_than_one_entry_holds_and_none_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leader = Leader()
    for start in range(0, 3 * CHUNK_KEYS // len(SOURCES), 25):
        leader.send_batch(of(SOURCES, range(start, start + 25)))
    leader.commit()
    window = leader.machine.keys.window
    whole, _ = KeyRange.of(window, 0).moving(RING, 1)
    monkeypatch.setattr(limits, "MAX_ADOPTED_KEYS", 700)
    monkeypatch.setattr(limits, "SCANNED_CHUNKS", 2)
    parts, offset = [], 0
    while offset < window.next_offset:
        part, end = KeyRange.of(window, offset).moving(RING, 1)
        assert len(part) <= 700 * limits.KEY_BYTES
        assert end > offset
        parts.append(part)
        offset = end
    assert b"".join(parts) == whole
