"""Each way in which a history can be wrong, made on purpose, beside the nearest one that is right."""

from collections.abc import Sequence

import pytest

from esctl.verify.operations import Operations
from esctl.verify.placement import NO_KEY
from esctl.verify.verdict import MAX_EXAMPLES, Flaw, LogFinding
from esnode.dedup.batch import OffsetRange


def keys(*numbers: int) -> bytes:
    """Packed keys of events that have numbers from 1 on."""
    return b"".join(number.to_bytes(16, "big") for number in numbers)


class Story(Operations):
    """The same in short: an append with its ack, a read with its end."""

    def append(
        self,
        numbers: Sequence[int],
        offset: int | None = None,
        *,
        at: float,
        until: float | None = None,
        duplicates: int | None = 0,
    ) -> int:
        """With an offset it is acked there, one time unit later unless it says `until`."""
        attempt = self.append_begins(keys(*numbers), at)
        if offset is not None:
            ranges = [OffsetRange(offset, len(numbers))]
            self.acked(attempt, ranges, at + 1 if until is None else until, duplicates)
        return attempt

    def read(
        self, next_offset: int, *, at: float, until: float | None = None, linearizable: bool = True
    ) -> None:
        read = self.read_begins(at, linearizable=linearizable)
        self.read_ends(read, next_offset, at + 1 if until is None else until)

    def found(self, *log: int, first_offset: int = 0) -> dict[Flaw, int]:
        return dict(self.check(keys(*log), first_offset).counts)


def test_nothing_at_all_is_clean() -> None:
    assert Story().found() == {}


def test_what_was_acked_and_is_there_is_clean() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    story.append([3], 2, at=5)
    story.read(3, at=10)
    assert story.found(1, 2, 3) == {}


# --- lost ----------------------------------------------------------------------------------------


def test_an_event_that_was_acked_and_is_not_there_is_lost() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.append([2], 1, at=2)
    assert story.found(1) == {Flaw.LOST: 1}
    assert story.found(1, 2) == {}


def test_an_event_without_an_answer_may_be_missing() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.append([2], at=2)
    assert story.found(1) == {}
    assert story.found(1, 2) == {}


def test_an_event_in_whose_place_nothing_could_be_read_is_lost() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    assert story.check(keys(1) + NO_KEY).counts == {Flaw.LOST: 1}


def test_an_event_that_was_acked_without_an_offset_must_be_somewhere() -> None:
    story = Story()
    story.append([1], -1, at=0, duplicates=1)
    assert story.found() == {Flaw.LOST: 1}
    assert story.found(1) == {}
    assert story.found(first_offset=1) == {}, "retention may have cut it"


def test_what_retention_has_cut_is_not_lost() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    assert story.found(2, first_offset=1) == {}
    assert story.found(first_offset=2) == {}
    assert story.found(first_offset=1) == {Flaw.LOST: 1}


def test_an_event_that_was_acked_ten_times_is_lost_once() -> None:
    story = Story()
    for turn in range(10):
        story.append([1], 0, at=turn, duplicates=None)
    assert story.found() == {Flaw.LOST: 1}


# --- duplicate, phantom --------------------------------------------------------------------------


def test_an_event_that_is_there_twice_is_a_duplicate() -> None:
    story = Story()
    story.append([1, 2], at=0)
    assert story.found(1, 2, 1) == {Flaw.DUPLICATE: 1}
    assert story.found(1, 2) == {}


def test_an_event_may_be_there_again_when_its_window_had_passed() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    story.append([1], 2, at=5)
    log = keys(1, 2, 1)
    asked: list[tuple[int, int]] = []

    def may_repeat(earlier: int, later: int) -> bool:
        asked.append((earlier, later))
        return earlier < 1

    assert story.check(log, may_repeat=may_repeat).clean
    assert set(asked) == {(0, 2)}
    assert story.found(1, 2, 1) == {Flaw.DUPLICATE: 1, Flaw.OFFSET_CHANGED: 1}


def test_each_of_two_copies_that_may_be_there_is_lost_on_its_own() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    story.append([3], at=0)
    story.append([1], 2, at=5)
    findings = story.check(keys(1, 2, 3), may_repeat=lambda earlier, _later: earlier < 1)
    assert findings.counts == {Flaw.LOST: 1}
    assert findings.examples[0].offset == 2


