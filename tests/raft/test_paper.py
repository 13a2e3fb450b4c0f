"""What the Raft paper promises (Ongaro and Ousterhout, extended version); each test names its section."""

import random

import pytest

from esnode import limits
from esnode.errors import HistoryConflict
from esnode.raft.core import Core
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Beat,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PeerMessage,
    Propose,
    ReadGrant,
    ReadIndex,
    Received,
    Role,
    Snapshot,
    Tick,
    VoteReply,
    VoteRequest,
)
from esnode.refusal import Refusal

from .machine import batch_of
from .network import TIMERS, Network
from .solo import Solo, entries_of, log_of, noop, terms_in

ELECTION_MS = TIMERS.election_ms


def in_role(role: Role) -> Solo:
    """A node that has reached `role` in term 1 (a pre-candidate: in term 0)."""
    solo = Solo()
    if role is Role.PRE_CANDIDATE:
        solo.time_out()
    elif role is Role.CANDIDATE:
        solo.campaign()
    elif role is Role.LEADER:
        solo.lead()
    assert solo.core.role is role
    return solo


# --- 5.1: terms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_5_1_a_server_adopts_a_higher_term_and_becomes_a_follower(role: Role) -> None:
    solo = in_role(role)
    solo.receive(2, AppendEntries(7, 0, 0, 0, ()))
    assert (solo.core.role, solo.core.term, solo.core.leader) == (Role.FOLLOWER, 7, 2)


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.LEADER])
def test_5_1_a_message_of_an_older_term_changes_nothing(role: Role) -> None:
    solo = in_role(role)
    solo.receive(2, AppendEntries(9, 0, 0, 0, ()))
    solo.receive(2, AppendEntries(8, 0, 0, 0, (noop(1, 8),)))
    assert solo.core.log.last_index == (1 if role is Role.LEADER else 0)
    assert solo.core.term == 9


def test_5_1_a_leader_of_an_older_term_is_told_the_new_one() -> None:
    solo = Solo(term=5)
    assert solo.replies(2, Heartbeat(4, 0, 1)) == [HeartbeatReply(5, 0)]
    assert solo.replies(2, AppendEntries(4, 0, 0, 0, ())) == [HeartbeatReply(5, 0)]
    assert solo.replies(2, InstallSnapshot(4, Snapshot(3, 3, 0, 0, b""))) == [HeartbeatReply(5, 0)]
    assert solo.replies(2, VoteRequest(4, 9, 4, pre=True)) == [VoteReply(5, granted=False, pre=True)]
    assert solo.replies(2, VoteRequest(4, 9, 4, pre=False)) == []
    assert solo.replies(2, AppendReply(4, 1)) == []


def test_5_1_term_and_vote_are_written_together_before_the_vote_leaves() -> None:
    solo = Solo()
    ready = solo.receive(2, VoteRequest(1, 0, 0, pre=False))
    assert ready.write is not None
    assert ready.write.hard_state == HardState(1, 2)
    assert ready.messages == ()
    assert [out.message for out in ready.messages_after] == [VoteReply(1, granted=True, pre=False)]


# --- 5.2: election ------------------------------------------------------------------------------


def test_5_2_a_server_starts_as_a_follower() -> None:
    assert in_role(Role.FOLLOWER).core.role is Role.FOLLOWER


def test_5_2_a_leader_sends_heartbeats_to_everybody() -> None:
    solo = in_role(Role.LEADER)
    ready = solo.step(Beat())
    beats = [out.to for out in ready.messages if isinstance(out.message, Heartbeat)]
    assert beats == [2, 3]


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_5_2_silence_leads_to_an_election(role: Role) -> None:
    solo = in_role(role)
    term = solo.core.term
    asked = [out.message for out in solo.time_out().messages]
    assert asked == [VoteRequest(term + 1, 0, 0, pre=True)] * 2
    ready = solo.receive(2, VoteReply(term + 1, granted=True, pre=True))
    assert (solo.core.role, solo.core.term) == (Role.CANDIDATE, term + 1)
    assert [out.message for out in ready.messages_after] == [VoteRequest(term + 1, 0, 0, pre=False)] * 2


