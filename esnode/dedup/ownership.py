"""Which sources a partition owns, and whose keys it has adopted; what the log says of the ring.

A partition goes by one ring at a time, and changes to another by an entry of its own log (`RingSwitch`). From
there on, one that loses sources refuses them, and one that gains sources takes them. It has adopted the keys
of their events before (`Adoption`). These take offsets of its own: so they are found, expire, and reach other
nodes as all its keys do. Partition 0 also remembers the plan (`RingPlan`) that all of them carry out. Decides
what may follow what. Pure; a state is never changed, but followed by another. Called by the machine (what is
applied) and the admission (that, and what is in the leader's log).
"""

import hashlib
import struct
from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from typing import Final

from esnode import limits
from esnode.dataclass import dataclass
from esnode.errors import DamagedRecord
from esnode.ring import FIRST_VERSION, Ring

DIGEST_BYTES: Final = 16

# version | partitions | since_offset | planned version | old partitions | planned partitions | plan ended
# | version that is adopted for | number of adoptions for that, and for this ring | of adopted ranges
_HEAD: Final = struct.Struct(">IHQIHH?IHHI")
# old owner | end_offset | floor | first_offset
_ADOPTED: Final = struct.Struct(">HQQQ")
# first offset | end offset
_RANGE: Final = struct.Struct(">QQ")
# version | partitions | offset; as many as there is room for at the end
_SWITCHED: Final = struct.Struct(">IHQ")

MAX_SWITCHES: Final = 256
"""So many of the last switches are remembered: 3.5 kB. Each is an operator's change of the ring."""


@dataclass(frozen=True, slots=True)
class RingPlan:
    """A change to the ring of this version, from `old_partitions` to `partitions`: to be done, or `ended`."""

    version: int
    old_partitions: int
    partitions: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class RingSwitch:
    """This partition goes by the ring of this version from here on."""

    version: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Adoption:
    """The entry's keys are those of `old_owner` from `first_offset` to `end_offset`, offsets of its own, that
    this partition is to own under the ring of `version`.

    `floor` is where the window of the old owner began when they were read.
    """

    version: int
    old_owner: int
    first_offset: int
    end_offset: int
    floor: int


