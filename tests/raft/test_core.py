"""One core, closely: its bounds, its refusals, slow followers, and what it does with late news."""

import itertools

import pytest

from esnode import limits
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.errors import HistoryConflict
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Beat,
    Fetch,
    Fetched,
    Heartbeat,
    HeartbeatReply,
    PeerClosed,
    PeerConnected,
    PeerUnreachable,
    PrefixCut,
    Propose,
    ReadIndex,
    Role,
    SnapshotSent,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
)
from esnode.raft.progress import Progress, ProgressState
from esnode.refusal import Refusal

from .machine import batch_of
from .solo import Solo, entries_of, events, log_of, noop, terms_in

# --- refusals -----------------------------------------------------------------------------------


def test_a_leader_with_too_much_uncommitted_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNAPPLIED_BYTES", 250)
    solo = Solo()
    solo.lead_with_commit()
    refusals = [
        solo.step(Propose(number, batch_of(f"n{number}"))).decisions[0].refusal for number in range(4)
    ]
    assert refusals == [None, None, None, Refusal.BUSY]
    solo.persist()
    solo.receive(2, AppendReply(1, 4))
    assert solo.step(Propose(9, batch_of("n9"))).decisions[0].refusal is None


def tail_of(bytes_of_each: int, count: int, monkeypatch: pytest.MonkeyPatch) -> Solo:
    """A leader whose earlier leaders left `count` entries uncommitted, each as large as the bound."""
    entries = [events(1, 1, 0, "a")]
    for index in range(2, count + 1):
        entries.append(events(index, 1, entries[-1].next_offset, f"a{index}"))
    monkeypatch.setattr(limits, "MAX_UNAPPLIED_BYTES", entries[0].size_bytes + bytes_of_each)
    solo = Solo(log=log_of(entries), term=1)
    solo.lead()
    return solo


def test_what_earlier_leaders_left_takes_no_room_from_a_new_ones_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solo = tail_of(10, 1, monkeypatch)
    refusals = [solo.step(Propose(n, batch_of(f"n{n}"))).decisions[0].refusal for n in range(2)]
    assert refusals == [None, Refusal.BUSY]
    solo.persist()
    solo.receive(2, AppendReply(2, 3))  # all but the last entry commits, and the room was for what was left
    assert solo.core.log.applied == 3


def test_what_earlier_leaders_left_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    solo = tail_of(10, 4, monkeypatch)
    assert solo.core.log.unapplied_bytes > 2 * limits.MAX_UNAPPLIED_BYTES
    assert solo.step(Propose(1, batch_of("b"))).decisions[0].refusal is Refusal.BUSY
    solo.persist()
    solo.receive(2, AppendReply(2, 5))
    assert solo.step(Propose(2, batch_of("b"))).decisions[0].refusal is None


def test_a_leader_with_too_many_reads_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PENDING_READS", 2)
    solo = Solo()
    solo.lead_with_commit()
    ready = solo.step(ReadIndex(1), ReadIndex(2), ReadIndex(3))
    assert [(grant.token, grant.refusal) for grant in ready.read_grants] == [(3, Refusal.BUSY)]


def test_what_the_admission_refuses_is_refused() -> None:
    solo = Solo()
    solo.lead_with_commit()
    batch = batch_of("a")
    stranger = Batch(batch.count, batch.keys, batch.payload, ProducerStamp(77, 1, 0, 1))
    ready = solo.step(Propose(1, stranger))
    assert (ready.write, ready.decisions[0].refusal) == (None, Refusal.UNKNOWN_PRODUCER)


# --- time ---------------------------------------------------------------------------------------


def test_a_node_that_slept_wakes_up_modest() -> None:
    solo = Solo()
    solo.step(Tick(3_600_000))
    assert solo.core.role is Role.FOLLOWER
    leader = Solo()
    leader.lead_with_commit()
    leader.step(Tick(3_600_000), Propose(1, batch_of("a")))
    assert leader.core.log.end.log_time_ms == limits.MAX_TICK_MS


def test_log_time_goes_on_from_the_last_entry_of_the_log() -> None:
    solo = Solo()
    solo.lead_with_commit()
    for _ in range(30):
        solo.step(Tick(10))
        solo.receive(2, HeartbeatReply(1, 0))
    solo.step(Propose(1, batch_of("a")))
    assert solo.core.log.end.log_time_ms == 300
    solo.receive(2, Heartbeat(2, 0, 0))
    solo.lead()
    assert solo.core.log.end.log_time_ms == 300


