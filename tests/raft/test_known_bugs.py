"""Bugs that real Raft systems shipped, each with the check that would have caught it.

Each docstring names the bug and where it was seen. Those of storage, of the clocks and of the whole
node are checked beside that code.
"""

import pytest

from esnode import limits
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    OpenProducer,
    Persisted,
    PrefixCut,
    Propose,
    ReadGrant,
    ReadIndex,
    Role,
    SendSnapshot,
    Snapshot,
    SnapshotSent,
    Tick,
    VoteReply,
    VoteRequest,
)

from .machine import batch_of
from .network import Network
from .solo import Solo, entries_of, events, log_of, noop, terms_in


def led_by_1(voters: int = 3) -> Network:
    """A cluster at rest, led by node 1 in term 1."""
    network = Network(voters)
    network.campaign(1)
    network.settle()
    assert network.leader() == 1
    return network


def test_a_restart_between_two_requests_does_not_free_the_vote() -> None:
    """1: term and vote persisted in two writes, or not at all (hashicorp/raft#661, PySyncObj#84)."""
    solo = Solo()
    ready = solo.receive(2, VoteRequest(1, 0, 0, pre=False))
    assert ready.write is not None
    assert ready.write.hard_state == HardState(1, 2)
    assert not any(isinstance(out.message, VoteReply) for out in ready.messages)
    again = Solo(term=ready.write.hard_state.term, vote=ready.write.hard_state.vote)
    assert again.replies(3, VoteRequest(1, 0, 0, pre=False)) == [VoteReply(1, granted=False, pre=False)]
    assert again.replies(2, VoteRequest(1, 0, 0, pre=False)) == [VoteReply(1, granted=True, pre=False)]


def test_a_vote_that_did_not_reach_the_disk_never_left() -> None:
    """1: the same, seen from the other side: a crash before the write may vote anew."""
    network = Network(3)
    network.campaign(2)
    network.deliver()
    network.deliver()
    network.persist(2)
    network.deliver((2, 1))
    network.crash(1)
    network.drop()
    network.start(1)
    network.campaign(3)
    network.settle()
    assert network.leader() in {2, 3}


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.LEADER])
def test_stepping_down_within_a_term_keeps_the_vote(role: Role) -> None:
    """2: a same-term step-down clears the vote (CCF#8094, eliben/raft#27)."""
    solo = Solo()
    if role is Role.CANDIDATE:
        solo.campaign()
        solo.receive(2, Heartbeat(1, 0, 0))
    else:
        solo.lead()
        for _ in range(100):
            solo.step(Tick(10))
            if solo.core.role is Role.FOLLOWER:
                break
    assert (solo.core.role, solo.core.term) == (Role.FOLLOWER, 1)
    assert solo.replies(3, VoteRequest(1, 9, 1, pre=False)) == [VoteReply(1, granted=False, pre=False)]


@pytest.mark.parametrize("pre", [True, False])
def test_a_vote_of_an_older_term_is_not_counted(*, pre: bool) -> None:
    """3: a vote reply of an older term is counted (little-raft#44)."""
    solo = Solo()
    solo.campaign()
    solo.campaign()
    assert solo.core.term == 2
    if pre:
        solo.time_out()
        solo.receive(2, VoteReply(2, granted=True, pre=True))
        assert solo.core.role is Role.PRE_CANDIDATE
    else:
        solo.receive(2, VoteReply(1, granted=True, pre=False))
        solo.receive(3, VoteReply(1, granted=True, pre=False))
        assert solo.core.role is Role.CANDIDATE


def test_a_refusal_of_an_older_term_is_not_counted() -> None:
    """3: the other way round: it must not end a later election."""
    solo = Solo()
    solo.campaign()
    solo.campaign()
    for voter in (2, 3):
        solo.receive(voter, VoteReply(1, granted=False, pre=False))
    assert solo.core.role is Role.CANDIDATE


