"""Which batches a node refuses whatever its log says: for another partition, or with keys of other events.

Computes only. Called by the sessions, for each batch before it goes to the core.
"""

from dataclasses import dataclass
from typing import Self

from esnode.config import Config
from esnode.dedup.batch import Batch
from esnode.errors import CallerError, InvalidRequest
from esnode.events import wrong_key


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """What a batch must be."""

    partition: int = 0
    verify_keys: bool = False
    """Whether each key must be that of its event, which is decoded for that."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """As the node is set."""
        return cls(config.partition, config.ingest.verify_keys)

    def wrong(self, batch: Batch) -> CallerError | None:
        """Why the batch is refused as a whole; None where it is not."""
        if batch.partition != self.partition:
            return InvalidRequest(f"this is partition {self.partition}, not partition {batch.partition}")
        if self.verify_keys and (flaw := wrong_key(batch)):
            return InvalidRequest(flaw)
        return None
