"""Which connections a port holds: who gives way, who is refused, and who always finds a place."""

import pytest
import trio
import trio.testing

from esnode.errors import TooManyConnections
from esnode.transport.connectionslots import LOCAL, HandshakeDisplaced, Handshakes, Openings, Slots, source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", LOCAL),
        ("127.8.9.1", LOCAL),
        ("::1", LOCAL),
        ("::ffff:127.0.0.1", LOCAL),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:5::6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_connections_are_counted_by_address_and_those_of_ipv6_by_network(host: str, source: str) -> None:
    assert source_of(host) == source


async def test_of_too_many_handshakes_the_oldest_of_the_busiest_source_gives_way() -> None:
    """A peer whose handshake takes its time keeps its place, however many strangers come."""
    handshakes = Handshakes(4)
    displaced: list[str] = []

    async def hold(source: str, name: str) -> None:
        try:
            with handshakes.one(source):
                await trio.sleep_forever()
        except HandshakeDisplaced:
            displaced.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, "peer", "peer")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(10):
            nursery.start_soon(hold, "stranger", f"stranger {number}")
            await trio.testing.wait_all_tasks_blocked()
        assert len(handshakes) == 4
        nursery.start_soon(hold, "another peer", "another peer")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert displaced == [f"stranger {number}" for number in range(8)]
    assert len(handshakes) == 0


async def test_a_handshake_that_ends_leaves_its_place() -> None:
    handshakes = Handshakes(1)
    for _ in range(3):
        with handshakes.one("somebody"):
            assert len(handshakes) == 1
            await trio.lowlevel.checkpoint()
    assert len(handshakes) == 0


async def test_one_source_leaves_places_for_others_and_remote_ones_for_this_machine() -> None:
    slots = Slots(6, most_of_a_source=3, kept_local=1)
    with slots.one("a"), slots.one("a"), slots.one("a"):
        with pytest.raises(TooManyConnections, match="one address may have 3"), slots.one("a"):
            pytest.fail("a fourth one was served")
        with slots.one("b"), slots.one("c"):
            with pytest.raises(TooManyConnections, match="serves 5 connections"), slots.one("d"):
                pytest.fail("the place of this machine was given away")
            with slots.one(LOCAL):
                assert len(slots) == 6
                with pytest.raises(TooManyConnections), slots.one(LOCAL):
                    pytest.fail("a seventh one was served")
        with slots.one("d"):
            pass
    assert len(slots) == 0


async def test_a_source_opens_producer_sessions_at_a_bounded_rate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    openings = Openings(3, per_s=2)
    assert [openings.take("a") for _ in range(4)] == [True, True, True, False]
    assert openings.take("b")
    await trio.sleep(1)
    assert [openings.take("a") for _ in range(3)] == [True, True, False]
    await trio.sleep(100)
    assert [openings.take("a") for _ in range(4)] == [True, True, True, False]
