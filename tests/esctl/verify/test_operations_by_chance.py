"""Histories of a perfect log are clean, whatever its clients do; one lie in any of them is found by name."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esctl.verify.verdict import Flaw, LogFindings
from esnode.dedup.batch import OffsetRange
from tests.esctl.perfect_log import STEPS, PerfectLog, Step, packed

NUMBERS = st.integers(0, 9)
MAX_STEPS = 400


def steps_of(seed: int, count: int) -> list[Step]:
    """Many steps from one number: a list that Hypothesis draws is too short for anything to come of it."""
    source = random.Random(seed)
    return [(source.choice(STEPS), source.randrange(10), source.randrange(10)) for _ in range(count)]


HISTORIES = st.builds(steps_of, st.integers(0, 2**32), st.integers(0, MAX_STEPS))
BEGINNING: list[Step] = [("send", 0, 2), ("take", 0, 1), ("answer", 0, 1), ("tick", 0, 1)]
"""So that there is something to lie about."""
Lie = Callable[[PerfectLog, int], None]


def checked(world: PerfectLog, first_offset: int = 0) -> LogFindings:
    return world.operations.check(world.keys(first_offset), first_offset, may_repeat=world.may_repeat)


def new_event(world: PerfectLog) -> int:
    world.made += 1
    return world.made


def put(world: PerfectLog, *events: int) -> int:
    """Straight into the log; the offset of the first."""
    world.log += events
    world.floors += [world.floor] * len(events)
    return len(world.log) - len(events)


def live_acked(world: PerfectLog, number: int) -> tuple[int, int]:
    """An event that was acked and is not forgotten, and its offset; anyone."""
    found = [(event, offset) for event, offset in world.acked.items() if offset >= world.floor]
    assume(found)
    return found[number % len(found)]


def acked(world: PerfectLog, event: int, offset: int, duplicates: int | None = None) -> None:
    """The event is sent now and acked there a moment later."""
    attempt = world.operations.append_begins(packed([event]), world.clock)
    world.clock += 1
    world.operations.acked(attempt, [OffsetRange(offset, 1)], world.clock, duplicates)


# --- lies ------------------------------------------------------------------------------------------


def an_acked_event_vanishes_from_the_end(world: PerfectLog, number: int) -> None:
    acked(world, new_event(world), len(world.log) + number)


def the_log_is_cut_in_front_of_an_acked_event(world: PerfectLog, number: int) -> None:
    event, offset = live_acked(world, number)
    assume(event not in world.log[:offset])
    del world.log[offset:]


def an_event_is_stored_again(world: PerfectLog, number: int) -> None:
    _, offset = live_acked(world, number)
    put(world, world.log[offset])


def an_event_comes_from_nowhere(world: PerfectLog, _number: int) -> None:
    put(world, new_event(world))


def a_second_ack_names_another_place(world: PerfectLog, number: int) -> None:
    event, offset = live_acked(world, number)
    acked(world, event, offset + 1 + number)


def two_live_events_change_places(world: PerfectLog, number: int) -> None:
    (one, here), (other, there) = live_acked(world, number), live_acked(world, number + 1)
    assume(here != there)
    world.log[here], world.log[there] = other, one


def a_later_event_stands_in_front(world: PerfectLog, number: int) -> None:
    first, second = new_event(world), new_event(world)
    offset = put(world, second, first) + 1
    acked(world, first, offset)
    world.clock += 1 + number
    world.operations.append_begins(packed([second]), world.clock)


def a_read_misses_what_was_acked(world: PerfectLog, number: int) -> None:
    _, offset = live_acked(world, number)
    world.clock += 1
    read = world.operations.read_begins(world.clock)
    world.operations.read_ends(read, min(number, offset), world.clock)


def a_read_goes_back_behind_another(world: PerfectLog, number: int) -> None:
    world.operations.read_ends(world.operations.read_begins(world.clock), len(world.log), world.clock)
    world.clock += 1
    read = world.operations.read_begins(world.clock)
    world.operations.read_ends(read, min(number, len(world.log) - 1), world.clock)


def a_reader_saw_another_event(world: PerfectLog, number: int) -> None:
    end = len(world.log)
    seen = [*world.log[:-1], new_event(world)]
    read = world.operations.read_begins(world.clock, linearizable=bool(number % 2))
    world.operations.read_ends(
        read, end, world.clock, end - 1 - number % end, packed(seen[-1 - number % end :])
    )


def a_subscription_jumps(world: PerfectLog, number: int) -> None:
    end = len(world.log)
    start = number % end
    elsewhere = [offset for offset in range(end + 1) if offset != start + 1]
    then = elsewhere[number * 7 % len(elsewhere)]
    subscription = world.operations.subscription_begins(start)
    world.operations.subscription_saw(subscription, start, world.keys(start, start + 1), world.clock)
    world.operations.subscription_saw(subscription, then, world.keys(then), world.clock)


def a_read_saw_what_was_never_there(world: PerfectLog, number: int) -> None:
    read = world.operations.read_begins(world.clock, linearizable=bool(number % 2))
    world.operations.read_ends(read, len(world.log) + 1 + number, world.clock)


def a_place_that_was_read_gets_another_event(world: PerfectLog, number: int) -> None:
    read = world.operations.read_begins(world.clock, linearizable=False)
    world.operations.read_ends(read, len(world.log) + 1, world.clock)
    world.clock += 1 + number
    event = new_event(world)
    world.operations.append_begins(packed([event]), world.clock)
    put(world, event)


def a_refused_event_is_stored(world: PerfectLog, number: int) -> None:
    events = [new_event(world) for _ in range(1 + number)]
    world.operations.refused(world.operations.append_begins(packed(events), world.clock))
    put(world, events[number // 2])


def two_acks_call_an_event_new(world: PerfectLog, _number: int) -> None:
    event = new_event(world)
    offset = put(world, event)
    acked(world, event, offset, 0)
    acked(world, event, offset, 0)


def an_ack_leaves_an_event_out(world: PerfectLog, number: int) -> None:
    events = [new_event(world) for _ in range(2 + number)]
    attempt = world.operations.append_begins(packed(events), world.clock)
    ranges = [OffsetRange(put(world, *events), len(events) - 1)]
    world.operations.acked(attempt, ranges, world.clock, 0)


LIES: list[tuple[Lie, Flaw, set[Flaw]]] = [
    (an_acked_event_vanishes_from_the_end, Flaw.LOST, set()),
    (the_log_is_cut_in_front_of_an_acked_event, Flaw.LOST, {Flaw.READ_CHANGED, Flaw.OFFSET_CHANGED}),
    (an_event_is_stored_again, Flaw.DUPLICATE, set()),
    (an_event_comes_from_nowhere, Flaw.PHANTOM, set()),
    (a_second_ack_names_another_place, Flaw.OFFSET_CHANGED, set()),
    (two_live_events_change_places, Flaw.OFFSET_CHANGED, {Flaw.REORDERED, Flaw.READ_CHANGED, Flaw.DUPLICATE}),
    (a_later_event_stands_in_front, Flaw.REORDERED, set()),
    (a_read_misses_what_was_acked, Flaw.STALE_READ, set()),
    (a_read_goes_back_behind_another, Flaw.STALE_READ, set()),
    (a_reader_saw_another_event, Flaw.READ_CHANGED, set()),
    (a_subscription_jumps, Flaw.READ_CHANGED, set()),
    (a_read_saw_what_was_never_there, Flaw.READ_CHANGED, set()),
    (a_place_that_was_read_gets_another_event, Flaw.READ_CHANGED, set()),
    (a_refused_event_is_stored, Flaw.ACKED_BUT_REFUSED, set()),
    (two_acks_call_an_event_new, Flaw.MISCOUNTED, set()),
    (an_ack_leaves_an_event_out, Flaw.MISCOUNTED, set()),
]
"""What is done, what must be found then, and what else may be."""
FLAWS_OF_LOGS = {
    Flaw.HOLE, Flaw.CHANGED, Flaw.DAMAGED, Flaw.WRONG_KEY, Flaw.MISPLACED, Flaw.HASH, Flaw.SPLIT_HISTORY,
}  # fmt: skip
"""Those that only the nodes' own records show."""


