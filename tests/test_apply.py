"""The machine: what it refuses to apply, and that snapshot and replay lead to the same state."""

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode.apply import Checkpoint, Machine, format_of_checkpoint, format_of_snapshot
from esnode.config import Dedup
from esnode.dedup.batch import ProducerStamp
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch
from esnode.dedup.producers import Opening
from esnode.errors import Bug, DamagedRecord, NewerFormat
from esnode.raft.entry import Entry, EntryKind, seal_opening, seal_ring_change
from esnode.raft.messages import Snapshot
from tests.dedup.events import batch, entry, key, packed
from tests.dedup.sources import sources

DEDUP = Dedup.of_keys(5_000, ttl_ms=640)


RING_CHANGES: dict[int, RingChange] = {
    7: RingPlan(2, 1, 4),
    8: Adoption(2, 1, 0, 50, 3),
    10: Adoption(2, 0, 0, 70, 0),
    11: RingSwitch(2, 4),
    13: Adoption(3, 1, 0, 9, 0),
}
"""By the indexes of the entries that say so."""


def machine() -> Machine:
    return Machine(DEDUP)


def log_of(sizes: Iterable[int]) -> list[Entry]:
    """Entries of all kinds: events, no-ops, sessions, the ring, some of it after a while."""
    log: list[Entry] = []
    offset, log_time_ms, sequence = 0, 0, 0
    for index, size in enumerate(sizes, start=1):
        stamp = None
        kind = EntryKind.BATCH
        if index == 2:
            kind = EntryKind.PRODUCER
        elif size == 0:
            kind = EntryKind.NOOP
        elif index > 2 and index % 3 == 0:
            stamp = ProducerStamp(2, 1, sequence, size)
            sequence += size
        content = batch(range(offset, offset + size), stamp) if kind is EntryKind.BATCH else None
        log_time_ms += 7 * (index % 5)
        term = 1 + index // 4
        if index in RING_CHANGES:
            change = RING_CHANGES[index]
            keys = packed(range(offset, offset + size)) if isinstance(change, Adoption) else b""
            place = {"index": index, "term": term, "base_offset": offset, "log_time_ms": log_time_ms}
            log.append(seal_ring_change(change, keys, **place))
        else:
            log.append(entry(index, offset, content, kind=kind, term=term, log_time_ms=log_time_ms))
        offset = log[-1].next_offset
    return log


def applied(log: Iterable[Entry]) -> Machine:
    one = machine()
    for each in log:
        one.apply(each)
    return one


def test_a_new_machine_is_at_the_beginning() -> None:
    one = machine()
    assert (one.applied_index, one.applied_term, one.next_offset, one.log_time_ms) == (0, 0, 0, 0)


def test_entries_move_the_machine_along() -> None:
    one = applied(log_of([3, 0, 4, 0, 2]))
    assert (one.applied_index, one.applied_term) == (5, 2)
    assert (one.next_offset, one.log_time_ms) == (9, 7 * 10)
    assert one.keys.lookup([key(8)]) == {key(8): 8}
    assert one.producers.place(2) == (1, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        entry(4, 5, batch([9]), term=2, log_time_ms=50),
        entry(2, 5, batch([9]), term=2, log_time_ms=50),
        entry(3, 4, batch([9]), term=2, log_time_ms=50),
        entry(3, 6, batch([9]), term=2, log_time_ms=50),
        entry(3, 6, kind=EntryKind.NOOP, term=2, log_time_ms=50),
        entry(3, 5, batch([9]), term=2, log_time_ms=49),
        entry(3, 5, batch([9]), term=1, log_time_ms=50),
    ],
    ids=["an index skipped", "an index again", "an offset again", "an offset skipped", "a no-op elsewhere",
         "log time falls", "the term falls"],
)  # fmt: skip
def test_an_entry_that_cannot_be_the_next_one_is_a_bug(wrong: Entry) -> None:
    one = machine()
    one.apply(entry(1, 0, batch(range(5)), term=1, log_time_ms=50))
    one.apply(entry(2, 5, kind=EntryKind.NOOP, term=2, log_time_ms=50))
    before = one.digest()
    with pytest.raises(Bug):
        one.apply(wrong)
    assert one.digest() == before
    one.apply(entry(3, 5, batch([9]), term=2, log_time_ms=50))


