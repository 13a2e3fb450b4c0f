"""A connection to one node that is kept open for as long as the client lives.

Decides when to connect again and when a silent connection counts as dead. Never decides what is sent: that
is `dispatcher.py`, which gets every message. The timers: connect again after 20 ms, doubling to 1 s, each
+-50 %, or at once when another node says that this one leads; send a probe after 0.5 s of silence while an
answer is due (5 s otherwise), and close the connection if nothing comes for another second.
"""

import itertools
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, NoReturn, Protocol

import trio

from esnode import limits
from esnode.client.clusterpin import ClusterPin
from esnode.config import Address
from esnode.errors import CallerError, ConnectionLost, EventStreamError, OperatorError, PeerError, first_of
from esnode.messages import PROTOCOL_VERSION, Hello, LeaderIs, Side, StatusRequest, Welcome
from esnode.transport.connection import Connection, Dialer, greet
from esnode.wire import Message, encode

WATCH_EVERY_S: Final = 0.25
ASK_WHEN_DUE_S: Final = 0.5
ASK_WHEN_IDLE_S: Final = 5.0
HANG_UP_S: Final = 1.0

PING_ID: Final = 0
"""The request id of the question "are you there?"; requests count from 1."""
_PING: Final = encode(StatusRequest(PING_ID))

_numbers: Final = itertools.count(1)


class Listener(Protocol):
    """What a link tells."""

    def on_up(self, link: "Link") -> None:
        """The handshake has succeeded."""

    def on_down(self, link: "Link") -> None:
        """The connection has ended."""

    def on_message(self, link: "Link", message: Message) -> None:
        """A message has come; raises `ProtocolError` when it makes no sense."""

    def on_error(self, link: "Link") -> None:
        """The connection could not be made, or has ended: `link.error` says why."""

    def is_due(self, link: "Link") -> bool:
        """Whether this node owes an answer."""


async def call(
    address: Address, dial: Dialer, pin: ClusterPin, rng: random.Random
) -> tuple[Connection, Welcome]:
    """Connect and greet any node of the client's cluster.

    Raises `Unreachable`, and what `greet` and the pin's `check` raise, and leaves nothing open then.
    """
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(Connection(await dial(address)))
        version, number = PROTOCOL_VERSION, rng.getrandbits(64)
        hello = Hello(
            *(Side.CLIENT, version, version, pin.cluster, 0, 0, number), partition=pin.partition or 0
        )
        welcome = await greet(connection, hello)
        pin.check(welcome)
        stack.pop_all()
    return connection, welcome


class Link:
    """One node's address, and the connection to it while there is one."""

    def __init__(
        self,
        address: Address,
        pin: ClusterPin,
        listener: Listener,
        dial: Dialer,
        rng: random.Random,
    ) -> None:
        self.address = address
        self.connected = False
        self.number = 0
        """Of the connection, never used again: 0 before the first one."""
        self.node_id = 0
        self.claim: LeaderIs | None = None
        """What this node last said about who leads, on this connection."""
        self.error: EventStreamError | None = None
        """Why the last connection ended or could not be made."""
        self._pin = pin
        self._listener = listener
        self._dial = dial
        self._rng = rng
        self._outgoing: list[bytes] = []
        self._writer = trio.lowlevel.ParkingLot()
        self._pause = trio.lowlevel.ParkingLot()
        self._heard = 0.0
        self._asked = -1.0

    async def run(self) -> None:
        """Connect, serve, and begin again, for ever."""
        failures = 0
        while True:
            before = self.number
            try:
                await self._serve_connection()
            except (PeerError, OperatorError, CallerError) as error:
                self.error = error
                self._listener.on_error(self)
            failures = failures + 1 if self.number == before else 0
            pause_s = min(limits.RECONNECT_MIN_S * 2.0 ** min(failures, 10), limits.RECONNECT_MAX_S)
            with trio.move_on_after(pause_s * self._rng.uniform(0.5, 1.5)):
                await self._pause.park()

    def dial_now(self) -> None:
        """Others say that this node is there: end the pause between two tries."""
        self._pause.unpark_all()

    def push(self, parts: Sequence[bytes]) -> None:
        """Send the parts of a frame with the next write. Only while connected."""
        assert self.connected
        self._outgoing += parts
        self._writer.unpark()

    async def _serve_connection(self) -> None:
        failure: EventStreamError | None = None
        connection, welcome = await call(self.address, self._dial, self._pin, self._rng)
        async with connection:
            self._begin(welcome.node_id)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, connection)
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._read, connection)
            except* EventStreamError as group:
                failure = first_of(group)
            finally:
                self.connected = False
                self._outgoing.clear()
                self._listener.on_down(self)
        if failure is not None:
            raise failure

    def _begin(self, node_id: int) -> None:
        self.node_id = node_id
        self.number = next(_numbers)
        self.claim = None
        self.connected = True
        self._heard = trio.current_time()
        self._asked = -1.0
        self._listener.on_up(self)

    def _hear(self) -> None:
        self._heard = trio.current_time()

    async def _read(self, connection: Connection) -> NoReturn:
        connection.on_progress(self._hear)
        while messages := await connection.receive():
            self._hear()
            for message in messages:
                self._listener.on_message(self, message)
        raise ConnectionLost("the node ended the connection")

    async def _write(self, connection: Connection) -> None:
        while True:
            while not self._outgoing:
                await self._writer.park()
            parts, self._outgoing = self._outgoing, []
            await connection.send_parts(parts)

    async def _watch(self) -> None:
        """Tell a node that has nothing to say from one that is gone without a word."""
        while True:
            await trio.sleep(WATCH_EVERY_S)
            now = trio.current_time()
            if self._asked > self._heard:
                if now - self._asked >= HANG_UP_S:
                    raise ConnectionLost(f"the node at {self.address} has gone silent")
            elif now - self._heard >= (ASK_WHEN_DUE_S if self._listener.is_due(self) else ASK_WHEN_IDLE_S):
                self._asked = now
                self.push((_PING,))
