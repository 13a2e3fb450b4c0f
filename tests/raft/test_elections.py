"""Who stands for election, and who stands back; and that nobody is kept from winning for ever."""

import random
from collections.abc import Sequence

import pytest

from esnode import limits
from esnode.raft.messages import (
    Heartbeat,
    PartReceived,
    PeerMessage,
    Received,
    Role,
    Tick,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)

from .network import TIMERS, Network
from .solo import Solo

PRE_VOTE = VoteRequest(1, 0, 0, pre=True)


def silent_leader(voters: int, *asking: int) -> Network:
    """Node 1 led and is silent; the nodes `asking` lose patience before any hears of another."""
    network = Network(voters)
    network.campaign(1)
    network.settle()
    network.crash(1)
    network.drop()
    for node_id in network.ids:
        network.tick(node_id, TIMERS.election_ms)
    for node_id in asking:
        network.campaign(node_id)
    assert all(network.core(node_id).role is Role.PRE_CANDIDATE for node_id in asking)
    return network


def stir(network: Network, source: random.Random) -> None:
    """Deliver and persist in any order that keeps each link's, until nothing moves."""
    while True:
        links = sorted({envelope.link for envelope in network.pool})
        disks = [node.id for node in network.nodes.values() if node.disk.pending]
        if not links and not disks:
            return
        chosen = source.randrange(len(links) + len(disks))
        if chosen < len(links):
            network.deliver(links[chosen], 1)
        else:
            network.persist(disks[chosen - len(links)], 1)


# --- two at the same moment ---------------------------------------------------------------------


def test_two_survivors_that_ask_at_the_same_moment_do_not_split_the_vote() -> None:
    """5.2 and 9.6: each would grant the other's pre-vote, stand, vote for itself, and wait 450 ms more."""
    network = silent_leader(3, 2, 3)
    network.settle()
    assert (network.leader(), network.core(2).term) == (2, 2)


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize(("voters", "asking"), [(3, (2, 3)), (5, (2, 3)), (5, (3, 5))])
def test_of_two_that_ask_at_once_one_wins_whatever_arrives_first(voters: int, asking: Sequence[int]) -> None:
    for seed in range(150):
        network = silent_leader(voters, *asking)
        stir(network, random.Random(seed))
        leader = network.leader()
        assert leader is not None, f"seed {seed}"
        assert leader in asking, f"seed {seed}"
        assert network.core(leader).term == 2, f"seed {seed}"


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize("asking", [(2, 3, 4), (2, 3, 4, 5)])
def test_when_more_ask_at_once_it_is_settled_within_milliseconds(asking: Sequence[int]) -> None:
    for seed in range(100):
        network = silent_leader(5, *asking)
        stir(network, random.Random(seed))
        waited_ms = 0
        while network.leader() is None:
            waited_ms += 1
            for node_id in asking:
                network.step(node_id, Tick(1))
            stir(network, random.Random(seed))
        assert waited_ms < 2 * limits.HASTY_RETRY_MS, f"seed {seed}"


def test_the_lower_id_stands_first_and_asks_again_whoever_has_not_answered() -> None:
    """That one may have still believed in the leader when it was asked."""
    solo = Solo()
    solo.time_out()
    assert solo.replies(2, PRE_VOTE) == [VoteReply(0, granted=False, pre=True), PRE_VOTE]
    solo.receive(2, VoteReply(0, granted=False, pre=True))
    assert solo.replies(2, PRE_VOTE) == [VoteReply(0, granted=False, pre=True)]


def test_the_better_log_stands_before_the_lower_id() -> None:
    solo = Solo([1])
    solo.time_out()
    granted = VoteReply(2, granted=True, pre=True)
    assert solo.replies(3, VoteRequest(2, 2, 1, pre=True)) == [granted]
    assert Solo([1]).replies(3, VoteRequest(2, 1, 1, pre=True)) == [granted]


