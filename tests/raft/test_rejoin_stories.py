"""Lost disks in whole clusters: what would be lost, or be there twice, if a node did not rejoin so.

Each story fails with an invariant of `invariants.py` when the rule that it is about is left out.
"""

import pytest

from esnode.raft.messages import Heartbeat, Rejoin, RejoinReply, Role, TimeoutNow, VoteReply

from .disk import Image
from .network import Network


def led_by_1(voters: int = 3) -> Network:
    """A cluster at rest, led by node 1 in term 1."""
    network = Network(voters)
    network.campaign(1)
    network.settle()
    assert network.leader() == 1
    return network


def wiped(network: Network, node_id: int, copy: Image | None = None) -> None:
    """The node's disk is lost, its connections close, and it is started on what is there now."""
    network.lose_disk(node_id, copy)
    network.close(node_id)
    network.start(node_id)


def rejoining(network: Network) -> list[int]:
    return [node.id for node in network.nodes.values() if node.disk.rejoining]


def converse(network: Network, *node_ids: int, rounds: int = 20) -> None:
    """Only these nodes hear each other and have working disks; all else stays under way."""
    for _ in range(rounds):
        for envelope in list(network.pool):
            if {envelope.sender, envelope.to} <= set(node_ids) and envelope in network.pool:
                network.deliver_one(network.pool.index(envelope))
        for node_id in node_ids:
            network.persist(node_id)


def ask_and_answer(network: Network, node_id: int) -> None:
    """Both rounds of the questions of a node that rejoins, and nothing else."""
    network.beat(node_id)
    for kind in (Rejoin, RejoinReply) * 2:
        for envelope in [one for one in network.pool if isinstance(one.message, kind)]:
            network.deliver_one(network.pool.index(envelope))


def is_acked(network: Network, token: int) -> bool:
    return network.results.get(token, "").startswith("acked")


# --- elections ----------------------------------------------------------------------------------


def test_a_wiped_voter_helps_no_leader_that_lacks_committed_entries() -> None:
    network = led_by_1()
    token = network.propose(1, "a")
    converse(network, 1, 3)
    assert is_acked(network, token)
    network.drop()
    network.isolate(1)
    wiped(network, 3)
    network.pass_time(3_000)  # node 2 has not seen the event, and asks node 3 again and again
    assert network.core(2).role is not Role.LEADER
    network.heal()
    network.pass_time(2_000)
    assert rejoining(network) == []
    assert [network.core(node_id).log.committed for node_id in network.ids] == [
        network.invariants.last_committed
    ] * 3


def test_a_vote_that_was_given_before_the_disk_was_lost_makes_no_leader_afterwards() -> None:
    """Node 3 of five voted for node 1; wiped, and back, it may vote for node 2 in that very term."""
    network = Network(5)
    network.campaign(1)
    network.deliver((1, 3))
    network.deliver((1, 4))
    network.deliver((3, 1))
    network.deliver((4, 1))
    assert network.core(1).role is Role.CANDIDATE
    network.persist(1)
    network.deliver((1, 3))
    network.persist(3)
    network.deliver((3, 1))
    network.drop()
    wiped(network, 3)
    network.beat(3)
    network.deliver((3, 1))
    network.step(1)  # nothing: node 1 is as before, but for the vote
    assert network.core(1).role is Role.CANDIDATE
    network.settle()
    network.pass_time(2_000)
    assert network.leader() is not None
    assert rejoining(network) == []


def test_a_vote_on_its_way_from_an_earlier_life_is_not_heard() -> None:
    """The transport's part: once a newer life has been heard, nothing of an older one is."""
    network = Network(3)
    network.campaign(1)
    converse(network, 1, 2, rounds=1)
    network.deliver((1, 3))
    network.deliver((3, 1))
    assert network.core(1).role is Role.CANDIDATE
    network.persist(1)
    network.deliver((1, 3))
    network.persist(3)
    (late,) = [one for one in network.pool if one.sender == 3 and isinstance(one.message, VoteReply)]
    wiped(network, 3)
    network.beat(3)
    network.deliver_one([one.message for one in network.pool].index(Rejoin(1)))
    network.deliver_one(network.pool.index(late))
    assert network.core(1).role is Role.CANDIDATE


