"""A node that lost its disk: the rules it keeps until it may vote again, looked at closely.

Those whom it asks are looked at in `test_rejoin_asked.py`. What would go wrong without all these rules is
told in `test_rejoin_stories.py`.
"""

import random

import pytest

from esnode import limits
from esnode.raft.core import Core
from esnode.raft.messages import (
    AppendEntries,
    AppendReply,
    Beat,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    LogPoint,
    OpenProducer,
    Outgoing,
    PeerClosed,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    Persisted,
    ReadIndex,
    Ready,
    Rejoin,
    RejoinReply,
    Role,
    Snapshot,
    SnapshotSent,
    SoftState,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
)
from esnode.raft.rejoin import Rejoining

from .machine import Machine
from .network import TIMERS
from .solo import Solo, entries_of, log_of, noop

# The first question of a node of these tests has nonce 1, the second 2.


def sound(nonce: int, *, term: int = 3, last_index: int = 4, last_term: int = 3) -> RejoinReply:
    return RejoinReply(term, nonce, sound=True, last_index=last_index, last_term=last_term)


def asked(ready: Ready) -> list[tuple[int, int]]:
    """Whom a node asks, with which nonce."""
    return [(out.to, out.message.nonce) for out in ready.messages if isinstance(out.message, Rejoin)]


def forgotten() -> Solo:
    """Node 1 of three, when both others have forgotten its earlier life."""
    solo = Solo(rejoining=True)
    solo.receive(2, sound(1, last_index=0, last_term=0))
    solo.receive(3, sound(1, last_index=0, last_term=0))
    return solo


def following() -> Solo:
    """The same node, when it knows that it has to reach 4@3."""
    solo = forgotten()
    solo.receive(2, sound(2))
    solo.receive(3, sound(2, last_index=9, last_term=2))
    solo.persist()
    assert solo.core.rejoining
    return solo


def back() -> Solo:
    """The same node, when it has rejoined, in memory and on disk."""
    solo = following()
    solo.receive(2, AppendEntries(3, 0, 0, 0, entries_of([1, 2, 3, 3])))
    solo.persist()
    solo.persist()
    assert not solo.core.rejoining
    return solo


# --- the questions ------------------------------------------------------------------------------


def test_a_rejoining_node_asks_on_each_connection_and_with_each_beat_until_it_is_answered() -> None:
    solo = Solo(rejoining=True)
    assert asked(solo.step(PeerConnected(3))) == [(3, 1)]
    assert asked(solo.step(Beat())) == [(2, 1), (3, 1)]
    solo.receive(3, sound(1))
    assert asked(solo.step(Beat(), PeerConnected(3))) == [(2, 1)]
    assert asked(solo.step(Tick(10), PeerUnreachable(2), SnapshotSent(2, ok=True), Transfer(2))) == []


def test_the_second_question_is_asked_as_soon_as_all_have_forgotten() -> None:
    solo = Solo(rejoining=True)
    assert asked(solo.receive(2, sound(1))) == []
    assert asked(solo.receive(3, sound(1))) == [(2, 2), (3, 2)]
    solo.receive(2, sound(2))
    assert asked(solo.step(Beat())) == [(3, 2)]
    solo.receive(3, sound(2))
    assert asked(solo.step(Beat(), PeerConnected(2))) == []


@pytest.mark.parametrize("nonce", [0, 1, 3])
def test_an_answer_to_another_question_is_ignored(nonce: int) -> None:
    """Of an earlier life, or of the first round: it may be from before something was committed."""
    solo = forgotten()
    solo.receive(2, sound(nonce, term=7))
    solo.receive(3, sound(nonce, term=7))
    assert (solo.core.term, asked(solo.step(Beat()))) == (3, [(2, 2), (3, 2)])


def test_an_answer_of_nobody_known_or_with_an_absurd_term_is_ignored() -> None:
    solo = Solo(rejoining=True)
    solo.receive(4, sound(1))
    solo.receive(2, sound(1, term=limits.MAX_TERM + 1))
    assert (solo.core.term, asked(solo.step(Beat()))) == (0, [(2, 1), (3, 1)])


def test_a_higher_term_in_an_answer_is_adopted_and_a_lower_one_is_an_answer_too() -> None:
    solo = Solo(term=5, rejoining=True)
    solo.receive(2, sound(1, term=2))
    ready = solo.receive(3, sound(1, term=8))
    assert ready.write is not None
    assert ready.write.hard_state == HardState(8, None)
    assert asked(ready) == [(2, 2), (3, 2)]