def test_keys_expire_before_the_keys_of_the_same_entry_are_added() -> None:
    one = machine()
    one.apply(entry(1, 0, batch([1])))
    one.apply(entry(2, 1, batch([2]), log_time_ms=10_000))
    assert one.keys.lookup([key(1), key(2)]) == {key(2): 1}


def test_a_no_op_lets_keys_expire_too() -> None:
    one = machine()
    one.apply(entry(1, 0, batch([1])))
    one.apply(entry(2, 1, kind=EntryKind.NOOP, log_time_ms=10_000))
    assert one.keys.live == 0


def test_the_same_event_twice_in_the_log_has_its_later_offset() -> None:
    one = machine()
    one.apply(entry(1, 0, batch([1, 2])))
    one.apply(entry(2, 2, batch([1])))
    assert one.keys.lookup([key(1)]) == {key(1): 2}


sizes = st.lists(st.sampled_from([0, 1, 3, 64, 1_000]), min_size=3, max_size=14)


@given(sizes, st.integers(0, 14))
def test_snapshot_and_replay_lead_to_the_same_machine(wanted: list[int], cut: int) -> None:
    log = log_of(wanted)
    replayed = applied(log)
    halfway = applied(log[:cut])
    other = Machine(DEDUP, seed=7)
    other.apply(entry(1, 0, batch([999])))  # whatever was there before
    other.restore(halfway.snapshot())
    assert other.digest() == halfway.digest()
    for each in log[cut:]:
        other.apply(each)
    assert other.digest() == replayed.digest()
    assert other.snapshot() == replayed.snapshot()
    asked = [key(number) for number in range(0, replayed.next_offset + 5, 7)]
    assert other.keys.lookup(asked) == replayed.keys.lookup(asked)


@given(sizes, st.integers(0, 14))
def test_a_prefix_rolled_forward_without_an_index_is_the_machine_at_the_cut(
    wanted: list[int], base: int
) -> None:
    log = log_of(wanted)
    prefix = Machine(DEDUP, searchable=False)
    prefix.restore(applied(log[:base]).snapshot())
    for count, each in enumerate(log[base:], start=base + 1):
        prefix.apply(each)
        assert prefix.snapshot() == applied(log[:count]).snapshot()


def test_machines_that_differ_in_anything_have_different_digests() -> None:
    log = log_of([3, 0, 4, 0, 2])
    digests = [applied(log[:count]).digest() for count in range(6)]
    digests.append(applied([*log[:4], entry(5, 7, batch([99, 98]), term=2, log_time_ms=70)]).digest())
    digests.append(applied([*log[:4], replace(log[4], term=3)]).digest())
    digests.append(applied([*log[:4], replace(log[4], log_time_ms=71)]).digest())
    assert len(set(digests)) == len(digests)


def resumed(checkpoint: Checkpoint, chunks: Iterable[bytes], dedup: Dedup = DEDUP) -> Machine:
    one = Machine(dedup, seed=9)
    sealed = list(chunks)
    one.resume(checkpoint, sealed, sources(sealed, checkpoint.first_chunk))
    return one


def chunks_of(one: Machine) -> list[bytes]:
    return [bytes(chunk) for chunk in one.keys.sealed_chunks(one.keys.first_chunk)]


@given(st.lists(st.sampled_from([0, 1, 64, 1_000]), min_size=3, max_size=20), st.integers(0, 20))
def test_checkpoint_and_replay_lead_to_the_same_machine(wanted: list[int], cut: int) -> None:
    log = log_of(wanted)
    replayed, halfway = applied(log), applied(log[:cut])
    checkpoint = halfway.checkpoint()
    assert (checkpoint.index, checkpoint.term) == (halfway.applied_index, halfway.applied_term)
    assert checkpoint.open_chunk - checkpoint.first_chunk == len(chunks_of(halfway))
    other = resumed(checkpoint, chunks_of(halfway))
    assert other.digest() == halfway.digest()
    for each in log[cut:]:
        other.apply(each)
    assert other.digest() == replayed.digest()
    assert other.snapshot() == replayed.snapshot()
    asked = [key(number) for number in range(0, replayed.next_offset + 5, 7)]
    assert other.keys.lookup(asked) == replayed.keys.lookup(asked)


