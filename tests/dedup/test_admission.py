"""The leader's decision, case by case: batches without a session."""

from dataclasses import replace

import pytest

from esnode.config import Dedup
from esnode.dedup.admission import Admission, Admitted
from esnode.dedup.batch import OffsetRange, ProducerStamp, split_keys
from esnode.dedup.keytable import KeyTable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.dedup.producers import ProducerTable
from esnode.refusal import Refusal

from .events import batch, entry, key, numbers_of, offsets_of, packed
from .leader import Leader


def fresh_numbers(admitted: Admitted) -> list[int]:
    return numbers_of(admitted.fresh.payload) if admitted.fresh is not None else []


def test_a_fresh_batch_is_appended_as_it_came() -> None:
    leader = Leader()
    wanted = batch(range(64))
    assert leader.send_batch(wanted) == Admitted(wanted, (OffsetRange(0, 64),), 0, 0, None)
    assert leader.send(range(64, 80)).ranges == (OffsetRange(64, 16),)


def test_a_duplicate_of_a_committed_event_gets_its_offset_and_waits_for_nothing() -> None:
    leader = Leader()
    leader.send(range(10))
    leader.commit()
    assert leader.send([3, 4, 9]) == Admitted(None, (OffsetRange(3, 2), OffsetRange(9, 1)), 0, 3, None)


def test_a_batch_that_is_partly_known_is_appended_without_the_known_part() -> None:
    leader = Leader()
    leader.send(range(4))
    leader.commit()
    admitted = leader.send([10, 2, 11, 0, 12])
    assert fresh_numbers(admitted) == [10, 11, 12]
    assert admitted.fresh is not None
    assert admitted.fresh.keys == packed([10, 11, 12])
    assert offsets_of(admitted.ranges) == [4, 2, 5, 0, 6]
    assert admitted.duplicates == 2


def test_an_event_twice_in_one_batch_is_a_duplicate_of_itself() -> None:
    leader = Leader()
    admitted = leader.send([7, 8, 7, 9, 7])
    assert fresh_numbers(admitted) == [7, 8, 9]
    assert offsets_of(admitted.ranges) == [0, 1, 0, 2, 0]
    assert admitted.duplicates == 2
    again = leader.send([7, 7])
    assert offsets_of(again.ranges) == [0, 0]
    assert again.fresh is None


def test_known_events_are_found_however_long_ago_they_came() -> None:
    leader = Leader()
    for start in range(0, 3 * CHUNK_KEYS, 512):
        leader.send(range(start, start + 512))
        if start % 1024:
            leader.commit()
    admitted = leader.send([5, CHUNK_KEYS, 2 * CHUNK_KEYS, 3 * CHUNK_KEYS - 1])
    assert offsets_of(admitted.ranges) == [5, CHUNK_KEYS, 2 * CHUNK_KEYS, 3 * CHUNK_KEYS - 1]
    assert admitted.fresh is None


def test_only_keys_that_the_index_does_not_hold_are_remembered_beside_it() -> None:
    leader = Leader()
    for start in range(0, 5 * CHUNK_KEYS, 512):
        leader.send(range(start, start + 512))
        leader.commit()
    assert len(leader.admission._recent) < 2 * CHUNK_KEYS


def test_a_new_leader_knows_the_committed_keys_that_no_chunk_has_sealed() -> None:
    leader = Leader()
    leader.send(range(100))
    leader.commit()
    leader.restart(leader.machine.snapshot())
    assert leader.send(range(90, 110)).duplicates == 10


def test_an_expired_key_is_fresh_again() -> None:
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    leader.send([1, 2])
    leader.commit()
    leader.log_time_ms = 65
    leader.send([3])
    leader.commit()
    wanted = batch([1, 2])
    assert leader.send_batch(wanted) == Admitted(wanted, (OffsetRange(3, 2),), 0, 0, None)
    assert leader.send([1, 2]).fresh is None


