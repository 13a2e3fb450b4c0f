"""Handing the leadership over (thesis 3.10): one at a time, and never at the cost of clients for long."""

import pytest

from esnode.raft.elections import Appointment
from esnode.raft.messages import AppendReply, Beat, HeartbeatReply, Propose, Ready, Tick, TimeoutNow, Transfer
from esnode.refusal import Refusal

from .machine import batch_of
from .network import TIMERS
from .solo import Solo

TICK_MS = 10
TICKS_A_TIMEOUT = TIMERS.election_ms // TICK_MS


def told_to_stand(ready: Ready) -> list[int]:
    return [out.to for out in ready.messages if isinstance(out.message, TimeoutNow)]


def leading() -> Solo:
    """A leader whose followers have all but the last entry."""
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of("a")))
    return solo


def refusal_of(solo: Solo, to: int | None) -> Refusal | None:
    """What one who asks for a hand-over hears."""
    (decision,) = solo.step(Transfer(to, token=99)).decisions
    assert decision.token == 99
    return decision.refusal


def is_busy(solo: Solo, name: str) -> bool:
    (decision,) = solo.step(Propose(1, batch_of(name))).decisions
    assert decision.refusal in {None, Refusal.BUSY}
    return decision.refusal is Refusal.BUSY


@pytest.mark.parametrize("every_ms", [10, 100, 440])
def test_hand_overs_that_are_asked_for_again_and_again_keep_no_client_waiting_for_long(every_ms: int) -> None:
    solo = leading()
    busy: list[bool] = []
    for tick in range(20 * TICKS_A_TIMEOUT):
        if tick % (every_ms // TICK_MS) == 0:
            solo.step(Transfer(3 if tick % 2 else None))
        if tick % 15 == 0:
            solo.step(Beat())
            solo.receive(2, HeartbeatReply(1, 0))
        busy.append(is_busy(solo, f"e{tick}"))
        solo.step(Tick(TICK_MS))
    stretches = "".join("x" if refused else "." for refused in busy).split(".")
    assert max(map(len, stretches)) <= TICKS_A_TIMEOUT
    assert sum(busy) <= len(busy) / 2 + TICKS_A_TIMEOUT


def test_a_hand_over_to_another_node_is_refused_while_one_is_under_way() -> None:
    solo = leading()
    assert refusal_of(solo, 3) is None
    assert refusal_of(solo, 2) is Refusal.TRANSFER_PENDING
    assert refusal_of(solo, 3) is None  # the same: whoever asks waits for its end, too
    assert refusal_of(solo, None) is None
    assert told_to_stand(solo.receive(3, AppendReply(1, 2))) == [3]


def test_a_follower_that_was_heard_a_moment_before_the_quorum_was_checked_may_take_over() -> None:
    solo = leading()
    for _ in range(TICKS_A_TIMEOUT - 1):
        solo.step(Tick(TICK_MS))
    solo.receive(2, AppendReply(1, 2))
    solo.step(Tick(TICK_MS))
    assert told_to_stand(solo.step(Transfer(None))) == [2]


def test_the_next_hand_over_may_begin_an_election_time_out_after_one_that_failed() -> None:
    solo = leading()
    assert refusal_of(solo, 3) is None
    for _ in range(TICKS_A_TIMEOUT):
        solo.step(Tick(TICK_MS))
        solo.receive(2, HeartbeatReply(1, 0))
    assert refusal_of(solo, 2) is Refusal.TRANSFER_PENDING
    assert not is_busy(solo, "b")
    for _ in range(TICKS_A_TIMEOUT):
        solo.step(Tick(TICK_MS))
        solo.receive(2, HeartbeatReply(1, 0))
    assert refusal_of(solo, 2) is None


def test_a_hand_over_whose_target_was_told_nothing_yet_is_called_back() -> None:
    solo = leading()
    assert refusal_of(solo, 3) is None
    assert refusal_of(solo, 1) is None
    assert not is_busy(solo, "b")
    assert told_to_stand(solo.receive(3, AppendReply(1, 3))) == []
    assert refusal_of(solo, 3) is Refusal.TRANSFER_PENDING  # or clients would be kept waiting after all


def test_a_hand_over_whose_target_may_stand_already_cannot_be_called_back() -> None:
    solo = leading()
    assert refusal_of(solo, 3) is None
    assert told_to_stand(solo.receive(3, AppendReply(1, 2))) == [3]
    assert refusal_of(solo, 1) is Refusal.TRANSFER_PENDING
    assert is_busy(solo, "b")


def test_a_leader_that_stays_stays() -> None:
    assert refusal_of(leading(), 1) is None


def test_a_node_that_does_not_lead_refuses_to_hand_over() -> None:
    solo = Solo()
    assert refusal_of(solo, 2) is Refusal.NOT_LEADER
    assert solo.step(Transfer(2)).decisions == ()


def wishes(ready: Ready) -> list[bool]:
    return [out.message.asked for out in ready.messages if isinstance(out.message, TimeoutNow)]


def test_the_next_leader_is_told_whether_an_operator_has_chosen_it() -> None:
    for asked in (True, False):
        solo = leading()
        solo.step(Transfer(3, asked=asked))
        assert wishes(solo.receive(3, AppendReply(1, 2))) == [asked]


def test_an_operator_who_asks_for_a_hand_over_that_is_under_way_has_chosen_its_target_and_no_other() -> None:
    for to, chosen in ((3, True), (None, True), (2, False)):
        solo = leading()
        solo.step(Transfer(3), Transfer(to, asked=True))
        assert wishes(solo.receive(3, AppendReply(1, 2))) == [chosen]


def test_a_node_knows_who_has_handed_over_to_it_and_whether_that_was_asked_for() -> None:
    solo = Solo(term=4)
    assert solo.core.appointment is None
    solo.receive(2, TimeoutNow(4, asked=True))
    assert solo.core.appointment == Appointment(5, 2, asked=True)
    solo.receive(3, TimeoutNow(5))
    assert solo.core.appointment == Appointment(6, 3, asked=False)