@given(HISTORIES, NUMBERS)
def test_no_history_of_a_perfect_log_has_a_flaw(steps: list[Step], cut: int) -> None:
    world = PerfectLog()
    world.run(steps)
    findings = checked(world)
    assert findings.clean, findings.examples
    findings = checked(world, min(cut, len(world.log)))
    assert findings.clean, findings.examples
    findings = world.operations.check(b"", len(world.log), may_repeat=world.may_repeat)
    assert findings.clean, findings.examples


@pytest.mark.parametrize(("lie", "flaw", "besides"), LIES, ids=[lie.__name__ for lie, _, _ in LIES])
@given(steps=HISTORIES, number=NUMBERS)
def test_one_lie_in_any_history_is_found_by_its_name(
    lie: Lie, flaw: Flaw, besides: set[Flaw], steps: list[Step], number: int
) -> None:
    world = PerfectLog()
    world.run([*BEGINNING, *steps])
    lie(world, number)
    findings = checked(world)
    assert findings.counts[flaw]
    assert set(findings.counts) <= besides | {flaw}, findings.examples


def test_every_flaw_that_clients_can_see_has_its_lie() -> None:
    assert {flaw for _, flaw, _ in LIES} == set(Flaw) - FLAWS_OF_LOGS


def test_the_perfect_log_does_everything_that_its_clients_may_meet() -> None:
    """Or the histories above would be clean because nothing happened in them."""
    said = Counter[str]()
    for seed in range(20):
        world = PerfectLog()
        world.run(steps_of(seed, MAX_STEPS))
        said["acked"] += len(world.acked) > 20
        said["acked without an offset"] += world.without_offset > 0
        said["there again"] += len(world.log) > len(set(world.log))
        said["read"] += len(world.followers) > 0
        said["late"] += world.late > 0
    assert min(said.values()) > 10, said


def test_an_event_that_its_window_allows_again_is_a_duplicate_without_it() -> None:
    world = PerfectLog()
    world.run([("send", 0, 2), ("take", 0, 1), ("give up", 0, 0), ("send again", 1, 1), ("take", 1, 1)])
    world.run([("answer", 1, 1), ("forget", 0, 8), ("send again", 2, 0), ("take", 2, 1), ("answer", 2, 1)])
    assert world.log == [1, 2, 3, 4, 1, 2]
    assert checked(world).clean
    assert not world.operations.check(world.keys()).clean