def test_an_attempt_that_leads_nowhere_stands_before_nobody() -> None:
    solo = Solo()
    solo.time_out()
    solo.step(Tick(limits.HASTY_RETRY_MS))
    assert solo.core.role is Role.PRE_CANDIDATE
    assert solo.replies(2, PRE_VOTE) == [VoteReply(1, granted=True, pre=True)]


@pytest.mark.parametrize(
    ("sender", "request_", "after_ms", "granted"),
    [
        (3, PRE_VOTE, 0, False),
        (3, PRE_VOTE, limits.HASTY_RETRY_MS - 1, False),
        (3, PRE_VOTE, limits.HASTY_RETRY_MS, True),
        (3, VoteRequest(1, 1, 1, pre=True), 0, True),
        (3, VoteRequest(2, 0, 0, pre=True), 0, True),
        (2, PRE_VOTE, 0, True),
    ],
)
def test_whoever_has_granted_a_pre_vote_grants_no_rival_one_for_a_moment(
    sender: int, request_: VoteRequest, after_ms: int, *, granted: bool
) -> None:
    solo = Solo(voters=5)
    solo.receive(2, PRE_VOTE)
    solo.step(Tick(after_ms))
    (reply,) = solo.replies(sender, request_)
    assert isinstance(reply, VoteReply)
    assert reply.granted is granted


def test_whoever_has_granted_a_pre_vote_lets_the_election_begin() -> None:
    """On a slow disk: to ask and be told of the new term would make one write more before its vote."""
    solo = Solo()
    solo.receive(3, Heartbeat(0, 0, 0))
    for _ in range(45):
        solo.step(Tick(10))
    assert solo.replies(2, PRE_VOTE) == [VoteReply(1, granted=True, pre=True)]
    for _ in range(limits.GIVE_WAY_MS // 10 - 1):
        assert solo.step(Tick(10)).messages == ()
    solo.receive(2, PRE_VOTE)
    assert solo.step(Tick(10)).messages != ()


# --- an election that is lost -------------------------------------------------------------------


def candidate(voters: int = 3) -> Solo:
    """Node 1 stands; the last voter, its leader, is silent."""
    solo = Solo(voters=voters)
    solo.receive(voters, Heartbeat(0, 0, 0))
    solo.campaign()
    return solo


def stands_again(solo: Solo) -> bool:
    for _ in range(limits.HASTY_ELECTION_STEP_MS):
        solo.step(Tick(1))
    return solo.core.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize("refusing", [[2], [2, 3]])
def test_an_election_that_its_own_voters_have_lost_is_tried_again_at_once(refusing: list[int]) -> None:
    solo = candidate()
    for voter in refusing:
        solo.receive(voter, VoteReply(1, granted=False, pre=False))
    assert stands_again(solo)


def test_an_election_is_split_once_however_many_refuse_it_after_that() -> None:
    solo = candidate(5)
    for voter in (2, 3):
        solo.receive(voter, VoteReply(1, granted=False, pre=False))
    solo.step(Tick(3))
    solo.receive(4, VoteReply(1, granted=False, pre=False))
    solo.step(Tick(2))
    assert solo.core.role is Role.PRE_CANDIDATE


def test_a_split_election_may_still_be_won_until_the_next_begins() -> None:
    solo = candidate(5)
    solo.receive(2, VoteReply(1, granted=False, pre=False))
    solo.receive(3, VoteReply(1, granted=True, pre=False))
    assert solo.core.role is Role.CANDIDATE
    solo.receive(4, VoteReply(1, granted=True, pre=False))
    assert solo.core.role is Role.LEADER


@pytest.mark.parametrize("closed", [True, False])
def test_an_election_that_only_waits_for_disks_is_not_tried_again(*, closed: bool) -> None:
    network = silent_leader(3)
    if closed:
        network.close(1)
    network.campaign(2)
    network.deliver()
    network.deliver()
    assert network.core(2).role is Role.CANDIDATE
    network.tick(2, 400)
    assert (network.core(2).role, network.core(2).term) == (Role.CANDIDATE, 2)
    network.settle()
    assert network.leader() == 2


def test_a_vote_split_in_two_is_settled_within_milliseconds() -> None:
    """Five voters, one silent: two votes here, two there, and the fifth never comes."""
    network = silent_leader(5, 2)
    for voter in (4, 5):
        network.deliver((2, voter))
        network.step(voter, Tick(limits.HASTY_RETRY_MS))
    network.campaign(3)
    for voter in (4, 5):
        network.deliver((3, voter))
        network.deliver((voter, 2))
        network.deliver((voter, 3))
    assert [network.core(node_id).role for node_id in (2, 3)] == [Role.CANDIDATE] * 2
    network.drop((2, 3))
    network.drop((3, 2))
    network.persist(2)
    network.persist(3)
    network.deliver((3, 5))
    network.settle()
    assert network.leader() is None
    for _ in range(20):
        for node_id in (2, 3, 4, 5):
            network.step(node_id, Tick(1))
        network.settle()
    assert (network.leader(), network.core(2).term) == (2, 3)


def test_a_transfer_that_is_refused_by_all_is_followed_by_an_ordinary_election() -> None:
    solo = Solo()
    solo.receive(3, Heartbeat(0, 0, 0))
    solo.receive(3, TimeoutNow(0))
    solo.persist()
    refused = VoteReply(1, granted=False, pre=False)
    solo.receive(2, refused)
    assert solo.core.role is Role.CANDIDATE
    solo.receive(3, refused)
    assert stands_again(solo)


def test_without_a_leader_ever_a_lost_election_waits_its_turn() -> None:
    solo = Solo()
    solo.campaign()
    solo.receive(2, VoteReply(1, granted=False, pre=False))
    assert not stands_again(solo)
    assert solo.core.role is Role.CANDIDATE


# --- nobody is kept from winning ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dead", "severed", "electable"),
    [
        ((4, 5), [(1, 3), (3, 1)], {2}),  # node 1 asks first, and never finds a majority
        ((), [(2, 1), (3, 1), (4, 1), (5, 1)], {2, 3, 4, 5}),  # it asks, and hears no answer
        ((), [(1, 2), (1, 3), (1, 4), (1, 5)], {2, 3, 4, 5}),  # it is mute
        ((4, 5), [(1, 2), (3, 2)], set()),  # no node has both directions to a majority
    ],
)
def test_a_node_that_cannot_win_keeps_nobody_else_from_it(
    dead: Sequence[int], severed: list[tuple[int, int]], electable: set[int | None]
) -> None:
    network = Network(5)
    for node_id in dead:
        network.crash(node_id)
    for link in severed:
        network.sever(*link)
    network.pass_time(3_000)
    assert network.leader() in (electable or {None})


