"""What a node's log says of why its role, term or leader changed, and that a pause or a vote is told."""

import logging
import math
from typing import Any

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.loop import rolechanges
from esnode.loop.clocks import Elapsed, run_election
from esnode.loop.inbox import Inbox
from esnode.loop.rolechanges import change
from esnode.raft.messages import (
    Heartbeat,
    Input,
    PeerClosed,
    Received,
    Rejoin,
    Role,
    SoftState,
    Tick,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from tests.loop.test_clocks import FOLLOWING, view_of

FOLLOWER, PRE, CANDIDATE, LEADER = Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER
LED = SoftState(FOLLOWER, 3, 2)
STANDS = SoftState(PRE, 3, None)
WANTS_VOTE = VoteRequest(4, 9, 3, pre=False)


@pytest.mark.parametrize(
    ("before", "after", "inputs", "why", "by"),
    [
        (LED, STANDS, [Tick(20)], rolechanges.SILENCE, 2),
        (LED, SoftState(FOLLOWER, 3, None), [Tick(1), PeerClosed(2)], rolechanges.CLOSED, 2),
        (LED, STANDS, [PeerClosed(2), Tick(1)], rolechanges.CLOSED, 2),
        (SoftState(FOLLOWER, 3, None), STANDS, [Tick(1)], rolechanges.NO_LEADER, None),
        (STANDS, SoftState(CANDIDATE, 4, None), [Received(3, VoteReply(4, True, pre=True))],
         rolechanges.PRE_VOTES, None),
        (LED, SoftState(CANDIDATE, 4, None), [Tick(1), Received(2, TimeoutNow(3))], rolechanges.ASKED, 2),
        (SoftState(CANDIDATE, 4, None), SoftState(LEADER, 4, 1), [], rolechanges.VOTES, None),
        (SoftState(LEADER, 3, 1), SoftState(FOLLOWER, 3, None), [Tick(20)], rolechanges.NO_MAJORITY, None),
        (SoftState(LEADER, 3, 1), SoftState(FOLLOWER, 4, None),
         [Received(2, Heartbeat(3, 0, 0)), Received(2, Rejoin(7)), Received(3, WANTS_VOTE)],
         rolechanges.NEWER_TERM, 3),
        (LED, SoftState(FOLLOWER, 5, None), [], rolechanges.NEWER_TERM, None),
        (STANDS, SoftState(FOLLOWER, 4, 3), [Received(3, Heartbeat(4, 0, 0))], rolechanges.HEARD, 3),
        (SoftState(CANDIDATE, 4, None), SoftState(FOLLOWER, 4, None), [], rolechanges.NOT_ELECTED, None),
        (SoftState(FOLLOWER, 0, None), SoftState(FOLLOWER, 0, None, rejoining=True), [],
         rolechanges.NO_LEADER, None),
    ],
)  # fmt: skip
def test_a_change_of_role_is_told_with_its_reason(
    before: SoftState, after: SoftState, inputs: list[Input], why: str, by: int | None
) -> None:
    told = change(before, after, inputs, silence_ms=612)
    assert (told["role"], told["new_term"], told["leader"]) == (after.role.value, after.term, after.leader)
    assert (told["why"], told.get("by")) == (why, by)
    assert told.get("silence_ms") == (612 if why == rolechanges.SILENCE else None)


def test_a_silence_of_unknown_length_has_no_length() -> None:
    assert "silence_ms" not in change(LED, STANDS, [Tick(20)], silence_ms=-1)


async def test_a_process_that_did_nothing_for_long_says_so_when_it_goes_on(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """The clock that jumps stands for a process that was stopped: nothing of it ran meanwhile."""
    autojump_clock.autojump_threshold = math.inf
    inbox, view = Inbox(), view_of(FOLLOWING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view, Elapsed(), 450)
        for jump_s in (limits.STALL_S, 0.9 * limits.STALL_S, 3.0):
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(jump_s)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    stalls: list[dict[str, Any]] = [r.__dict__ for r in caplog.records if r.message == "node_stalled"]
    assert [stall["stalled_ms"] for stall in stalls] == [3000]
    assert stalls[0]["levelno"] == logging.WARNING
