"""What a client was promised: the offset of every event that was acked. Held against the log afterwards.

Independent of the nodes and of the checker of `esctl verify`: it knows only what was sent and what came
back.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from esnode import limits
from esnode.dedup.batch import Batch, OffsetRange, split_keys

UNKNOWN = -1


@dataclass
class Ledger:
    """Events are numbered as they are made; `offsets[n]` is where event n is, as far as is known."""

    keys: bytearray = field(default_factory=bytearray)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    conflicts: list[str] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    """The number of the first event of each batch, by its key."""
    acked: int = 0
    acked_again: int = 0

    def sent(self, batch: Batch) -> None:
        """A batch of new events is about to leave."""
        self.numbers[batch.keys[: limits.KEY_BYTES]] = len(self.offsets)
        self.keys += batch.keys
        self.offsets.extend([UNKNOWN] * batch.count)

    def ack(self, batch: Batch, ranges: Sequence[OffsetRange]) -> None:
        """An ack came; another one for the same events must say the same."""
        number = self.numbers[batch.keys[: limits.KEY_BYTES]]
        offsets = [part.base_offset + n for part in ranges for n in range(part.count)]
        assert len(offsets) == batch.count
        for place, offset in enumerate(offsets):
            before = self.offsets[number + place]
            if before == UNKNOWN:
                self.offsets[number + place] = offset
                self.acked += 1
            elif before == offset:
                self.acked_again += 1
            else:
                self.conflicts.append(f"event {number + place} was acked at {before} and at {offset}")

    def compare(self, log_keys: bytes) -> "Comparison":
        """Hold it against the keys of a log, packed, from offset 0 on."""
        size = limits.KEY_BYTES
        lost: list[str] = []
        for number, offset in enumerate(self.offsets):
            if offset == UNKNOWN:
                continue
            there = bytes(log_keys[offset * size : (offset + 1) * size])
            if there != self.keys[number * size : (number + 1) * size]:
                lost.append(f"event {number}, acked at offset {offset}, is not there")
        keys = split_all(log_keys)
        ours = set(split_all(bytes(self.keys)))
        return Comparison(lost, len(keys) - len(set(keys)), sum(key not in ours for key in keys))


@dataclass(frozen=True)
class Comparison:
    """What a ledger and a log say of each other."""

    lost: list[str]
    twice: int
    unknown_origin: int

    @property
    def clean(self) -> bool:
        return not self.lost and not self.twice and not self.unknown_origin


def split_all(keys: bytes) -> list[bytes]:
    """Packed keys of any number, one by one."""
    step = limits.KEY_BYTES * limits.MAX_BATCH_EVENTS
    return [key for at in range(0, len(keys), step) for key in split_keys(bytes(keys[at : at + step]))]
