"""How loud a node is about a peer that it cannot reach."""

import logging
import random

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.config import Address, Member
from esnode.errors import Unreachable
from esnode.loop.inbox import Inbox
from esnode.messages import PROTOCOL_VERSION, Goodbye, Hello, Side, Welcome
from esnode.replication.peerlink import STARTING_S, PeerLink
from esnode.wire import encode

HELLO = Hello(Side.PEER, PROTOCOL_VERSION, PROTOCOL_VERSION, "c", 1, 2, 7)
MEMBER = Member(2, Address("127.0.0.1", 7202), Address("127.0.0.1", 7102))


class Peer:
    """A peer that answers the handshake while it is `up`."""

    def __init__(self, up: bool) -> None:
        self.up = up
        self.ends: list[trio.abc.Stream] = []

    async def dial(self, address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise Unreachable(f"{address} cannot be reached: Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.ends.append(theirs)
        await theirs.send_all(encode(Welcome(PROTOCOL_VERSION, "c", 2, 8)))
        return ours

    async def die(self) -> None:
        self.up = False
        for end in self.ends:
            await end.aclose()


def link_to(peer: Peer) -> PeerLink:
    async def no_snapshot() -> None:
        raise AssertionError("nobody wants a snapshot here")

    async def no_keys(number: int, digest: bytes) -> bytes:
        raise AssertionError("nobody wants keys here")

    return PeerLink(MEMBER, lambda: HELLO, Inbox(), peer.dial, no_snapshot, random.Random(1), no_keys)


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.message == "peer_unreachable"]


async def test_a_peer_that_was_lost_is_a_warning_told_once(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="esnode.replication.peerlink")
    peer = Peer(up=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link_to(peer).run)
        await trio.sleep(3)
        assert levels(caplog) == []
        await peer.die()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert levels(caplog) == [logging.WARNING]


async def test_a_peer_that_was_never_there_is_a_warning_only_when_the_start_is_over(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="esnode.replication.peerlink")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link_to(Peer(up=False)).run)
        await trio.sleep(STARTING_S / 2)
        assert levels(caplog) == [logging.INFO]
        await trio.sleep(STARTING_S)
        nursery.cancel_scope.cancel()
    assert levels(caplog) == [logging.INFO, logging.WARNING]


async def test_a_dial_that_hangs_is_given_up_and_tried_again(autojump_clock: trio.abc.Clock) -> None:
    dialled = 0

    async def hang(address: Address) -> trio.abc.Stream:
        nonlocal dialled
        dialled += 1
        await trio.sleep_forever()
        raise AssertionError("it sleeps for ever")

    peer = Peer(up=False)
    peer.dial = hang  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link_to(peer).run)
        await trio.sleep(10 * limits.PEER_DIAL_S)
        nursery.cancel_scope.cancel()
    assert 3 < dialled <= 10


@pytest.mark.parametrize("code", ["ES2002", "ES3103", "ES1101", "ES9001", "ES0000"])
async def test_a_peer_that_refuses_is_quoted_and_not_dialled_without_a_pause(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Whatever code it gives: one of a caller or of a bug ended the node that heard it."""
    caplog.set_level(logging.INFO, logger="esnode.replication.peerlink")
    peer = Peer(up=True)

    async def refuse() -> None:
        while True:
            await trio.sleep(0.005)
            for end in peer.ends:
                await end.send_all(encode(Goodbye(code, "a frame was too long")))
                await end.aclose()
            peer.ends.clear()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link_to(peer).run)
        nursery.start_soon(refuse)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    reasons = [record.__dict__["reason"] for record in caplog.records if record.message == "peer_unreachable"]
    assert "a frame was too long" in reasons[0]
    connected = [record for record in caplog.records if record.message == "peer_connected"]
    assert 3 < len(connected) < 30