def test_all_must_forget_and_a_majority_of_sound_voters_says_where_they_are() -> None:
    solo = Solo(voters=5, rejoining=True)
    unsound = RejoinReply(1, 1, sound=False, last_index=0, last_term=0)
    for voter in (2, 3, 4):
        solo.receive(voter, sound(1))
    assert asked(solo.step(Beat())) == [(5, 1)]
    assert len(asked(solo.receive(5, unsound))) == 4
    for voter in (2, 3):
        solo.receive(voter, sound(2))
    solo.receive(5, RejoinReply(1, 2, sound=False, last_index=99, last_term=99))
    assert asked(solo.step(Beat())) == [(4, 2), (5, 2)]
    solo.receive(5, sound(2))  # it has come back meanwhile
    assert asked(solo.step(Beat())) == []
    solo.receive(2, AppendEntries(3, 0, 0, 0, entries_of([1, 2, 3, 3])))
    solo.persist()
    assert not solo.core.rejoining


def test_a_node_that_does_not_rejoin_draws_no_nonce() -> None:
    drawn: list[int] = []

    class Counting(random.Random):
        def randrange(self, stop: int, /) -> int:  # type: ignore[override]
            drawn.append(stop)
            return 0

    def start(*, rejoining: bool) -> None:
        Core(
            1,
            (1, 2, 3),
            hard_state=HardState(0, None),
            log=log_of(()),
            admission=Machine().admission,
            timers=TIMERS,
            random=Counting(),
            rejoining=rejoining,
        )

    start(rejoining=False)
    assert drawn == [TIMERS.jitter_ms]
    start(rejoining=True)
    assert drawn[1:] == [TIMERS.jitter_ms, 2**62]


# --- no vote, no candidacy ----------------------------------------------------------------------


@pytest.mark.parametrize("begin", [lambda: Solo(rejoining=True), forgotten, following])
def test_a_rejoining_node_refuses_its_vote_and_answers_so(begin: type[Solo]) -> None:
    solo = begin()
    term = solo.core.term
    assert solo.replies(2, VoteRequest(term + 1, 9, 9, pre=True)) == [
        VoteReply(term, granted=False, pre=True)
    ]
    request = VoteRequest(term + 1, 9, 9, pre=False, transfer=True)
    assert solo.replies(2, request) == [VoteReply(term + 1, granted=False, pre=False)]


@pytest.mark.parametrize("begin", [lambda: Solo(rejoining=True), forgotten, following])
def test_a_rejoining_node_is_never_a_candidate(begin: type[Solo]) -> None:
    solo = begin()
    solo.receive(2, Heartbeat(3, 0, 0))
    solo.receive(2, TimeoutNow(3))
    solo.step(PeerClosed(2))
    for _ in range(500):
        ready = solo.step(Tick(10))
        assert ready.messages == ready.messages_after == ()
        assert solo.core.role is Role.FOLLOWER
    assert solo.core.leader is None  # it was not heard from for long


def test_a_rejoining_node_refuses_every_request_of_a_client() -> None:
    solo = following()
    ready = solo.step(OpenProducer(1), ReadIndex(2))
    assert [decision.refusal for decision in ready.decisions] == [
        grant.refusal for grant in ready.read_grants
    ]


# --- deaf, then a follower ----------------------------------------------------------------------