def test_only_the_closing_of_the_leaders_connection_makes_a_follower_hurry() -> None:
    solo = Solo()
    solo.step(PeerClosed(2))
    solo.receive(2, Heartbeat(1, 0, 0))
    solo.step(PeerClosed(3))
    patient = [solo.step(Tick(10)).messages for _ in range(40)]
    assert not any(patient)
    solo.step(PeerClosed(2))
    assert solo.step(Tick(10)).messages != ()


def test_haste_without_a_quorum_ends_in_ordinary_patience() -> None:
    solo = Solo(voters=5)
    solo.receive(5, Heartbeat(1, 0, 0))
    solo.step(PeerClosed(5))
    asked_at = []
    for now in range(0, 5_000, 5):
        ready = solo.step(Tick(5))
        if any(isinstance(out.message, VoteRequest) for out in ready.messages):
            asked_at.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    hasty = [gap for gap in gaps if gap < 100]
    assert len(hasty) == limits.MAX_HASTY_ELECTIONS
    assert min(gap for gap in gaps if gap >= 100) >= 450
    assert solo.core.term == 1


# --- late news ----------------------------------------------------------------------------------


def test_a_follower_passes_over_answers_meant_for_a_leader() -> None:
    solo = Solo([1])
    for message in (
        AppendReply(1, 1),
        AppendReject(1, 1, 0, 0),
        HeartbeatReply(1, 0),
        VoteReply(1, granted=True, pre=False),
        VoteReply(2, granted=True, pre=True),
    ):
        ready = solo.receive(2, message)
        assert (ready.messages, ready.messages_after, ready.write) == ((), (), None)
    for item in (Beat(), Transfer(2), PeerConnected(2), PeerUnreachable(2), SnapshotSent(2, ok=True)):
        assert solo.step(item).messages == ()


def test_a_leader_ignores_an_answer_about_entries_that_it_does_not_have() -> None:
    solo = Solo()
    solo.lead()
    solo.receive(2, AppendReply(1, 99))
    assert solo.core.log.committed == 0


def test_a_leader_is_not_told_to_time_out() -> None:
    solo = Solo()
    solo.lead()
    solo.receive(2, TimeoutNow(1))
    assert (solo.core.role, solo.core.term) == (Role.LEADER, 1)


def test_a_transfer_to_nobody_known_changes_nothing() -> None:
    solo = Solo()
    solo.lead_with_commit()
    for to in (1, 9):
        solo.step(Transfer(to))
        assert solo.step(Propose(to, batch_of(f"n{to}"))).decisions[0].refusal is None


def test_a_transfer_without_a_name_goes_to_the_longest_log() -> None:
    solo = Solo(voters=5)
    solo.lead_with_commit()
    solo.receive(4, AppendReply(1, 1))
    solo.step(Propose(1, batch_of("a")))
    solo.receive(4, AppendReply(1, 2))
    ready = solo.step(Transfer(None))
    assert [out.to for out in ready.messages if isinstance(out.message, TimeoutNow)] == [4]


def test_a_transfer_without_a_name_needs_a_follower_that_lives() -> None:
    solo = Solo()
    solo.lead_with_commit()
    for _ in range(45):
        solo.step(Tick(10))
    solo.step(Transfer(None))
    assert solo.step(Propose(1, batch_of("a"))).decisions[0].refusal is None


# --- slow followers -----------------------------------------------------------------------------


def progress_of(solo: Solo, peer: int) -> Progress:
    assert solo.core.leadership is not None
    return solo.core.leadership.progress[peer]


def with_a_slow_follower() -> Solo:
    """A leader of term 2 that keeps nothing applied in memory; node 2 holds entry 1, node 3 all."""
    solo = Solo(log=log_of(entries_of([1] * 8), cache_bytes=0), term=1)
    solo.lead()
    solo.persist()
    solo.receive(3, AppendReply(2, 9))
    assert not solo.core.log.is_cached(9)
    return solo


def test_entries_that_left_the_memory_are_read_from_disk_one_request_at_a_time() -> None:
    solo = with_a_slow_follower()
    ready = solo.receive(2, AppendReject(2, 8, 1, 1))
    fetch = Fetch(2, 2, 2, 9)
    assert ready.fetches == (fetch,)
    assert solo.step(PeerConnected(2), Beat()).fetches == ()
    entries = entries_of([1] * 8)[1:4]
    ready = solo.step(Fetched(fetch, entries))
    assert [out.message for out in ready.messages if out.to == 2] == [AppendEntries(2, 1, 1, 9, entries)]
    ready = solo.receive(2, AppendReply(2, 4))
    assert ready.fetches == (Fetch(2, 2, 5, 9),)


