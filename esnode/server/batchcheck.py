"""Which batches a node refuses whatever its log holds: of another partition, or with keys of other events.

Computes only. Called by the sessions, for each batch before it goes to the core.
"""

from dataclasses import dataclass
from typing import Self

from esnode.config import Config
from esnode.dedup.batch import Batch
from esnode.errors import CallerError, InvalidRequest, Moved
from esnode.events import wrong_key
from esnode.ring import RING_VERSION, Ring


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """What a batch must be. `ring` is None where there is one partition: it owns every source."""

    partition: int = 0
    ring: Ring | None = None
    verify_keys: bool = False
    """Whether each key must be that of its event, which is decoded for that."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """As the node is set."""
        ring = Ring(RING_VERSION, range(config.partitions)) if config.partitions > 1 else None
        return cls(config.partition, ring, config.ingest.verify_keys)

    def wrong(self, batch: Batch) -> CallerError | None:
        """Why the batch is refused as a whole; None where it is not."""
        if batch.partition != self.partition:
            return InvalidRequest(f"this is partition {self.partition}, not partition {batch.partition}")
        if self.ring is not None and (stray := self.ring.stray(batch.keys, self.partition)):
            return _moved(*stray, self.ring)
        if self.verify_keys and (flaw := wrong_key(batch)):
            return InvalidRequest(flaw)
        return None


def _moved(token: int, owner: int, ring: Ring) -> Moved:
    return Moved(
        f"the source with the token {token:08x} belongs to partition {owner} (ring version {ring.version},"
        f" {len(ring.partitions)} partitions)"
    )
