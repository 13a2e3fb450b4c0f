"""What a node learns of its peers' disks, and from whom."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from esnode.config import Address
from esnode.errors import OlderDirectory, UnknownDirectory, Unreachable
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.replication.peeridentity import PeerIdentities

REAL, STRANGE = b"R" * 16, b"X" * 16


def identities(
    directories: dict[int, bytes], *, last_index: int = 100, applied_index: int = 100
) -> PeerIdentities:
    """That of node 1, which knows node 2; nobody answers at that one's address."""

    async def dial(_address: Address) -> trio.abc.Stream:
        raise Unreachable("down")

    storage = SimpleNamespace(
        peers_reached={}, directory=b"A" * 16, last_index=last_index, peer_directories=directories
    )
    config = SimpleNamespace(cluster="c", partition=0, peers=[SimpleNamespace(id=2, client="x")])
    view = SimpleNamespace(
        soft_state=SimpleNamespace(term=1), applied_index=applied_index, rejoining=False, me=1
    )
    worker = SimpleNamespace(storage=storage)
    return PeerIdentities(cast(Any, config), cast(Any, view), cast(Any, worker), dial, dict)


def hello(directory: bytes, last_index: int, applied_index: int) -> Hello:
    version = PROTOCOL_VERSION
    return Hello(
        Side.PEER, version, version, "c", 2, 1, 7,
        directory=directory, last_index=last_index, applied_index=applied_index,
    )  # fmt: skip


async def test_a_stranger_that_is_turned_away_teaches_nothing_about_the_peer() -> None:
    known = identities({2: REAL})
    with pytest.raises(UnknownDirectory):
        await known.check(hello(STRANGE, 10**6, 10**6), None)
    await known.check(hello(REAL, 100, 100), None)
    with pytest.raises(OlderDirectory, match="held entry 100"):
        await known.check(hello(REAL, 99, 99), None)


async def test_a_peer_is_not_held_to_what_it_had_applied_and_not_yet_stored() -> None:
    known = identities({2: REAL})
    await known.check(hello(REAL, 50, 90), None)
    await known.check(hello(REAL, 50, 50), None)


async def test_a_wiped_directory_is_told_that_it_is_unknown_not_that_it_is_older() -> None:
    known = identities({2: REAL})
    await known.check(hello(REAL, 100, 100), None)
    with pytest.raises(UnknownDirectory):
        await known.check(hello(STRANGE, 0, 0), None)


def test_an_applied_snapshot_that_is_not_durable_yet_is_not_told() -> None:
    assert identities({}, last_index=10, applied_index=90).own_end == (10, 10)