def test_counting_replicas_commits_nothing_of_an_earlier_term() -> None:
    """4: counting replicas commits an entry of an earlier term (Raft, figure 8)."""
    solo = Solo([1, 2])
    solo.lead()
    solo.persist()
    for peer in (2, 3):
        assert solo.receive(peer, AppendReply(3, 2)).committed == ()
    assert len(solo.receive(2, AppendReply(3, 3)).committed) == 3


def test_a_new_leader_answers_no_read_before_its_noop_is_committed() -> None:
    """5: ReadIndex answered by a new leader before its own no-op committed (etcd#7331)."""
    network = led_by_1()
    first = network.propose(1, "a")
    network.settle()
    assert network.results[first] == "acked at 0"  # and node 2 does not know of the commit yet
    assert network.core(2).log.committed < 2
    network.crash(1)
    network.close(1)
    network.campaign(2)
    for _ in range(20):
        if network.core(2).role is Role.LEADER:
            break
        network.deliver()
        network.persist(2)
        network.persist(3)
    token = network.read(2)
    network.deliver((2, 3))
    network.deliver((3, 2))
    assert token not in network.results
    network.settle()
    assert network.results[token] == "may read at 3"


def test_a_late_answer_to_one_round_frees_no_later_read() -> None:
    """6: ReadIndex retried under the same request id: stale after a pause (etcd#20418, #21399)."""
    solo = Solo()
    solo.lead_with_commit()
    solo.step(ReadIndex(1))
    solo.step(ReadIndex(2))  # the client tries again
    ready = solo.receive(2, HeartbeatReply(1, 1))
    assert ready.read_grants == (ReadGrant(1, 1, None),)
    # Nor does an answer to the same number from an earlier term of the same leader.
    solo.receive(2, Heartbeat(2, 0, 0))
    solo.lead()
    solo.persist()
    solo.receive(2, AppendReply(3, 2))
    solo.step(ReadIndex(3))
    assert solo.receive(2, HeartbeatReply(1, 1)).read_grants == ()
    assert solo.receive(2, HeartbeatReply(3, 1)).read_grants == (ReadGrant(3, 2, None),)


def test_a_leader_counts_its_own_entry_only_when_it_is_durable() -> None:
    """7: the leader counts its own entry before its own fsync (etcd#14370)."""
    solo = Solo()
    solo.lead()
    solo.receive(2, AppendReply(1, 1))
    assert solo.core.log.committed == 0
    solo.persist()
    assert solo.core.log.committed == 1


def test_a_single_node_commits_only_what_is_durable() -> None:
    """7: the same for a cluster of one."""
    network = Network(1)
    network.campaign(1)
    network.settle()
    token = network.propose(1, "a")
    assert token not in network.results
    network.persist(1)
    assert network.results[token] == "acked at 0"


def test_a_completion_of_an_overwritten_write_makes_nothing_durable() -> None:
    """9: a stale "append done" counted after the term changed (etcd raft, the append ABA race)."""
    solo = Solo([1])
    first = solo.receive(2, AppendEntries(2, 1, 1, 0, (noop(2, 2), noop(3, 2))))
    second = solo.receive(3, AppendEntries(3, 1, 1, 0, (noop(2, 3), noop(3, 3))))
    assert first.write is not None
    assert second.write is not None
    solo.step(Persisted(first.write.write_id))
    assert solo.core.log.durable == 1
    solo.step(Persisted(second.write.write_id))
    assert solo.core.log.durable == 3


def test_a_completion_of_an_earlier_candidacy_is_no_vote_for_this_one() -> None:
    """9: the same for the vote: the disk has term 1, and the candidate is in term 2 by now."""
    solo = Solo()
    solo.time_out()
    first = solo.receive(2, VoteReply(1, granted=True, pre=True))
    solo.time_out()
    second = solo.receive(2, VoteReply(2, granted=True, pre=True))
    solo.receive(2, VoteReply(2, granted=True, pre=False))
    assert first.write is not None
    assert second.write is not None
    roles = []
    for write in (first.write, second.write):
        solo.step(Persisted(write.write_id))
        roles.append(solo.core.role)
    assert roles == [Role.CANDIDATE, Role.LEADER]


