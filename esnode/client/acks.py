"""What an application gets for its events: where they are in the log.

Computes only. Called by `log.py` and `batcher.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange


@dataclass(frozen=True, slots=True)
class Ack:
    """One event is on the disks of a majority, at `offset` (-1: no node remembers where).

    `duplicate`: it had been in the log before this sending. An append that had to be sent again,
    after a failover say, can find its own first sending there.
    """

    offset: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class BatchAck:
    """A batch is on the disks of a majority. `ranges` are its events' offsets, in their order.

    `duplicates` of them had been in the log before; where the batch was `resent`, the reason can be
    its own first sending.
    """

    ranges: tuple[OffsetRange, ...]
    duplicates: int
    resent: bool


def joined(acks: Sequence[BatchAck]) -> BatchAck:
    """The answer to a batch that was sent in parts."""
    if len(acks) == 1:
        return acks[0]
    ranges = tuple(part for ack in acks for part in ack.ranges)
    return BatchAck(ranges, sum(ack.duplicates for ack in acks), any(ack.resent for ack in acks))


def acks_of(answer: BatchAck) -> list[Ack]:
    """One `Ack` an event, in the order of the batch.

    The answer says how many events are new, not which. New ones get the next offsets of the log, so
    they have the highest; an id that is twice in one batch is new at its first place.
    """
    offsets: list[int] = []
    for part in answer.ranges:
        if part.base_offset == UNKNOWN_OFFSET:
            offsets += [UNKNOWN_OFFSET] * part.count
        else:
            offsets += range(part.base_offset, part.base_offset + part.count)
    if not answer.duplicates:
        return [Ack(offset, False) for offset in offsets]
    number_new = len(offsets) - answer.duplicates
    new = set(sorted(set(offsets), reverse=True)[:number_new])
    acks = []
    for offset in offsets:
        acks.append(Ack(offset, offset not in new))
        new.discard(offset)
    return acks
