"""What a client knows of the ring: its version, its partitions, and so the owner of each source.

Learns it from the first node that answers, and again from each that knows a newer one. Never forgets it, and
never connects. `log.py` asks it where an event belongs; one object per client.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from esnode import limits
from esnode.ring import TOKEN_BYTES, Ring, token_of

REMEMBERED_SOURCES: Final = 4096


class KnownRing:
    """The newest ring that a node has told of; `partitions` is 0 before the first."""

    def __init__(self) -> None:
        self.version = 0
        self.partitions = 0
        self._ring: Ring | None = None
        self._owner_of = lru_cache(REMEMBERED_SOURCES)(self._find_owner)

    def learn(self, version: int, partitions: int) -> bool:
        """Take over a ring that is newer than the known one; whether it is."""
        if version <= self.version:
            return False
        self.version, self.partitions = version, partitions
        self._ring = self.ring() if partitions > 1 else None
        self._owner_of.cache_clear()
        return True

    def ring(self) -> Ring:
        """The whole of it."""
        return Ring(self.version, range(self.partitions))

    def owner_of(self, event: Mapping[str, Any]) -> int:
        """The partition of an event; 0 for one without a valid source, which is no event."""
        source = event.get("source") if hasattr(event, "get") else None
        if self._ring is None or type(source) is not str or len(source) > limits.MAX_ID_BYTES:
            return 0
        return self._owner_of(source)

    def owner_of_all(self, keys: bytes) -> int | None:
        """The partition of all of these packed keys, at least one; None where they are of several."""
        if self._ring is None:
            return 0
        token, count = keys[:TOKEN_BYTES], len(keys) // limits.KEY_BYTES
        # Most batches are of one source: then a look at each byte of the tokens is enough.
        if all(keys[n :: limits.KEY_BYTES] == token[n : n + 1] * count for n in range(TOKEN_BYTES)):
            return self._ring.owner(int.from_bytes(token))
        first, *others = set(self._ring.owners(keys))
        return None if others else first

    def owners(self, keys: bytes) -> list[int]:
        """The partition of each of these packed keys."""
        if self._ring is None:
            return [0] * (len(keys) // limits.KEY_BYTES)
        return self._ring.owners(keys)

    def places(self, keys: bytes) -> dict[int, list[int]]:
        """For each partition the places of its events among these packed keys, in their order."""
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(self.owners(keys)):
            places.setdefault(owner, []).append(place)
        return places

    def _find_owner(self, source: str) -> int:
        assert self._ring is not None
        try:
            return self._ring.owner_of(source)
        except UnicodeEncodeError:
            return 0


def tokens_of(keys: bytes) -> list[int]:
    """The token of each of these packed keys."""
    return [
        int.from_bytes(keys[place : place + TOKEN_BYTES]) for place in range(0, len(keys), limits.KEY_BYTES)
    ]


def token_of_event(event: Mapping[str, Any]) -> int | None:
    """None where the event has no source."""
    source = event.get("source") if hasattr(event, "get") else None
    try:
        return int.from_bytes(token_of(source)) if isinstance(source, str) else None
    except UnicodeEncodeError:
        return None