@pytest.mark.parametrize(
    ("voters", "granted", "refused", "role"),
    [
        (1, [], [], Role.LEADER),
        (3, [2], [], Role.LEADER),
        (3, [2], [3], Role.LEADER),
        (3, [], [2], Role.CANDIDATE),
        (3, [], [2, 3], Role.FOLLOWER),
        (5, [2], [], Role.CANDIDATE),
        (5, [2, 3], [4, 5], Role.LEADER),
        (5, [2], [3, 4, 5], Role.FOLLOWER),
        (7, [2, 3], [4, 5, 6], Role.CANDIDATE),
        (7, [2, 3, 4], [], Role.LEADER),
    ],
)
def test_5_2_a_majority_of_votes_makes_a_leader(
    voters: int, granted: list[int], refused: list[int], role: Role
) -> None:
    solo = Solo(voters=voters)
    if voters == 1:
        solo.time_out_alone()
    else:
        solo.campaign()
    for voter in granted:
        solo.receive(voter, VoteReply(1, granted=True, pre=False))
    for voter in refused:
        solo.receive(voter, VoteReply(1, granted=False, pre=False))
    assert solo.core.role is role


def test_5_2_a_vote_is_counted_once() -> None:
    solo = Solo(voters=5)
    solo.campaign()
    for _ in range(3):
        solo.receive(2, VoteReply(1, granted=True, pre=False))
    assert solo.core.role is Role.CANDIDATE


@pytest.mark.parametrize(
    ("vote", "candidate", "granted"),
    [(None, 2, True), (None, 3, True), (2, 2, True), (3, 3, True), (2, 3, False), (3, 2, False)],
)
def test_5_2_a_server_votes_once_a_term_first_come_first_served(
    vote: int | None, candidate: int, *, granted: bool
) -> None:
    solo = Solo(term=1, vote=vote)
    assert solo.replies(candidate, VoteRequest(1, 0, 0, pre=False)) == [VoteReply(1, granted, pre=False)]


def test_5_2_a_follower_of_the_terms_leader_votes_for_nobody_else() -> None:
    solo = Solo()
    solo.receive(2, Heartbeat(1, 0, 0))
    assert solo.replies(3, VoteRequest(1, 9, 1, pre=False)) == [VoteReply(1, granted=False, pre=False)]


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_5_2_a_candidate_yields_to_the_leader_of_its_term(role: Role) -> None:
    solo = in_role(role)
    term = solo.core.term or 1
    solo.receive(2, AppendEntries(term, 0, 0, 0, ()))
    assert (solo.core.role, solo.core.leader, solo.core.term) == (Role.FOLLOWER, 2, term)


def test_5_2_two_leaders_in_one_term_end_the_process() -> None:
    solo = in_role(Role.LEADER)
    with pytest.raises(HistoryConflict, match="two leaders in term"):
        solo.receive(2, Heartbeat(1, 0, 0))


def test_5_2_election_timeouts_are_random_within_their_bounds() -> None:
    seen = set()
    for seed in range(100):
        core = Core(
            1,
            (1, 2, 3),
            hard_state=HardState(0, None),
            log=log_of(()),
            admission=Solo().machine.admission,
            timers=TIMERS,
            random=random.Random(seed),
        )
        waited = 0
        while core.role is Role.FOLLOWER:
            core.step(Tick(1))
            waited += 1
        seen.add(waited)
    assert min(seen) >= ELECTION_MS
    assert max(seen) < ELECTION_MS + TIMERS.jitter_ms
    assert len(seen) > TIMERS.jitter_ms // 4


# --- 5.3: replication ---------------------------------------------------------------------------


def test_5_3_a_leader_appends_and_sends_to_everybody_at_once() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.receive(3, AppendReply(1, 1))
    ready = solo.step(Propose(1, batch_of("a")))
    assert ready.write is not None
    (entry,) = ready.write.entries
    assert (entry.index, entry.term, entry.base_offset) == (2, 1, 0)
    append = AppendEntries(1, 1, 1, 1, (entry,))
    assert [(out.to, out.message) for out in ready.messages] == [(2, append), (3, append)]


@pytest.mark.parametrize(
    ("voters", "acks", "committed"),
    [(1, [], True), (3, [], False), (3, [2], True), (5, [2], False), (5, [3, 5], True), (7, [2, 3, 4], True)],
)
def test_5_3_an_entry_is_committed_once_a_majority_holds_it(
    voters: int, acks: list[int], *, committed: bool
) -> None:
    network = Network(voters)
    network.campaign(1)
    network.settle()
    token = network.propose(1, "a")
    network.persist(1)
    network.deliver()
    for voter in acks:
        network.persist(voter)
    network.deliver()
    assert (network.results.get(token) == "acked at 0") is committed


