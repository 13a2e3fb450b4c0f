"""How a node whose files are damaged is brought back, and when it is sound again.

No acked entry may be damaged on two nodes at a time: so the next fault waits until this node shows, record
by record over the wire, every event that was acked before. Its own word is not enough. Called by the
faults that damage files.
"""

import random
from functools import partial
from typing import Final

import trio

from esctl.clusters.state import Node
from esnode import limits
from tests.torture.arena import CATCH_UP_TIMEOUT_S, Arena, Trouble
from tests.torture.judgement import keys_of
from tests.torture.load import Load
from tests.torture.promises import Promises
from tests.torture.stored import directory_name, rejoins

ROUND_S: Final = 0.05
KILLED_AGAIN: Final = 1 / 3
KILLED_AFTER_S: Final = 0.2


async def bring_back(ring: Arena, load: Load, number: int, source: random.Random, *, damaged: bool) -> str:
    """Start the node and wait until it is sound; raises `Trouble` when it is not, whatever it says.

    Sometimes it is killed once more, right after it has begun to rejoin; says so.
    """
    node = ring.cluster.node(number)
    before, began, told = directory_name(node), False, ""
    if damaged and source.random() < KILLED_AGAIN:
        await ring.start_and_kill(number, partial(rejoins, node), source.uniform(0, KILLED_AFTER_S))
        began = directory_name(node) != before
        told = f", killed once more {'while it rejoined' if rejoins(node) else 'after that'}"
    await ring.start([number])
    if damaged and not began and not await wait_renamed(node, before, CATCH_UP_TIMEOUT_S):
        raise Trouble(f"node {number} went on with damaged files")
    await wait_sound(ring, load, number)
    return told


async def wait_renamed(node: Node, before: bytes, timeout_s: float) -> bool:
    """Has the node begun to rejoin, within a bound? Then its directory has another name."""
    with trio.move_on_after(timeout_s):
        while True:
            if directory_name(node) != before:
                return True
            await trio.sleep(ROUND_S)  # a file is looked at, it does not tell
    return False


async def wait_sound(ring: Arena, load: Load, number: int) -> None:
    """Wait until the node has what was acked before, record by record; raises `Trouble`."""
    with trio.move_on_after(CATCH_UP_TIMEOUT_S) as patience:
        await ring.wait_caught_up()
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
