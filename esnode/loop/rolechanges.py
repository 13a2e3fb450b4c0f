"""What the node's log says of a change of role, term or leader, and why there was one.

The core decides and gives no reasons; they are read from what it was stepped with. Looked at only when
something has changed, so nothing here is on the way of a batch. Pure. Called by `driver.py`.
"""

from collections.abc import Sequence
from typing import Final

from esnode.raft.disklag import Yielded
from esnode.raft.messages import (
    Input,
    NodeId,
    PeerClosed,
    Received,
    Rejoin,
    RejoinReply,
    Role,
    SoftState,
    TimeoutNow,
)

SILENCE: Final = "silence"
"""The leader has said nothing for an election timeout."""
NO_LEADER: Final = "no_leader"
"""Nobody leads, as far as this node knows."""
CLOSED: Final = "leader_closed"
"""The leader's connection has ended."""
PRE_VOTES: Final = "pre_votes"
"""A majority would vote for this node."""
ASKED: Final = "transfer"
"""The leader has asked this node to take over."""
VOTES: Final = "votes"
NO_MAJORITY: Final = "no_majority"
"""A leader has not heard from a majority."""
SLOW_DISK: Final = "slow_disk"
"""A leader has handed over, since its own disk was behind what a majority had."""
NEWER_TERM: Final = "newer_term"
HEARD: Final = "leader_heard"
NOT_ELECTED: Final = "not_elected"


def change(
    before: SoftState,
    after: SoftState,
    inputs: Sequence[Input],
    silence_ms: int,
    yielded: Yielded | None = None,
) -> dict[str, object]:
    """The fields of `state_changed`: role, term, leader, `why`, and `by`: the node that caused it, if any.

    `silence_ms` is how long ago the leader was heard from, before; -1 when it never was. `yielded`: the
    last hand-over that this node began for its disk's sake.
    """
    why, by = _reason(before, after, inputs)
    if before.role is Role.LEADER and why in {NEWER_TERM, HEARD} and yielded is not None:
        why = SLOW_DISK if yielded.term == before.term else why
    fields: dict[str, object] = {
        "role": after.role.value,
        "new_term": after.term,
        "leader": after.leader,
        "why": why,
    }
    if by is not None:
        fields["by"] = by
    if why == SILENCE and silence_ms >= 0:
        fields["silence_ms"] = silence_ms
    return fields


def _reason(before: SoftState, after: SoftState, inputs: Sequence[Input]) -> tuple[str, NodeId | None]:
    match after.role:
        case Role.LEADER:
            return VOTES, None
        case Role.CANDIDATE:
            asked_by = _sender(inputs, TimeoutNow)
            return (PRE_VOTES, None) if asked_by is None else (ASKED, asked_by)
        case Role.PRE_CANDIDATE if before.leader is None:
            return NO_LEADER, None
        case Role.PRE_CANDIDATE:
            return CLOSED if _has_closed(inputs, before.leader) else SILENCE, before.leader
        case Role.FOLLOWER:
            return _why_it_follows(before, after, inputs)


def _why_it_follows(
    before: SoftState, after: SoftState, inputs: Sequence[Input]
) -> tuple[str, NodeId | None]:
    if after.leader is not None:
        return HEARD, after.leader
    if after.term > before.term:
        return NEWER_TERM, _teller(inputs, after.term)
    if before.role is Role.LEADER:
        return NO_MAJORITY, None
    if _has_closed(inputs, before.leader):
        return CLOSED, before.leader
    return (NOT_ELECTED, None) if before.role is not Role.FOLLOWER else (NO_LEADER, None)


def _has_closed(inputs: Sequence[Input], leader: NodeId | None) -> bool:
    return any(isinstance(item, PeerClosed) and item.peer == leader for item in inputs)


def _sender(inputs: Sequence[Input], kind: type[TimeoutNow]) -> NodeId | None:
    found = (item.sender for item in inputs if isinstance(item, Received) and isinstance(item.message, kind))
    return next(found, None)


def _teller(inputs: Sequence[Input], term: int) -> NodeId | None:
    """Who said something in that term."""
    for item in inputs:
        if not isinstance(item, Received) or isinstance(item.message, Rejoin | RejoinReply):
            continue
        if item.message.term == term:
            return item.sender
    return None