def test_a_checkpoint_is_small_however_many_keys_there_are() -> None:
    one = Machine(Dedup.of_keys(100_000))
    one.keys.add(bytes(16 * 8 * 4096), 0, 0)
    assert len(one.checkpoint().state) < 1_000
    assert sum(map(len, chunks_of(one))) == 16 * 8 * 4096


@pytest.mark.parametrize(
    "changed",
    [{"ttl_ms": 641}, {"max_bytes": DEDUP.max_bytes + 24}, {"when_full": "refuse"}],
    ids=lambda c: next(iter(c)),
)
def test_a_checkpoint_made_under_other_settings_is_refused(changed: dict[str, Any]) -> None:
    one = applied(log_of([3, 0, 4]))
    with pytest.raises(DamagedRecord, match="other settings"):
        resumed(one.checkpoint(), chunks_of(one), replace(DEDUP, **changed))


def test_a_checkpoint_that_is_cut_or_of_a_later_version_is_refused() -> None:
    one = applied(log_of([3, 0, 4]))
    checkpoint = one.checkpoint()
    for length in range(len(checkpoint.state)):
        with pytest.raises(DamagedRecord):
            resumed(replace(checkpoint, state=checkpoint.state[:length]), [])
    with pytest.raises(DamagedRecord, match="version 2"):
        resumed(replace(checkpoint, state=b"\x02" + checkpoint.state[1:]), [])


def test_a_refused_checkpoint_changes_nothing() -> None:
    one = applied(log_of([3, 0, 4]))
    before = one.digest()
    with pytest.raises(DamagedRecord):
        one.resume(replace(applied(log_of([3])).checkpoint(), state=b""), [], sources([]))
    assert one.digest() == before


def snapshot() -> Snapshot:
    return applied(log_of([3, 0, 4, 0, 2])).snapshot()


@pytest.mark.parametrize(
    "changes",
    [{"index": 6}, {"term": 3}, {"next_offset": 10}, {"log_time_ms": 71}],
    ids=lambda c: next(iter(c)),
)
def test_a_snapshot_whose_fields_are_not_those_of_its_bytes_is_refused(changes: dict[str, int]) -> None:
    one = machine()
    fields = {"index": 5, "term": 2, "next_offset": 9, "log_time_ms": 70} | changes
    with pytest.raises(DamagedRecord, match="digest"):
        one.restore(Snapshot(**fields, data=snapshot().data))
    assert one.digest() == machine().digest()


def test_a_snapshot_with_any_bit_flipped_is_refused() -> None:
    whole = snapshot()
    for place in range(len(whole.data)):
        damaged = bytearray(whole.data)
        damaged[place] ^= 1 << place % 8
        one = machine()
        with pytest.raises(DamagedRecord):
            one.restore(replace(whole, data=bytes(damaged)))
        assert one.digest() == machine().digest()


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    whole = snapshot()
    for length in range(len(whole.data)):
        with pytest.raises(DamagedRecord):
            machine().restore(replace(whole, data=whole.data[:length]))
    with pytest.raises(DamagedRecord):
        machine().restore(replace(whole, data=whole.data + b"x"))


def test_a_snapshot_of_a_later_version_is_refused() -> None:
    whole = snapshot()
    with pytest.raises(DamagedRecord, match="version 2"):
        machine().restore(replace(whole, data=struct.pack(">B", 2) + whole.data[1:]))


def test_the_digest_is_the_same_in_every_process_and_version() -> None:
    assert applied(log_of([3, 0, 4, 0, 2])).digest().hex() == "b1e243512a715a8b6268fbf0e123bff9"


def named(log: list[Entry]) -> list[Entry]:
    """The log with one more entry: a session with a name."""
    last = log[-1]
    opening = Opening(last.index + 1, 1, 0, "billing-1", 7)
    return [
        *log,
        seal_opening(
            opening,
            index=last.index + 1,
            term=last.term,
            base_offset=last.next_offset,
            log_time_ms=last.log_time_ms,
        ),
    ]


def test_state_with_a_named_session_has_a_version_of_its_own_and_comes_back() -> None:
    plain = applied(log_of([3, 0, 4]))
    one = applied(named(log_of([3, 0, 4])))
    assert (plain.snapshot().data[0], plain.checkpoint().state[0]) == (1, 1)
    assert (one.snapshot().data[0], one.checkpoint().state[0]) == (2, 2)
    other = machine()
    other.restore(one.snapshot())
    for each in (other, resumed(one.checkpoint(), chunks_of(one))):
        assert each.digest() == one.digest()
        assert each.producers.find_name("billing-1") == Opening(4, 1, 0, "billing-1", 7)


@pytest.mark.parametrize("names", [False, True])
def test_state_whose_version_contradicts_its_sessions_is_refused(names: bool) -> None:
    log = log_of([3, 0, 4])
    one = applied(named(log) if names else log)
    wrong = bytes([1 if names else 2])
    snapshot, checkpoint = one.snapshot(), one.checkpoint()
    with pytest.raises(DamagedRecord, match="version"):
        machine().restore(replace(snapshot, data=wrong + bytes(snapshot.data[1:])))
    with pytest.raises(DamagedRecord, match="version"):
        resumed(replace(checkpoint, state=wrong + checkpoint.state[1:]), chunks_of(one))


def test_a_checkpoint_of_no_version_is_refused_and_formats_are_told_without_reading_more() -> None:
    checkpoint = applied(log_of([3])).checkpoint()
    with pytest.raises(DamagedRecord, match="checkpoint version 0"):
        resumed(replace(checkpoint, state=b"\x00" + checkpoint.state[1:]), [])
    assert format_of_snapshot(b"") == 0
    assert format_of_checkpoint(checkpoint.state) == checkpoint.state[0]


def test_state_that_says_something_of_the_ring_has_versions_of_its_own_and_comes_back_or_is_refused() -> None:
    one = applied(log_of([3, 0, 4, 0, 2, 0, 5, 6, 0, 2, 0]))
    assert one.ring.now.version == 2
    assert one.ring.now.ranges
    snapshot, checkpoint = one.snapshot(), one.checkpoint()
    assert (snapshot.data[0], one.outline().data[0], checkpoint.state[0]) == (4, 5, 3)
    other = machine()
    other.restore(snapshot)
    for each in (other, resumed(checkpoint, chunks_of(one))):
        assert each.digest() == one.digest()
        assert each.ring.now == one.ring.now
    for version in (1, 2, 3, 5, 6):
        with pytest.raises((DamagedRecord, NewerFormat)):
            machine().restore(replace(snapshot, data=bytes([version]) + bytes(snapshot.data[1:])))
        state = bytes([version if version != 3 else 4]) + checkpoint.state[1:]
        with pytest.raises((DamagedRecord, NewerFormat)):
            resumed(replace(checkpoint, state=state), chunks_of(one))
    for length in range(len(snapshot.data)):
        with pytest.raises(DamagedRecord):
            machine().restore(replace(snapshot, data=snapshot.data[:length]))


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\0"], ids=["nothing", "half a length", "no bytes"])
def test_state_of_a_version_with_a_ring_that_says_nothing_of_it_is_refused(said: bytes) -> None:
    one = applied(log_of([3, 0, 4]))
    snapshot, checkpoint = one.snapshot(), one.checkpoint()
    length = len(said).to_bytes(8, "big")
    wrong = bytes([4]) + bytes(snapshot.data[1:17]) + length + said
    with pytest.raises(DamagedRecord, match="says nothing of the ring"):
        machine().restore(replace(snapshot, data=wrong))
    wrong = bytes([3]) + checkpoint.state[1:18] + length + said
    with pytest.raises(DamagedRecord, match="says nothing of the ring"):
        resumed(replace(checkpoint, state=wrong), [])