def test_a_write_from_before_a_snapshot_makes_nothing_durable_after_it() -> None:
    """9: the same around a snapshot, which replaces the log under a write that is under way."""
    solo = Solo()
    old = solo.receive(2, AppendEntries(1, 0, 0, 0, entries_of([1] * 9)))
    solo.receive(3, InstallSnapshot(2, Snapshot(5, 2, 0, 0, _empty_state(5, 2))))
    new = solo.receive(3, AppendEntries(2, 5, 2, 0, (noop(6, 2), noop(7, 2))))
    assert old.write is not None
    assert new.write is not None
    solo.step(Persisted(old.write.write_id))
    assert solo.core.log.durable == 5
    solo.step(Persisted(new.write.write_id))
    assert solo.core.log.durable == 7


def test_a_snapshot_replaces_a_conflicting_tail() -> None:
    """11: installing a snapshot keeps a conflicting tail (hashicorp/raft#697)."""
    solo = Solo([1, 1, 2, 2, 2])
    ready = solo.receive(3, InstallSnapshot(4, Snapshot(3, 3, 0, 0, _empty_state(3, 3))))
    log = solo.core.log
    assert (log.prefix_index, log.prefix_term, log.last_index, log.last_term) == (3, 3, 3, 3)
    assert ready.write is not None
    assert ready.write.snapshot is not None
    assert [out.message for out in ready.messages_after] == [AppendReply(4, 3)]


def test_a_snapshot_of_what_the_log_holds_keeps_the_tail() -> None:
    """11: the tail after a snapshot that matches must stay: it may be acked."""
    solo = Solo([1, 1, 2, 2, 2])
    ready = solo.receive(3, InstallSnapshot(4, Snapshot(3, 2, 0, 0, _empty_state(3, 2))))
    assert terms_in(solo.core.log) == [1, 1, 2, 2, 2]
    assert [entry.index for entry in ready.committed] == [1, 2, 3]
    assert ready.write is None or ready.write.snapshot is None
    old = solo.receive(3, InstallSnapshot(4, Snapshot(2, 1, 0, 0, _empty_state(2, 1))))
    assert [out.message for out in old.messages_after] == [AppendReply(4, 2)]


def test_a_snapshot_from_before_the_own_prefix_is_passed_over() -> None:
    """11: a late snapshot must not take the log back."""
    solo = Solo()
    solo.receive(3, InstallSnapshot(4, Snapshot(5, 3, 0, 0, _empty_state(5, 3))))
    solo.persist()
    ready = solo.receive(3, InstallSnapshot(4, Snapshot(2, 1, 0, 0, _empty_state(2, 1))))
    assert (ready.write, solo.core.log.prefix_index) == (None, 5)
    # What was before the prefix cannot be compared: the leader may go on where its log begins.
    assert [out.message for out in ready.messages_after] == [AppendReject(4, 2, 5, 3)]


def test_one_snapshot_at_a_time_goes_to_a_follower() -> None:
    """12: a second snapshot while one is under way (etcd#7470, #18055, camunda#13724)."""
    solo = _leader_with_prefix()
    ready = solo.receive(2, _reject_all(solo))
    assert ready.snapshots == (SendSnapshot(2, solo.core.term),)
    for number in range(20):
        solo.step(Propose(number, batch_of(f"n{number}")))
        assert solo.receive(2, HeartbeatReply(solo.core.term, 0)).snapshots == ()
        assert solo.receive(2, _reject_all(solo)).snapshots == ()
    ready = solo.step(SnapshotSent(2, ok=False))
    assert ready.snapshots == ()  # until it answers a heartbeat