def test_a_key_that_expired_and_came_again_is_known_until_its_second_time_is_over() -> None:
    """It is twice among the youngest keys then; the first one's going must not take the second along."""
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    leader.send([1, 9])
    leader.commit()
    leader.log_time_ms = 65
    leader.send([2])
    leader.commit()
    leader.send([1])
    leader.commit()
    for start in range(1_000, 1_000 + 2 * CHUNK_KEYS, 512):
        leader.send(range(start, start + 512))
        leader.commit()
        assert leader.send([1]).fresh is None
    assert len(leader.admission._recent) < 2 * CHUNK_KEYS
    leader.log_time_ms = 65 + 65
    leader.send([3])
    leader.commit()
    assert fresh_numbers(leader.send([1])) == [1]


FULL = Dedup.of_keys(1024, ttl_ms=64, when_full="refuse")


def test_a_full_window_that_refuses_takes_no_fresh_event() -> None:
    leader = Leader(FULL)
    leader.send(range(1000))
    refused = Admitted(None, (), 0, 0, Refusal.WINDOW_FULL)
    assert leader.send(range(2000, 2025)) == refused  # what is not applied counts
    leader.commit()
    assert leader.send(range(2000, 2025)) == refused
    assert leader.send(range(990, 1025)) == refused
    assert leader.send(range(999, 1024)).refusal is None


def test_a_full_window_still_acks_what_it_knows() -> None:
    leader = Leader(FULL)
    leader.send(range(1024))
    assert leader.send([5, 6]).ranges == (OffsetRange(5, 2),)


def test_an_overfull_window_still_acks_what_it_knows() -> None:
    """The bound was lowered, or another leader had a larger one."""
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    for start in range(0, 2000, 500):
        leader.send(range(start, start + 500))
    lowered = Leader(FULL, leader.log)
    assert lowered.send([5, 1999]).ranges == (OffsetRange(5, 1), OffsetRange(1999, 1))
    lowered.commit()
    assert lowered.machine.keys.live == 2000
    assert lowered.send([5, 1999]).refusal is None
    assert lowered.send([2000]).refusal is Refusal.WINDOW_FULL


def test_a_full_window_makes_room_as_log_time_goes_on_though_nothing_is_appended() -> None:
    """Else it would be full for ever: keys expire when an entry is applied, and none would be."""
    leader = Leader(FULL)
    leader.send(range(1024))
    leader.commit()
    leader.log_time_ms = 64
    assert leader.send([5000]).refusal is Refusal.WINDOW_FULL
    leader.log_time_ms = 65
    assert leader.send([5000]).ranges == (OffsetRange(1024, 1),)
    leader.commit()
    assert leader.machine.keys.live == 1


def test_a_full_window_that_shrinks_refuses_nothing() -> None:
    leader = Leader(Dedup.of_keys(1024, ttl_ms=64, when_full="shrink"))
    for start in range(0, 5000, 500):
        assert leader.send(range(start, start + 500)).refusal is None
        leader.commit()
    assert leader.machine.keys.live == 1024
    assert leader.machine.keys.shrunk == 5000 - 1024


def test_a_duplicate_waits_for_the_last_of_the_entries_that_hold_it() -> None:
    leader = Leader()
    leader.send([1])
    leader.commit()
    second = leader.send([2])
    third = leader.send([3])
    assert second.fresh is not None
    assert third.fresh is not None
    last_index = len(leader.log)
    assert leader.send([1]).wait_index_of_duplicates == 0
    assert leader.send([3, 1, 2]).wait_index_of_duplicates == last_index
    assert leader.send([2, 1]).wait_index_of_duplicates == last_index - 1
    leader.commit(last_index - 1)
    assert leader.send([2]).wait_index_of_duplicates == 0
    assert leader.send([3]).wait_index_of_duplicates == last_index
    leader.commit()
    assert leader.send([1, 2, 3]).wait_index_of_duplicates == 0