def test_nobody_is_asked_what_the_window_was_behind_the_end_of_the_log() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.append([1], 7, at=5, duplicates=1)

    def may_repeat(_earlier: int, later: int) -> bool:
        raise AssertionError(later)

    assert story.check(keys(1), may_repeat=may_repeat).counts == {Flaw.OFFSET_CHANGED: 1}


def test_two_places_that_could_not_be_read_are_no_duplicate_and_no_phantom() -> None:
    story = Story()
    story.append([1], 0, at=0)
    assert story.check(keys(1) + 2 * NO_KEY).clean


def test_an_event_that_nobody_sent_is_a_phantom() -> None:
    story = Story()
    story.append([1], 0, at=0)
    assert story.found(1, 2) == {Flaw.PHANTOM: 1}
    assert story.check(keys(1, 2), exact=False).clean
    story.append([2], at=0)
    assert story.found(1, 2) == {}


# --- offset changed ------------------------------------------------------------------------------


def test_two_acks_of_one_event_with_different_offsets_are_found() -> None:
    wrong, right = Story(), Story()
    for story, offset in ((wrong, 1), (right, 0)):
        story.append([1], 0, at=0)
        story.append([2], at=0)
        story.append([1], offset, at=5, duplicates=1)
    assert wrong.found(1, 2) == {Flaw.OFFSET_CHANGED: 1}
    assert right.found(1, 2) == {}


def test_an_ack_that_names_another_place_than_the_log_is_found() -> None:
    story = Story()
    story.append([1], 1, at=0)
    story.append([2], at=0)
    assert story.found(1, 2) == {Flaw.OFFSET_CHANGED: 1}
    assert story.found(2, 1) == {}


def test_two_acks_that_differ_are_found_behind_the_cut() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.append([1], 1, at=5, duplicates=1)
    assert story.found(first_offset=9) == {Flaw.OFFSET_CHANGED: 1}


def test_an_event_that_was_acked_behind_the_cut_and_is_in_front_of_it_is_found() -> None:
    story = Story()
    story.append([1], 0, at=0)
    assert story.found(1, first_offset=9) == {Flaw.OFFSET_CHANGED: 1}
    assert story.check(keys(1), 9, may_repeat=lambda _earlier, _later: True).clean


def test_two_events_that_were_acked_at_one_offset_are_found_behind_the_cut() -> None:
    story = Story()
    story.append([1], 3, at=0)
    story.append([2], 3, at=5)
    assert story.found(first_offset=9) == {Flaw.OFFSET_CHANGED: 1}
    story = Story()
    story.append([1], 3, at=0)
    story.append([2], 4, at=5)
    assert story.found(first_offset=9) == {}


# --- reordered -----------------------------------------------------------------------------------


def test_an_event_that_was_sent_after_another_was_acked_and_stands_in_front_of_it_is_found() -> None:
    story = Story()
    story.append([1], 1, at=0)
    story.append([2], at=2)
    assert story.found(2, 1) == {Flaw.REORDERED: 1}


def test_events_that_were_under_way_at_the_same_time_may_stand_in_any_order() -> None:
    story = Story()
    story.append([1], 1, at=0, until=2)
    story.append([2], at=2)
    assert story.found(2, 1) == {}


def test_an_event_that_was_first_sent_early_may_stand_early() -> None:
    story = Story()
    story.append([2], at=0)
    story.append([1], 1, at=0)
    story.append([2], 0, at=5, duplicates=1)
    assert story.found(2, 1) == {}


def test_an_attempt_that_was_refused_does_not_explain_an_early_place() -> None:
    story = Story()
    early = story.append([2], at=0)
    story.append([1], 1, at=0)
    story.append([2], 0, at=5, duplicates=1)
    story.refused(early)
    assert story.found(2, 1) == {Flaw.REORDERED: 1}


def test_the_order_of_acks_is_judged_behind_the_cut() -> None:
    wrong, right = Story(), Story()
    for story, first, second in ((wrong, 1, 0), (right, 0, 1)):
        story.append([1], first, at=0)
        story.append([2], second, at=5)
    assert wrong.found(first_offset=9) == {Flaw.REORDERED: 1}
    assert right.found(first_offset=9) == {}