def test_a_cut_while_a_snapshot_travels_leads_to_a_newer_snapshot() -> None:
    """12: compaction races the first entry after a snapshot."""
    solo = _leader_with_prefix()
    term = solo.core.term
    solo.receive(2, _reject_all(solo))
    solo.step(PrefixCut(5))
    solo.step(SnapshotSent(2, ok=True))
    ready = solo.receive(2, AppendReply(term, 3))  # it has installed the older one
    assert ready.snapshots == (SendSnapshot(2, term),)
    ready = solo.receive(2, AppendReply(term, 5))
    (append,) = [out.message for out in ready.messages if isinstance(out.message, AppendEntries)]
    assert (append.prev_index, append.entries[0].index) == (5, 6)


def test_a_partial_partition_has_a_stable_leader_with_a_quorum() -> None:
    """13: pre-vote without check-quorum: no stable leader under a partial partition (Cloudflare, 2020)."""
    network = led_by_1(5)
    for other in (3, 4, 5):
        network.sever(1, other)
        network.sever(other, 1)
    network.pass_time(3_000)
    leader = network.leader()
    assert leader in {2, 3, 4, 5}
    term = network.core(leader).term
    token = network.propose(leader, "a")
    network.settle()
    assert network.results[token] == "acked at 0"
    network.pass_time(5_000)
    assert (network.leader(), network.core(leader).term) == (leader, term)
    assert network.core(1).role is not Role.LEADER


def test_a_leader_that_can_send_but_not_hear_gives_way() -> None:
    """13: its heartbeats alone must not keep the others quiet for ever."""
    network = led_by_1()
    network.sever(2, 1)
    network.sever(3, 1)
    network.pass_time(3_000)
    assert network.leader() in {2, 3}


@pytest.mark.parametrize("pre", [True, False])
def test_a_short_log_of_a_new_term_beats_a_long_one_of_an_old_term(*, pre: bool) -> None:
    """14: a long log of an old term beats a short log of a new term in pre-vote (openraft#1796)."""
    solo = Solo([1, 3])
    assert solo.replies(2, VoteRequest(4, 99, 2, pre=pre)) == [
        VoteReply(3 if pre else 4, granted=False, pre=pre)
    ]
    assert solo.replies(2, VoteRequest(5, 1, 4, pre=pre)) == [VoteReply(5, granted=True, pre=pre)]


def test_an_event_that_was_cut_away_with_its_entry_can_be_sent_again() -> None:
    """15: a truncated suffix leaves its keys in the table: a valid retry is refused (nats-server#6415)."""
    network = led_by_1()
    network.isolate(1)
    lost = network.propose(1, "a")
    network.persist(1)
    network.tick(1, 1_000)
    assert network.results[lost] == "unknown"
    network.campaign(2)
    network.pass_time(700)
    network.heal()
    network.pass_time(700)
    leader = network.leader()
    assert leader in {2, 3}
    network.transfer(leader, 1)
    network.settle()
    assert network.leader() == 1
    again = network.propose(1, "a")
    network.settle()
    assert network.results[again] == "acked at 0"


def test_a_duplicate_is_acked_only_with_its_original() -> None:
    """22: a duplicate is acked before its original commits (decision 4 of the design)."""
    network = led_by_1()
    original = network.propose(1, "a", "b")
    duplicate = network.propose(1, "b")
    network.persist(1)
    assert network.results == {}
    network.settle()
    assert network.results == {original: "acked at 0, 1", duplicate: "acked at 1, 1 known before"}


def test_a_new_leader_knows_the_events_of_its_uncommitted_tail() -> None:
    """22: the same over a change of leaders: the tail is indexed before the first batch is taken."""
    network = Network(3)
    tail = (events(2, 1, 0, "a"),)
    for node_id in network.ids:
        network.plant(node_id, (noop(1, 1), *(tail if node_id < 3 else ())), HardState(1, None))
    network.campaign(1)
    for _ in range(20):
        if network.core(1).role is Role.LEADER:
            break
        network.deliver()
        for node_id in network.ids:
            network.persist(node_id)
    token = network.propose(1, "a", "b")
    assert token not in network.results
    network.settle()
    assert network.results[token] == "acked at 0, 1, 1 known before"


