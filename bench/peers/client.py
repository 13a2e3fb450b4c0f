"""A client of any of these systems: batches over raw connections, sent again until the servers ack them.

Decides which connection takes a batch, when a connection is given up and which node is dialled next: the
leader first, then round the ring. What is said on a connection is a `Dialect`'s, which sees bytes only.
Sending again may double an event where a system has no deduplication; that is part of what is compared.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, assert_never

import trio

from bench.peers.peer import Habits
from esnode.dedup.batch import UNKNOWN_OFFSET, Batch, OffsetRange
from esnode.errors import InvalidRequest, OperationTimeout

RECEIVE_BYTES: Final = 256 * 1024
WATCHES: Final = 10
"""How often within its patience a client looks at the clock."""
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Acked:
    """So many events of the sending `number` are acked."""

    number: int
    events: int


@dataclass(frozen=True, slots=True)
class NotNow:
    """The server takes the sending `number` later, perhaps."""

    number: int


@dataclass(frozen=True, slots=True)
class Never:
    """The server refuses the sending `number` for good."""

    number: int
    reason: str


Answer = Acked | NotNow | Never


class Elsewhere(Exception):
    """This node cannot serve: the connection ends, and the next node is dialled."""


class Dialect(Protocol):
    """One connection's bytes, both ways. No socket, no clock; a new one for each connection."""

    capacity: int
    """How many sendings may be under way on one connection."""

    @property
    def ready(self) -> bool:
        """Is the greeting over?"""

    def put(self, number: int, batch: Batch) -> None:
        """Send a batch; `number` is in its answers."""

    def feed(self, data: bytes) -> Sequence[Answer]:
        """What the server says; raises `Elsewhere`."""

    def take(self) -> bytes:
        """What is to be written now; empty when there is nothing, or nothing may leave yet."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A batch is acked. These systems do not say at which offsets."""

    ranges: Sequence[OffsetRange]
    duplicates: int
    resent: bool
    partitions: Sequence[int] = ()


@dataclass(slots=True, eq=False)
class _Request:
    batch: Batch
    on_sent: Callable[[], None] | None
    done: trio.Event = field(default_factory=trio.Event)
    left: int = 0
    """Events without an ack, of the latest sending."""
    sendings: int = 0
    sent_s: float = 0.0
    refusal: str | None = None


class Client:
    """An `Appender`. Made by `open_client`."""

    def __init__(self, habits: Habits, nursery: trio.Nursery) -> None:
        self.habits = habits
        self.sessions: list[_Session] = []
        self._nursery = nursery
        self._waiting: deque[_Request] = deque()
        self._numbers = itertools.count(1)

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> Receipt:
        """Send the batch until every event of it is acked.

        Raises `OperationTimeout`, `InvalidRequest` with what the server said.
        """
        request = _Request(batch, on_sent)
        self.submit(request)
        try:
            with trio.move_on_after(self.habits.timeout_s) as patience:
                await request.done.wait()
        finally:
            request.done.set()  # whoever still holds it drops it
        if request.refusal is not None:
            raise InvalidRequest(request.refusal)
        if patience.cancelled_caught:
            raise OperationTimeout(f"no ack within {self.habits.timeout_s:g} s")
        return Receipt((OffsetRange(UNKNOWN_OFFSET, batch.count),), 0, request.sendings > 1)

    def submit(self, request: _Request) -> None:
        """Send it on the connection that has least to do, or keep it until one has room."""
        if request.done.is_set():
            return  # nobody waits for it any more
        free = [session for session in self.sessions if session.has_room]
        if free:
            min(free, key=lambda session: session.under_way).send(next(self._numbers), request)
        else:
            self._waiting.append(request)

    def fill(self, session: "_Session") -> None:
        """Give the connection what waits, as far as it has room."""
        while self._waiting and session.has_room:
            request = self._waiting.popleft()
            if not request.done.is_set():
                session.send(next(self._numbers), request)

    def take_back(self, requests: Sequence[_Request]) -> None:
        """What a lost connection had not brought to an end goes first."""
        self._waiting.extendleft(reversed(requests))
        for session in self.sessions:
            self.fill(session)

    def submit_later(self, request: _Request) -> None:
        """Queue again, after a pause, what a server refused for now."""

        async def submit() -> None:
            await trio.sleep(self.habits.again_s)
            self.submit(request)

        self._nursery.start_soon(submit)


