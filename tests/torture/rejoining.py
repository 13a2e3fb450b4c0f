"""How a node with damaged files is taken down and brought back, and when it is sound again.

No acked entry may be damaged on two nodes at a time: so the next fault waits until this node shows, record
by record over the wire, every event that was acked before. Its own word is not enough. Called by the
faults that damage files.
"""

import random
from typing import Final

import numpy as np
import trio

from esnode import limits
from tests.torture.arena import CATCH_UP_TIMEOUT_S, Arena, Trouble
from tests.torture.judgement import keys_of
from tests.torture.ledger import Ledger
from tests.torture.load import Load
from tests.torture.stored import set_aside

ROUND_S: Final = 0.1
KILLED_OF_3: Final = 2
"""So many of three nodes are killed before their files are damaged; the others stop in peace."""


async def take_down(ring: Arena, number: int, source: random.Random) -> str:
    """Kill or stop the node; how it went down."""
    if source.randrange(3) < KILLED_OF_3:
        await ring.kill([number])
        return "killed"
    await ring.stop([number])
    return "stopped"


async def bring_back(ring: Arena, load: Load, number: int, *, damaged: bool) -> None:
    """Start the node and wait until it is sound; raises `Trouble` when it is not, whatever it says."""
    node = ring.cluster.node(number)
    before = set_aside(node)
    await ring.start([number])
    with trio.move_on_after(CATCH_UP_TIMEOUT_S) as patience:
        await ring.wait_caught_up()
        if damaged and set_aside(node) == before:
            raise Trouble(f"node {number} went on with damaged files")
        acked = Promises.of(load.ledger)
        while True:
            first_offset, keys = await keys_of(ring, number)
            if first_offset + len(keys) // limits.KEY_BYTES > acked.end:
                break
            await trio.sleep(ROUND_S)  # it was level a moment ago, and more was acked since
        if missing := acked.missing_in(keys, first_offset):
            raise Trouble(f"node {number} came back without {missing} events that were acked")
    if patience.cancelled_caught:
        raise Trouble(f"node {number} was not sound again within {CATCH_UP_TIMEOUT_S:g} s")


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
