"""A node whose committed history is not its leader's: seen at once, from both sides, and never counted."""

import re
from dataclasses import replace

import pytest

from esnode.errors import HistoryConflict
from esnode.raft.entry import Entry
from esnode.raft.following import tell_conflict
from esnode.raft.messages import (
    ORIGIN,
    UNKNOWN,
    AppendEntries,
    AppendReject,
    AppendReply,
    Beat,
    Conflict,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    LogPoint,
    PeerConnected,
    PeerMessage,
    PrefixCut,
    Propose,
    ReadIndex,
    Rejoin,
    Role,
    SendSnapshot,
    Snapshot,
    SnapshotSent,
    Tick,
    VoteRequest,
)

from .machine import batch_of
from .network import TIMERS
from .solo import Solo, events, log_of, noop, terms_in


def history(*names: str, term: int = 1) -> list[Entry]:
    """A log of one event an entry."""
    entries: list[Entry] = []
    for index, name in enumerate(names, 1):
        entries.append(events(index, term, index - 1, name))
    return entries


def follower(*, committed: int = 5, prefix: int = 0) -> Solo:
    """Node 1 of term 3, with five entries of term 1; some are committed and applied, the first may be cut."""
    solo = Solo(log=log_of(history("a", "b", "c", "d", "e")), term=3)
    solo.receive(2, AppendEntries(3, 5, 1, committed, ()))
    if prefix:
        solo.step(PrefixCut(prefix))
    return solo


def ends(solo: Solo, message: PeerMessage) -> str:
    """Why a follower ends that hears this of node 2: it shows what it has, hears nobody more, and goes."""
    before = terms_in(solo.core.log)
    ready = solo.receive(2, message)
    (reply,) = [out.message for out in ready.messages]
    assert isinstance(reply, HeartbeatReply)
    assert (ready.write, ready.messages_after) == (None, ())
    assert solo.replies(2, Heartbeat(3, 0, 0)) == solo.replies(3, VoteRequest(9, 9, 9, pre=False)) == []
    with pytest.raises(HistoryConflict) as caught:
        solo.step(Tick(10))
    assert terms_in(solo.core.log) == before
    assert str(caught.value).startswith("node 1 has committed") or "cannot follow" in str(caught.value)
    return f"{caught.value}; shown {reply.applied.index} of term {reply.applied.term}"


# --- a follower compares before it answers ------------------------------------------------------


@pytest.mark.parametrize("prev_index", [1, 3, 5])
def test_another_term_below_what_is_committed_ends_the_follower(prev_index: int) -> None:
    solo = follower()
    why = ends(solo, AppendEntries(3, prev_index, 2, 0, ()))
    assert f"node 1 has committed entry {prev_index} of term 1" in why
    assert f"node 2, which leads, has entry {prev_index} of term 2" in why
    assert why.endswith(f"shown {prev_index} of term 1")


def test_an_entry_of_another_term_below_what_is_committed_ends_the_follower() -> None:
    """As the no-op of a new leader whose log is shorter than what is committed here."""
    solo = follower()
    assert re.search(
        r"committed entry 4 of term 1.* has entry 4 of term 3",
        ends(solo, AppendEntries(3, 3, 1, 0, (noop(4, 3),))),
    )


def test_an_entry_of_the_same_term_and_other_offsets_ends_the_follower() -> None:
    """Two histories that begin at one directory have the same terms: the offsets and log times differ."""
    solo = follower()
    other = events(4, 1, 3, "x", "y")
    assert re.search(r"ends at offset 4 .* ends at offset 5", ends(solo, AppendEntries(3, 3, 1, 0, (other,))))


def test_what_was_compared_is_a_match_and_nothing_more() -> None:
    solo = follower(committed=4)
    same = history("a", "b", "c", "d", "e")[1:3]
    assert solo.replies(2, AppendEntries(3, 1, 1, 0, tuple(same))) == [AppendReply(3, 3)]


def test_entries_that_go_on_behind_what_is_committed_are_taken() -> None:
    solo = follower(committed=4)
    new = (*history("a", "b", "c", "d", "e")[2:], events(6, 3, 5, "f"))
    assert solo.replies(2, AppendEntries(3, 2, 1, 6, new)) == [AppendReply(3, 6)]
    assert (solo.core.log.last_index, solo.core.log.committed) == (6, 6)


def test_what_was_cut_away_cannot_be_compared_and_is_not_confirmed() -> None:
    """The follower says where its log begins and what it has there; the leader compares that."""
    solo = follower(prefix=4)
    same = tuple(history("a", "b")[1:])
    assert solo.replies(2, AppendEntries(3, 1, 1, 0, same)) == [AppendReject(3, 1, 5, 1)]


