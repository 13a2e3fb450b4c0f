"""What a leader makes of the requests of one turn: which entries, and which answers."""

import itertools
from dataclasses import replace

import pytest

from esnode import limits
from esnode.config import Dedup
from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp
from esnode.dedup.producers import Opening
from esnode.raft.appendorder import AppendOrder
from esnode.raft.entry import Entry, EntryKind
from esnode.raft.messages import (
    AppendEntries,
    AppendReply,
    Decision,
    Heartbeat,
    OpenProducer,
    Propose,
    Ready,
    Role,
    Tick,
    Transfer,
)
from esnode.refusal import Refusal

from .machine import batch_of
from .solo import Solo


def leading() -> Solo:
    solo = Solo()
    solo.lead_with_commit()
    return solo


def written(ready: Ready) -> tuple[Entry, ...]:
    return ready.write.entries if ready.write is not None else ()


def stamped(name: str, producer_id: int, sequence: int) -> Batch:
    batch = batch_of(name)
    return Batch(batch.count, batch.keys, batch.payload, ProducerStamp(producer_id, 1, sequence, 1))


def answer(token: int, index: int, first: int, count: int, duplicates: int = 0) -> Decision:
    return Decision(token, 1, index, (OffsetRange(first, count),), duplicates, None)


def test_the_batches_of_a_turn_become_one_entry_and_each_has_its_own_answer() -> None:
    ready = leading().step(
        Propose(7, batch_of("a")), Propose(8, batch_of("b", "c")), Propose(9, batch_of("d"))
    )
    (entry,) = written(ready)
    whole = batch_of("a", "b", "c", "d")
    assert (entry.count, entry.keys, entry.payload) == (4, whole.keys, whole.payload)
    assert ready.decisions == (answer(7, 2, 0, 1), answer(8, 2, 1, 2), answer(9, 2, 3, 1))
    appends = [out.message for out in ready.messages if out.to == 2]
    assert [len(message.entries) for message in appends if isinstance(message, AppendEntries)] == [1]


def test_a_batch_that_is_known_leaves_each_its_own_entry() -> None:
    solo = leading()
    solo.step(Propose(1, batch_of("b")))
    ready = solo.step(Propose(2, batch_of("a")), Propose(3, batch_of("b")), Propose(4, batch_of("c")))
    assert [(entry.index, entry.base_offset) for entry in written(ready)] == [(3, 1), (4, 2)]
    assert ready.decisions == (answer(2, 3, 1, 1), answer(3, 2, 0, 1, duplicates=1), answer(4, 4, 2, 1))


def test_the_same_event_twice_in_a_turn_is_stored_once() -> None:
    ready = leading().step(Propose(1, batch_of("a")), Propose(2, batch_of("a")))
    assert [entry.count for entry in written(ready)] == [1]
    assert ready.decisions == (answer(1, 2, 0, 1), answer(2, 2, 0, 1, duplicates=1))


def test_a_batch_whose_window_has_passed_is_refused_and_takes_no_other_with_it() -> None:
    solo = Solo(dedup=Dedup.of_keys(1024))
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of(*(f"{number:03}" for number in range(1000)))))
    solo.receive(2, AppendReply(1, 2))
    solo.step(Propose(2, batch_of(*(f"x{number:03}" for number in range(1000)))))
    solo.persist()
    solo.receive(2, AppendReply(1, 3))
    late = replace(batch_of("000"), sent_after=0)
    ready = solo.step(Propose(3, batch_of("a")), Propose(4, late), Propose(5, batch_of("b")))
    assert [entry.count for entry in written(ready)] == [1, 1]
    assert {decision.token: decision.refusal for decision in ready.decisions} == {
        3: None,
        4: Refusal.WINDOW_PASSED,
        5: None,
    }


