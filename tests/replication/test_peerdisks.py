"""What a node with a damaged log hears of the others, before it puts anything aside."""

import pytest
import trio
import trio.testing

from esnode.config import Address, Dedup
from esnode.errors import DedupDiffers, ProtocolError
from esnode.messages import Hello, Side
from esnode.replication.peerdisks import PeerDisks
from esnode.transport.connection import ByteStream, Connection, accept
from esnode.transport.sharedsettings import SharedSettings
from tests.test_settings_agree import config_of

pytestmark = pytest.mark.usefixtures("autojump_clock")


class NobodyCalls(trio.abc.Listener[ByteStream]):
    async def accept(self) -> ByteStream:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def no_directory(_hello: Hello) -> None:
    raise ProtocolError("a node must name its data directory")


@pytest.mark.parametrize("theirs", [Dedup(), Dedup(ttl_ms=5)], ids=["alike", "another window"])
async def test_nodes_that_run_refuse_and_count_as_sound_whatever_their_settings(theirs: Dedup) -> None:
    refusals: list[type[Exception]] = []

    async def serve(stream: ByteStream, me: int) -> None:
        agree = SharedSettings(config_of(1, 2, 3, me=me, dedup=theirs)).check
        async with Connection(stream) as connection:
            with pytest.raises((ProtocolError, DedupDiffers)) as told:
                await accept(
                    connection, cluster="c", node_id=me, incarnation=me, allowed_side=Side.PEER,
                    peers=(1, 2, 3), agree=agree, admit=no_directory,
                )  # fmt: skip
            refusals.append(told.type)

    async def dial(address: Address) -> ByteStream:
        ours, other = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, other, address.port // 2)
        return ours

    async with trio.open_nursery() as nursery:
        assert await PeerDisks(config_of(1, 2, 3), 7, dial).unsound([NobodyCalls()]) == []
    assert refusals == [ProtocolError if theirs == Dedup() else DedupDiffers] * 2