# --- reads ---------------------------------------------------------------------------------------


def test_a_linearizable_read_that_ends_before_what_was_acked_before_it_is_stale() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.read(0, at=2)
    assert story.found(1) == {Flaw.STALE_READ: 1}


def test_a_read_needs_not_see_what_was_acked_while_it_was_under_way() -> None:
    story = Story()
    story.append([1], 0, at=0, until=2)
    story.read(0, at=2, until=9)
    assert story.found(1) == {}


def test_a_read_that_asks_for_no_more_may_be_stale() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.read(0, at=2, linearizable=False)
    assert story.found(1) == {}


def test_a_read_that_never_ended_is_not_judged() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.read_begins(2)
    assert story.found(1) == {}


def test_a_linearizable_read_sees_no_less_than_one_that_ended_before_it_began() -> None:
    story = Story()
    story.append([1], at=0)
    story.read(1, at=2)
    story.read(0, at=4)
    assert story.found(1) == {Flaw.STALE_READ: 1}


def test_two_reads_at_the_same_time_may_see_different_ends() -> None:
    story = Story()
    story.append([1], at=0)
    story.read(1, at=2, until=4)
    story.read(0, at=4)
    assert story.found(1) == {}


def test_what_is_acked_at_a_wrong_place_makes_no_read_stale() -> None:
    story = Story()
    story.append([1], 7, at=0)
    story.read(1, at=2)
    assert story.found(1) == {Flaw.OFFSET_CHANGED: 1}


@pytest.mark.parametrize("linearizable", [True, False])
def test_a_read_that_saw_more_than_there_is_is_found(*, linearizable: bool) -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.read(2, at=2, linearizable=linearizable)
    assert story.found(1) == {Flaw.READ_CHANGED: 1}
    story.append([2], at=0)
    assert story.found(1, 2) == {}


def test_a_read_cannot_have_seen_what_was_sent_after_it_ended() -> None:
    """The place it saw must have been another event's then: somebody has written the log anew."""
    story = Story()
    story.read(1, at=0)
    story.append([1], 0, at=5)
    assert story.found(1) == {Flaw.READ_CHANGED: 1}
    story = Story()
    story.read(1, at=0, until=5)
    story.append([1], 0, at=5)
    assert story.found(1) == {}


def test_a_read_that_saw_another_event_than_the_log_has_is_found_at_its_place() -> None:
    wrong, right = Story(), Story()
    for story, seen in ((wrong, keys(2, 2)), (right, keys(2, 3))):
        story.append([1, 2, 3], 0, at=0)
        story.read_ends(story.read_begins(2), 3, 3, from_offset=1, keys=seen)
    assert right.found(1, 2, 3) == {}
    findings = wrong.check(keys(1, 2, 3))
    assert findings.counts == {Flaw.READ_CHANGED: 1}
    assert findings.examples[0].offset == 2


def test_what_a_reader_saw_is_judged_from_the_cut_on() -> None:
    story = Story()
    story.append([1, 2, 3], 0, at=0)
    story.read_ends(story.read_begins(2), 3, 3, keys=keys(9, 2, 3))
    assert story.found(2, 3, first_offset=1) == {}
    assert story.found(3, first_offset=2) == {}
    assert story.found(first_offset=3) == {}
    assert story.found(1, 2, 3) == {Flaw.READ_CHANGED: 1}


@pytest.mark.parametrize(("second", "text"), [(3, "skipped"), (1, "repeated")])
def test_a_subscription_that_skips_or_repeats_is_found(second: int, text: str) -> None:
    log = [1, 2, 3, 4]
    wrong, right = Story(), Story()
    for story, offset in ((wrong, second), (right, 2)):
        story.append(log, 0, at=0)
        subscription = story.subscription_begins(0)
        story.subscription_saw(subscription, 0, keys(1, 2), 2)
        story.subscription_saw(subscription, 2, b"", 3)
        story.subscription_saw(subscription, offset, keys(*log[offset:]), 4)
    findings = wrong.check(keys(*log))
    assert findings.counts == {Flaw.READ_CHANGED: 1}
    assert text in findings.examples[0].text
    assert right.found(*log) == {}


