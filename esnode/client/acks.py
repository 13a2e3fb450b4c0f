"""What an application gets for its events: where they are in the log.

Computes only. Called by `log.py` and `batcher.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange


@dataclass(frozen=True, slots=True)
class Ack:
    """One event is on the disks of a majority, at `offset` (-1: no node remembers where).

    `duplicate`: it had been in the log before this sending. An append that had to be sent again,
    after a failover say, can find its own first sending there. `partition` is the one that has the event:
    each has offsets of its own.
    """

    offset: int
    duplicate: bool
    partition: int = 0


@dataclass(frozen=True, slots=True)
class BatchAck:
    """A batch is on the disks of a majority. `ranges` are its events' offsets, in their order.

    `duplicates` of them had been in the log before; where the batch was `resent`, the reason can be
    its own first sending. `partitions` has the partition of each range; it is empty where all are in
    partition 0.
    """

    ranges: tuple[OffsetRange, ...]
    duplicates: int
    resent: bool
    partitions: tuple[int, ...] = ()
    parts: tuple[tuple[Sequence[int], "BatchAck"], ...] = field(default=(), repr=False, compare=False)
    """Of a batch that was split: the places of each part's events in it, and its answer."""

    @property
    def placed_ranges(self) -> list[tuple[int, OffsetRange]]:
        """Each range, with its partition."""
        return list(zip(self.partitions or (0,) * len(self.ranges), self.ranges, strict=True))


def joined(acks: Sequence[BatchAck]) -> BatchAck:
    """The answer to a batch that was sent in parts, one behind the other."""
    if len(acks) == 1:
        return acks[0]
    ends = accumulate((sum(part.count for part in ack.ranges) for ack in acks), initial=0)
    parts = [(range(begin, end), ack) for (begin, end), ack in zip(pairwise(ends), acks, strict=True)]
    return _batch_ack([placed for ack in acks for placed in ack.placed_ranges], parts)


def put_together(parts: Sequence[tuple[Sequence[int], BatchAck]]) -> BatchAck:
    """The answer to a batch that was split: each part has the places of its events in the batch."""
    places: dict[int, tuple[int, int]] = {}
    for positions, ack in parts:
        offsets = [
            (partition, UNKNOWN_OFFSET if part.base_offset == UNKNOWN_OFFSET else part.base_offset + n)
            for partition, part in ack.placed_ranges
            for n in range(part.count)
        ]
        places.update(zip(positions, offsets, strict=True))
    ranges: list[tuple[int, OffsetRange]] = []
    for _, (partition, offset) in sorted(places.items()):
        if ranges and ranges[-1][0] == partition and _follows(ranges[-1][1], offset):
            before = ranges.pop()[1]
            ranges.append((partition, OffsetRange(before.base_offset, before.count + 1)))
        else:
            ranges.append((partition, OffsetRange(offset, 1)))
    return _batch_ack(ranges, parts)


def _follows(before: OffsetRange, offset: int) -> bool:
    if UNKNOWN_OFFSET in (before.base_offset, offset):
        return before.base_offset == offset
    return before.base_offset + before.count == offset


def _batch_ack(
    placed: Sequence[tuple[int, OffsetRange]], parts: Sequence[tuple[Sequence[int], BatchAck]]
) -> BatchAck:
    acks = [ack for _, ack in parts]
    partitions = tuple(partition for partition, _ in placed)
    return BatchAck(
        tuple(part for _, part in placed),
        sum(ack.duplicates for ack in acks),
        any(ack.resent for ack in acks),
        partitions if any(partitions) else (),
        tuple(parts),
    )


def acks_of(answer: BatchAck) -> list[Ack]:
    """One `Ack` an event, in the order of the batch.

    The answer of a partition says how many events are new, not which. New ones get the next offsets of the
    log, so they have the highest; an id that is twice in one batch is new at its first place.
    """
    if answer.parts:
        placed = {
            place: ack
            for places, of_part in answer.parts
            for place, ack in zip(places, acks_of(of_part), strict=True)
        }
        return [placed[place] for place in range(len(placed))]
    offsets: list[int] = []
    for part in answer.ranges:
        if part.base_offset == UNKNOWN_OFFSET:
            offsets += [UNKNOWN_OFFSET] * part.count
        else:
            offsets += range(part.base_offset, part.base_offset + part.count)
    partition = answer.partitions[0] if answer.partitions else 0
    if not answer.duplicates:
        return [Ack(offset, False, partition) for offset in offsets]
    number_new = len(offsets) - answer.duplicates
    new = set(sorted(set(offsets), reverse=True)[:number_new])
    acks = []
    for offset in offsets:
        acks.append(Ack(offset, offset not in new, partition))
        new.discard(offset)
    return acks
