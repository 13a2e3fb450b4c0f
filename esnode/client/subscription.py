"""Follows the log from an offset, on a connection of its own, through any number of them.

Decides which node is asked and when to go to the next one: when its connection ends, when nothing of a
message has come for `SILENCE_S` although it should give a sign of life every second, when it has not
heard of a leader for `STALE_MS` while others might have, or when it has cut away what others may keep.
Holds what came in one message at most: a slow reader slows the node down, and nobody else. Used by `log.py`
and `nodelink.py`.
"""

import random
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import trio

from esnode import limits
from esnode.client.clusterpin import ClusterPin
from esnode.client.link import call
from esnode.client.stored import StoredBatch, StoredEvent, batches_of, stored_event
from esnode.config import Address
from esnode.errors import (
    CallerError,
    ClusterRestored,
    ConnectionLost,
    EventStreamError,
    NewerFormat,
    OffsetAfterRestore,
    OffsetOutOfRange,
    OperatorError,
    PartitionNeeded,
    PeerError,
    ProtocolError,
    UnknownPartition,
    VersionMismatch,
    WrongCluster,
)
from esnode.messages import Goodbye, LeaderIs, Read, Records, Refused, Subscribe
from esnode.transport.connection import Connection, Dialer, error_of
from esnode.wire import Message

SILENCE_S: Final = 3 * limits.SUBSCRIPTION_SIGN_OF_LIFE_S
STALE_MS: Final = 3000
_REQUEST_ID: Final = 1
_FIRST_KEPT_ID: Final = 2


