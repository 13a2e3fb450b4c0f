"""What a leader knows of a follower: the three states and their windows."""

import pytest

from esnode import limits
from esnode.raft.messages import Fetch
from esnode.raft.progress import Progress, ProgressState


def streaming(match_index: int = 5) -> Progress:
    progress = Progress(match_index + 1)
    progress.matched(match_index)
    assert progress.state is ProgressState.REPLICATE
    return progress


def test_a_probe_sends_one_message_and_waits() -> None:
    progress = Progress(6)
    assert progress.may_send()
    progress.sent(7, 100, 0)
    assert (progress.may_send(), progress.next_index) == (False, 6)
    progress.matched(7)
    assert (progress.state, progress.match_index, progress.next_index) == (ProgressState.REPLICATE, 7, 8)


def test_a_probe_that_is_asked_again_carries_nothing() -> None:
    """On a slow link many heartbeats are answered before a large probe has arrived."""
    progress = Progress(6)
    progress.ask_again()
    assert not progress.asks_again  # nothing has left that could be lost
    progress.sent(7, 100, 0)
    progress.ask_again()
    assert (progress.may_send(), progress.asks_again) == (True, True)
    progress.matched(5)
    assert (progress.state, progress.asks_again) == (ProgressState.REPLICATE, False)


def test_a_stream_runs_ahead_of_its_answers() -> None:
    progress = streaming()
    progress.sent(6, 100, 0)
    progress.sent(9, 300, 0)
    assert (progress.next_index, progress.inflight_bytes, progress.has_unconfirmed()) == (10, 400, True)
    progress.matched(6)
    assert (progress.match_index, progress.inflight_bytes) == (6, 300)
    progress.matched(9)
    assert (progress.inflight_bytes, progress.has_unconfirmed()) == (0, False)


def test_a_stream_pauses_when_too_many_messages_are_out() -> None:
    progress = streaming(0)
    for index in range(1, limits.MAX_INFLIGHT_APPENDS + 1):
        assert progress.may_send()
        progress.sent(index, 1, 0)
    assert not progress.may_send()
    progress.matched(1)
    assert progress.may_send()


def test_a_stream_pauses_when_too_many_bytes_are_out() -> None:
    progress = streaming(0)
    progress.sent(1, limits.MAX_INFLIGHT_BYTES, 0)
    assert not progress.may_send()
    progress.matched(1)
    assert progress.may_send()


def test_a_message_without_entries_takes_no_room() -> None:
    progress = streaming(5)
    progress.sent(5, 0, 4)
    assert (progress.next_index, progress.inflight_bytes, progress.sent_commit) == (6, 0, 4)


def test_nothing_is_sent_while_entries_are_read_from_disk() -> None:
    progress = streaming()
    progress.fetching = Fetch(2, 1, 7, 9)
    assert not progress.may_send()


@pytest.mark.parametrize(("rejected", "believed"), [(4, False), (5, False), (6, True), (9, True)])
def test_a_stream_ignores_a_rejection_of_what_is_confirmed(rejected: int, *, believed: bool) -> None:
    progress = streaming(5)
    progress.sent(9, 100, 0)
    progress.rejected(rejected, 6)
    assert (progress.state is ProgressState.PROBE) is believed
    assert progress.next_index == (6 if believed else 10)


@pytest.mark.parametrize(("rejected", "believed"), [(4, False), (5, True), (6, False)])
def test_a_probe_believes_only_the_answer_to_its_last_message(rejected: int, *, believed: bool) -> None:
    progress = Progress(6)
    progress.sent(6, 100, 0)
    progress.rejected(rejected, 3)
    assert progress.next_index == (3 if believed else 6)
    assert progress.may_send() is believed


def test_a_follower_that_rejects_what_it_had_confirmed_is_believed_when_probed() -> None:
    progress = streaming(5)
    progress.probe()
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 6)
    progress.rejected(5, 1)
    assert (progress.match_index, progress.next_index) == (0, 1)


def test_a_snapshot_holds_everything_back_until_it_has_arrived() -> None:
    progress = Progress(1)
    progress.await_snapshot(20)
    assert not progress.may_send()
    progress.rejected(0, 1)
    progress.matched(3)
    assert progress.state is ProgressState.SNAPSHOT
    progress.matched(20)
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 21)


def test_a_new_connection_probes_behind_the_snapshot_that_was_sent() -> None:
    progress = Progress(1)
    progress.await_snapshot(20)
    progress.probe()
    assert (progress.next_index, progress.may_send(), progress.match_index) == (21, True, 0)
