"""What a majority of the voters agrees on. Pure functions, no state. Called by the core."""

import enum
from collections.abc import Collection, Mapping

from esnode.raft.messages import NodeId


class Tally(enum.Enum):
    """How an election stands."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


def majority(voters: int) -> int:
    """The smallest number of `voters` of which any two sets share a member."""
    return voters // 2 + 1


def agreed(positions: Collection[int]) -> int:
    """The highest position that a majority has reached; one position for each voter."""
    return sorted(positions, reverse=True)[majority(len(positions)) - 1]


def tally(votes: Mapping[NodeId, bool], voters: Collection[NodeId]) -> Tally:
    """Count each voter once; a voter that has not answered may still go either way."""
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted >= majority(len(voters)):
        return Tally.WON
    if refused > len(voters) - majority(len(voters)):
        return Tally.LOST
    return Tally.OPEN
