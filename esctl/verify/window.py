"""When a node may have forgotten a key: whether an event may rightly be in the log twice.

From what a node says of its deduplication window and the log times of two records; exact, for the leader
decides by nothing else: a key's generation closes at the next multiple of 1/64 of `ttl_ms`, and the key is
forgotten by an entry `ttl_ms` after that (never, if it is 0), or earlier when `max_keys` newer ones push it
out. Pure. Called by `history.py`, which knows the records.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from esnode.dedup.keywindow import generation_ms

MayRepeat: TypeAlias = Callable[[int, int], bool]
"""Given two offsets before the end of the log, the smaller one first: may the event of the first have been
forgotten when the second was appended? Then it may be there again."""


@dataclass(frozen=True, slots=True)
class DedupWindow:
    """The deduplication window of a node; `shrinks` when it forgets the oldest keys rather than refuse."""

    ttl_ms: int
    max_keys: int
    shrinks: bool

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "DedupWindow | None":
        """What a node's status says; None when it does not."""
        match status.get("dedup"):
            case {"ttl_ms": int(ttl_ms), "max_keys": int(max_keys), "when_full": str(when_full)}:
                return cls(ttl_ms, max_keys, when_full == "shrink")
        return None

    def over(self, offset: int, stored_ms: int, next_offset: int, now_ms: int) -> bool:
        """May the key of the event at `offset`, stored at `stored_ms` of log time, be forgotten?

        Asked for an append at `now_ms` to a log that ends at `next_offset`.
        """
        width_ms = generation_ms(self.ttl_ms)
        closes_at_ms = (stored_ms // width_ms + 1) * width_ms
        if self.ttl_ms and closes_at_ms + self.ttl_ms <= now_ms:
            return True
        return self.shrinks and next_offset - offset > self.max_keys
