"""Follows all partitions of a log at once: what comes first is given first.

Within a partition the order is that of its offsets; between partitions there is none. Holds what one message
of each partition brings at most: a slow reader slows the nodes down. Used by `log.py`.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import trio

from esnode.client.stored import StoredBatch, StoredEvent, stored_event
from esnode.client.subscription import BatchSubscription
from esnode.errors import EventStreamError

Came = tuple[int, StoredBatch | EventStreamError]
"""What a partition gave, or what ended it."""


class MergedBatches:
    """An async iterator of `StoredBatch`, without end. For one task at a time.

    Raises what a `BatchSubscription` of one of the partitions raises; iterating again goes on with each where
    it was.
    """

    def __init__(
        self,
        from_offsets: Mapping[int, int],
        open_all: Callable[[dict[int, int]], Awaitable[dict[int, BatchSubscription]]],
        nursery: trio.Nursery,
    ) -> None:
        self.next_offsets = dict(from_offsets)
        """For each partition the offset of the next event that will be given."""
        self._open_all = open_all
        self._nursery = nursery
        self._scope: trio.CancelScope | None = None
        self._subscriptions: dict[int, BatchSubscription] = {}
        self._following: trio.Nursery | None = None
        self._send: trio.MemorySendChannel[Came]
        self._receive: trio.MemoryReceiveChannel[Came]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredBatch:
        if self._scope is None:
            await self._begin()
        partition, came = await self._receive.receive()
        if isinstance(came, EventStreamError):
            await self.aclose()
            raise came
        self.next_offsets[partition] = came.next_offset
        return came

    async def _begin(self) -> None:
        self._subscriptions = await self._open_all(self.next_offsets)
        self._send, self._receive = trio.open_memory_channel[Came](0)
        self._scope = trio.CancelScope()
        for partition, subscription in self._subscriptions.items():
            self.next_offsets[partition] = subscription.next_offset
        self._nursery.start_soon(self._follow, self._scope)

    def add(self, partition: int, subscription: BatchSubscription) -> None:
        """Follow one more partition, which is new. Whoever has not asked for an event yet finds it so."""
        if self._scope is None:
            return
        self._subscriptions[partition] = subscription
        self.next_offsets[partition] = subscription.next_offset
        if self._following is not None:
            self._following.start_soon(_pass_on, partition, subscription, self._send)

    async def _follow(self, scope: trio.CancelScope) -> None:
        """Pass on what each gives, until `scope` is cancelled."""
        with scope, self._send:
            async with trio.open_nursery() as self._following:
                for partition, subscription in self._subscriptions.items():
                    self._following.start_soon(_pass_on, partition, subscription, self._send)
                await trio.sleep_forever()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Iterating again opens others, at the next offsets."""
        scope, self._scope, self._following = self._scope, None, None
        if scope is not None:
            scope.cancel()
            self._receive.close()
        for subscription in self._subscriptions.values():
            await subscription.aclose()


class MergedEvents:
    """An async iterator of `StoredEvent`, without end. For one task at a time; raises as the other does.

    An event that is none (another producer's mistake) raises `ProtocolError`, which names its offset;
    iterating again goes on behind it.
    """

    def __init__(self, batches: MergedBatches) -> None:
        self.next_offsets = dict(batches.next_offsets)
        """For each partition the offset of the next event that will be given."""
        self._batches = batches
        self._partition = 0
        self._encoded: deque[bytes] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredEvent:
        while not self._encoded:
            batch = await anext(self._batches)
            if not batch.count:
                continue  # adopted keys
            self._partition = batch.entry.partition
            self.next_offsets[self._partition] = batch.offset
            self._encoded.extend(batch.encoded())
        encoded, offset = self._encoded.popleft(), self.next_offsets[self._partition]
        self.next_offsets[self._partition] = offset + 1
        return stored_event(self._partition, offset, encoded)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Iterating again opens others, at the next offsets."""
        await self._batches.aclose()


async def _pass_on(
    partition: int, subscription: BatchSubscription, send: trio.MemorySendChannel[Came]
) -> None:
    """Everything that comes, and the error that ends it. One after the other, as fast as it is read."""
    try:
        async for batch in subscription:
            await send.send((partition, batch))
    except EventStreamError as error:
        await send.send((partition, error))
