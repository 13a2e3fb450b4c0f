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
        missing = acked.missing_in(await keys_of(ring, number))
        while missing:
            if (await ring.status(number) or {}).get("next_offset", 0) > acked.end:
                raise Trouble(f"node {number} came back without {missing} events that were acked")
            await trio.sleep(0.1)
            missing = acked.missing_in(await keys_of(ring, number))
    if patience.cancelled_caught:
        raise Trouble(f"node {number} was not sound again within {CATCH_UP_TIMEOUT_S:g} s")


class Promises:
    """What was acked at one moment."""

    def __init__(self, keys: bytes, offsets: bytes) -> None:
        self._keys = np.frombuffer(keys, dtype=np.uint8).reshape(-1, limits.KEY_BYTES)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)
        self._acked = self._offsets >= 0

    @classmethod
    def of(cls, ledger: Ledger) -> "Promises":
        return cls(bytes(ledger.keys), ledger.offsets.tobytes())

    @property
    def end(self) -> int:
        """The last offset that was promised."""
        return int(self._offsets.max(initial=-1))

    def missing_in(self, log_keys: bytes) -> int:
        """How many acked events a log does not have at their offsets."""
        log = np.frombuffer(log_keys, dtype=np.uint8).reshape(-1, limits.KEY_BYTES)
        offsets, keys = self._offsets[self._acked], self._keys[self._acked]
        there = offsets < len(log)
        same = (log[offsets[there]] == keys[there]).all(axis=1)
        return int((~there).sum() + (~same).sum())