def test_entries_read_at_once_leave_in_messages_that_a_slow_link_carries_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solo = with_a_slow_follower()
    entries = entries_of([1] * 8)
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 2 * entries[0].size_bytes)
    (fetch,) = solo.receive(2, AppendReject(2, 8, 1, 1)).fetches
    ready = solo.step(Fetched(fetch, entries[1:7]))
    # One to find the match; the rest is read again once that is found.
    assert [out.message for out in ready.messages if out.to == 2] == [AppendEntries(2, 1, 1, 9, entries[1:3])]
    assert ready.fetches == ()
    (fetch,) = solo.receive(2, AppendReply(2, 3)).fetches
    ready = solo.step(Fetched(fetch, entries[3:8]))
    assert [out.message for out in ready.messages if out.to == 2] == [
        AppendEntries(2, 3, 1, 9, entries[3:5]),
        AppendEntries(2, 5, 1, 9, entries[5:7]),
        AppendEntries(2, 7, 1, 9, entries[7:8]),
    ]
    assert ready.fetches == (Fetch(2, 2, 9, 9),)


def test_entries_read_at_once_leave_as_far_as_the_window_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    solo = with_a_slow_follower()
    entries = entries_of([1] * 8)
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 1)
    monkeypatch.setattr(limits, "MAX_INFLIGHT_APPENDS", 2)
    (fetch,) = solo.receive(2, AppendReject(2, 8, 1, 1)).fetches
    solo.receive(2, AppendReply(2, 3))  # from before: from here on it is streamed to
    (fetch,) = solo.step(Fetched(fetch, ())).fetches
    ready = solo.step(Fetched(fetch, entries[3:8]))
    assert [out.message for out in ready.messages if out.to == 2] == [
        AppendEntries(2, 3, 1, 9, entries[3:4]),
        AppendEntries(2, 4, 1, 9, entries[4:5]),
    ]
    assert ready.fetches == ()
    assert solo.receive(2, AppendReply(2, 4)).fetches == (Fetch(2, 2, 6, 9),)


def test_no_more_is_read_while_enough_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    solo = with_a_slow_follower()
    entries = entries_of([1] * 8)
    monkeypatch.setattr(limits, "MAX_CATCH_UP_BYTES", 3 * entries[0].size_bytes)
    (fetch,) = solo.receive(2, AppendReject(2, 8, 1, 1)).fetches
    solo.receive(2, AppendReply(2, 3))  # from before: from here on it is streamed to
    (fetch,) = solo.step(Fetched(fetch, ())).fetches
    ready = solo.step(Fetched(fetch, entries[3:6]))
    assert [out.message for out in ready.messages if out.to == 2] == [AppendEntries(2, 3, 1, 9, entries[3:6])]
    assert ready.fetches == ()
    assert solo.receive(3, AppendReply(2, 9)).fetches == ()
    assert solo.receive(2, AppendReply(2, 6)).fetches == (Fetch(2, 2, 7, 9),)


def test_entries_read_for_an_older_term_or_place_are_dropped() -> None:
    solo = with_a_slow_follower()
    solo.receive(2, AppendReject(2, 8, 1, 1))
    stale = solo.step(Fetched(Fetch(2, 1, 2, 9), entries_of([1, 1])[1:]))
    assert (stale.messages, progress_of(solo, 2).fetching) == ((), Fetch(2, 2, 2, 9))
    solo.receive(2, AppendReply(2, 3))  # from before, and newer than thought
    ready = solo.step(Fetched(Fetch(2, 2, 2, 9), entries_of([1] * 8)[1:4]))
    assert ready.messages == ()
    assert ready.fetches == (Fetch(2, 2, 4, 9),)


def test_entries_that_were_cut_while_they_were_read_are_not_sent() -> None:
    solo = with_a_slow_follower()
    (fetch,) = solo.receive(2, AppendReject(2, 8, 1, 1)).fetches
    solo.step(PrefixCut(5))
    ready = solo.step(Fetched(fetch, entries_of([1] * 8)[1:4]))
    assert ready.messages == ()
    assert [order.peer for order in ready.snapshots] == [2]
    assert progress_of(solo, 2).state is ProgressState.SNAPSHOT


def test_entries_that_are_gone_from_disk_lead_to_a_snapshot() -> None:
    solo = with_a_slow_follower()
    (fetch,) = solo.receive(2, AppendReject(2, 8, 1, 1)).fetches
    solo.step(PrefixCut(5))
    assert [order.peer for order in solo.step(Fetched(fetch, ())).snapshots] == [2]


