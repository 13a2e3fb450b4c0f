"""Sessions that are gone on with: by a name after a restart, by their client after a gap, and fencing."""

import pytest

from esnode import limits
from esnode.config import Dedup
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange, ProducerStamp
from esnode.dedup.producers import MAX_EPOCH, Opened, Opening
from esnode.refusal import Refusal

from .leader import Leader

SHORT = Dedup.of_keys(10**6, ttl_ms=64)


def opened(leader: Leader, name: str = "", producer_id: int = 0, holder: int = 7) -> Opening:
    answer = leader.open(name, producer_id, holder)
    assert isinstance(answer, Opened)
    return answer.opening


def send(
    leader: Leader, session: Opening, sequence: int, count: int = 1
) -> Refusal | tuple[OffsetRange, ...]:
    """Events `1000 + n` for the numbers `n`; the refusal, or where they are."""
    first = 1000 + sequence
    stamp = ProducerStamp(session.producer_id, session.epoch, sequence, count)
    admitted = leader.send(range(first, first + count), stamp)
    return admitted.refusal or admitted.ranges


def expire_all(leader: Leader) -> None:
    leader.log_time_ms += 2 * leader.dedup.ttl_ms
    leader.send([10**9 + leader.log_time_ms])
    leader.commit()
    assert leader.machine.keys.live == 1


@pytest.mark.parametrize("committed", [False, True])
def test_a_name_opened_again_is_the_same_producer_with_a_higher_epoch_and_its_last_number(
    committed: bool,
) -> None:
    leader = Leader(SHORT)
    first = opened(leader, "billing-1", holder=1)
    assert (first.epoch, first.next_sequence) == (1, 0)
    send(leader, first, 0, 5)
    if committed:
        expire_all(leader)
    again = leader.open("billing-1", 0, 2)
    assert again == Opened(Opening(first.producer_id, 2, 5, "billing-1", 2), last_offset=4)
    assert isinstance(again, Opened)
    assert send(leader, again.opening, 3, 2) == (OffsetRange(3, 2),), "known by number, key or not"
    assert send(leader, again.opening, 5) == (OffsetRange(leader.next_offset - 1, 1),)


@pytest.mark.parametrize("committed", [False, True])
def test_the_older_holder_of_a_name_is_fenced(committed: bool) -> None:
    leader = Leader()
    older = opened(leader, "a", holder=1)
    newer = opened(leader, "a", holder=2)
    if committed:
        leader.commit()
    assert send(leader, older, 0) is Refusal.PRODUCER_FENCED
    assert leader.open("a", older.producer_id, 1) is Refusal.PRODUCER_FENCED
    assert send(leader, newer, 0) == (OffsetRange(0, 1),)
    assert send(leader, older, 0) is Refusal.PRODUCER_FENCED, "not even what is known"


def test_its_holder_goes_on_with_a_session_as_often_as_it_likes() -> None:
    """An answer that was lost on the way has raised the epoch as well."""
    leader = Leader()
    session = opened(leader, "a", holder=1)
    for epoch in range(2, 6):
        session = opened(leader, "a", session.producer_id, holder=1)
        assert session.epoch == epoch
        if epoch == 4:
            leader.commit()


def test_a_session_without_a_name_is_gone_on_with_by_its_id() -> None:
    leader = Leader()
    session = opened(leader)
    assert leader.open("", session.producer_id + 1, 7) is Refusal.UNKNOWN_PRODUCER
    send(leader, session, 0, 3)
    leader.commit()
    older, session = session, opened(leader, "", session.producer_id)
    assert session == Opening(older.producer_id, 2, 3, "", 0)
    assert send(leader, older, 3) is Refusal.PRODUCER_FENCED
    assert send(leader, session, 4) is Refusal.OUT_OF_SEQUENCE
    assert send(leader, session, 3) == (OffsetRange(3, 1),)


def test_a_session_with_a_name_is_not_gone_on_with_by_its_id_alone() -> None:
    leader = Leader()
    session = opened(leader, "a")
    assert leader.open("", session.producer_id, 7) is Refusal.UNKNOWN_PRODUCER
    leader.commit()
    assert leader.open("", session.producer_id, 7) is Refusal.UNKNOWN_PRODUCER


def test_a_name_that_was_never_opened_cannot_be_gone_on_with() -> None:
    assert Leader().open("a", 5, 7) is Refusal.UNKNOWN_PRODUCER


def test_an_epoch_that_was_never_given_is_unknown() -> None:
    leader = Leader()
    session = opened(leader, "a")
    ahead = Opening(session.producer_id, session.epoch + 1, 0, "a", 7)
    assert send(leader, ahead, 0) is Refusal.UNKNOWN_PRODUCER