def test_a_subscription_that_saw_another_order_is_found() -> None:
    story = Story()
    story.append([1, 2], 0, at=0)
    story.subscription_saw(story.subscription_begins(0), 0, keys(2, 1), 2)
    assert story.found(1, 2) == {Flaw.READ_CHANGED: 1}
    assert story.check(keys(1, 2)).examples[0].offset == 0


# --- refusals and counts -------------------------------------------------------------------------


def test_an_event_that_was_refused_for_certain_must_not_be_there() -> None:
    story = Story()
    story.refused(story.append([1], at=0))
    assert story.found(1) == {Flaw.ACKED_BUT_REFUSED: 1}
    assert story.found() == {}


def test_an_event_that_was_refused_once_may_come_from_another_attempt() -> None:
    story = Story()
    story.refused(story.append([1], at=0))
    story.append([1], at=0)
    assert story.found(1) == {}


def test_an_ack_for_another_number_of_events_than_were_sent_is_found() -> None:
    for ranges in ([OffsetRange(0, 1)], [OffsetRange(0, 3)], [OffsetRange(0, 2), OffsetRange(2, 1)], []):
        story = Story()
        story.acked(story.append([1, 2], at=0), ranges, 1)
        assert story.found(1, 2) == {Flaw.MISCOUNTED: 1}, ranges


def test_an_ack_with_more_duplicates_than_events_is_found() -> None:
    wrong, right = Story(), Story()
    wrong.append([1], 0, at=0, duplicates=2)
    right.append([1], 0, at=0, duplicates=1)
    assert wrong.found(1) == {Flaw.MISCOUNTED: 1}
    assert right.found(1) == {}


def test_an_event_that_two_acks_call_new_is_found() -> None:
    wrong, right, silent = Story(), Story(), Story()
    for story, duplicates in ((wrong, 0), (right, 1), (silent, None)):
        story.append([1], 0, at=0)
        story.append([1], 0, at=5, duplicates=duplicates)
    assert wrong.found(1) == {Flaw.MISCOUNTED: 1}
    assert right.found(1) == {}
    assert silent.found(1) == {}


def test_an_ack_in_several_ranges_is_for_the_events_in_their_order() -> None:
    story = Story()
    story.append([2], 0, at=0)
    attempt = story.append([1, 2, 3], at=2)
    story.acked(attempt, [OffsetRange(1, 1), OffsetRange(0, 1), OffsetRange(2, 1)], 3, 1)
    assert story.found(2, 1, 3) == {}
    assert story.found(2, 3, 1) == {Flaw.OFFSET_CHANGED: 2}


# --- as a whole ----------------------------------------------------------------------------------


def test_every_event_is_counted_and_a_few_are_told() -> None:
    story = Story()
    story.append(range(1, 101), 0, at=0)
    findings = story.check(b"")
    assert findings.counts == {Flaw.LOST: 100}
    assert len(findings.examples) == MAX_EXAMPLES
    assert findings.examples[0] == LogFinding(
        Flaw.LOST, 0, 0, "an event was acked at offset 0 and is not there"
    )


def test_keys_are_told_apart_by_every_one_of_their_bytes() -> None:
    story = Story()
    ones = [1 << bit for bit in range(128)]
    story.append(ones, 0, at=0)
    assert story.found(*ones) == {}


def test_a_history_can_be_checked_again_after_more_has_happened() -> None:
    story = Story()
    story.append([1], 0, at=0)
    assert story.found(1) == {}
    story.append([2], 1, at=2)
    assert story.found(1) == {Flaw.LOST: 1}
    assert story.found(1, 2) == {}


def test_an_ack_before_its_attempt_is_the_recorders_own_mistake() -> None:
    story = Story()
    with pytest.raises(AssertionError):
        story.append([1], 0, at=5, until=4)
    read = story.read_begins(5)
    with pytest.raises(AssertionError):
        story.read_ends(read, 0, 4)


def test_a_reader_that_saw_what_cannot_be_read_any_more_saw_nothing_wrong() -> None:
    story = Story()
    story.append([1], 0, at=0)
    story.append([2], at=0)
    story.read_ends(story.read_begins(2), 2, 3, 0, keys(1, 2))
    assert story.check(keys(1) + NO_KEY).clean
    assert story.check(keys(1, 3), exact=False).counts == {Flaw.READ_CHANGED: 1}
