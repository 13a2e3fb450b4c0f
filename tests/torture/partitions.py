"""Nodes that cannot reach each other: three network namespaces, links taken down or cut one way.

python -m tests.torture.partitions --times 10 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

A node is cut off from everybody, or cannot speak to its peers, or cannot hear them; clients still reach it
in the last two. Needs root. Confirmed by new connections that fail where they must, and only there.
"""

import argparse
import enum
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from esctl.clusters.backends import network
from esctl.clusters.backends.network import Network
from esctl.exits import Exit
from tests.torture.arena import Arena, Target
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load

SHORTEST_S: Final = 0.3
LONGEST_S: Final = 4.0
REACH_TIMEOUT_S: Final = 1.0


class Shape(enum.StrEnum):
    """How a node is parted from the others."""

    CUT = "cut off"
    MUTE = "mute towards its peers"
    DEAF = "deaf towards its peers"


class Partition:
    """A node apart, for a while."""

    name = "partitions"
    needs = Needs(apart=True)

    def __init__(self) -> None:
        self._shapes: list[Shape] = []

    def missing(self) -> str:
        return network.missing()

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        if not self._shapes:
            self._shapes = source.sample(list(Shape), len(Shape))
        shape, number = self._shapes.pop(), target.number
        assert ring.network is not None, "the arena was made for this"
        peers = [other for other in ring.numbers if other != number]
        with parted(ring.network, shape, number, peers):
            begun = trio.current_time()
            missed = await self._look(ring, shape, number, peers)
            await trio.sleep_until(begun + source.uniform(SHORTEST_S, LONGEST_S))
            lasted_s = trio.current_time() - begun
        await ring.wait_caught_up()
        return Strike(f"{shape} for {lasted_s:.1f} s", missed)

    async def _look(self, ring: Arena, shape: Shape, number: int, peers: list[int]) -> str:
        """Is it so? Seen from the host and from the namespaces, by connections of our own."""
        place = ring.network
        assert place is not None
        own = ring.cluster.node(number)
        reached: dict[str, bool] = {}

        async def ask(what: str, source: int | None, address: str) -> None:
            reached[what] = await reaches(place, source, address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "host to node", None, own.client)
            for peer in peers:
                nursery.start_soon(ask, f"node to {peer}", number, ring.cluster.node(peer).peer)
                nursery.start_soon(ask, f"{peer} to node", peer, own.peer)
                nursery.start_soon(ask, f"host to {peer}", None, ring.cluster.node(peer).client)
            nursery.start_soon(ask, "between the peers", peers[0], ring.cluster.node(peers[1]).peer)
        # A connection needs both ways, so a node that is mute or deaf makes none to its peers and gets none.
        expected = {what: not ("to node" in what or what.startswith("node to")) for what in reached}
        if shape is not Shape.CUT:
            expected["host to node"] = True
        wrong = [what for what in sorted(reached) if reached[what] != expected[what]]
        return f"against the plan: {', '.join(wrong)}" if wrong else ""


@contextmanager
def parted(place: Network, shape: Shape, number: int, peers: list[int]) -> Iterator[None]:
    """The partition, and its end whatever happens."""
    ways = [(number, peer) if shape is Shape.MUTE else (peer, number) for peer in peers]
    if shape is Shape.CUT:  # from the host too
        network.ip("link", "set", place.link(number), "down")
    else:
        place.cut(ways)
    try:
        yield
    finally:
        if shape is Shape.CUT:
            network.ip("link", "set", place.link(number), "up")
        else:
            place.mend(ways)


async def reaches(place: Network, source: int | None, address: str) -> bool:
    """Does a new connection from a node, or from the host, get there?"""
    host, _, port = address.rpartition(":")
    kind = socket.SOCK_STREAM
    caller = place.socket_in(source, kind) if source is not None else socket.socket(socket.AF_INET, kind)
    with trio.socket.from_stdlib_socket(caller) as call, trio.move_on_after(REACH_TIMEOUT_S):
        try:
            await call.connect((host, int(port)))
        except OSError:
            return False
        return True
    return False


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("partitions", [Partition()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
