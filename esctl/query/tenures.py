"""In which order the partitions owned what is in their logs: where a reader of a source reads next.

A partition goes by one ring after the other, and its log tells where it has switched. What it took under one
ring is a tenure. Under each ring, one partition owns a source, and it takes nothing of it before all earlier
owners have switched too: so the tenures, by the version of the ring, have the events of each source in their
order. Pure. Called by `partitionreading.py` and `sourcefollowing.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from esnode.dedup.ownership import ring_of
from esnode.ring import FIRST_VERSION, token_of


@dataclass(frozen=True, slots=True)
class RingTurn:
    """From `offset` on, a partition went by the ring of `version`.

    `partitions` is None where that ring is not known: it may have owned any source.
    """

    version: int
    partitions: int | None
    offset: int

    def owns(self, partition: int, source: str) -> bool:
        """Whether the partition may have owned the source then."""
        return self.partitions is None or owner_under(self.version, self.partitions, source) == partition


@dataclass(frozen=True, slots=True)
class Tenure:
    """The offsets of a partition from `begin` up to `end`, all taken under one ring."""

    turn: RingTurn
    partition: int
    begin: int
    end: int


def owner_under(version: int, partitions: int, source: str) -> int:
    """The partition that owns the source under that ring."""
    return ring_of(version, partitions).owner(int.from_bytes(token_of(source)))


def turns_of(ring: Mapping[str, Any]) -> list[RingTurn]:
    """By what a node's status says of the `ring`: at least one turn, the first from offset 0 on."""
    version, partitions = int(ring.get("version", FIRST_VERSION)), int(ring.get("partitions", 1))
    told = [RingTurn(*(int(field) for field in one)) for one in ring.get("switches", ())]
    if not told and version > FIRST_VERSION:  # a log that an older node has compacted
        told = [RingTurn(version, partitions, int(ring["since_offset"]))]
    first = told[0].version - 1 if told else version
    return [RingTurn(first, None if told else partitions, 0), *told]


def tenures_of(partition: int, turns: Sequence[RingTurn], begin: int, end: int) -> list[Tenure]:
    """What a partition has between two offsets; tenures of nothing are left out."""
    ends = [later.offset for _, later in pairwise(turns)] + [end]
    found = [
        Tenure(turn, partition, max(begin, turn.offset), min(end, turn_end))
        for turn, turn_end in zip(turns, ends, strict=True)
    ]
    return [one for one in found if one.begin < one.end]


def turn_at(turns: Sequence[RingTurn], offset: int) -> RingTurn:
    """The turn that a partition is in where its log ends at `offset`."""
    return [turn for turn in turns if turn.offset <= offset][-1]


def agree(turns: Mapping[int, RingTurn]) -> bool:
    """Whether all partitions of the newest ring go by it, so that none has moved sources that another has."""
    newest = max(turns.values(), key=lambda turn: turn.version)
    inside = range(newest.partitions or 0)
    return all(turn.version == newest.version for partition, turn in turns.items() if partition in inside)


def in_order(tenures: Iterable[Tenure], source: str | None = None) -> list[Tenure]:
    """As they are to be read: the events of each source in order; with a `source`, only what may have some.

    What follows itself in a partition is one.
    """
    joined: list[Tenure] = []
    for one in sorted(tenures, key=lambda each: (each.turn.version, each.partition)):
        if source is not None and not one.turn.owns(one.partition, source):
            continue
        last = joined[-1] if joined else None
        if last is not None and (last.partition, last.end) == (one.partition, one.begin):
            joined[-1] = replace(last, end=one.end)
        else:
            joined.append(one)
    return joined


def next_owner(turns: Mapping[int, RingTurn], source: str) -> int:
    """The partition that is to be read on, where each has been read up to the end of its turn or of its log.

    One that owns the source under its own ring, the oldest first: the next owner takes nothing before that
    one has switched. Where none does, it is the one that the newest ring names, which has yet to switch.
    """
    owners = [partition for partition, turn in turns.items() if _owns_now(turn, partition, source)]
    if owners:
        return min(owners, key=lambda partition: turns[partition].version)
    newest = max(turns.values(), key=lambda turn: turn.version)
    assert newest.partitions is not None, "the last turn of a log is that of its ring"
    return owner_under(newest.version, newest.partitions, source)


def turn_after(
    partition: int, source: str, now: RingTurn, turns: Sequence[RingTurn], offset: int, newest: int
) -> RingTurn:
    """Where a partition stands once it has been read up to `offset`, for a reader of a source.

    One that owned the source stands at its first ring that gives the source away: others are read then. One
    that did not is passed over up to a ring of the version `newest`, the one that made it the next owner.
    """
    owned = _owns_now(now, partition, source)
    for turn in turns:
        if turn.version <= now.version or turn.offset > offset:
            continue
        now, owns = turn, _owns_now(turn, partition, source)
        if not owns and (owned or turn.version >= newest):
            break
        owned = owned or owns
    return now


def _owns_now(turn: RingTurn, partition: int, source: str) -> bool:
    return turn.partitions is not None and turn.owns(partition, source)