def test_a_paused_leader_answers_no_read_that_came_while_it_slept() -> None:
    """23: a paused leader answers buffered reads when it wakes (etcd, Jepsen)."""
    network = led_by_1()
    network.beat(1)
    network.deliver((1, 2))
    network.deliver((1, 3))  # their answers wait in the buffers of node 1, which sleeps from here
    asleep = [envelope for envelope in network.pool if envelope.to == 1]
    network.pool.clear()
    network.isolate(1)
    for _ in range(100):
        network.settle()
        network.tick(2, 20)
        network.tick(3, 10)
    leader = network.leader()
    assert leader in {2, 3}
    token = network.propose(leader, "new")
    network.settle()
    assert network.results[token] == "acked at 0"
    assert network.core(1).role is Role.LEADER
    network.heal()
    network.pool = asleep
    read = network.read(1)  # it sees only the state of before; the invariant would tell
    for _ in range(len(asleep)):
        network.deliver_one(0)
    assert read not in network.results
    network.settle()
    assert network.results[read] == "refused: NOT_LEADER"


def test_a_term_that_no_honest_node_can_reach_is_ignored() -> None:
    """A term bomb: one forged message would leave no room for elections."""
    solo = Solo()
    ready = solo.receive(2, Heartbeat(limits.MAX_TERM + 1, 0, 0))
    assert (solo.core.term, ready.write, ready.messages) == (0, None, ())


def test_acked_events_survive_the_crash_of_all_nodes_at_once() -> None:
    """18: an acked event is lost when the machines lose power (nats-server#7564)."""
    network = led_by_1()
    token = network.propose(1, "a")
    network.propose(1, "b")
    while token not in network.results:
        network.deliver()
        network.persist(1, writes=1)
        network.persist(2, writes=1)
    for node_id in network.ids:
        network.crash(node_id)
    network.pool.clear()
    for node_id in network.ids:
        network.start(node_id)
    network.pass_time(2_000)
    leader = network.leader()
    assert leader is not None
    again = network.propose(leader, "a")
    network.settle()
    assert network.results[again] == "acked at 0, 1 known before"


def test_a_producer_session_opened_in_a_lost_entry_is_not_open() -> None:
    """24: sessions follow the log, too: nothing of an entry that was cut away remains (redpanda#3039)."""
    solo = Solo()
    solo.lead_with_commit()
    ready = solo.step(OpenProducer(7))
    (decision,) = ready.decisions
    assert (decision.token, decision.wait_index, decision.refusal) == (7, 2, None)
    solo.receive(2, AppendEntries(2, 1, 1, 1, (noop(2, 2),)))
    assert solo.core.log.term_at(2) == 2
    assert solo.step(OpenProducer(8)).decisions[0].refusal is not None


def _empty_state(index: int, term: int) -> bytes:
    """What a machine knows that has applied only entries without events."""
    solo = Solo()
    for position in range(1, index + 1):
        solo.machine.apply(noop(position, term if position == index else 1))
    return bytes(solo.machine.snapshot().data)


def _leader_with_prefix() -> Solo:
    """A leader whose log begins after index 3, with its follower 3 up to date."""
    solo = Solo(log=log_of(entries_of([1] * 6), applied=0), term=1)
    solo.lead()
    solo.persist()
    last_index = solo.core.log.last_index
    solo.receive(3, AppendReply(solo.core.term, last_index))
    assert solo.core.log.applied == last_index
    solo.step(PrefixCut(3))
    return solo


def _reject_all(solo: Solo) -> AppendReject:
    """What an empty follower says to the first message of this leader."""
    return AppendReject(solo.core.term, 6, 0, 0)