# --- acks ---------------------------------------------------------------------------------------


def test_a_match_of_an_earlier_life_is_not_counted() -> None:
    network = led_by_1()
    token = network.propose(1, "a")
    network.deliver((1, 3))
    network.persist(3)
    network.deliver((3, 1))
    wiped(network, 3)
    network.beat(3)
    network.deliver((3, 1))
    network.persist(1)
    assert network.core(1).log.committed == 1
    network.pass_time(500)
    assert is_acked(network, token)
    assert rejoining(network) == []


def test_what_was_committed_with_an_ack_of_an_earlier_life_after_the_first_answer_is_regained() -> None:
    """Why the others are asked twice. Node 2 answers, then acks; the leader counts that ack together
    with the old one of node 3, commits, and loses the entry, which its own disk never had."""
    network = led_by_1()
    copy = network.nodes[3].disk.image()
    network.propose(1, "a")
    network.deliver((1, 3))
    network.persist(3)
    network.deliver((3, 1))
    wiped(network, 3, copy)
    network.beat(3)
    network.deliver((3, 2))  # node 2 has not seen the event
    network.deliver((2, 3))
    network.deliver((1, 2))
    network.persist(2)
    network.deliver((2, 1))
    assert network.core(1).log.committed == network.invariants.last_committed == 2
    network.crash(1, keep=0)
    network.close(1)
    network.start(1)
    converse(network, 1, 3)  # node 1 answers: its log ends before the event
    network.drop((1, 2))
    network.campaign(1)
    converse(network, 1, 3)
    assert network.core(1).role is not Role.LEADER
    network.pass_time(2_000)
    assert rejoining(network) == []
    assert network.leader() in {2, 3}


def deposed_by_2() -> tuple[Network, int]:
    """Node 1 does not know that nodes 2 and 3 have gone on without it; then node 3 is wiped."""
    network = led_by_1()
    network.isolate(1)
    network.tick(3, 460)
    network.campaign(2)
    network.settle()
    token = network.propose(2, "a")
    network.settle()
    assert is_acked(network, token)
    assert network.core(1).role is Role.LEADER
    wiped(network, 3)
    network.heal()
    return network, token


def test_no_ack_is_given_to_a_leader_that_an_earlier_life_has_voted_out() -> None:
    """Why a node that rejoins is deaf at first: two events would be acked at the same offset."""
    network, _ = deposed_by_2()
    token = network.propose(1, "b")
    for _ in range(5):
        network.beat(1)
        network.beat(3)
        converse(network, 1, 3)
    assert not is_acked(network, token)
    network.pass_time(2_000)
    assert network.results[token] == "unknown"
    assert rejoining(network) == []


def test_no_read_is_confirmed_to_a_leader_that_an_earlier_life_has_voted_out() -> None:
    network, _ = deposed_by_2()
    network.nodes[1].waiting.clear()
    token = network.read(1)
    for _ in range(5):
        network.beat(1)
        network.beat(3)
        converse(network, 1, 3)
    assert token not in network.results
    network.pass_time(2_000)
    assert network.results[token].startswith("refused")


def test_a_rejoining_nodes_acks_count() -> None:
    """Node 2 has told where it is and is gone: nodes 1 and 3 commit, before node 3 has all that it needs."""
    network = led_by_1()
    tokens = [network.propose(1, name, size=700_000) for name in "abc"]
    network.persist(1)
    network.drop()
    wiped(network, 3)
    ask_and_answer(network, 3)
    network.crash(2)
    seen = []
    for _ in range(30):
        network.beat(1)
        network.deliver((1, 3), limit=1)
        network.persist(3, writes=1)
        network.deliver((3, 1), limit=1)
        network.persist(1)
        seen.append((network.core(1).log.committed, 3 in rejoining(network)))
    assert (2, True) in seen
    assert network.core(3).log.durable == 4
    network.settle()
    assert all(is_acked(network, token) for token in tokens)