def test_entries_that_reach_into_what_is_kept_are_compared_there() -> None:
    entries = history("a", "b", "c", "d", "e")
    solo = follower(prefix=4)
    assert solo.replies(2, AppendEntries(3, 1, 1, 0, tuple(entries[1:]))) == [AppendReply(3, 5)]
    assert re.search(
        "entry 4 of term 2", ends(follower(prefix=4), AppendEntries(3, 3, 1, 0, (noop(4, 2), noop(5, 2))))
    )


def test_a_later_term_before_the_prefix_ends_the_follower() -> None:
    """Terms never fall along a log: what comes after cannot be what is kept here."""
    assert re.search(
        r"committed entry 4 of term 1.* has entry 2 of term 3",
        ends(follower(prefix=4), AppendEntries(3, 1, 1, 0, (noop(2, 3),))),
    )


@pytest.mark.parametrize(
    "theirs", [LogPoint(5, 2, 5, 0), LogPoint(5, 1, 4, 0), LogPoint(5, 1, 5, 1), LogPoint(4, 1, 3, 0)]
)
def test_a_leader_that_has_applied_something_else_ends_the_follower(theirs: LogPoint) -> None:
    assert re.search(
        r"node 1 has committed .*; node 2, which leads, has", ends(follower(), Heartbeat(3, 0, 0, theirs))
    )


@pytest.mark.parametrize(
    "theirs", [LogPoint(5, 1, 5, 0), LogPoint(3, 1, 3, 0), ORIGIN, LogPoint(6, 2, 9, 9), LogPoint(5, 2, 9, 9)]
)
def test_a_leader_that_has_applied_the_same_or_more_is_followed(theirs: LogPoint) -> None:
    solo = follower(committed=4)
    expected = HeartbeatReply(3, 7, LogPoint(4, 1, 4, 0))
    assert solo.replies(2, Heartbeat(3, 0, 7, theirs)) == [expected]


def test_an_entry_that_cannot_follow_ends_the_follower_too() -> None:
    """The terms agree, and all that was compared: only the offsets show that the histories are two."""
    why = ends(follower(), AppendEntries(3, 5, 1, 0, (events(6, 3, 3, "f"),)))
    assert "node 1 cannot follow node 2" in why
    assert why.endswith("shown 5 of term 1")


def test_a_snapshot_of_another_history_ends_the_follower() -> None:
    assert re.search("entry 3 of term 2", ends(follower(), InstallSnapshot(3, Snapshot(3, 2, 3, 0, b""))))
    assert re.search("offset 7", ends(follower(), InstallSnapshot(3, Snapshot(3, 1, 7, 0, b""))))


# --- a leader believes no follower that cannot be one -------------------------------------------


def conflict_of(solo: Solo, message: AppendReply | AppendReject | HeartbeatReply) -> list[Conflict]:
    return list(solo.receive(3, message).conflicts)


LYING = [
    AppendReply(1, 9),
    HeartbeatReply(1, 0, LogPoint(9, 1, 8, 0)),
    HeartbeatReply(1, 0, LogPoint(1, 1, 1, 0)),
    HeartbeatReply(1, 0, LogPoint(1, 1, 0, 5)),
    AppendReject(1, 0, 9, 1),
    AppendReject(1, 0, 1, 0),
]


@pytest.mark.parametrize("message", LYING, ids=str)
def test_a_follower_past_what_its_leader_can_have_confirmed_is_told_once_and_counts_for_nothing(
    message: AppendReply | AppendReject | HeartbeatReply,
) -> None:
    solo = Solo()
    solo.lead_with_commit()
    (conflict,) = conflict_of(solo, message)
    assert (conflict.peer, conflict.ours) == (3, LogPoint(1, 1, 0, 0))
    assert conflict_of(solo, message) == []
    solo.step(Propose(1, batch_of("a")))
    solo.persist()
    for honest in (AppendReply(1, 2), HeartbeatReply(1, 0, ORIGIN), AppendReject(1, 1, 0, 0)):
        solo.receive(3, honest)
    assert solo.core.log.committed == 1
    assert solo.core.leadership is not None
    assert solo.core.leadership.progress[3].match_index == 0
    assert list(solo.core.leadership.conflicts) == [3]