def test_the_last_offset_is_told_only_where_it_is_known() -> None:
    leader = Leader(SHORT)
    session = opened(leader, "a")
    assert leader.open("a", 0, 7) == Opened(Opening(session.producer_id, 2, 0, "a", 7), UNKNOWN_OFFSET)
    leader.send([1001])
    session = opened(leader, "a")
    send(leader, session, 0, 2)  # of which the second is known: it leaves no range
    for _ in range(2):
        answer = leader.open("a", 0, 7)
        assert isinstance(answer, Opened)
        assert (answer.opening.next_sequence, answer.last_offset) == (2, UNKNOWN_OFFSET)
        leader.commit()


def test_epochs_that_are_used_up_make_a_new_producer_that_goes_on() -> None:
    leader = Leader()
    session = opened(leader, "a")
    send(leader, session, 0, 2)
    leader.commit()
    leader.machine.producers.open(Opening(session.producer_id, MAX_EPOCH, 2, "a", 7))
    last = Opening(session.producer_id, MAX_EPOCH, 2, "a", 7)
    fresh = opened(leader, "a")
    assert (fresh.producer_id, fresh.epoch, fresh.next_sequence) == (len(leader.log), 1, 2)
    leader.commit()
    assert send(leader, last, 2) is Refusal.UNKNOWN_PRODUCER
    assert send(leader, fresh, 2) == (OffsetRange(2, 1),)
    assert leader.machine.producers.named == 1


def test_a_leader_that_takes_over_knows_the_openings_in_its_tail() -> None:
    leader = Leader()
    older = opened(leader, "a", holder=1)
    send(leader, older, 0, 3)
    newer = opened(leader, "a", holder=2)
    leader.lose(keep=len(leader.log))
    assert send(leader, older, 3) is Refusal.PRODUCER_FENCED
    assert send(leader, newer, 3) == (OffsetRange(3, 1),)
    leader.lose(keep=2)  # the first opening and nothing after it
    assert send(leader, newer, 0) is Refusal.UNKNOWN_PRODUCER
    assert send(leader, older, 0) == (OffsetRange(0, 1),)


def test_nothing_is_kept_of_openings_beside_the_table_once_all_is_applied() -> None:
    leader = Leader()
    opened(leader, "a", holder=1)
    opened(leader, "a", holder=2)
    opened(leader, "b")
    leader.commit(2)
    assert set(leader.admission._names) == {"a", "b"}
    leader.commit()
    assert not leader.admission._names
    assert not leader.admission._opened
    assert not leader.admission._stamped


def test_a_new_name_is_refused_while_all_others_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_NAMED_PRODUCERS", 3)
    leader = Leader()
    sessions = [opened(leader, name) for name in "ab"]
    leader.commit()
    sessions.append(opened(leader, "c"))
    assert leader.open("d", 0, 7) is Refusal.PRODUCERS_FULL
    leader.commit()
    assert leader.open("d", 0, 7) is Refusal.PRODUCERS_FULL
    leader.log_time_ms += 1
    opened(leader, "a")
    leader.log_time_ms += limits.NAMED_PRODUCER_KEPT_MS - 2
    send(leader, sessions[1], 0)
    leader.commit()
    assert leader.open("d", 0, 7) is Refusal.PRODUCERS_FULL
    leader.log_time_ms += 1
    fourth = opened(leader, "d")
    assert leader.open("e", 0, 7) is Refusal.PRODUCERS_FULL, "only c was idle for so long"
    leader.commit()
    assert send(leader, sessions[2], 0) is Refusal.UNKNOWN_PRODUCER
    assert send(leader, sessions[1], 1) != Refusal.UNKNOWN_PRODUCER
    assert send(leader, fourth, 0) != Refusal.UNKNOWN_PRODUCER
    assert leader.machine.producers.closed == 1


def test_sessions_without_a_name_close_none_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 3)
    monkeypatch.setattr(limits, "MAX_NAMED_PRODUCERS", 2)
    leader = Leader()
    named = opened(leader, "a")
    for _ in range(10):
        opened(leader)
    leader.commit()
    assert (len(leader.machine.producers), leader.machine.producers.closed) == (3, 8)
    assert send(leader, named, 0) == (OffsetRange(0, 1),)


def test_names_and_last_numbers_come_with_a_snapshot() -> None:
    leader = Leader(SHORT)
    older = opened(leader, "a", holder=1)
    newer = opened(leader, "a", holder=2)
    send(leader, newer, 0, 4)
    opened(leader, "b")
    expire_all(leader)
    leader.restart(leader.machine.snapshot())
    assert send(leader, older, 4) is Refusal.PRODUCER_FENCED
    assert send(leader, newer, 0, 4) == (OffsetRange(0, 4),)
    again = leader.open("a", 0, 3)
    assert again == Opened(Opening(newer.producer_id, 3, 4, "a", 3), last_offset=3)


def test_a_name_that_was_closed_and_opened_by_another_is_not_gone_on_with() -> None:
    """It is another session: the same holder has no part in it, whatever its number."""
    leader = Leader()
    other = opened(leader, "a", holder=7)
    for committed in (False, True):
        if committed:
            leader.commit()
        assert leader.open("a", other.producer_id + 1, 7) is Refusal.PRODUCER_FENCED
