"""The client of the other systems: nothing is given up before it is acked, refused or out of time."""

from collections.abc import Sequence

import pytest
import trio

from bench.peers.client import Address, open_client
from bench.peers.peer import Habits
from esctl.bench.generator import Generator
from esnode.errors import InvalidRequest, OperationTimeout
from tests.peers.lines import LineDialect, LineServer, with_servers

PATIENT = Habits(patience_s=30.0, again_s=0.001, redial_s=0.001)
SOURCE = Generator("run", 100, 2)


async def test_every_batch_is_acked_over_connections_with_little_room() -> None:
    async def work(addresses: Sequence[Address], servers: Sequence[LineServer]) -> None:
        sent: list[bool] = []
        async with open_client(addresses, 0, LineDialect, PATIENT, connections=3) as client:

            async def append() -> None:
                receipt = await client.append_batch(SOURCE.next_batch(), on_sent=lambda: sent.append(True))
                assert not receipt.resent
                assert receipt.ranges[0].count == 2

            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(append)
        assert servers[0].heard == len(sent) == 40
        assert servers[0].connections == 3

    await with_servers([lambda _: b"ACK"], work)


async def test_what_is_refused_for_now_is_sent_again_and_what_is_refused_is_raised() -> None:
    async def work(addresses: Sequence[Address], servers: Sequence[LineServer]) -> None:
        async with open_client(addresses, 0, LineDialect, PATIENT) as client:
            assert (await client.append_batch(SOURCE.next_batch())).resent
            assert servers[0].heard == 3
            with pytest.raises(InvalidRequest, match="no"):
                await client.append_batch(SOURCE.next_batch())

    await with_servers([lambda heard: (b"LATER", b"LATER", b"ACK", b"NEVER")[heard]], work)


async def test_a_node_that_cannot_serve_is_left_for_the_next_one() -> None:
    async def work(addresses: Sequence[Address], servers: Sequence[LineServer]) -> None:
        async with open_client(addresses, 0, LineDialect, PATIENT) as client:
            assert (await client.append_batch(SOURCE.next_batch())).resent
        assert [server.connections for server in servers] == [1, 1, 0]

    await with_servers([lambda _: b"AWAY", lambda _: b"ACK", lambda _: b"ACK"], work)


async def test_nobody_there_is_no_reason_to_give_up() -> None:
    async def work(addresses: Sequence[Address], _servers: Sequence[LineServer]) -> None:
        with trio.socket.socket() as closed:
            await closed.bind(("127.0.0.1", 0))
            nobody: Address = ("127.0.0.1", closed.getsockname()[1])
            async with open_client([nobody, addresses[0]], 0, LineDialect, PATIENT) as client:
                assert not (await client.append_batch(SOURCE.next_batch())).resent

    await with_servers([lambda _: b"ACK"], work)


async def test_a_silent_node_is_left_when_patience_is_over() -> None:
    async def work(addresses: Sequence[Address], servers: Sequence[LineServer]) -> None:
        async with open_client(addresses, 0, LineDialect, Habits(patience_s=0.02)) as client:
            assert (await client.append_batch(SOURCE.next_batch())).resent
        assert servers[1].heard >= 1

    await with_servers([lambda _: b"", lambda _: b"ACK"], work)


async def test_a_greeting_that_does_not_end_is_left_when_patience_is_over() -> None:
    class Mute(LineDialect):
        """Greets nobody but the second node."""

        begun = 0

        def __init__(self) -> None:
            super().__init__()
            Mute.begun += 1
            self.ready = Mute.begun > 1

    async def work(addresses: Sequence[Address], servers: Sequence[LineServer]) -> None:
        async with open_client(addresses, 0, Mute, Habits(patience_s=0.02)) as client:
            await client.append_batch(SOURCE.next_batch())
        assert servers[0].heard == 0
        assert servers[1].heard >= 1

    await with_servers([lambda _: b"ACK", lambda _: b"ACK"], work)


async def test_an_append_without_an_ack_ends_as_unknown() -> None:
    async def work(addresses: Sequence[Address], _servers: Sequence[LineServer]) -> None:
        habits = Habits(patience_s=30.0, timeout_s=0.02)
        async with open_client(addresses, 0, LineDialect, habits) as client:
            with pytest.raises(OperationTimeout) as raised:
                await client.append_batch(SOURCE.next_batch())
            assert not raised.value.definite

    await with_servers([lambda _: b""], work)
