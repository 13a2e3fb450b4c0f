"""What was acked at one moment, looked up in a log event by event: the plainest check there is.

Between two faults it says whether a node is sound again; at the end it is a second opinion on what the
checker of operations finds. Called by `rejoining` and the judgement.
"""

import numpy as np

from esnode import limits
from tests.torture.ledger import Ledger


class Promises:
    """What was acked at one moment."""

    def __init__(self, keys: bytes, offsets: bytes) -> None:
        self._keys = np.frombuffer(keys, dtype=np.uint8).reshape(-1, limits.KEY_BYTES)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)

    @classmethod
    def of(cls, ledger: Ledger) -> "Promises":
        return cls(bytes(ledger.keys), ledger.offsets.tobytes())

    @property
    def end(self) -> int:
        """The last offset that was promised."""
        return int(self._offsets.max(initial=-1))

    def missing_in(self, log_keys: bytes, first_offset: int = 0) -> int:
        """How many acked events a log that begins at `first_offset` does not have at their offsets."""
        log = np.frombuffer(log_keys, dtype=np.uint8).reshape(-1, limits.KEY_BYTES)
        kept = self._offsets >= first_offset
        offsets, keys = self._offsets[kept] - first_offset, self._keys[kept]
        there = offsets < len(log)
        same = (log[offsets[there]] == keys[there]).all(axis=1)
        return int((~there).sum() + (~same).sum())