# --- old copies ---------------------------------------------------------------------------------


def test_a_heartbeat_from_before_the_leader_forgot_commits_nothing_of_an_old_copy() -> None:
    """The copy has an entry that was overwritten since, at an index that the old life had matched."""
    network = led_by_1()
    network.split([3], [1, 2])
    network.campaign(3)
    network.heal()
    network.transfer(1, 3)
    network.settle()
    assert network.leader() == 3
    network.propose(3, "lost")
    network.persist(3)
    network.drop()
    copy = network.nodes[3].disk.image()
    network.isolate(3)
    network.pass_time(1_000)
    network.heal()
    network.pass_time(1_000)
    leader = network.leader()
    assert leader in {1, 2}
    wiped(network, 3, copy)
    network.beat(leader)  # it still believes what the earlier life had confirmed
    (early,) = [one for one in network.pool if one.to == 3 and isinstance(one.message, Heartbeat)]
    network.deliver_one(network.pool.index(early), keep=True)
    ask_and_answer(network, 3)
    network.deliver_one(network.pool.index(early))
    network.settle()
    network.pass_time(1_000)
    assert rejoining(network) == []
    assert key_is_gone(network, "lost")


def key_is_gone(network: Network, name: str) -> bool:
    return all(name.encode() not in bytes(key) for key in network.invariants.offsets)


def test_an_old_copy_gets_what_came_after_it() -> None:
    network = led_by_1()
    network.propose(1, "a")
    network.settle()
    copy = network.nodes[3].disk.image()
    network.propose(1, "b")
    network.settle()
    wiped(network, 3, copy)
    network.pass_time(300)
    assert rejoining(network) == []
    assert network.core(3).log.applied == 3


def test_a_wiped_node_gets_a_snapshot_where_the_log_is_cut() -> None:
    network = led_by_1()
    for name in "abc":
        network.propose(1, name)
        network.settle()
    network.cut_prefix(1)
    network.persist(1)
    wiped(network, 3)
    network.pass_time(1_000)
    assert rejoining(network) == []
    assert (network.core(3).log.prefix_index, network.core(3).log.applied) == (4, 4)


# --- how many, and who --------------------------------------------------------------------------


def test_two_rejoining_nodes_of_three_stay_without_a_vote() -> None:
    network = led_by_1()
    wiped(network, 2)
    wiped(network, 3)
    network.pass_time(3_000)
    assert rejoining(network) == [2, 3]
    assert network.leader() is None
    assert [network.core(node_id).log.last_index for node_id in (2, 3)] == [0, 0]


def test_two_rejoining_nodes_of_five_both_come_back() -> None:
    network = led_by_1(5)
    token = network.propose(1, "a")
    converse(network, 1, 2, 4)
    assert is_acked(network, token)
    network.drop()
    wiped(network, 2)
    wiped(network, 4)
    network.pass_time(1_000)
    assert rejoining(network) == []
    assert {node.machine.index for node in network.nodes.values()} == {network.invariants.last_committed}


def wiped_unnoticed(network: Network, node_id: int, reaches: int) -> None:
    """The disk is empty, the node does not know that it was not, and only `reaches` lets it in."""
    network.lose_disk(node_id)
    network.close(node_id)
    network.nodes[node_id].disk.rejoining = False
    network.start(node_id, welcomed_by=[reaches])


