"""A scripted cluster with several partitions: a `FakeCluster` for each, behind the same addresses.

As a supervisor does, a node reads the first frame of a connection and hands it to the partition that it
names.
"""

import trio
import trio.testing

from esnode.config import Address
from esnode.errors import Unreachable
from esnode.messages import Hello
from esnode.transport.connection import Connection, say_goodbye, unknown_partition
from esnode.wire.frames import decode
from esnode.wire.layout import LENGTH_BYTES
from tests.fake_cluster import FakeCluster


class _ReadAgain(trio.abc.Stream):
    """A stream of which some bytes were read."""

    def __init__(self, first: bytes, stream: trio.abc.Stream) -> None:
        self._first = first
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        first, self._first = self._first, b""
        return first or bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class FakePartitions:
    """`partitions` logs, each with a leader of its own."""

    def __init__(self, nursery: trio.Nursery, partitions: int, size: int = 3) -> None:
        self.parts = [FakeCluster(nursery, size, "fake", number, partitions) for number in range(partitions)]
        for number, part in enumerate(self.parts):
            part.leader = number % size + 1
        self.addresses = self.parts[0].addresses
        self.is_down = False
        """Whether no node takes a connection."""
        self._nursery = nursery

    async def dial(self, address: Address) -> trio.abc.Stream:
        """The client's `Dialer`."""
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise Unreachable(f"{address} refuses")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, address.port, theirs)
        return ours

    async def _serve(self, node_id: int, stream: trio.testing.MemoryReceiveStream) -> None:
        first = b""
        while len(first) < LENGTH_BYTES or len(first) < LENGTH_BYTES + int.from_bytes(first[:LENGTH_BYTES]):
            more = await stream.receive_some()
            if not more:
                return
            first += more
        hello = decode(first[LENGTH_BYTES:])
        assert isinstance(hello, Hello)
        if hello.partition < len(self.parts):
            await self.parts[hello.partition].nodes[node_id].serve(_ReadAgain(first, stream))
        else:
            await say_goodbye(Connection(stream), unknown_partition(hello.partition, len(self.parts)))
