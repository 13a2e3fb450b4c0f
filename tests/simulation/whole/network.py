"""The machines' network: who can hear whom, where connections are accepted, and how they go wrong.

A link is a pair of hosts and has two directions, each cut or not: every shape of a partition is made of
these. TCP holds up what a cut link does not carry and sends it once more when it is whole again. Decides
nothing by itself but the latencies and what the kernel of a machine does. Called by `world.py`, and by
the nodes and clients through `dialer` and `listen`.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import trio

from esnode import limits
from esnode.config import Address
from esnode.errors import Unreachable
from esnode.transport.connection import ByteStream, Dialer

from .streams import FOREVER, End, Way, Weather

SYN_AT_S: Final = (0.0, 1.0, 3.0)
"""When a dial that nobody answers is tried again by the kernel."""
BACKLOG: Final = 128


class Listener(trio.abc.Listener[ByteStream]):
    """A port of one machine."""

    def __init__(self, host: str, confirm_within_s: float) -> None:
        self.host = host
        self.confirm_within_s = confirm_within_s
        """For the connections that are dialled to it: TCP_USER_TIMEOUT of the one that dials."""
        self.waiting: deque[End] = deque()
        self.closed = False
        self._lot = trio.lowlevel.ParkingLot()

    def arrive(self, end: End) -> None:
        """The kernel has taken a connection."""
        self.waiting.append(end)
        self._lot.unpark()

    async def accept(self) -> ByteStream:
        """As trio says."""
        await trio.lowlevel.checkpoint()
        while not self.waiting:
            if self.closed:
                raise trio.ClosedResourceError("the port was closed")
            await self._lot.park()
        return self.waiting.popleft()

    async def aclose(self) -> None:
        """As trio says."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close it, and what nobody has accepted yet."""
        self.closed = True
        for end in self.waiting:
            end.close()
        self.waiting.clear()
        self._lot.unpark_all()


class Network:
    """All machines and what is between them."""

    def __init__(self, source: random.Random, weather: Weather) -> None:
        self.connections: list[End] = []
        """The dialling end of each, oldest first."""
        self.dials = 0
        self._source = source
        self._weather = weather
        self._cut: set[tuple[str, str]] = set()
        self._down: set[str] = set()
        self._ports: dict[Address, Listener] = {}
        self._places: dict[Address, str] = {}
        self._opened = trio.lowlevel.ParkingLot()

    # --- what programs do ------------------------------------------------------------------------

    def listen(self, host: str, address: Address, confirm_within_s: float = FOREVER) -> Listener:
        """Open a port."""
        self._places[address] = host
        listener = self._ports[address] = Listener(host, confirm_within_s)
        return listener

    def place(self, host: str, address: Address) -> None:
        """Whose address it is; nobody listens there yet."""
        self.listen(host, address).close()

    def dialer(self, host: str) -> Dialer:
        """How programs on `host` connect; raises what `open_stream` does, when it does."""

        async def dial(address: Address) -> trio.abc.Stream:
            with trio.move_on_after(limits.HANDSHAKE_TIMEOUT_S):
                return await self._dial(host, address)
            raise Unreachable(f"{address} does not answer")

        return dial

    async def _dial(self, host: str, address: Address) -> End:
        self.dials += 1
        there = self._places[address]
        begun = trio.current_time()
        for at_s in SYN_AT_S:
            await trio.sleep_until(begun + at_s)
            if not self._dead(host, there):
                break
        else:
            await trio.sleep_forever()
        await trio.sleep(2 * self._source.uniform(*self._weather.latency_s))
        port = self._ports[address]
        if port.closed or len(port.waiting) >= BACKLOG:
            raise Unreachable(f"{address} cannot be reached: connection refused")
        if self._dead(host, there):
            await trio.sleep_forever()
        return self._connect(host, port)

    def _connect(self, host: str, port: Listener) -> End:
        out = Way(self._weather, self._source, lambda: self.blocked(host, port.host))
        back = Way(self._weather, self._source, lambda: self.blocked(port.host, host))
        near, far = End(host, out, back, port.confirm_within_s), End(port.host, back, out, FOREVER)
        near.other, far.other = far, near
        self.connections = [end for end in self.connections if not (end.closed and end.other.closed)]
        self.connections.append(near)
        port.arrive(far)
        return near

    # --- what befalls links ------------------------------------------------------------------------

    def blocked(self, sender: str, receiver: str) -> bool:
        """Whether nothing from `sender` arrives at `receiver`."""
        return (sender, receiver) in self._cut or sender in self._down or receiver in self._down

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """From now on nothing goes these ways, each from one host to another."""
        self._change(lambda: self._cut.update(ways))

    def mend(self, ways: Iterable[tuple[str, str]]) -> None:
        """Things go these ways again."""
        self._change(lambda: self._cut.difference_update(ways))

    def stall(self, end: End, stalled: bool) -> None:
        """Hold up, or let go, what this end of a connection sends."""

        def change() -> None:
            end.out.stalled = stalled

        self._change(change)

    def reset(self, end: End) -> None:
        """Both ends of the connection find it broken; what was on its way is lost."""
        for one in (end, end.other):
            one.out.lose()
            one.break_now()

    def half_open(self, end: End) -> None:
        """This end finds the connection broken, and the other is not told."""
        end.break_now()
        end.in_.reader_gone = True

    # --- what befalls machines ---------------------------------------------------------------------

    def end_process(self, host: str) -> None:
        """The kernel closes everything that the process had open."""
        for end in self._ends(host):
            end.close()
        for port in self._ports_of(host):
            port.close()

    def power_off(self, host: str) -> None:
        """The machine says nothing more, and answers nothing."""
        for end in self._ends(host):
            end.vanish()
        for port in self._ports_of(host):
            port.waiting.clear()
            port.close()
        self._change(lambda: self._down.add(host))

    def power_on(self, host: str) -> None:
        """It is there again, and knows nothing of its connections; does nothing when it is on."""
        if host in self._down:
            self._change(lambda: self._down.remove(host))

    # --- inside --------------------------------------------------------------------------------------

    def _dead(self, host: str, there: str) -> bool:
        return self.blocked(host, there) or self.blocked(there, host)

    def _ends(self, host: str) -> list[End]:
        both = [one for end in self.connections for one in (end, end.other)]
        return [end for end in both if end.host == host and not end.closed]

    def _ports_of(self, host: str) -> list[Listener]:
        return [port for port in self._ports.values() if port.host == host and not port.closed]

    def _change(self, change: Callable[[], object]) -> None:
        """Cut or mend something; what has arrived by now has arrived."""
        ends = [one for end in self.connections for one in (end, end.other)]
        before = [end.out.blocked for end in ends]
        for end, was_blocked in zip(ends, before, strict=True):
            if not was_blocked:
                end.out.settle()
        change()
        for end, was_blocked in zip(ends, before, strict=True):
            way = end.out
            if was_blocked and not way.blocked:
                way.reopen(self._source.uniform(0, 0.2))
            way.acks_blocked = end.in_.blocked
            if not way.acks_blocked:
                way.hear()
            way.wake()
        for end in ends:
            if not end.closed:
                end.arm()