def test_5_3_committing_an_entry_commits_those_before_it() -> None:
    for terms in ([], [1], [1, 2], [1, 1, 3]):
        solo = Solo(terms)
        solo.lead()
        solo.persist()
        last_index = len(terms) + 1
        ready = solo.receive(2, AppendReply(solo.core.term, last_index))
        assert [entry.index for entry in ready.committed] == list(range(1, last_index + 1))


@pytest.mark.parametrize("commit", [0, 1, 2, 3, 9])
def test_5_3_a_follower_commits_what_the_leader_has_and_it_holds(commit: int) -> None:
    solo = Solo()
    solo.receive(2, AppendEntries(1, 0, 0, commit, entries_of([1, 1, 1])))
    ready = solo.persist()
    assert [entry.index for entry in ready.committed] == list(range(1, min(commit, 3) + 1))


def test_5_3_a_follower_commits_nothing_that_the_leader_has_not_vouched_for() -> None:
    solo = Solo([1, 1, 1])  # entries 2 and 3 may be those of a leader that lost
    ready = solo.receive(2, AppendEntries(2, 1, 1, 3, ()))
    assert [entry.index for entry in ready.committed] == [1]


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "reply"),
    [
        (0, 0, AppendReply(3, 0)),
        (1, 1, AppendReply(3, 1)),
        (2, 2, AppendReply(3, 2)),
        (2, 1, AppendReject(3, 2, 1, 1)),
        (1, 2, AppendReject(3, 1, 1, 1)),
        (3, 3, AppendReject(3, 3, 2, 2)),
        (3, 1, AppendReject(3, 3, 1, 1)),
    ],
)
def test_5_3_a_follower_checks_the_entry_before(prev_index: int, prev_term: int, reply: PeerMessage) -> None:
    solo = Solo([1, 2])
    assert solo.replies(2, AppendEntries(3, prev_index, prev_term, 0, ())) == [reply]


@pytest.mark.parametrize(
    ("prev", "sent", "held"),
    [
        (2, [3], [1, 2, 3]),
        (1, [3, 4], [1, 3, 4]),
        (0, [1], [1, 2]),
        (0, [3], [3]),
        (1, [2, 2], [1, 2, 2]),
    ],
)
def test_5_3_a_conflicting_tail_gives_way_and_an_equal_one_stays(
    prev: int, sent: list[int], held: list[int]
) -> None:
    solo = Solo([1, 2])
    new = tuple(noop(prev + 1 + place, term) for place, term in enumerate(sent))
    ready = solo.receive(2, AppendEntries(4, prev, [0, 1, 2][prev], 0, new))
    assert terms_in(solo.core.log) == held
    assert ready.write is not None
    assert [entry.term for entry in ready.write.entries] == (
        [] if held == [1, 2] else sent[len(sent) - len(ready.write.entries) :]
    )


LEADER_OF_FIGURE_7 = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("name", list(FIGURE_7))
def test_5_3_figure_7_a_leader_brings_every_log_into_line(name: str) -> None:
    network = Network(3)
    network.plant(1, entries_of(LEADER_OF_FIGURE_7), HardState(7, None))
    network.plant(2, entries_of(FIGURE_7[name]), HardState(7, None))
    network.plant(3, entries_of(LEADER_OF_FIGURE_7), HardState(7, None))
    network.sever(2, 1)
    network.campaign(1)
    network.settle()
    assert network.leader() == 1
    network.heal()
    network.pass_time(300)
    assert terms_in(network.core(2).log) == [*LEADER_OF_FIGURE_7, 8]


def test_5_3_conflicts_are_passed_by_whole_terms() -> None:
    network = Network(3)
    network.plant(1, entries_of([1] * 3 + [4] * 50 + [5] * 50), HardState(7, None))
    network.plant(2, entries_of([1] * 3 + [2] * 60 + [3] * 60), HardState(7, None))
    network.plant(3, entries_of([1] * 3 + [4] * 50 + [5] * 50), HardState(7, None))
    network.sever(2, 1)
    network.campaign(1)
    network.settle()
    network.heal()
    told: list[str] = []
    network._tell = told.append
    network.pass_time(300)
    assert network.core(2).log.last_index == 104
    assert sum("no match" in line for line in told) <= 3


# --- 5.4.1: election restriction ----------------------------------------------------------------


