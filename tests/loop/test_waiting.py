"""Requests inside the core: each is settled once, and only by the leadership that decided it."""

from esnode.dedup.batch import OffsetRange
from esnode.loop.waiting import WaitingRequests
from esnode.raft.messages import Decision, ReadGrant
from esnode.refusal import Refusal


def decision(token: int, wait_index: int, term: int = 3, refusal: Refusal | None = None) -> Decision:
    return Decision(token, term, wait_index, (OffsetRange(7, 2),), 0, refusal)


def test_an_append_is_settled_when_its_entry_is_applied() -> None:
    waiting, settled = WaitingRequests(), list[Decision]()
    token = waiting.expect_decision(settled.append)
    waiting.decided([decision(token, wait_index=5)], applied_index=4, leading_term=3)
    waiting.applied(4)
    assert settled == []
    waiting.applied(5)
    assert settled == [decision(token, wait_index=5)]
    assert len(waiting) == 0


def test_a_duplicate_waits_for_the_original_to_commit() -> None:
    """raft-bugs 22: acked only when what it repeats is certain."""
    waiting, settled = WaitingRequests(), list[Decision]()
    original, duplicate = (waiting.expect_decision(settled.append) for _ in range(2))
    waiting.decided([decision(original, 5), decision(duplicate, 5)], applied_index=4, leading_term=3)
    assert settled == []
    waiting.applied(6)
    assert [done.token for done in settled] == [original, duplicate]


def test_a_duplicate_of_an_applied_event_is_settled_at_once() -> None:
    waiting, settled = WaitingRequests(), list[Decision]()
    token = waiting.expect_decision(settled.append)
    waiting.decided([decision(token, wait_index=0)], applied_index=4, leading_term=3)
    assert [done.refusal for done in settled] == [None]


def test_a_refusal_is_settled_at_once() -> None:
    waiting, settled = WaitingRequests(), list[Decision]()
    token = waiting.expect_decision(settled.append)
    waiting.decided([decision(token, 0, refusal=Refusal.BUSY)], applied_index=4, leading_term=3)
    assert [done.refusal for done in settled] == [Refusal.BUSY]


def test_lost_leadership_makes_everything_unsettled_unknown() -> None:
    waiting, settled = WaitingRequests(), list[Decision]()
    tokens = [waiting.expect_decision(settled.append) for _ in range(3)]
    waiting.decided([decision(token, 9) for token in tokens], applied_index=4, leading_term=3)
    waiting.leadership_over()
    assert [done.refusal for done in settled] == [Refusal.LEADERSHIP_LOST] * 3
    waiting.applied(9)
    assert len(settled) == 3


def test_a_decision_of_a_term_that_is_over_is_never_acked() -> None:
    """Decided and deposed in one round: another leader's entry may end up at that index."""
    waiting, settled = WaitingRequests(), list[Decision]()
    tokens = [waiting.expect_decision(settled.append) for _ in range(2)]
    waiting.decided([decision(tokens[0], 5, term=3)], applied_index=9, leading_term=4)
    waiting.decided([decision(tokens[1], 5, term=3)], applied_index=9, leading_term=None)
    assert [done.refusal for done in settled] == [Refusal.LEADERSHIP_LOST] * 2


def test_a_withdrawn_request_is_forgotten() -> None:
    waiting = WaitingRequests()
    waiting.withdraw(waiting.expect_decision(lambda _: None))
    waiting.withdraw(waiting.expect_grant(lambda _: None))
    assert len(waiting) == 0


def test_a_read_hears_its_own_grant() -> None:
    waiting, granted = WaitingRequests(), list[ReadGrant]()
    token = waiting.expect_grant(granted.append)
    waiting.granted([ReadGrant(token, 8, None)])
    assert granted == [ReadGrant(token, 8, None)]