@pytest.mark.parametrize(
    ("bound", "most"),
    [("MAX_BATCH_EVENTS", 4), ("MAX_MERGED_BYTES", 2 * len(batch_of("a0", "b0").payload))],
)
def test_an_entry_of_several_batches_is_bounded(
    bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, bound, most)
    ready = leading().step(*(Propose(n, batch_of(f"a{n}", f"b{n}")) for n in range(5)))
    assert [entry.count for entry in written(ready)] == [4, 4, 2]
    assert [decision.ranges[0].base_offset for decision in ready.decisions] == [0, 2, 4, 6, 8]


def test_batches_for_two_partitions_stay_apart() -> None:
    a, b = batch_of("a"), batch_of("b")
    ready = leading().step(Propose(1, a), Propose(2, Batch(1, b.keys, b.payload, partition=1)))
    assert [(entry.partition, entry.count) for entry in written(ready)] == [(0, 1), (1, 1)]


def test_a_batch_of_a_session_comes_after_what_came_before_it_and_stays_alone() -> None:
    solo = leading()
    (opened,) = solo.step(OpenProducer(1)).decisions
    stamps = [stamped("c", opened.wait_index, 0), stamped("d", opened.wait_index, 1)]
    ready = solo.step(
        Propose(2, batch_of("a")),
        Propose(3, batch_of("b")),
        *itertools.starmap(Propose, enumerate(stamps, 4)),
    )
    assert [(entry.count, entry.producer is not None) for entry in written(ready)] == [
        (2, False),
        (1, True),
        (1, True),
    ]
    assert [decision.ranges[0].base_offset for decision in ready.decisions] == [0, 1, 2, 3]


def test_a_session_is_opened_after_what_came_before_it() -> None:
    ready = leading().step(Propose(1, batch_of("a")), Propose(2, batch_of("b")), OpenProducer(3))
    assert [entry.kind for entry in written(ready)] == [EntryKind.BATCH, EntryKind.PRODUCER]
    assert [decision.token for decision in ready.decisions] == [1, 2, 3]


def test_a_leader_that_hands_over_refuses_the_batches_of_the_same_turn() -> None:
    solo = leading()
    solo.receive(2, AppendReply(1, 1))
    ready = solo.step(Transfer(2), Propose(1, batch_of("a")), Propose(2, batch_of("b")))
    assert [decision.refusal for decision in ready.decisions] == [Refusal.BUSY, Refusal.BUSY]
    assert written(ready) == ()


def test_the_batches_of_the_turn_in_which_the_leadership_is_lost_are_certainly_not_stored() -> None:
    solo = leading()
    solo.core.step(Propose(1, batch_of("a")))
    solo.core.step(Propose(2, batch_of("b")))
    ready = solo.receive(2, Heartbeat(2, 0, 0))
    assert [decision.refusal for decision in ready.decisions] == [Refusal.NOT_LEADER, Refusal.NOT_LEADER]
    assert written(ready) == ()


def test_a_batch_of_a_session_and_the_loss_of_the_leadership_in_one_turn_leave_the_entry_to_its_fate() -> (
    None
):
    solo = leading()
    (opened,) = solo.step(OpenProducer(1)).decisions
    solo.core.step(Propose(2, stamped("a", opened.wait_index, 0)))
    ready = solo.receive(2, Heartbeat(2, 0, 0))
    (decision,) = ready.decisions
    assert (decision.term, decision.wait_index, decision.refusal) == (1, 3, None)
    assert ready.soft_state is not None
    assert (ready.soft_state.role, ready.soft_state.term) == (Role.FOLLOWER, 2)


# --- the order of one connection's appends ------------------------------------------------------------


def small_window() -> Solo:
    """A leader whose window holds two keys, and refuses what does not fit."""
    solo = Solo(dedup=Dedup.of_keys(2, when_full="refuse"))
    solo.lead_with_commit()
    return solo


def refusals(ready: Ready) -> list[tuple[int, Refusal | None]]:
    return [(decision.token, decision.refusal) for decision in ready.decisions]