RingChange = RingPlan | RingSwitch | Adoption


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was adopted of one old owner for one ring: all from its `floor` up to its `end_offset`.

    `first_offset` is this partition's offset of the first of these keys.
    """

    old_owner: int
    end_offset: int
    floor: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class Switched:
    """The partition has gone by the ring of this version from `offset` on."""

    version: int
    partitions: int
    offset: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """What the log of a partition says of the ring, up to one of its entries."""

    version: int = FIRST_VERSION
    partitions: int = 1
    since_offset: int = 0
    """Where the log stood when the partition began to go by this ring."""
    plan: RingPlan | None = None
    """The last one, in partition 0."""
    adopting_for: int = 0
    """The version of the ring that keys are being adopted for; 0: none are."""
    adopting: tuple[Adopted, ...] = ()
    """What was adopted for that ring so far."""
    adopted: tuple[Adopted, ...] = ()
    """What was adopted for the ring that the partition goes by."""
    ranges: tuple[tuple[int, int], ...] = ()
    """The offsets, from one up to another, that adopted keys have: no event is there."""
    switches: tuple[Switched, ...] = ()
    """The last ones, in order: where a reader of a source goes on in another partition."""

    @property
    def ring(self) -> Ring:
        """The ring that the partition goes by."""
        return ring_of(self.version, self.partitions)

    def is_adopted(self, offset: int) -> bool:
        """Whether the key at `offset` is an adopted one."""
        place = bisect_right(self.ranges, (offset, limits.MAX_INDEX)) - 1
        return place >= 0 and offset < self.ranges[place][1]

    @property
    def moved_keys(self) -> int:
        """How many keys were adopted for this ring, as far as they were in the window at its switch."""
        ended = self.since_offset
        begun = min((one.first_offset for one in self.adopted), default=ended)
        return sum(max(0, min(end, ended) - max(first, begun)) for first, end in self.ranges)

    def adopted_up_to(self, version: int, old_owner: int) -> int:
        """How far the keys of `old_owner` are adopted for the ring of `version`."""
        if version != self.adopting_for:
            return 0
        return next((one.end_offset for one in self.adopting if one.old_owner == old_owner), 0)

    def knows_since(self, old_owner: int, offset: int, floor: int) -> bool:
        """Whether each event is known that `old_owner` has stored since `offset` and this partition now owns.

        `floor` is where this partition's own window begins.
        """
        return any(
            one.old_owner == old_owner and one.floor <= offset <= one.end_offset and floor <= one.first_offset
            for one in self.adopted
        )

    def is_done(self, change: RingChange) -> bool:
        """Whether the log says this already."""
        if isinstance(change, RingPlan):
            return self.plan == change
        if isinstance(change, RingSwitch):
            return (self.version, self.partitions) == (change.version, change.partitions)
        return 0 < change.end_offset <= self.adopted_up_to(change.version, change.old_owner)

    def allows(self, change: RingChange) -> bool:
        """Whether this may be the next that the log says of the ring."""
        if isinstance(change, RingPlan):
            if change.ended:
                return self.plan == replace(change, ended=False)
            before = self.plan or RingPlan(FIRST_VERSION, 1, 1, ended=True)
            follows = before.ended and change.version == before.version + 1
            return follows and change.old_partitions == before.partitions != change.partitions
        # A partition that is new has missed the rings before, so not only the next one may come.
        if change.version <= self.version or change.version < self.adopting_for:
            return False
        if isinstance(change, RingSwitch):
            return True
        return change.first_offset == self.adopted_up_to(change.version, change.old_owner)

    def after(self, change: RingChange, base_offset: int, count: int, floor: int) -> "Ownership":
        """What holds after an entry at `base_offset` that says `change`, with so many adopted keys.

        What is below `floor`, where the window begins, is forgotten now and then.
        """
        if isinstance(change, RingPlan):
            return replace(self, plan=change)
        if isinstance(change, Adoption):
            return self._after_adoption(change, base_offset, count)
        return Ownership(
            change.version,
            change.partitions,
            since_offset=base_offset,
            plan=self.plan,
            adopted=self.adopting if self.adopting_for == change.version else (),
            ranges=tuple(one for one in self.ranges if one[1] > floor),
            switches=(*self.switches, Switched(change.version, change.partitions, base_offset))[
                -MAX_SWITCHES:
            ],
        )

    def _after_adoption(self, change: Adoption, base_offset: int, count: int) -> "Ownership":
        goes_on = self.adopting_for == change.version
        before = {one.old_owner: one for one in self.adopting if goes_on}
        known = before.get(change.old_owner)
        before[change.old_owner] = Adopted(
            change.old_owner,
            change.end_offset,
            change.floor if known is None else max(known.floor, change.floor),
            base_offset if known is None else known.first_offset,
        )
        ranges = self.ranges
        if count and ranges and ranges[-1][1] == base_offset:
            ranges = (*ranges[:-1], (ranges[-1][0], base_offset + count))
        elif count:
            ranges = (*ranges, (base_offset, base_offset + count))
        adopting = tuple(before[owner] for owner in sorted(before))
        return replace(self, adopting_for=change.version, adopting=adopting, ranges=ranges)

    # === its bytes =============================================================================

    def dump(self) -> bytes:
        """The state as bytes; none where the log has said nothing of the ring."""
        return self._dump_now() + b"".join(_SWITCHED.pack(*_fields(one)) for one in self.switches)

    def _dump_now(self) -> bytes:
        """The same without its history."""
        if self == Ownership():
            return b""
        plan = self.plan or _NO_PLAN
        counts = self.adopting_for, len(self.adopting), len(self.adopted), len(self.ranges)
        return b"".join(
            (
                _HEAD.pack(self.version, self.partitions, self.since_offset, *_fields(plan), *counts),
                *(_ADOPTED.pack(*_fields(one)) for one in (*self.adopting, *self.adopted)),
                *(_RANGE.pack(*one) for one in self.ranges),
            )
        )

    def digest(self) -> bytes:
        """16 bytes, equal where the same is true of the ring; none where nothing was said."""
        dumped = self._dump_now()  # a node that has its state from an older one may know less of its history
        return hashlib.blake2b(dumped, digest_size=DIGEST_BYTES).digest() if dumped else b""


def load(data: bytes | memoryview) -> Ownership:
    """What `dump` gave; raises `DamagedRecord`."""
    if not data:
        return Ownership()
    if len(data) < _HEAD.size:
        raise DamagedRecord("what is said of the ring ends within its head")
    fields = _HEAD.unpack_from(data)
    (version, partitions, since_offset), planned = fields[:3], fields[3:7]
    adopting_for, under_way, adopted, ranges = fields[7:]
    ranges_start = _HEAD.size + _ADOPTED.size * (under_way + adopted)
    switches_start = ranges_start + _RANGE.size * ranges
    if len(data) < switches_start or (len(data) - switches_start) % _SWITCHED.size:
        raise DamagedRecord(f"what is said of the ring has {len(data)} bytes, not what it says")
    plan = RingPlan(*planned)
    if not (0 < partitions <= limits.MAX_PARTITIONS and plan.partitions <= limits.MAX_PARTITIONS):
        raise DamagedRecord(f"there is no ring of {partitions} or {plan.partitions} partitions")
    listed = [Adopted(*one) for one in _ADOPTED.iter_unpack(data[_HEAD.size : ranges_start])]
    return Ownership(
        version,
        partitions,
        since_offset,
        None if plan == _NO_PLAN else plan,
        adopting_for,
        tuple(listed[:under_way]),
        tuple(listed[under_way:]),
        tuple(_RANGE.iter_unpack(data[ranges_start:switches_start])),
        tuple(Switched(*one) for one in _SWITCHED.iter_unpack(data[switches_start:])),
    )


class RingState:
    """Where the ownership of a machine is found: `now` is that after the last entry applied."""

    def __init__(self) -> None:
        self.now = Ownership()


@lru_cache(maxsize=8)
def ring_of(version: int, partitions: int) -> Ring:
    """The ring of partitions 0 up to `partitions`; it is the same for every caller."""
    return Ring(version, range(partitions))


def _fields(one: RingPlan | Adopted | Switched) -> tuple[int, ...]:
    return tuple(getattr(one, name) for name in one.__match_args__)


_NO_PLAN: Final = RingPlan(0, 0, 0)