@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize(
    ("terms", "last_index", "last_term", "granted"),
    [
        ([1], 1, 1, True),
        ([1], 2, 1, True),
        ([1, 1], 1, 1, False),
        ([1], 1, 2, True),
        ([1], 2, 2, True),
        ([1, 1], 1, 2, True),
        ([2], 1, 1, False),
        ([2], 2, 1, False),
        ([1, 2], 1, 1, False),
        ([], 0, 0, True),
    ],
)
def test_5_4_1_a_vote_goes_to_a_log_that_is_at_least_as_up_to_date(
    terms: list[int], last_index: int, last_term: int, *, granted: bool, pre: bool
) -> None:
    solo = Solo(terms)
    (reply,) = solo.replies(2, VoteRequest(5, last_index, last_term, pre=pre))
    assert isinstance(reply, VoteReply)
    assert reply.granted is granted


def test_5_4_1_a_request_for_votes_says_where_the_log_ends() -> None:
    solo = Solo([1, 1, 3])
    assert [out.message for out in solo.time_out().messages] == [VoteRequest(4, 3, 3, pre=True)] * 2
    ready = solo.receive(2, VoteReply(4, granted=True, pre=True))
    assert [out.message for out in ready.messages_after] == [VoteRequest(4, 3, 3, pre=False)] * 2


# --- 5.4.2 and figure 8: commits of earlier terms ------------------------------------------------


@pytest.mark.parametrize(("acked", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_5_4_2_a_leader_counts_replicas_of_its_own_term_only(acked: int, committed: int) -> None:
    solo = Solo([1, 2])
    solo.lead()
    solo.persist()
    solo.receive(2, AppendReply(3, acked))
    assert solo.core.log.committed == committed


def test_figure_8_an_old_entry_on_a_majority_can_still_be_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 1)  # an entry a message
    network = Network(5)
    for node_id, terms in {1: [1, 2], 2: [1], 3: [1], 4: [1], 5: [1, 3]}.items():
        network.plant(node_id, entries_of(terms), HardState(3, None))
    # (c): node 1 leads in term 4 and brings entry 2@2 to a majority, but its own entry to nobody.
    network.split((1, 2, 3), (4, 5))
    network.campaign(1)
    for _ in range(12):
        network.deliver()
        for node_id in network.ids:
            network.persist(node_id)
        # What would bring 3@4 to a log that it fits is lost.
        network.pool = [
            envelope
            for envelope in network.pool
            if not _carries_term(envelope.message, 4) or network.core(envelope.to).log.last_index < 2
        ]
    leadership = network.core(1).leadership
    assert leadership is not None
    assert [leadership.progress[peer].match_index for peer in (2, 3)] == [2, 2]
    assert network.core(1).log.committed == 0
    # (d): node 5 is elected by 3 and 4, and overwrites it: legal, since nobody was told.
    network.crash(1)
    network.split((1, 2), (3, 4, 5))
    network.pass_time(1_200)
    assert network.leader() == 5
    assert terms_in(network.core(3).log)[:2] == [1, 3]


def _carries_term(message: PeerMessage, term: int) -> bool:
    return isinstance(message, AppendEntries) and any(entry.term == term for entry in message.entries)


def test_figure_8_an_old_entry_is_safe_once_a_newer_one_is_on_a_majority() -> None:
    network = Network(5)
    for node_id, terms in {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}.items():
        network.plant(node_id, entries_of(terms), HardState(3, None))
    network.split((1, 2, 3), (4, 5))
    network.campaign(1)
    network.settle()
    assert network.invariants.last_committed == 3
    network.crash(1)
    network.heal()
    network.campaign(5)
    network.pass_time(100)
    assert network.core(5).role is not Role.LEADER
    network.pass_time(2_000)
    assert network.leader() in {2, 3}


# --- 6 and 8: clients -----------------------------------------------------------------------------


def test_8_a_follower_refuses_requests() -> None:
    solo = in_role(Role.FOLLOWER)
    ready = solo.step(Propose(1, batch_of("a")), ReadIndex(2))
    assert [decision.refusal for decision in ready.decisions] == [Refusal.NOT_LEADER]
    assert ready.read_grants == (ReadGrant(2, 0, Refusal.NOT_LEADER),)


def test_8_a_new_leader_begins_its_term_with_a_noop() -> None:
    solo = Solo([1, 1])
    ready = solo.lead()
    assert ready.write is not None
    assert [(entry.index, entry.term, entry.kind.name) for entry in ready.write.entries] == [(3, 2, "NOOP")]


def test_a_message_from_a_stranger_is_ignored() -> None:
    solo = Solo()
    ready = solo.step(Received(9, VoteRequest(4, 0, 0, pre=False)), Received(1, Heartbeat(4, 0, 0)))
    assert (solo.core.term, ready.messages_after) == (0, ())
