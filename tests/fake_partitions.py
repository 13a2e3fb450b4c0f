"""A scripted cluster with several partitions: a `FakeCluster` for each, behind the same addresses.

As a supervisor does, a node reads the first frame of a connection and hands it to the partition that it
names.
"""

import trio
import trio.testing

from esnode.config import Address
from esnode.dedup.batch import UNKNOWN_OFFSET
from esnode.errors import Unreachable
from esnode.messages import Hello
from esnode.ring import TOKEN_BYTES, Ring
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
            part.leader, part.logs = number % size + 1, partitions
        self.addresses = self.parts[0].addresses
        self.is_down = False
        """Whether no node takes a connection."""
        self._nursery = nursery

    async def fence(self, partitions: int) -> None:
        """The next ring has so many partitions, and the old owners go by it: what moves, nobody takes yet."""
        before = len(self.parts)
        for number in range(before, partitions):
            part = FakeCluster(self._nursery, len(self.parts[0].nodes), "fake", number, before)
            part.leader, part.ring_version = number % len(part.nodes) + 1, self.parts[0].ring_version
            part.owns = lambda _batch: False
            self.parts.append(part)
        for number, part in enumerate(self.parts[:before]):
            self._go_by(number, part.ring_version + 1, partitions)
            await self._say(part)

    async def open(self) -> None:
        """The new owners know what the old ones have of the moved sources, and take events of them."""
        ring = self.parts[0].ring_version, self.parts[0].partitions
        owners = Ring(ring[0], range(ring[1]))
        for number, part in enumerate(self.parts):
            for key in {key for other in self.parts for key in other.log.offsets}:
                if owners.owner(int.from_bytes(key[:TOKEN_BYTES])) == number:
                    part.log.offsets.setdefault(key, UNKNOWN_OFFSET)
            self._go_by(number, *ring)
            await self._say(part)

    def _go_by(self, number: int, version: int, partitions: int) -> None:
        part, ring = self.parts[number], Ring(version, range(partitions))
        part.logs = len(self.parts)
        part.ring_version, part.partitions = version, partitions
        part.owns = lambda batch: ring.owns_all(batch.keys, number)

    async def _say(self, part: FakeCluster) -> None:
        for node in part.nodes.values():
            await node.say_leader()

    async def dial(self, address: Address) -> trio.abc.Stream:
        """The client's `Dialer`."""
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise Unreachable(f"{address} refuses")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, address.port, theirs)
        return ours

    async def _serve(self, node_id: int, stream: trio.abc.Stream) -> None:
        first = b""
        while len(first) < LENGTH_BYTES or len(first) < LENGTH_BYTES + int.from_bytes(first[:LENGTH_BYTES]):
            more = bytes(await stream.receive_some())
            if not more:
                return
            first += more
        hello = decode(first[LENGTH_BYTES:])
        assert isinstance(hello, Hello)
        if hello.partition < len(self.parts):
            await self.parts[hello.partition].nodes[node_id].serve(_ReadAgain(first, stream))
        else:
            await say_goodbye(Connection(stream), unknown_partition(hello.partition, len(self.parts)))
