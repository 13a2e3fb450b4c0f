"""What is to be done next to carry out a plan for the ring, by what the logs of the partitions say.

A plan adds partitions or takes some away, so each partition either loses sources or gains sources. Keys are
copied while those who lose them go on; then these switch to the new ring, the rest of the keys is copied, and
those who gain them switch. Only then are events of moving sources taken again. A pure function of the logs:
whoever leads partition 0 can begin in the middle. Called by `mover.py` and the simulator.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from esnode.dataclass import dataclass
from esnode.dedup.ownership import RingPlan

NEARLY_LEVEL: Final = 16_384
"""Keys that may be left to copy when moving sources begin to wait: what takes some hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the log of a partition says, as far as it is applied on some node.

    `adopting` has for each old owner up to where its keys are adopted, for the plan's ring.
    """

    version: int
    since_offset: int
    next_offset: int
    adopting: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Copy:
    """Let `new_owner` adopt the keys of `old_owner` from this offset to the end of its log."""

    old_owner: int
    new_owner: int
    from_offset: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Let `partition` go by the new ring from here on."""

    partition: int


@dataclass(frozen=True, slots=True)
class End:
    """All is done."""


Step = Copy | Switch | End


def next_steps(plan: RingPlan, standings: Mapping[int, Standing]) -> Sequence[Step]:
    """What may be done now, in any order; then look again. `standings` has every partition of both rings."""
    grows = plan.partitions > plan.old_partitions
    kept, changed = sorted((plan.old_partitions, plan.partitions))
    losers, gainers = (range(kept), range(kept, changed)) if grows else (range(kept, changed), range(kept))

    def behind(gainer: int, loser: int, allowed: int) -> list[Copy]:
        up_to = standings[gainer].adopting.get(loser)
        loses = standings[loser]
        end = loses.since_offset if loses.version == plan.version else loses.next_offset
        if up_to is not None and end - up_to <= allowed:
            return []
        return [Copy(loser, gainer, up_to or 0)]

    unswitched = [one for one in losers if standings[one].version < plan.version]
    waiting = [one for one in gainers if standings[one].version < plan.version]
    allowed = NEARLY_LEVEL if unswitched else 0
    if copies := [copy for gainer in waiting for loser in losers for copy in behind(gainer, loser, allowed)]:
        return copies
    return [Switch(one) for one in unswitched or waiting] or [End()]