def test_the_end_of_a_snapshots_way_is_no_news_after_its_answer() -> None:
    solo = with_a_slow_follower()
    solo.step(PrefixCut(5))
    solo.receive(2, AppendReject(2, 8, 1, 1))
    solo.receive(2, AppendReply(2, 9))
    solo.step(SnapshotSent(2, ok=False))
    assert (progress_of(solo, 2).state, progress_of(solo, 2).match_index) == (ProgressState.REPLICATE, 9)


def test_a_hint_from_before_the_prefix_leads_straight_to_the_snapshot() -> None:
    solo = with_a_slow_follower()
    solo.step(PrefixCut(5))
    ready = solo.receive(2, AppendReject(2, 8, 2, 1))
    assert [order.peer for order in ready.snapshots] == [2]


def test_a_follower_that_lost_its_log_gets_it_again() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of("a")))
    solo.persist()
    solo.receive(2, AppendReply(1, 2))
    ready = solo.step(PeerConnected(2))
    assert [out.message for out in ready.messages if out.to == 2] == [AppendEntries(1, 2, 1, 2, ())]
    ready = solo.receive(2, AppendReject(1, 2, 0, 0))
    (append,) = [out.message for out in ready.messages if out.to == 2]
    assert isinstance(append, AppendEntries)
    assert (append.prev_index, len(append.entries)) == (0, 2)


@pytest.mark.parametrize("state", [ProgressState.PROBE, ProgressState.SNAPSHOT])
def test_a_new_connection_wakes_a_follower_that_waits_for_an_answer(state: ProgressState) -> None:
    solo = with_a_slow_follower()
    if state is ProgressState.SNAPSHOT:
        solo.step(PrefixCut(9))
        solo.receive(2, AppendReject(2, 8, 1, 1))
    assert progress_of(solo, 2).state is state
    ready = solo.step(PeerConnected(2))
    if state is ProgressState.SNAPSHOT:
        assert [out.message for out in ready.messages] == [AppendEntries(2, 9, 2, 9, ())]
    else:
        assert ready.fetches == (Fetch(2, 2, 9, 9),)


def test_a_lost_message_changes_nothing_for_a_follower_that_is_only_probed() -> None:
    solo = with_a_slow_follower()
    assert progress_of(solo, 2).state is ProgressState.PROBE
    ready = solo.step(PeerUnreachable(2))
    assert (ready.messages, ready.fetches) == ((), ())
    assert (progress_of(solo, 2).state, progress_of(solo, 2).next_index) == (ProgressState.PROBE, 9)


def test_a_new_connection_does_not_send_the_whole_log_again() -> None:
    solo = Solo(log=log_of(entries_of([1] * 8)), term=1)
    solo.lead()
    solo.persist()
    solo.receive(3, AppendReply(2, 9))
    solo.step(PrefixCut(5))
    ready = solo.step(PeerConnected(2))  # nothing is known of node 2 yet
    assert ready.snapshots == ()
    assert [out.message for out in ready.messages] == [AppendEntries(2, 8, 1, 9, (noop(9, 2),))]


def test_what_a_heartbeat_answer_brings_is_asked_once_a_beat() -> None:
    solo = Solo()
    solo.lead_with_commit()
    solo.step(Propose(1, batch_of("a")))
    assert solo.receive(2, HeartbeatReply(1, 0)).messages == ()
    solo.step(Beat())
    ready = solo.receive(2, HeartbeatReply(1, 0))
    assert [out.message for out in ready.messages] == [AppendEntries(1, 2, 1, 1, ())]
    assert solo.receive(2, HeartbeatReply(1, 0)).messages == ()
    solo.step(Beat())
    solo.receive(2, AppendReply(1, 2))
    assert solo.receive(2, HeartbeatReply(1, 0)).messages == ()


def test_a_follower_skips_what_it_has_committed() -> None:
    solo = Solo()
    solo.receive(2, AppendEntries(1, 0, 0, 2, entries_of([1, 1, 1])))
    compared = AppendReply(1, 1)
    assert solo.replies(2, AppendEntries(1, 0, 0, 0, (noop(1, 1),))) == [compared]
    assert terms_in(solo.core.log) == [1, 1, 1]


@pytest.mark.parametrize("first", [2, 3])
def test_a_follower_that_hears_two_leaders_of_one_term_ends(first: int) -> None:
    """5.2: election safety is broken somewhere, and nobody here can tell where. Nothing is written."""
    node = Solo([1, 1], term=2)
    node.receive(first, Heartbeat(2, 0, 0))
    node.receive(first, Heartbeat(2, 0, 0))
    second = 5 - first
    with pytest.raises(HistoryConflict, match=f"two leaders in term 2: {first} and {second}"):
        node.receive(second, AppendEntries(2, 2, 1, 0, (noop(3, 2),)))
    assert node.core.log.last_index == 2
