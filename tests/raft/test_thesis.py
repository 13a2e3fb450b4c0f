"""What Ongaro's dissertation adds to the paper, by section; each test names its own."""

import pytest

from esnode.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PartReceived,
    Propose,
    ReadGrant,
    ReadIndex,
    Role,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
)
from esnode.refusal import Refusal

from .machine import batch_of
from .network import TIMERS, Network
from .solo import Solo, entries_of

ELECTION_MS = TIMERS.election_ms


# --- thesis 3.10: leadership transfer ---------------------------------------------------------------


def test_thesis_3_10_a_transfer_waits_until_the_target_has_everything() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of("a")))
    ready = solo.step(Transfer(2))
    assert not any(isinstance(out.message, TimeoutNow) for out in ready.messages)
    ready = solo.receive(2, AppendReply(1, 2))
    assert [out.to for out in ready.messages if isinstance(out.message, TimeoutNow)] == [2]


def test_thesis_3_10_during_a_transfer_nothing_new_is_taken() -> None:
    solo = Solo()
    solo.lead_with_commit()
    ready = solo.step(Transfer(2), Propose(1, batch_of("a")))
    assert [decision.refusal for decision in ready.decisions] == [Refusal.BUSY]


def test_thesis_3_10_a_transfer_that_takes_an_election_timeout_is_given_up() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Transfer(3))
    for _ in range(ELECTION_MS // 10):
        solo.step(Tick(10))
    ready = solo.step(Propose(1, batch_of("a")))
    assert [decision.refusal for decision in ready.decisions] == [None]


def test_thesis_3_10_the_target_wins_although_the_leader_lives() -> None:
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.transfer(1, 3)
    network.settle()
    assert (network.leader(), network.core(3).term) == (3, 2)
    assert network.core(1).role is Role.FOLLOWER


# --- thesis 6.2 (check-quorum) and 9.6 (pre-vote) -----------------------------------------------


@pytest.mark.parametrize("voters", [3, 5])
def test_thesis_6_2_a_new_leader_that_nobody_answers_steps_down_after_one_election_timeout(
    voters: int,
) -> None:
    solo = Solo(voters=voters)
    solo.lead()
    for _ in range(ELECTION_MS // 10 - 1):
        solo.step(Tick(10))
    assert solo.core.role is Role.LEADER
    solo.step(Tick(10))
    assert solo.core.role is Role.FOLLOWER


def test_thesis_6_2_a_new_leader_that_is_answered_goes_on() -> None:
    solo = Solo()
    solo.lead()
    for _ in range(10):
        solo.receive(3, HeartbeatReply(1, 0))
        for _ in range(ELECTION_MS // 10):
            solo.step(Tick(10))
    assert solo.core.role is Role.LEADER


def test_thesis_6_2_a_leader_cut_off_from_its_quorum_steps_down() -> None:
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.isolate(1)
    network.tick(1, 2 * ELECTION_MS)
    assert network.core(1).role is Role.FOLLOWER
    assert network.core(1).leader is None


def test_thesis_6_2_a_leader_that_hears_from_a_quorum_stays() -> None:
    network = Network(5)
    network.campaign(1)
    network.settle()
    network.split((1, 2, 3), (4, 5))
    network.pass_time(4 * ELECTION_MS)
    assert (network.leader(), network.core(1).term) == (1, 1)


@pytest.mark.parametrize("pre", [True, False])
def test_thesis_6_2_a_server_that_hears_from_a_leader_helps_nobody_to_replace_it(*, pre: bool) -> None:
    solo = Solo()
    solo.receive(2, Heartbeat(1, 0, 0))
    for _ in range(ELECTION_MS // 10 - 1):
        solo.step(Tick(10))
    assert solo.replies(3, VoteRequest(2, 9, 1, pre=pre)) == []
    assert solo.core.term == 1
    solo.step(Tick(10))
    assert solo.replies(3, VoteRequest(2, 9, 1, pre=pre)) == [VoteReply(2, granted=True, pre=pre)]


def test_thesis_9_6_a_pre_vote_changes_no_term_and_no_vote() -> None:
    solo = Solo([1], vote=3)
    ready = solo.receive(2, VoteRequest(2, 1, 1, pre=True))
    assert [out.message for out in ready.messages] == [VoteReply(2, granted=True, pre=True)]
    assert ready.write is None
    asking = Solo([1], vote=3)
    ready = asking.time_out()
    assert (ready.write, asking.core.term) == (None, 1)


def test_thesis_9_6_a_server_that_was_cut_off_comes_back_without_disturbing_the_leader() -> None:
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.isolate(3)
    network.pass_time(5_000)
    assert network.core(3).term == 1
    network.heal()
    network.pass_time(1_000)
    assert (network.leader(), network.core(1).term, network.core(3).leader) == (1, 1, 1)


def test_thesis_6_2_part_of_a_large_message_is_a_sign_of_life_of_the_leader() -> None:
    solo = Solo()
    solo.receive(2, Heartbeat(1, 0, 0))
    for _ in range(20):
        solo.step(Tick(100))
        ready = solo.step(PartReceived(2))
        assert [(out.to, out.message) for out in ready.messages] == [(2, HeartbeatReply(1, 0))]
    assert (solo.core.leader, solo.core.role) == (2, Role.FOLLOWER)


def test_thesis_6_2_part_of_what_another_sends_is_no_sign_of_the_leaders_life() -> None:
    solo = Solo()
    assert solo.step(PartReceived(2)).messages == ()  # nobody is known to lead
    solo.receive(2, Heartbeat(1, 0, 0))
    for _ in range(10):
        solo.step(Tick(100))
        solo.step(PartReceived(3))
    assert solo.core.role is Role.PRE_CANDIDATE
    assert solo.step(PartReceived(2)).messages == ()


def test_thesis_6_2_a_follower_that_hears_parts_of_messages_keeps_its_leader_in_office() -> None:
    solo = Solo()
    solo.lead_with_commit()
    for _ in range(20):
        solo.step(Tick(100))
        solo.receive(2, HeartbeatReply(1, 0))
    assert solo.core.role is Role.LEADER


# --- thesis 6.4: reads ---------------------------------------------------------------------------


def test_thesis_6_4_a_read_waits_for_the_first_commit_of_the_term() -> None:
    solo = Solo([1])
    solo.lead()
    ready = solo.step(ReadIndex(1))
    assert not any(isinstance(out.message, Heartbeat) for out in ready.messages)
    solo.persist()
    ready = solo.receive(2, AppendReply(2, 2))
    assert [out.message for out in ready.messages if isinstance(out.message, Heartbeat)] == [
        Heartbeat(2, 2, 1),
        Heartbeat(2, 0, 1),
    ]
    assert solo.receive(2, HeartbeatReply(2, 1)).read_grants == (ReadGrant(1, 2, None),)


def test_thesis_6_4_a_read_needs_a_round_that_began_after_it() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(ReadIndex(1))
    solo.step(ReadIndex(2))
    assert [g.token for g in solo.receive(2, HeartbeatReply(1, 1)).read_grants] == [1]
    assert solo.receive(3, HeartbeatReply(1, 1)).read_grants == ()
    assert [g.token for g in solo.receive(3, HeartbeatReply(1, 2)).read_grants] == [2]


def test_thesis_6_4_a_sign_of_life_frees_no_read() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(ReadIndex(1))
    for peer in (2, 3):
        assert solo.receive(peer, HeartbeatReply(1, 0)).read_grants == ()
    assert solo.receive(2, HeartbeatReply(1, 1)).read_grants == (ReadGrant(1, 1, None),)


# --- thesis 10.2.1: the leader's disk in parallel -------------------------------------------------


def test_thesis_10_2_1_entries_leave_before_the_leaders_own_disk_has_them() -> None:
    solo = Solo()
    ready = solo.lead()
    assert ready.write is not None
    assert [type(out.message) for out in ready.messages] == [AppendEntries, AppendEntries]
    assert ready.messages_after == ()


def test_thesis_10_2_1_followers_may_commit_what_the_leader_has_not_on_disk() -> None:
    solo = Solo()
    solo.lead()
    solo.receive(2, AppendReply(1, 1))
    ready = solo.receive(3, AppendReply(1, 1))
    assert solo.core.log.committed == 1
    assert ready.committed == ()  # applied here only once it is durable here
    assert [entry.index for entry in solo.persist().committed] == [1]


def test_thesis_10_2_1_a_follower_answers_only_after_its_disk() -> None:
    solo = Solo()
    ready = solo.receive(2, AppendEntries(1, 0, 0, 0, entries_of([1])))
    assert ready.messages == ()
    assert [out.message for out in ready.messages_after] == [AppendReply(1, 1)]
