"""What a node's status says of its deduplication table, each figure with its type.

None for what a node of an older version does not say, or one that does not answer. Pure. Called by `dedup`,
`status`, `status metrics` and the rules of `why`.
"""

from collections.abc import Mapping
from typing import Any

from esnode.dataclass import dataclass
from esnode.limits import KEY_BYTES_ON_DISK


@dataclass(frozen=True, slots=True)
class DedupState:
    """A deduplication table: how much it knows, for how long, and what its bound has cost."""

    live_keys: int | None
    max_keys: int | None
    ttl_ms: int | None
    """0: no key expires."""
    when_full: str | None
    window_ms: int | None
    """How far back in log time it knows all keys now."""
    bytes_on_disk: int | None
    bytes_in_memory: int | None
    forgotten_early: int | None
    refused: int | None
    """Batches refused because it was full, since the node's process began."""
    full: bool | None
    producers: int | None
    named_producers: int | None
    closed_producers: int | None

    @classmethod
    def of(cls, status: Mapping[str, Any] | None) -> "DedupState":
        """From a node's status; None: it does not answer."""
        told = (status or {}).get("dedup") or {}
        return cls(**{name: told.get(name) for name in cls.__match_args__})

    @property
    def max_bytes(self) -> int | None:
        """The bound, as its setting has it."""
        return None if self.max_keys is None else self.max_keys * KEY_BYTES_ON_DISK

    @property
    def remedy(self) -> str:
        """What to change where keys are forgotten before their time."""
        if self.ttl_ms == 0:
            return "or let retention keep fewer events"
        return "or set dedup.when_full to refuse"

    @property
    def refuses(self) -> bool:
        """Whether it has no room for new events, and refuses them."""
        return bool(self.full) and self.when_full == "refuse"