def test_an_alarm_names_both_nodes_with_index_term_and_offset() -> None:
    solo = Solo()
    solo.lead_with_commit()
    (conflict,) = conflict_of(solo, HeartbeatReply(1, 0, LogPoint(9, 1, 8, 70)))
    assert tell_conflict(1, conflict) == (
        "node 3 has committed entry 9 of term 1, which ends at offset 8 and log time 70;"
        " node 1, which leads, has entry 1 of term 1, which ends at offset 0 and log time 0"
    )
    forgotten = replace(conflict, ours=LogPoint(1, 1, UNKNOWN, UNKNOWN), theirs=LogPoint(9, -1, -1, -1))
    assert tell_conflict(1, forgotten) == (
        "node 3 has committed entry 9; node 1, which leads, has entry 1 of term 1,"
        " and has applied entry 1 of term 1, which ends at offset 0 and log time 0"
    )


def test_a_follower_that_has_applied_what_its_leader_has_not_committed_contradicts_it() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of("a")))
    assert conflict_of(solo, HeartbeatReply(1, 0, LogPoint(2, 1, 1, 0)))


def test_a_new_leader_may_know_less_of_what_is_committed_than_its_followers() -> None:
    solo = Solo([1, 1, 1])
    solo.lead()
    assert solo.core.log.committed == 0
    assert conflict_of(solo, HeartbeatReply(2, 0, LogPoint(3, 1, 0, 0))) == []


def test_a_contradicting_follower_keeps_no_leader_in_office_and_frees_no_read() -> None:
    solo = Solo()
    solo.lead_with_commit()
    assert conflict_of(solo, AppendReply(1, 9))
    solo.step(ReadIndex(1))
    assert solo.receive(3, HeartbeatReply(1, 1, ORIGIN)).read_grants == ()
    for _ in range(2 * TIMERS.election_ms // 10):
        solo.receive(3, HeartbeatReply(1, 1, ORIGIN))
        solo.step(Tick(10))
    assert solo.core.role is Role.FOLLOWER


def test_a_contradicting_follower_is_sent_heartbeats_and_no_log_that_would_replace_its_own() -> None:
    solo = Solo([1, 1, 1])
    solo.lead_with_commit()
    assert conflict_of(solo, AppendReply(2, 9))
    solo.step(PrefixCut(4))
    solo.step(PeerConnected(3))
    ready = solo.step(Propose(1, batch_of("a")), Beat())
    assert ready.snapshots == ()
    (shown,) = [out.message for out in ready.messages if out.to == 3]
    assert isinstance(shown, Heartbeat)
    assert shown.applied == LogPoint(4, 2, 0, 0)  # what contradicts it: it can see that, too


def test_a_contradicting_follower_that_rejoins_is_begun_anew_with() -> None:
    solo = Solo()
    solo.lead_with_commit()
    assert conflict_of(solo, AppendReply(1, 9))
    solo.receive(3, Rejoin(7))
    assert solo.core.leadership is not None
    assert not solo.core.leadership.conflicts
    solo.receive(3, AppendReply(1, 1))
    assert solo.core.leadership.progress[3].match_index == 1


def test_a_follower_whose_log_begins_later_is_sent_what_comes_after_what_it_has() -> None:
    solo = Solo([1, 1, 1, 1])
    solo.lead_with_commit()
    solo.step(PeerConnected(3))
    solo.receive(3, AppendReject(2, 4, 0, 0))
    ready = solo.receive(3, AppendReject(2, 0, 3, 1))
    (out,) = [out for out in ready.messages if out.to == 3]
    assert isinstance(out.message, AppendEntries)
    assert (out.message.prev_index, out.message.prev_term) == (3, 1)


def test_a_follower_whose_log_begins_later_than_its_leaders_prefix_gets_the_snapshot() -> None:
    solo = Solo([1, 1, 1, 1])
    solo.lead_with_commit()
    solo.step(PrefixCut(4))
    solo.step(PeerConnected(3))
    ready = solo.receive(3, AppendReject(2, 4, 0, 0))
    assert ready.snapshots == (SendSnapshot(3, 2),)
    solo.step(SnapshotSent(3, ok=False))
    assert solo.core.leadership is not None
    assert solo.core.leadership.progress[3].next_index == 1
    ready = solo.receive(3, AppendReject(2, 0, 3, 1))
    assert (ready.conflicts, ready.snapshots) == ((), (SendSnapshot(3, 2),))


def test_a_beat_says_what_the_leader_has_applied() -> None:
    solo = Solo()
    solo.lead_with_commit()
    ready = solo.step(Beat())
    applied = {out.message.applied for out in ready.messages if isinstance(out.message, Heartbeat)}
    assert applied == {LogPoint(1, 1, 0, 0)}