class _Session:
    """One connection after the other, each to the next node of the ring."""

    def __init__(
        self, client: Client, addresses: Sequence[Address], first: int, dialect: Callable[[], Dialect]
    ) -> None:
        self._client = client
        self._addresses = addresses
        self._at = first
        self._new_dialect = dialect
        self._dialect: Dialect | None = None
        self._pending: dict[int, _Request] = {}
        self._writer = trio.lowlevel.ParkingLot()

    @property
    def has_room(self) -> bool:
        """Could it send another request now?"""
        dialect = self._dialect
        return dialect is not None and dialect.ready and len(self._pending) < dialect.capacity

    @property
    def under_way(self) -> int:
        """How many sendings wait for their acks."""
        return len(self._pending)

    def send(self, number: int, request: _Request) -> None:
        """Send it with the next write; only while there is room."""
        assert self._dialect is not None
        request.left = request.batch.count
        request.sent_s = trio.current_time()
        request.sendings += 1
        self._pending[number] = request
        self._dialect.put(number, request.batch)
        self._writer.unpark()
        if request.sendings == 1 and request.on_sent is not None:
            request.on_sent()

    async def run(self) -> NoReturn:
        """Connect, serve, go on to the next node, for ever."""
        habits = self._client.habits
        while True:
            stream: trio.SocketStream | None = None
            with trio.move_on_after(habits.dial_timeout_s):
                try:
                    stream = await trio.open_tcp_stream(*self._addresses[self._at])
                except OSError:
                    stream = None  # nobody listens there
            served = stream is not None and await self._serve(stream)
            self._at = (self._at + 1) % len(self._addresses)
            if not served:
                await trio.sleep(habits.redial_s)

    async def _serve(self, stream: trio.SocketStream) -> bool:
        """Until the connection ends; whether anything was acked on it."""
        self._dialect = dialect = self._new_dialect()
        self._client.fill(self)
        acked = 0
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, dialect)
                nursery.start_soon(self._watch, dialect)
                while data := await stream.receive_some(RECEIVE_BYTES):
                    for answer in dialect.feed(data):
                        acked += self._settle(answer)
                    self._client.fill(self)
                    self._writer.unpark()
                raise Elsewhere
        except* (Elsewhere, trio.BrokenResourceError):
            acked += 0  # the next node, with all that was not acked here
        finally:
            self._dialect = None
            lost, self._pending = list(self._pending.values()), {}
            self._client.take_back(lost)
        return acked > 0

    def _settle(self, answer: Answer) -> int:
        """Note an answer; how many events it acked."""
        request = self._pending.get(answer.number)
        if request is None:
            return 0  # the rest of a sending that was refused, or that nobody waits for any more
        match answer:
            case Acked():
                request.left -= answer.events
                assert request.left >= 0
                if not request.left:
                    del self._pending[answer.number]
                    request.done.set()
                return answer.events
            case NotNow():
                self._client.submit_later(request)
            case Never():
                request.refusal = answer.reason
                request.done.set()
            case _:
                assert_never(answer)
        del self._pending[answer.number]
        return 0

    async def _write(self, stream: trio.SocketStream, dialect: Dialect) -> NoReturn:
        while True:
            if data := dialect.take():
                await stream.send_all(data)
            else:
                await self._writer.park()

    async def _watch(self, dialect: Dialect) -> NoReturn:
        """Give the connection up when its greeting or its oldest sending has waited too long."""
        patience_s = self._client.habits.patience_s
        begun_s = trio.current_time()
        while True:
            await trio.sleep(patience_s / WATCHES)
            for number in [number for number, request in self._pending.items() if request.done.is_set()]:
                del self._pending[number]
            oldest = next(iter(self._pending.values()), None)
            since_s = oldest.sent_s if oldest is not None else begun_s
            if (oldest is not None or not dialect.ready) and trio.current_time() - since_s > patience_s:
                raise Elsewhere


@asynccontextmanager
async def open_client(
    addresses: Sequence[Address],
    leader: int,
    dialect: Callable[[], Dialect],
    habits: Habits,
    connections: int = 1,
) -> AsyncIterator[Client]:
    """A client with so many connections, all of them to the address numbered `leader` at first."""
    async with trio.open_nursery() as nursery:
        client = Client(habits, nursery)
        client.sessions = [_Session(client, addresses, leader, dialect) for _ in range(connections)]
        for session in client.sessions:
            nursery.start_soon(session.run)
        yield client
        nursery.cancel_scope.cancel()