def test_a_rejoining_node_backs_nobody() -> None:
    solo = Solo(rejoining=True)
    refused: list[PeerMessage] = [VoteReply(0, granted=False, pre=True)]
    assert solo.replies(2, PRE_VOTE) == refused
    assert solo.replies(3, PRE_VOTE) == refused


def test_a_follower_says_when_its_leader_is_in_doubt() -> None:
    solo = Solo()
    assert not solo.core.doubts_its_leader
    solo.step(Received(2, Heartbeat(1, 0, 0)))
    doubts = []
    for _ in range(50):
        solo.step(Tick(10))
        doubts.append(solo.core.doubts_its_leader)
    assert doubts == [False] * 40 + [True] * 5 + [False] * 5


def test_a_leader_that_asks_for_votes_leads_no_more_whatever_it_still_sends() -> None:
    """What it had begun to send may go on for minutes: it must not keep its followers from a new leader."""
    node = Solo([], voters=5)
    node.receive(2, Heartbeat(1, 0, 0))
    assert node.core.leader == 2
    node.step(PartReceived(2))
    assert node.replies(3, VoteRequest(2, 0, 0, pre=True)) == []
    (reply,) = node.replies(2, VoteRequest(2, 0, 0, pre=True))
    assert isinstance(reply, VoteReply)
    assert reply.granted
    node.step(PartReceived(2))
    assert node.core.leader is None