def test_what_follows_a_refused_batch_in_its_run_is_refused_and_the_next_run_is_taken() -> None:
    solo, order = leading(), AppendOrder()
    solo.receive(2, AppendReply(1, 1))
    ready = solo.step(Transfer(2), Propose(1, batch_of("a"), order, 1), Propose(2, batch_of("b"), order, 1))
    assert refusals(ready) == [(1, Refusal.BUSY), (2, Refusal.EARLIER_REFUSED)]
    solo.step(Tick(100), Tick(100), Tick(100), Tick(100), Tick(100))  # the hand-over is given up
    ready = solo.step(
        Propose(3, batch_of("b"), order, 1),
        Propose(4, batch_of("a"), order, 2),
        Propose(5, batch_of("b"), order, 2),
    )
    assert refusals(ready) == [(3, Refusal.EARLIER_REFUSED), (4, None), (5, None)]
    assert [entry.keys for entry in written(ready)] == [batch_of("a", "b").keys]


def test_no_batch_overtakes_one_of_the_same_turn_that_is_refused() -> None:
    """The second is known, and would be taken by itself."""
    solo, order = small_window(), AppendOrder()
    solo.step(Propose(1, batch_of("a")))
    ready = solo.step(
        Propose(2, batch_of("b", "c"), order, 7),
        Propose(3, batch_of("a"), order, 7),
        Propose(4, batch_of("a"), AppendOrder(), 7),
        Propose(5, batch_of("a")),
    )
    assert refusals(ready) == [
        (2, Refusal.WINDOW_FULL),
        (3, Refusal.EARLIER_REFUSED),
        (4, None),
        (5, None),
    ]
    assert solo.core.requests.refused_by_window == 1


def test_a_batch_of_a_session_does_not_overtake_a_refused_one_either() -> None:
    solo, order = leading(), AppendOrder()
    (opened,) = solo.step(OpenProducer(1)).decisions
    ready = solo.step(
        Propose(2, stamped("b", opened.wait_index, 1), order, 1),
        Propose(3, stamped("a", opened.wait_index, 0), order, 1),
        Propose(4, stamped("a", opened.wait_index, 0), order, 2),
    )
    assert refusals(ready) == [(2, Refusal.OUT_OF_SEQUENCE), (3, Refusal.EARLIER_REFUSED), (4, None)]


def test_a_run_that_began_under_an_earlier_leadership_is_over() -> None:
    """What it appended then may be gone, and what follows would be in the log without it."""
    solo, order, other = leading(), AppendOrder(), AppendOrder()
    solo.step(Propose(1, batch_of("a"), order, 1))
    solo.receive(2, Heartbeat(2, 0, 0))
    solo.lead()
    ready = solo.step(
        Propose(2, batch_of("b"), order, 1),
        Propose(3, batch_of("c"), other, 1),
        Propose(4, batch_of("a"), order, 2),
    )
    assert refusals(ready) == [(2, Refusal.EARLIER_REFUSED), (3, None), (4, None)]


def test_a_name_opened_again_has_the_next_epoch_and_fences_the_older_one() -> None:
    solo = leading()
    first, second = solo.step(OpenProducer(1, "a", 0, 7), OpenProducer(2, "a", 0, 8)).decisions
    assert first.opened is not None
    assert second.opened is not None
    assert (first.opened.opening, first.wait_index) == (Opening(2, 1, 0, "a", 7), 2)
    assert (second.opened.opening, second.wait_index) == (Opening(2, 2, 0, "a", 8), 3)
    ready = solo.step(Propose(3, stamped("x", 2, 0)), OpenProducer(4, "a", 2, 7))
    assert [decision.refusal for decision in ready.decisions] == [Refusal.PRODUCER_FENCED] * 2
    assert ready.decisions[1].term == 1, "whose word it is"
    assert written(ready) == ()


def test_an_inherited_tail_is_allowed_for_until_all_of_it_is_applied() -> None:
    requests = Solo([1, 1]).core.requests
    requests._inherited_index, requests._inherited_bytes = 2, 100
    requests.applied(1)
    assert requests._inherited_bytes == 100
    requests.applied(2)
    assert requests._inherited_bytes == 0
