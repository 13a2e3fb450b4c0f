"""Steps that the tests of the client share: a cluster, a client, and appends under way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from esnode.client import Ack, BatchAck, Log, connect
from esnode.dedup.batch import Batch
from esnode.errors import (
    EventStreamError,
)
from esnode.events import make_batch
from esnode.messages import Append, Refused
from esnode.wire import Message
from tests.fake_cluster import FakeCluster, FakeNode, Reply


def event(number: int) -> dict[str, Any]:
    return {"id": str(number), "source": "/test", "type": "t"}


def batch(*numbers: int) -> Batch:
    return make_batch([event(number) for number in numbers])


@asynccontextmanager
async def running(size: int = 3) -> AsyncIterator[FakeCluster]:
    async with trio.open_nursery() as nursery:
        yield FakeCluster(nursery, size)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(size: int = 3, **settings: Any) -> AsyncIterator[tuple[FakeCluster, Log]]:
    """A cluster and a client of all its nodes."""
    async with running(size) as cluster, connect(cluster.addresses, dial=cluster.dial, **settings) as log:
        yield cluster, log


def swallow(node: FakeNode, message: Message) -> Reply:
    """A node that takes appends and never answers them; otherwise honest."""
    return None if isinstance(message, Append) else node.answer(message)


def refuse_once(error: type[EventStreamError]) -> Callable[[FakeNode, Message], Reply]:
    """A node that refuses each append the first time."""
    seen: set[int] = set()

    def script(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append) and message.request_id not in seen:
            seen.add(message.request_id)
            return Refused(message.request_id, error.code, "not now")
        return node.answer(message)

    return script


def collect(nursery: trio.Nursery, log: Log, *numbers: int) -> dict[int, Ack]:
    """Start an append for each number; the acks appear in what is returned."""
    acks: dict[int, Ack] = {}

    async def one(number: int) -> None:
        acks[number] = await log.append(event(number))

    for number in numbers:
        nursery.start_soon(one, number)
    return acks


def collect_batches(nursery: trio.Nursery, log: Log, *numbers: int) -> dict[int, BatchAck]:
    """The same, each in a batch of its own, in this order."""
    acks: dict[int, BatchAck] = {}

    async def one(number: int) -> None:
        acks[number] = await log.append_batch(batch(number))

    async def in_order() -> None:
        for number in numbers:
            nursery.start_soon(one, number)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(in_order)
    return acks
