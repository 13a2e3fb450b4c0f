"""The client of the floor: what `esctl/bench` needs of a log, and nothing else.

All batches that are handed over while the loop is busy leave in one send. An ack wakes the one task that
waits for it, and no other. Never sends again: a connection that ends, ends the run. Called by `cluster.py`.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import outcome
import trio

from bench.floor.layouts import APPEND, APPEND_TYPE, APPENDED, LENGTH_BYTES
from bench.floor.sockets import Outlet, receive
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import ConnectionLost


@dataclass(frozen=True, slots=True)
class Taken:
    """What an append returns; see `esctl.events.producer.Taken`."""

    ranges: Sequence[OffsetRange]
    duplicates: int = 0
    resent: bool = False
    partitions: Sequence[int] = ()


class FloorClient:
    """The floor as an `esctl.events.producer.Appender`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._outlet = Outlet(sock)
        self._parts: list[bytes] = []
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        self._requests = 0
        self._sender = trio.lowlevel.ParkingLot()

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> Taken:
        """Send it; return when a majority has it on disk."""
        self._requests += 1
        request, keys, payload = self._requests, batch.keys, batch.payload
        length = APPEND.size - LENGTH_BYTES + len(keys) + len(payload)
        head = APPEND.pack(length, APPEND_TYPE, request, 0, 0, batch.count, -1, 0, 0, 0, 0, 0, len(payload))
        if not self._parts:
            self._sender.unpark()
        self._parts += (head, keys, payload)
        if on_sent is not None:
            on_sent()
        self._waiting[request] = trio.lowlevel.current_task()

        def abandon(_: object) -> trio.lowlevel.Abort:
            del self._waiting[request]
            return trio.lowlevel.Abort.SUCCEEDED

        answer: Taken = await trio.lowlevel.wait_task_rescheduled(abandon)
        return answer

    async def run(self) -> None:
        """Send and hear, until cancelled; raises `ConnectionLost` when the leader ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._outlet.run)
            nursery.start_soon(self._send)
            await receive(self._sock, self._take)
            raise ConnectionLost("the floor's leader has ended")

    async def _send(self) -> None:
        while True:
            while not self._parts:
                await self._sender.park()
            parts, self._parts = self._parts, []
            self._outlet.send(b"".join(parts))

    def _take(self, buffer: memoryview, have: int) -> int:
        end = have // APPENDED.size * APPENDED.size
        for _, _, request, _, _, offset, count in APPENDED.iter_unpack(buffer[:end]):
            task = self._waiting.pop(request, None)
            if task is not None:
                trio.lowlevel.reschedule(task, outcome.Value(Taken((OffsetRange(offset, count),))))
        return end
