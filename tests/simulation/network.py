"""The ways between nodes: connections that open, break and replace each other, and messages that travel.

Kinder and crueller than TCP at once: a message may be lost, doubled or overtaken inside a connection,
but none of an older connection arrives after a newer one was accepted, as `esnode/replication/replication.py`
promises. Never looks into a message. Used by tier A.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from esnode.raft.messages import (
    InstallSnapshot,
    PeerClosed,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    Received,
    SnapshotSent,
)

from .schedule import MS, SECOND, Schedule, between
from .trace import Trace
from .weather import Link as Manner

SILENCE_NS: Final = 2 * SECOND
"""A connection whose bytes nobody confirms is ended by the kernel (`limits.PEER_SILENCE_MS`)."""
SNAPSHOT_NS: Final = 20 * MS


class End(Protocol):
    """A node, as far as the network knows it."""

    @property
    def up(self) -> bool:
        """Whether its process runs."""
        ...

    def hear(self, item: Received | PeerConnected | PeerClosed | PeerUnreachable | SnapshotSent) -> None:
        """Put it in the node's inbox, if there is one."""
        ...


@dataclass(slots=True)
class _Way:
    """From one node to another: one connection at a time, numbered."""

    number: int = 0
    """Of the newest connection."""
    connected: bool = False
    """As the sender sees it."""
    accepted: int = 0
    """The newest connection that the receiver has accepted; nothing of older ones arrives."""
    broken: int = 0
    """What was in flight on this connection and all before it is lost."""
    last_arrival_ns: int = 0
    severed: int = 0
    """How many faults cut this way now."""
    lossy: int = 0
    """How many faults lose what is sent, while the connection stays up and nobody is told."""
    slowed: int = 0
    held_until_ns: int = 0
    """What is sent before this arrives after it, if the connection lives so long."""
    doubted: bool = False


