"""The leader's decision, case by case: batches of producer sessions."""

import pytest

from esnode import limits
from esnode.config import Dedup
from esnode.dedup.admission import Admitted
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange, ProducerStamp
from esnode.refusal import Refusal

from .events import numbers_of, offsets_of
from .leader import Leader

SHORT = Dedup.of_keys(10**6, ttl_ms=64)


class Producer:
    """A client with one session; its event of sequence number `n` is event `1000 + n`."""

    def __init__(self, leader: Leader, first_event: int = 1000) -> None:
        self.leader = leader
        self.id = leader.open_producer()
        self.first_event = first_event

    def send(self, sequence: int, count: int, epoch: int = 1) -> Admitted:
        first = self.first_event + sequence
        stamp = ProducerStamp(self.id, epoch, sequence, count)
        return self.leader.send(range(first, first + count), stamp)


def expire_all(leader: Leader) -> None:
    leader.log_time_ms += 2 * leader.dedup.ttl_ms
    leader.send([10**9 + leader.log_time_ms])
    leader.commit()


def stamp_of(admitted: Admitted) -> ProducerStamp | None:
    assert admitted.fresh is not None
    return admitted.fresh.producer


def test_a_session_whose_opening_is_not_applied_yet_can_be_used() -> None:
    """A new leader may have that in its tail, while the client was told by the old one."""
    leader = Leader()
    producer = Producer(leader)
    assert producer.send(0, 5).ranges == (OffsetRange(0, 5),)
    assert producer.send(5, 5).ranges == (OffsetRange(5, 5),)
    leader.commit()
    assert producer.send(10, 1).refusal is None


def test_nothing_is_kept_of_a_session_beside_the_table_once_all_is_applied() -> None:
    leader = Leader()
    producer = Producer(leader)
    producer.send(0, 5)
    assert leader.admission._sessions
    assert leader.admission._opened
    leader.commit()
    assert not leader.admission._sessions
    assert not leader.admission._opened
    assert not leader.admission._stamped


def test_a_gap_in_the_sequence_is_refused() -> None:
    leader = Leader()
    producer = Producer(leader)
    assert producer.send(1, 5) == Admitted(None, (), 0, 0, Refusal.OUT_OF_SEQUENCE)
    producer.send(0, 5)
    assert producer.send(6, 1).refusal is Refusal.OUT_OF_SEQUENCE
    leader.commit()
    assert producer.send(6, 1).refusal is Refusal.OUT_OF_SEQUENCE
    assert producer.send(5, 1).refusal is None


def test_a_session_that_was_never_opened_is_refused() -> None:
    leader = Leader()
    assert leader.send([1], ProducerStamp(77, 1, 0, 1)).refusal is Refusal.UNKNOWN_PRODUCER


@pytest.mark.parametrize("committed", [False, True])
def test_another_epoch_is_refused(committed: bool) -> None:
    leader = Leader()
    producer = Producer(leader)
    if committed:
        leader.commit()
    assert producer.send(0, 1, epoch=2).refusal is Refusal.UNKNOWN_PRODUCER
    assert producer.send(0, 1, epoch=1).refusal is None


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("dedup", [SHORT, Dedup.of_keys(10**6, ttl_ms=10**9)], ids=["expired", "known"])
def test_a_batch_sent_again_gets_its_offsets(committed: bool, dedup: Dedup) -> None:
    leader = Leader(dedup)
    producer = Producer(leader)
    leader.send([1, 2, 3])
    producer.send(0, 4)
    if committed:
        expire_all(leader)
    again = producer.send(0, 4)
    assert again.fresh is None
    assert again.ranges == (OffsetRange(3, 4),)
    assert again.duplicates == 4
    assert again.wait_index_of_duplicates == (0 if committed else len(leader.log))


def test_a_batch_that_reaches_into_the_new_is_appended_from_there() -> None:
    leader = Leader(SHORT)
    producer = Producer(leader)
    producer.send(0, 4)
    expire_all(leader)  # takes offset 4
    admitted = producer.send(2, 5)
    assert admitted.fresh is not None
    assert numbers_of(admitted.fresh.payload) == [1004, 1005, 1006]
    assert stamp_of(admitted) == ProducerStamp(producer.id, 1, 4, 3)
    assert offsets_of(admitted.ranges) == [2, 3, 5, 6, 7]
    leader.commit()
    assert producer.send(7, 1).refusal is None


def test_ranges_are_put_together_over_many_batches_and_both_sides_of_the_applied_index() -> None:
    leader = Leader(SHORT)
    producer = Producer(leader)
    for sequence in range(0, 12, 3):
        producer.send(sequence, 3)
        leader.send([sequence])
        if sequence < 6:
            expire_all(leader)
    offsets = [0, 1, 2, 5, 6, 7, 10, 11, 12, 14, 15, 16]
    assert offsets_of(producer.send(0, 12).ranges) == offsets
    assert offsets_of(producer.send(4, 3).ranges) == offsets[4:7]
    assert offsets_of(producer.send(7, 1).ranges) == offsets[7:8]
    assert offsets_of(producer.send(10, 2).ranges) == offsets[10:]


def test_an_event_that_another_has_sent_is_dropped_and_its_number_is_covered() -> None:
    leader = Leader()
    producer = Producer(leader)
    leader.send([1001])
    admitted = producer.send(0, 3)
    assert admitted.fresh is not None
    assert numbers_of(admitted.fresh.payload) == [1000, 1002]
    assert stamp_of(admitted) == ProducerStamp(producer.id, 1, 0, 3)
    assert offsets_of(admitted.ranges) == [1, 0, 2]
    assert producer.send(3, 1).refusal is None
    leader.commit()
    assert offsets_of(producer.send(0, 4).ranges) == [1, 0, 2, 3]


def test_a_session_goes_on_though_all_its_events_are_known() -> None:
    leader = Leader()
    producer = Producer(leader)
    leader.send(range(1000, 1003))
    admitted = producer.send(0, 3)
    assert admitted.fresh is not None
    assert admitted.fresh.count == 0
    assert numbers_of(admitted.fresh.payload) == []
    assert stamp_of(admitted) == ProducerStamp(producer.id, 1, 0, 3)
    assert admitted.ranges == (OffsetRange(0, 3),)
    assert producer.send(3, 2).ranges == (OffsetRange(3, 2),)
    leader.commit()
    assert producer.send(5, 1).refusal is None


def test_events_without_a_remembered_place_are_in_the_log_at_an_unknown_offset() -> None:
    leader = Leader(SHORT)
    producer = Producer(leader)
    leader.send([1001])
    producer.send(0, 3)
    expire_all(leader)
    again = producer.send(0, 3)
    assert again == Admitted(None, (OffsetRange(UNKNOWN_OFFSET, 3),), 0, 3, None)
    mixed = producer.send(2, 3)
    assert mixed.ranges == (OffsetRange(UNKNOWN_OFFSET, 1), OffsetRange(leader.next_offset - 2, 2))


def test_an_event_twice_in_one_batch_is_in_the_log_once_though_nobody_remembers_where() -> None:
    """Its first sending is known by its number only; its second one has a new number."""
    leader = Leader(SHORT)
    producer = Producer(leader)
    leader.send([500])
    leader.send([500, 501], ProducerStamp(producer.id, 1, 0, 2))
    expire_all(leader)
    admitted = leader.send([500, 501, 500, 502], ProducerStamp(producer.id, 1, 0, 4))
    assert admitted.fresh is not None
    assert numbers_of(admitted.fresh.payload) == [502]
    assert offsets_of(admitted.ranges) == [-1, -1, -1, leader.next_offset - 1]


def test_more_batches_than_are_remembered_are_found_by_their_keys() -> None:
    leader = Leader()
    producer = Producer(leader)
    count = limits.MAX_PRODUCER_RANGES + 5
    for sequence in range(count):
        leader.send([sequence])
        producer.send(sequence, 1)
    leader.commit()
    offsets = offsets_of(producer.send(0, count).ranges)
    assert offsets == [2 * sequence + 1 for sequence in range(count)]


def test_a_duplicate_waits_for_the_entry_that_covers_its_number() -> None:
    leader = Leader(SHORT)
    producer = Producer(leader)
    leader.commit()
    producer.send(0, 2)
    first = len(leader.log)
    leader.send([1002])
    producer.send(2, 1)  # covered only
    second = len(leader.log)
    producer.send(3, 2)
    assert producer.send(0, 1).wait_index_of_duplicates == first
    assert producer.send(1, 2).wait_index_of_duplicates == second
    assert producer.send(2, 1).wait_index_of_duplicates == second
    assert producer.send(2, 2).wait_index_of_duplicates == len(leader.log)
    leader.commit(second)
    assert producer.send(0, 3).wait_index_of_duplicates == 0


def test_a_full_window_that_refuses_lets_a_session_go_on_over_known_events() -> None:
    leader = Leader(Dedup.of_keys(1024, ttl_ms=10**6, when_full="refuse"))
    producer = Producer(leader)
    leader.send(range(1000, 2024))
    assert producer.send(0, 1024).refusal is None
    assert producer.send(1024, 1).refusal is Refusal.WINDOW_FULL
    assert producer.send(1023, 2).refusal is Refusal.WINDOW_FULL


def test_a_session_that_was_closed_to_make_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 2)
    leader = Leader()
    first = Producer(leader)
    first.send(0, 1)
    second = Producer(leader, 2000)
    leader.commit()
    third = Producer(leader, 3000)
    assert first.send(1, 1).refusal is None  # not applied yet: it is still open
    leader.commit()
    assert first.send(2, 1).refusal is Refusal.UNKNOWN_PRODUCER
    assert second.send(0, 1).refusal is None
    assert third.send(0, 1).refusal is None
    assert leader.machine.producers.closed == 1
    assert offsets_of(leader.send([1001]).ranges) == [1]  # its event is in the log all the same