def test_a_wiped_node_that_nobody_has_told_yet_is_no_witness() -> None:
    """Event a is on nodes 1, 2 and 3. Node 3 is set back to a copy without it, node 2 is wiped and
    reaches only node 3, which turns nobody away; and node 1 is slow to say where it is."""
    network = led_by_1(5)
    copy = network.nodes[3].disk.image()
    token = network.propose(1, "a")
    converse(network, 1, 2, 3)
    assert is_acked(network, token)
    network.drop()
    wiped(network, 3, copy)
    wiped_unnoticed(network, 2, reaches=3)
    network.beat(3)
    for kind, nonce in ((Rejoin, 1), (RejoinReply, 1), (Rejoin, 2), (RejoinReply, 2)):
        for one in list(network.pool):
            is_late = one.sender == 1 and nonce == 2
            if isinstance(one.message, kind) and one.message.nonce == nonce and not is_late:
                network.deliver_one(network.pool.index(one))
    said = network.core(3).rejoining
    network.isolate(1)
    network.campaign(4)
    converse(network, 3, 4, 5)
    assert (said, network.leader()) == (True, 1)
    network.drop()
    network.crash(2)  # its next connection is refused, and so it knows
    network.nodes[2].disk.rejoining = True
    network.start(2)
    network.heal()
    network.pass_time(3_000)
    assert rejoining(network) == []
    assert [node.machine.index for node in network.nodes.values()] == [network.invariants.last_committed] * 5


def test_a_leader_that_loses_its_disk_comes_back_as_a_follower() -> None:
    network = led_by_1()
    token = network.propose(1, "a")
    network.settle()
    assert is_acked(network, token)
    wiped(network, 1)
    network.pass_time(1_000)
    assert network.leader() in {2, 3}
    assert rejoining(network) == []
    assert network.core(1).log.applied == network.invariants.last_committed


def test_a_node_does_not_come_back_while_one_voter_has_not_answered() -> None:
    """That voter may still count what it heard from the earlier life."""
    network = led_by_1()
    network.isolate(2)
    wiped(network, 3)
    network.pass_time(1_000)
    assert rejoining(network) == [3]
    network.heal()
    network.pass_time(1_000)
    assert rejoining(network) == []


@pytest.mark.parametrize("persisted", [0, 1])
def test_a_crash_while_rejoining_begins_the_questions_anew(persisted: int) -> None:
    network = led_by_1()
    for name in "ab":
        network.propose(1, name)
        network.settle()
    wiped(network, 3)
    network.beat(3)
    converse(network, 1, 2, 3, rounds=2)
    network.crash(3, keep=persisted)
    network.start(3)
    assert rejoining(network) == [3]
    answers = [one for one in network.pool if isinstance(one.message, RejoinReply)]
    network.settle()  # what is under way is for the questions of before
    assert (rejoining(network), bool(answers)) == ([3], bool(answers))
    network.pass_time(1_000)
    assert rejoining(network) == []


def test_a_crash_before_the_end_is_durable_is_a_crash_while_rejoining() -> None:
    network = led_by_1()
    wiped(network, 3)
    network.beat(3)
    while network.core(3).rejoining:
        network.deliver()
        network.persist(1)
        network.persist(2)
        network.persist(3, writes=1)
        network.beat(1)
    assert rejoining(network) == [3]
    network.crash(3)
    network.start(3)
    assert network.core(3).rejoining
    network.pass_time(1_000)
    assert rejoining(network) == []


def test_a_leadership_is_not_handed_to_a_node_that_rejoins() -> None:
    network = led_by_1()
    network.isolate(2)
    wiped(network, 3)
    network.transfer(1, 3)
    network.beat(3)
    converse(network, 1, 3)
    assert not [one for one in network.pool if isinstance(one.message, TimeoutNow)]
    assert network.leader() == 1


def test_a_disk_that_is_lost_again_and_again_comes_back_in_the_end() -> None:
    network = led_by_1()
    for turn in range(5):
        network.propose(1, f"e{turn}")
        wiped(network, 3)
        network.pass_time(30 * turn)
    network.pass_time(1_000)
    assert rejoining(network) == []
    assert network.core(3).log.applied == network.invariants.last_committed == 6