def test_the_admission_needs_no_more_than_its_two_tables() -> None:
    """What it knows follows from them, from the first decision on."""
    keys, producers = KeyTable(10**6, 10**6, "shrink"), ProducerTable()
    keys.add(packed(range(10)), 0, 0)
    admission = Admission(keys, producers)
    assert admission.decide(batch([3]), 10).ranges == (OffsetRange(3, 1),)
    admission.appended(entry(5, 10, batch([10])))
    assert admission.decide(batch([10]), 11).wait_index_of_duplicates == 5


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 1024])
def test_batches_of_every_size_are_cut_to_their_fresh_part(count: int) -> None:
    leader = Leader()
    leader.send([0])
    admitted = leader.send(range(count))
    assert fresh_numbers(admitted) == list(range(1, count))
    assert offsets_of(admitted.ranges) == list(range(count))


def test_two_keys_of_one_identity_are_one_event_whatever_their_tokens_are() -> None:
    """A record of the first version has a key without a token."""
    leader = Leader()
    wanted = batch([1, 2])
    without_token = replace(wanted, keys=b"".join(b"none" + key[4:] for key in split_keys(wanted.keys)))
    leader.send_batch(without_token)
    assert leader.send_batch(wanted).ranges == (OffsetRange(0, 2),)  # not yet applied
    leader.commit()
    assert leader.send_batch(wanted).fresh is None
    leader.send(range(10, 10 + 2 * CHUNK_KEYS // 8))
    both = replace(batch([3, 3]), keys=key(3) + b"none" + key(3)[4:])
    assert fresh_numbers(leader.send_batch(both)) == [3]


def test_a_sealed_key_without_a_token_is_found() -> None:
    leader = Leader()
    numbers = range(CHUNK_KEYS + 1)
    for start in range(0, len(numbers), 512):
        some = batch(numbers[start : start + 512])
        leader.send_batch(replace(some, keys=b"".join(b"none" + one[4:] for one in split_keys(some.keys))))
    leader.commit()
    assert leader.machine.keys.sealed_to == CHUNK_KEYS
    assert leader.send([0, CHUNK_KEYS - 1]).ranges == (OffsetRange(0, 1), OffsetRange(CHUNK_KEYS - 1, 1))
    assert leader.machine.keys.lookup([key(5), key(CHUNK_KEYS)]) == {key(5): 5, key(CHUNK_KEYS): CHUNK_KEYS}


def passed_window() -> Leader:
    """A leader whose log holds events 0 to 9, of which 0 to 5 are forgotten, and 10 to 13 behind them."""
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    leader.send(range(6))
    leader.log_time_ms = 60
    leader.send(range(6, 10))
    leader.log_time_ms = 66
    leader.send(range(10, 14))
    leader.commit()
    assert leader.machine.keys.first_offset == 6
    return leader


@pytest.mark.parametrize("sent_after", range(6))
def test_what_was_first_sent_before_the_window_and_is_not_known_is_refused(sent_after: int) -> None:
    leader = passed_window()
    refused = Admitted(None, (), 0, 0, Refusal.WINDOW_PASSED)
    for numbers in ([0], [20], [12, 3], [12, 20], [20, 20]):
        assert leader.send_batch(replace(batch(numbers), sent_after=sent_after)) == refused


def test_what_was_first_sent_before_the_window_and_is_known_is_acked() -> None:
    leader = passed_window()
    admitted = leader.send_batch(replace(batch([12, 7]), sent_after=0))
    assert (admitted.ranges, admitted.duplicates) == ((OffsetRange(12, 1), OffsetRange(7, 1)), 2)


def test_what_was_first_sent_within_the_window_is_stored_if_it_is_not_known() -> None:
    leader = passed_window()
    assert fresh_numbers(leader.send_batch(replace(batch([20, 12]), sent_after=6))) == [20]
    assert fresh_numbers(leader.send_batch(replace(batch([21]), sent_after=14))) == [21]


def test_what_was_never_sent_before_has_no_window_to_be_in() -> None:
    assert fresh_numbers(passed_window().send([0])) == [0]


def test_a_session_knows_its_events_whenever_they_were_first_sent() -> None:
    leader = passed_window()
    opened = leader.open_producer()
    leader.commit()
    stamped = replace(batch([30], ProducerStamp(opened, 1, 0, 1)), sent_after=0)
    assert fresh_numbers(leader.send_batch(stamped)) == [30]