ORDERS: list[PeerMessage] = [
    AppendEntries(9, 0, 0, 0, (noop(1, 9),)),
    Heartbeat(9, 0, 1),
    InstallSnapshot(9, Snapshot(5, 2, 0, 0, b"")),
    TimeoutNow(9),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
@pytest.mark.parametrize("begin", [lambda: Solo(rejoining=True), forgotten])
def test_a_node_that_does_not_know_its_promises_obeys_no_leader(
    begin: type[Solo], order: PeerMessage
) -> None:
    solo = begin()
    term = solo.core.term
    ready = solo.receive(2, order)
    assert (ready.messages, ready.messages_after) == ((), ())
    assert (solo.core.term, solo.core.leader, solo.core.log.last_index) == (term, None, 0)


def test_a_rejoining_node_that_knows_its_promises_follows_and_its_acks_count() -> None:
    solo = following()
    ready = solo.receive(2, AppendEntries(3, 0, 0, 1, entries_of([1, 2])))
    assert ready.messages_after == (Outgoing(2, AppendReply(3, 2)),)
    assert [entry.index for entry in solo.persist().committed] == [1]
    assert solo.replies(2, Heartbeat(3, 0, 6)) == [HeartbeatReply(3, 6, LogPoint(1, 1, 0, 0))]
    assert solo.core.rejoining


def test_a_rejoining_node_answers_a_leader_of_an_older_term_with_its_own() -> None:
    """It may have helped to elect another one since."""
    solo = following()
    assert solo.replies(2, AppendEntries(2, 0, 0, 0, entries_of([1, 2]))) == [HeartbeatReply(3, 0)]
    assert solo.core.log.last_index == 0


def test_a_rejoining_node_commits_nothing_on_the_word_of_a_heartbeat() -> None:
    """A heartbeat goes by what the leader believes to match, and it may be from before it forgot."""
    solo = following()
    solo.receive(2, AppendEntries(3, 0, 0, 0, entries_of([1, 2])))
    solo.receive(2, Heartbeat(3, 2, 0))
    assert solo.core.log.committed == 0
    solo.receive(2, AppendEntries(3, 2, 2, 2, ()))
    assert solo.core.log.committed == 2


# --- the end ------------------------------------------------------------------------------------


def test_the_end_of_the_log_must_be_reached_durably() -> None:
    solo = following()
    solo.receive(2, AppendEntries(3, 0, 0, 0, entries_of([1, 2, 3, 3])))
    before = solo.core.rejoining
    ready = solo.persist()
    assert (before, solo.core.rejoining) == (True, False)
    assert ready.write is not None
    assert ready.write.rejoined
    assert ready.write.hard_state == HardState(3, 1)
    assert ready.soft_state == SoftState(Role.FOLLOWER, 3, 2, rejoining=False)
    assert solo.persist().write is None


def test_a_write_that_is_under_way_does_not_count_as_reached() -> None:
    solo = following()
    first = solo.receive(2, AppendEntries(3, 0, 0, 0, entries_of([1, 2])))
    solo.receive(2, AppendEntries(3, 2, 2, 0, entries_of([1, 2, 3, 3])[2:]))
    assert first.write is not None
    ready = solo.step(Persisted(first.write.write_id))
    assert (solo.core.log.durable, solo.core.rejoining, ready.write) == (2, True, None)


@pytest.mark.parametrize(
    ("terms", "over"), [([1] * 20, False), ([1, 3, 3], False), ([1, 3, 3, 3], True), ([5], True)]
)
def test_a_log_is_measured_by_its_last_term_first(terms: list[int], *, over: bool) -> None:
    """The comparison of Raft 5.4.1: what a voter would ask of a candidate."""
    solo = following()
    solo.receive(2, AppendEntries(max(3, *terms), 0, 0, 0, entries_of(terms)))
    solo.persist()
    assert solo.core.rejoining is not over


def test_an_old_copy_that_holds_everything_needs_nothing_more() -> None:
    solo = Solo([1, 2, 3, 3], vote=2, rejoining=True)
    for voter, nonce in ((2, 1), (3, 1), (2, 2)):
        solo.receive(voter, sound(nonce))
    ready = solo.receive(3, sound(2))
    assert not solo.core.rejoining
    assert ready.write is not None
    assert (ready.write.rejoined, ready.write.hard_state, ready.write.entries) == (True, None, ())
    solo.step(PeerConnected(2))
    assert solo.replies(2, VoteRequest(3, 9, 3, pre=False)) == [VoteReply(3, granted=True, pre=False)]


def test_it_votes_for_nobody_in_the_term_in_which_it_comes_back() -> None:
    """Its earlier life may have voted in that term."""
    solo = back()
    solo.step(PeerClosed(2))
    assert solo.core.leader is None
    assert solo.replies(3, VoteRequest(3, 9, 9, pre=False)) == [VoteReply(3, granted=False, pre=False)]
    solo.step(PeerConnected(3))
    request = VoteRequest(4, 9, 9, pre=False, transfer=True)
    assert solo.replies(3, request) == [VoteReply(4, granted=True, pre=False)]


def test_it_can_be_elected_once_it_is_back() -> None:
    solo = back()
    solo.step(PeerClosed(2))
    solo.lead()
    assert (solo.core.role, solo.core.term) == (Role.LEADER, 4)


def test_it_says_that_it_rejoins_and_when_it_does_not_any_more() -> None:
    solo = Solo(rejoining=True)
    assert solo.step().soft_state == SoftState(Role.FOLLOWER, 0, None, rejoining=True)
    assert solo.step().soft_state is None
    assert Solo().step().soft_state == SoftState(Role.FOLLOWER, 0, None, rejoining=False)


def test_a_single_voter_has_nobody_to_ask_and_stays_without_a_vote() -> None:
    solo = Solo(voters=1, rejoining=True)
    for _ in range(100):
        solo.step(Tick(10), Beat())
    assert (solo.core.role, solo.core.rejoining) == (Role.FOLLOWER, True)


# --- the state by itself ------------------------------------------------------------------------


def test_the_two_rounds_have_different_nonces() -> None:
    rejoining = Rejoining((2,), random.Random(1))
    first = rejoining.question
    assert rejoining.answered(2, sound(first.nonce))
    assert rejoining.question != first
    assert not rejoining.expects(sound(first.nonce))
    assert rejoining.expects(sound(rejoining.question.nonce))
