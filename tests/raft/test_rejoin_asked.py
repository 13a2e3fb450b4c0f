"""The nodes that one which lost its disk asks: what they forget, and what they answer.

Its own side is looked at in `test_rejoin.py`.
"""

import pytest

from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Fetch,
    Fetched,
    HeartbeatReply,
    OpenProducer,
    PeerClosed,
    PeerConnected,
    PeerUnreachable,
    ReadGrant,
    ReadIndex,
    Rejoin,
    RejoinReply,
    Role,
    SendSnapshot,
    SnapshotSent,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
)
from esnode.raft.progress import Progress, ProgressState

from .network import TIMERS
from .solo import Solo, entries_of, log_of


def test_every_node_answers_with_its_term_and_the_end_of_its_log() -> None:
    assert Solo([1, 2, 2], term=6).replies(2, Rejoin(77)) == [
        RejoinReply(6, 77, sound=True, last_index=3, last_term=2)
    ]
    assert Solo([1], rejoining=True).replies(2, Rejoin(78)) == [
        RejoinReply(1, 78, sound=False, last_index=1, last_term=1)
    ]


@pytest.mark.parametrize(("voters", "wanted"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_a_node_is_sound_once_so_many_welcomed_it_that_a_sound_one_is_among_them(
    voters: int, wanted: int
) -> None:
    """A wiped node does not know it before a peer that knows it has turned it away."""
    solo = Solo([1], voters=voters, welcomed=False)
    for welcomes, peer in enumerate(solo.core.peers):
        (reply,) = solo.replies(2, Rejoin(1))
        assert reply == RejoinReply(1, 1, sound=welcomes >= wanted, last_index=1, last_term=1)
        solo.step(PeerConnected(peer), PeerConnected(peer))
    solo.step(*(PeerUnreachable(peer) for peer in solo.core.peers), PeerClosed(2))
    assert solo.replies(2, Rejoin(2)) == [RejoinReply(1, 2, sound=True, last_index=1, last_term=1)]


def test_a_node_that_too_few_have_welcomed_helps_nobody_to_lead() -> None:
    """It may have been wiped, and not know it: with seven voters and two lost disks, its vote and that of a
    node that has just rejoined could elect a leader that lacks a committed entry."""
    solo = Solo([1], voters=5, welcomed=False)
    solo.step(PeerConnected(2))
    assert solo.replies(3, VoteRequest(2, 9, 9, pre=True)) == [VoteReply(1, granted=False, pre=True)]
    assert solo.replies(3, VoteRequest(2, 9, 9, pre=False)) == [VoteReply(2, granted=False, pre=False)]
    solo.step(PeerConnected(3))
    assert solo.replies(3, VoteRequest(2, 9, 9, pre=False)) == [VoteReply(2, granted=True, pre=False)]


def test_a_leader_too_notes_who_welcomes_it() -> None:
    solo = Solo(voters=5, welcomed=False)
    solo.lead()
    solo.step(PeerConnected(2), PeerConnected(3))
    (reply, *_) = solo.replies(2, Rejoin(1))
    assert isinstance(reply, RejoinReply)
    assert reply.sound


def test_a_question_has_no_term_and_changes_nobodys() -> None:
    solo = Solo([1, 2, 2], term=6, vote=3)
    ready = solo.receive(2, Rejoin(5))
    assert ready.write is None
    assert (solo.core.term, solo.core.role) == (6, Role.FOLLOWER)
    assert solo.receive(4, Rejoin(5)).messages == ()  # a stranger's


def test_an_answer_to_a_question_that_was_not_asked_changes_nothing() -> None:
    solo = Solo([1])
    solo.receive(2, RejoinReply(9, 1, sound=True, last_index=4, last_term=3))
    assert (solo.core.term, solo.core.role) == (1, Role.FOLLOWER)


def test_a_candidate_takes_the_vote_of_a_lost_disk_off_its_tally() -> None:
    solo = Solo(voters=5)
    solo.campaign()
    solo.receive(2, VoteReply(1, granted=True, pre=False))
    solo.receive(2, Rejoin(1))
    solo.receive(3, VoteReply(1, granted=True, pre=False))
    roles = [solo.core.role]
    solo.receive(4, VoteReply(1, granted=True, pre=False))
    roles.append(solo.core.role)
    assert roles == [Role.CANDIDATE, Role.LEADER]


def test_a_pre_candidate_does_so_too() -> None:
    solo = Solo(voters=5)
    solo.time_out()
    solo.receive(2, VoteReply(1, granted=True, pre=True))
    solo.receive(2, Rejoin(1))
    solo.receive(3, VoteReply(1, granted=True, pre=True))
    assert solo.core.role is Role.PRE_CANDIDATE


def progress_of(solo: Solo, peer: int) -> Progress:
    assert solo.core.leadership is not None
    return solo.core.leadership.progress[peer]


def test_a_leader_counts_no_ack_from_before_the_disk_was_lost() -> None:
    solo = Solo()
    solo.lead()
    solo.receive(2, AppendReply(1, 1))
    solo.receive(2, Rejoin(1))
    assert solo.persist().committed == ()
    assert len(solo.receive(2, AppendReply(1, 1)).committed) == 1


def test_a_leader_begins_anew_with_a_node_that_lost_its_disk() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(*(OpenProducer(token) for token in range(5)))
    assert progress_of(solo, 2).has_unconfirmed()
    ready = solo.receive(2, Rejoin(1))
    fresh = progress_of(solo, 2)
    assert (fresh.state, fresh.match_index, fresh.inflight_bytes) == (ProgressState.PROBE, 0, 0)
    assert [out.message for out in ready.messages if out.to == 2] == [
        RejoinReply(1, 1, sound=True, last_index=6, last_term=1),
        AppendEntries(1, 6, 1, 1, ()),
    ]
    entries = solo.receive(2, AppendReject(1, 6, 0, 0)).messages[0].message
    assert isinstance(entries, AppendEntries)
    assert (entries.prev_index, len(entries.entries)) == (0, 6)


def test_questions_are_no_sign_that_what_the_leader_says_arrives() -> None:
    """Check-quorum: node 2 asks again and again, and hears nothing."""
    solo = Solo()
    solo.lead_with_commit()
    for _ in range(2 * TIMERS.election_ms // 10):
        solo.receive(2, Rejoin(1))
        solo.step(Tick(10))
    assert solo.core.role is Role.FOLLOWER


def test_a_sign_of_life_from_before_the_disk_was_lost_frees_no_read() -> None:
    solo = Solo(voters=5)
    solo.lead_with_commit()
    solo.step(ReadIndex(1))
    solo.receive(2, HeartbeatReply(1, 1))
    solo.receive(2, Rejoin(1))
    assert solo.receive(3, HeartbeatReply(1, 1)).read_grants == ()
    assert solo.receive(4, HeartbeatReply(1, 1)).read_grants == (ReadGrant(1, 1, None),)


def test_a_hand_over_to_a_node_that_lost_its_disk_ends() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(OpenProducer(1), Transfer(2))
    assert solo.step(OpenProducer(2)).decisions[0].refusal is not None
    solo.receive(3, Rejoin(1))
    assert solo.step(OpenProducer(3)).decisions[0].refusal is not None
    solo.receive(2, Rejoin(1))
    assert solo.step(OpenProducer(4)).decisions[0].refusal is None
    assert TimeoutNow(1) not in [out.message for out in solo.receive(2, AppendReply(1, 3)).messages]


def test_entries_that_were_read_for_the_lost_disk_are_dropped() -> None:
    entries = entries_of([1] * 8)
    solo = Solo(log=log_of(entries, applied=8, cache_bytes=1), term=1)
    solo.lead()
    old = Fetch(2, 2, 2, 9)
    assert solo.receive(2, AppendReject(2, 8, 1, 1)).fetches == (old,)
    solo.receive(2, Rejoin(1))
    new = Fetch(2, 2, 1, 9)
    assert solo.receive(2, AppendReject(2, 9, 0, 0)).fetches == (new,)
    assert solo.step(Fetched(old, entries[1:])).messages == ()
    assert progress_of(solo, 2).fetching == new
    sent = solo.step(Fetched(new, entries)).messages
    assert [out.message for out in sent] == [AppendEntries(2, 0, 0, 8, entries)]


def test_the_end_of_a_snapshot_sent_to_the_lost_disk_means_nothing_for_the_new_one() -> None:
    solo = Solo(log=log_of(entries_of([1] * 8), applied=8), term=1)
    solo.lead()
    solo.core.log.cut_prefix(8)
    assert solo.receive(2, AppendReject(2, 8, 0, 0)).snapshots == (SendSnapshot(2, 2),)
    solo.receive(2, Rejoin(1))
    for ok in (False, True):
        solo.step(SnapshotSent(2, ok=ok))
        assert (progress_of(solo, 2).state, progress_of(solo, 2).next_index) == (ProgressState.PROBE, 10)
    assert solo.receive(2, AppendReject(2, 9, 0, 0)).snapshots == (SendSnapshot(2, 2),)