class BatchSubscription:
    """An async iterator of `StoredBatch`, without end. For one task at a time.

    Raises `OffsetOutOfRange` when retention has overtaken it on all nodes that answer, `OffsetAfterRestore`
    when the log was restored and does not reach so far, and `ClusterRestored`, `WrongCluster`,
    `VersionMismatch`, `PartitionNeeded` or `UnknownPartition` when every node says so. All else it lives
    through; `error` is the last of it.
    """

    def __init__(
        self,
        addresses: Callable[[], list[Address]],
        pin: ClusterPin,
        from_offset: int,
        dial: Dialer,
        rng: random.Random,
    ) -> None:
        self.next_offset = from_offset
        """The offset of the next event that will be given."""
        self.end_offset = 0
        """The end of what the node had applied when it last sent something."""
        self.error: EventStreamError | None = None
        self._addresses = addresses
        self._pin = pin
        self._dial = dial
        self._rng = rng
        self._turn = rng.randrange(2**16)
        self._failures = 0
        self._refused: set[Address] = set()
        self._restored: ClusterRestored | None = None
        self._cut: dict[Address, int | None] = {}
        """The nodes that keep the next event no more, and the first one that each keeps, where it says so."""
        self._silent: set[Address] = set()
        """Those that were asked for it then, and did not answer."""
        self._connection: Connection | None = None
        self._patience: trio.CancelScope | None = None
        self._patience_s = 0.0
        self._batches: deque[StoredBatch] = deque()
        self._received = from_offset
        """The offset that follows the last event in `_batches`."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredBatch:
        while not self._batches:
            try:
                await self._receive()
            except OffsetAfterRestore:
                await self.aclose()
                raise
            except OffsetOutOfRange as error:
                self._cut[self._address] = await self._first_kept()
                await self._go_on(error)
            except NewerFormat:
                await self.aclose()
                if not self._batches:  # else they come first: it is met again behind them
                    raise
            except (PeerError, OperatorError, CallerError) as error:
                await self._go_on(error)
        batch = self._batches.popleft()
        self.next_offset = batch.next_offset
        return batch

    async def next_within(self, patience_s: float) -> StoredBatch | None:
        """The next one; None when nothing has come for `patience_s`, no part of one either."""
        with trio.move_on_after(patience_s) as self._patience:
            self._patience_s = patience_s
            return await anext(self)
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Iterating again opens another one, at the next offset."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    @property
    def _address(self) -> Address:
        addresses = self._addresses()
        return addresses[self._turn % len(addresses)]

    async def _receive(self) -> None:
        if self._connection is None:
            self._connection = await self._open()
        with trio.move_on_after(SILENCE_S) as silence:
            self._connection.on_progress(lambda: self._hear(silence))
            messages = await self._connection.receive()
        if silence.cancelled_caught:
            raise ConnectionLost(f"the node at {self._address} has gone silent")
        if not messages:
            raise ConnectionLost(f"the node at {self._address} ended the connection")
        for message in messages:
            self._take(message)

    def _hear(self, silence: trio.CancelScope) -> None:
        """More of what is due has come: a slow link takes its time."""
        now = trio.current_time()
        silence.deadline = now + SILENCE_S
        if self._patience is not None:
            self._patience.deadline = now + self._patience_s

    async def _first_kept(self) -> int | None:
        """The first event that the node keeps; None where it does not say so."""
        if self._connection is None:
            return None
        question = Read(_FIRST_KEPT_ID, limits.MAX_INDEX, 1, 1, linearizable=False)
        with trio.move_on_after(SILENCE_S):
            try:
                await self._connection.send(question)
                while messages := await self._connection.receive():
                    for message in messages:
                        if isinstance(message, Records) and message.request_id == _FIRST_KEPT_ID:
                            return message.first_offset
            except (PeerError, OperatorError):
                return None  # the node has gone: the others are asked
        return None

    def _end_where_all_have_cut(self, address: Address) -> None:
        """One node may keep what another has cut. Raises `OffsetOutOfRange` once no other can be asked."""
        if address not in self._cut:
            self._silent.add(address)
        if not (self._cut.keys() | self._silent).issuperset(self._addresses()):
            return
        firsts = [first for first in self._cut.values() if first is not None]
        kept = f"; the first one is {min(firsts)}" if firsts else ""
        silent = f" ({len(self._silent)} did not answer)" if self._silent else ""
        self._cut.clear()
        self._silent.clear()
        raise OffsetOutOfRange(f"event {self._received} is not kept any more on any node{silent}{kept}")

    async def _open(self) -> Connection:
        connection, _ = await call(self._address, self._dial, self._pin, self._rng)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(connection.aclose)
            await connection.send(Subscribe(_REQUEST_ID, self._received))
            stack.pop_all()
        return connection

    def _take(self, message: Message) -> None:
        match message:
            case Records():
                self._failures = 0
                self._refused.clear()
                self._cut.clear()
                self._silent.clear()
                self.end_offset = message.next_offset
                for batch in batches_of(message.records, self._received):
                    self._batches.append(batch)
                    self._received = batch.next_offset
                stale = not 0 <= message.silence_ms <= STALE_MS
                if stale and not message.records and len(self._addresses()) > 1:
                    raise ConnectionLost(f"the node at {self._address} has lost its leader")
            case Refused(_, code, text) | Goodbye(code, text):
                raise error_of(code, text)
            case LeaderIs():
                return  # any node will do
            case _:
                raise ProtocolError(f"{type(message).__name__} came on a subscription")

    async def _go_on(self, error: EventStreamError) -> None:
        """Leave this node, and turn to the next one after a pause."""
        self.error = error
        address = self._address
        await self.aclose()
        if isinstance(error, WrongCluster | VersionMismatch | PartitionNeeded | UnknownPartition):
            self._refused.add(address)
            if isinstance(error, ClusterRestored):
                self._restored = error
            if self._refused.issuperset(self._addresses()):
                raise self._restored or error
        if self._cut:
            self._end_where_all_have_cut(address)
        self._turn += 1
        self._failures += 1
        pause_s = min(limits.RECONNECT_MIN_S * 2**self._failures, limits.RECONNECT_MAX_S)
        await trio.sleep(pause_s * self._rng.uniform(0.5, 1.5))


class Subscription:
    """An async iterator of `StoredEvent`, without end. For one task at a time; raises as the other does.

    An event that is none (another producer's mistake) raises `ProtocolError`, which names its
    offset; iterating again goes on behind it.
    """

    def __init__(self, batches: BatchSubscription) -> None:
        self._batches = batches
        self._current: StoredBatch | None = None
        self._encoded: deque[bytes] = deque()
        self.next_offset = batches.next_offset
        """The offset of the next event that will be given."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredEvent:
        while self._current is None or not self._encoded:
            self._current = await anext(self._batches)
            self.next_offset = self._current.offset
            self._encoded.extend(self._current.encoded())
        encoded, offset = self._encoded.popleft(), self.next_offset
        self.next_offset += 1
        return stored_event(self._current.entry.partition, offset, encoded)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Iterating again opens another one, at the next offset."""
        await self._batches.aclose()
