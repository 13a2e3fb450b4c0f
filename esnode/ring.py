"""The ring: which partition owns a source, by consistent hashing; a pure function of the partitions.

A source's token is a point on a circle of 2^32. Each partition has 512 points on it, and a token belongs to
the partition of the next point. `docs/protocol.md` has the ring byte by byte, with test vectors, so that a
client in any language finds the same owner. Called by what makes keys, and by what routes and checks them.
"""

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise
from typing import Final

from esnode import limits
from esnode.dataclass import dataclass

FIRST_VERSION: Final = 1
"""The ring that a cluster begins with: partition 0 owns every source."""
TOKENS: Final = 2**32
"""The length of the circle: tokens are 0 to 2^32 - 1."""
TOKEN_BYTES: Final = 4
POINTS: Final = 512
"""Points of one partition. With 128 the largest of up to 64 partitions would own 1.31 of the mean, with 512
it owns 1.14."""

_POINT: Final = struct.Struct(">HH")


def token_of(source: str) -> bytes:
    """The token of a source, 4 bytes, big-endian: the BLAKE2b digest of its UTF-8 of that length."""
    return hashlib.blake2b(source.encode(), digest_size=TOKEN_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Arc:
    """The tokens from `first` to `last`, both included; it goes past 0 where `last` is below `first`."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many tokens are in it; an arc has one at least."""
        return (self.last - self.first) % TOKENS + 1


@dataclass(frozen=True, slots=True)
class Move:
    """An arc that changes its owner, when one ring follows another."""

    arc: Arc
    old_owner: int
    new_owner: int


class Ring:
    """The owners of all tokens under one version of the ring; `partitions` are numbers, at least one."""

    def __init__(self, version: int, partitions: Collection[int]) -> None:
        assert 0 < len(partitions) == len(set(partitions)) <= limits.MAX_PARTITIONS
        self.version = version
        self.partitions = tuple(sorted(partitions))
        # Where two partitions have the same point, it is that of the lower number.
        owners: dict[int, int] = {}
        for partition in reversed(self.partitions):
            owners.update(dict.fromkeys(_points_of(partition), partition))
        self._points = sorted(owners)
        self._owners = [owners[point] for point in self._points]

    @property
    def points(self) -> list[int]:
        """All points, ascending."""
        return self._points

    @property
    def point_owners(self) -> list[int]:
        """The partition of each point."""
        return self._owners

    def owner(self, token: int) -> int:
        """The partition that owns `token`: that of the first point at or after it, around the circle."""
        return self._owners[bisect_left(self._points, token) % len(self._points)]

    def owner_of(self, source: str) -> int:
        """The partition that owns the events of a source."""
        return self.owner(int.from_bytes(token_of(source)))

    def owns_all(self, keys: bytes, partition: int) -> bool:
        """Whether the token of each of these packed keys is of `partition`."""
        tokens = dict.fromkeys(_token_unpacker(len(keys) // limits.KEY_BYTES).unpack(keys))
        return all(self.owner(token) == partition for token in tokens)

    def owners(self, keys: bytes) -> list[int]:
        """The partition of each of these packed keys."""
        tokens = _token_unpacker(len(keys) // limits.KEY_BYTES).unpack(keys)
        found = {token: self.owner(token) for token in dict.fromkeys(tokens)}
        return [found[token] for token in tokens]

    def owned(self) -> list[tuple[Arc, int]]:
        """Every arc between two points, with its owner; together they are the circle."""
        before = (self._points[-1], *self._points)
        arcs = [Arc((last + 1) % TOKENS, point) for last, point in pairwise(before)]
        return list(zip(arcs, self._owners, strict=True))

    def shares(self) -> dict[int, float]:
        """The part of the circle that each partition owns; together 1."""
        tokens = dict.fromkeys(self.partitions, 0)
        previous = (self._points[-1], *self._points[:-1])
        for before, point, owner in zip(previous, self._points, self._owners, strict=True):
            tokens[owner] += (point - before - 1) % TOKENS + 1
        return {partition: owned / TOKENS for partition, owned in tokens.items()}


def moves(old: Ring, new: Ring) -> list[Move]:
    """The arcs whose owner is another one under `new`, by their ends; arcs that touch are one."""
    ends = sorted({arc.last for ring in (old, new) for arc, _ in ring.owned()})
    found: list[Move] = []
    for last_before, end in pairwise((ends[-1], *ends)):
        move = Move(Arc((last_before + 1) % TOKENS, end), old.owner(end), new.owner(end))
        if move.old_owner != move.new_owner:
            found[-1:] = _joined(found[-1], move) if found else (move,)
    if len(found) > 1 and len(around := _joined(found[-1], found[0])) == 1:
        found[-1:], found[:1] = around, ()  # one arc that goes past 0
    return found


def _joined(before: Move, after: Move) -> tuple[Move, ...]:
    """Both, or the one move that they are: between the same owners, and with nothing between them."""
    touches = (before.arc.last + 1) % TOKENS == after.arc.first
    if touches and (before.old_owner, before.new_owner) == (after.old_owner, after.new_owner):
        return (Move(Arc(before.arc.first, after.arc.last), before.old_owner, before.new_owner),)
    return before, after


@lru_cache(maxsize=limits.MAX_BATCH_EVENTS + 1)
def _token_unpacker(count: int) -> struct.Struct:
    return struct.Struct(">" + f"I{limits.KEY_BYTES - TOKEN_BYTES}x" * count)


@lru_cache(limits.MAX_PARTITIONS)
def _points_of(partition: int) -> tuple[int, ...]:
    """Each point is the 4-byte BLAKE2b digest of the partition and the point's number, 2 bytes each."""
    digests = (
        hashlib.blake2b(_POINT.pack(partition, number), digest_size=TOKEN_BYTES).digest()
        for number in range(POINTS)
    )
    return tuple(map(int.from_bytes, digests))