class Network:
    """All ways between all nodes."""

    def __init__(
        self,
        schedule: Schedule,
        trace: Trace,
        ends: Mapping[int, End],
        manner: Manner,
        counts: Counter[str],
        source: random.Random,
    ) -> None:
        self._schedule = schedule
        self._trace = trace
        self._ends = ends
        self._manner = manner
        self._counts = counts
        self._random = source
        self._weather = 0
        """Counts the calms: what was cut before one is mended by it, and by nothing else."""
        self._ways = {(a, b): _Way() for a in ends for b in ends if a != b}

    # --- messages --------------------------------------------------------------------------------

    def send(self, sender: int, to: int, message: PeerMessage) -> None:
        """One message on its way, if there is one."""
        way = self._ways[sender, to]
        if not way.connected:
            return
        if way.severed:
            self._counts["net.lost in a cut"] += 1
            self._doubt(sender, to, way)
            return
        if way.lossy:
            self._counts["net.lost in silence"] += 1
            return
        if self._happens(self._manner.drops):
            self._counts["net.dropped"] += 1
            return
        self._travel(sender, to, way, message)
        if self._happens(self._manner.duplicates):
            self._counts["net.doubled"] += 1
            self._travel(sender, to, way, message)

    def send_snapshot(self, sender: int, to: int, message: InstallSnapshot) -> None:
        """A snapshot takes its time; the sender hears when it has left."""
        way = self._ways[sender, to]
        number = way.number if way.connected else -1
        self.send(sender, to, message)
        self._schedule.after(SNAPSHOT_NS, self._snapshot_left, sender, to, way, number)

    def _snapshot_left(self, sender: int, to: int, way: _Way, number: int) -> None:
        ok = way.number == number and way.connected
        self._ends[sender].hear(SnapshotSent(to, ok))

    def _travel(self, sender: int, to: int, way: _Way, message: PeerMessage) -> None:
        delay_ns = between(self._random, self._manner.delay_ns)
        if way.slowed:
            self._counts["net.clogged"] += 1
            delay_ns += self._random.randint(100 * MS, SECOND)
        elif self._happens(self._manner.straggles):
            self._counts["net.straggled"] += 1
            delay_ns *= 10
        if isinstance(message, InstallSnapshot):
            delay_ns += 2 * SNAPSHOT_NS
        if way.held_until_ns > self._schedule.now_ns:
            self._counts["net.held"] += 1
            delay_ns += way.held_until_ns - self._schedule.now_ns
        if self._manner.in_order:
            delay_ns = max(delay_ns, way.last_arrival_ns + 1 - self._schedule.now_ns)
        arrival_ns = self._schedule.now_ns + delay_ns
        if arrival_ns < way.last_arrival_ns:
            self._counts["net.overtook"] += 1
        way.last_arrival_ns = max(arrival_ns, way.last_arrival_ns)
        self._schedule.after(delay_ns, self._arrive, sender, to, way, way.number, message)

    def _arrive(self, sender: int, to: int, way: _Way, number: int, message: PeerMessage) -> None:
        if number < way.accepted or number <= way.broken or way.severed:
            self._counts["net.lost with a connection"] += 1
            return
        self._trace.note(self._schedule.now_ns, str(to), f"< {sender} {type(message).__name__}", message)
        self._ends[to].hear(Received(sender, message))

    # --- connections -----------------------------------------------------------------------------

    def started(self, node: int) -> None:
        """A process has begun: it dials everybody, and everybody finds it."""
        for other in self._ends:
            if other != node:
                self._dial_soon(node, other)
                self._dial_soon(other, node)

    def ended(self, node: int, *, heard: bool) -> None:
        """A process has ended; `heard`: its kernel tells the other sides."""
        for other in self._ends:
            if other == node:
                continue
            out, back = self._ways[node, other], self._ways[other, node]
            back.broken = back.number
            if out.connected and heard and not out.severed:
                delay_ns = between(self._random, self._manner.delay_ns)
                self._schedule.after(delay_ns, self._closed, node, other, out, out.number)
            if heard and not back.severed:
                self._break(other, node, back)
            else:
                self._doubt(other, node, back)
            out.connected = False

    def reset(self, sender: int, to: int) -> bool:
        """The connection breaks, what is in flight on it is lost; False when there is none."""
        way = self._ways[sender, to]
        if not way.connected:
            return False
        way.broken = way.number
        self._closed(sender, to, way, way.number)
        self._break(sender, to, way)
        return True

    def _closed(self, sender: int, to: int, way: _Way, number: int) -> None:
        """The receiver sees the end of the connection, unless it has a newer one."""
        if way.accepted == number:
            self._ends[to].hear(PeerClosed(sender))

    def _break(self, sender: int, to: int, way: _Way) -> None:
        if way.connected:
            way.connected = False
            self._ends[sender].hear(PeerUnreachable(to))
            self._dial_soon(sender, to)

    def _doubt(self, sender: int, to: int, way: _Way) -> None:
        """Bytes are not confirmed: give the connection up if it stays so."""
        if not way.doubted:
            way.doubted = True
            self._schedule.after(SILENCE_NS, self._give_up, sender, to, way, way.number)

    def _give_up(self, sender: int, to: int, way: _Way, number: int) -> None:
        way.doubted = False
        if way.number != number and way.broken == way.number:
            self._doubt(sender, to, way)  # the one after it is gone, too, and nobody was told
        elif way.number == number and (way.severed or way.broken == number):
            way.broken = number
            self._break(sender, to, way)

    def _dial_soon(self, sender: int, to: int) -> None:
        delay_ns = self._random.randint(10 * MS, 300 * MS)
        self._schedule.after(delay_ns, self._dial, sender, to, self._ways[sender, to].number)

    def _dial(self, sender: int, to: int, number: int) -> None:
        way, back = self._ways[sender, to], self._ways[to, sender]
        if way.number != number or way.connected or not self._ends[sender].up:
            return
        if way.severed or back.severed or not self._ends[to].up:
            self._dial_soon(sender, to)
            return
        way.number += 1
        way.accepted = way.number
        way.connected = True
        way.last_arrival_ns = self._schedule.now_ns
        self._counts["net.connected"] += 1
        self._trace.note(self._schedule.now_ns, str(sender), f"connected to {to}")
        self._ends[sender].hear(PeerConnected(to))

    # --- faults ----------------------------------------------------------------------------------

    def sever(self, pairs: list[tuple[int, int]], for_ns: int) -> None:
        """Cut these ways for a while."""
        for pair in pairs:
            self._ways[pair].severed += 1
        self._schedule.after(for_ns, self._mend, [self._ways[pair] for pair in pairs], self._weather)

    def lose(self, sender: int, to: int, for_ns: int) -> None:
        """Lose everything on this way for a while; its connection stays up."""
        way = self._ways[sender, to]
        way.lossy += 1
        self._schedule.after(for_ns, self._lose_no_more, way, self._weather)

    def clog(self, sender: int, to: int, for_ns: int) -> None:
        """Make this way slow for a while."""
        way = self._ways[sender, to]
        way.slowed += 1
        self._schedule.after(for_ns, self._unclog, way, self._weather)

    def hold(self, pairs: list[tuple[int, int]], for_ns: int) -> None:
        """Nothing gets through these ways for a while, and nothing is lost."""
        for pair in pairs:
            self._ways[pair].held_until_ns = self._schedule.now_ns + for_ns

    def calm(self) -> None:
        """From now on nothing is cut, lost, doubled or slow that need not be."""
        self._weather += 1
        for way in self._ways.values():
            way.severed = way.lossy = way.slowed = way.held_until_ns = 0
        self._manner = Manner((50_000, 500_000), 0.0, 0.0, 0.0, in_order=True)

    def _mend(self, ways: list[_Way], weather: int) -> None:
        if weather == self._weather:
            for way in ways:
                way.severed -= 1

    def _lose_no_more(self, way: _Way, weather: int) -> None:
        if weather == self._weather:
            way.lossy -= 1

    def _unclog(self, way: _Way, weather: int) -> None:
        if weather == self._weather:
            way.slowed -= 1

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance
