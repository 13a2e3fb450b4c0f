"""Which connections a port holds, so that a client with many connections cannot lock others out.

Decides which connection is closed or refused: during handshakes, the oldest one of the source that has the
most; afterwards, the new one. A source is the other side's address (for IPv6, its /64): without
authentication nothing else is known. Never knows what a connection is for. Called by `ingest.py` and
`replication.py`.
"""

import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from esnode import limits
from esnode.errors import ConnectionLost, TooManyConnections

log = logging.getLogger(__name__)

LOCAL: Final = "this machine"
"""The source of everything that comes over the loopback interface."""


def source_of(host: str) -> str:
    """What connections are counted by. What is no address of IP is a source of its own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            network = ipaddress.ip_network((address, 64), strict=False)
            return LOCAL if address.is_loopback else str(network)
        address = address.ipv4_mapped
    return LOCAL if address.is_loopback else str(address)


class _Seldom:
    """Says when something that happens often is to be logged: once a second at most."""

    def __init__(self) -> None:
        self._times = 0
        self._next_at = 0.0

    def due(self) -> int:
        """How often it has happened since it was logged; 0 when it is not due."""
        self._times += 1
        now = trio.current_time()
        if now < self._next_at:
            return 0
        times, self._times = self._times, 0
        self._next_at = now + limits.REFUSALS_LOGGED_S
        return times


class HandshakeDisplaced(ConnectionLost):
    """Too many connections were in their handshake, and this one gave way."""


class Handshakes:
    """The connections that have not said yet who they are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[trio.CancelScope, str] = {}
        """The oldest first, and the source of each."""
        self._displaced = _Seldom()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def one(self, source: str) -> Iterator[None]:
        """A handshake; where there are too many another one ends for it. Raises `HandshakeDisplaced`."""
        if len(self._open) >= self._most:
            self._give_way()
        scope = trio.CancelScope()
        self._open[scope] = source
        try:
            with scope:
                yield
        finally:
            self._open.pop(scope, None)
        if scope.cancelled_caught:
            raise HandshakeDisplaced("the handshake took so long that newer connections needed its place")

    def _give_way(self) -> None:
        counts = Counter(self._open.values())
        most = max(counts.values())
        oldest = next(scope for scope, source in self._open.items() if counts[source] == most)
        source = self._open.pop(oldest)
        oldest.cancel()
        if times := self._displaced.due():
            log.warning("handshakes_displaced", extra={"source": source, "times": times})


class Slots:
    """The connections that are served: so many in all, fewer of one source, the last few of this machine."""

    def __init__(self, most: int, most_of_a_source: int, kept_local: int) -> None:
        self._most = most
        self._most_of_a_source = most_of_a_source
        self._kept_local = kept_local
        self._taken: Counter[str] = Counter()
        self._total = 0
        self._refused = _Seldom()

    def __len__(self) -> int:
        return self._total

    @contextmanager
    def one(self, source: str) -> Iterator[None]:
        """A connection, for as long as it is served. Raises `TooManyConnections`."""
        self._check(source)
        self._taken[source] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._taken[source] -= 1
            if not self._taken[source]:
                del self._taken[source]

    def _check(self, source: str) -> None:
        free = self._most - self._total - (0 if source == LOCAL else self._kept_local)
        if free > 0 and self._taken[source] < self._most_of_a_source:
            return
        if times := self._refused.due():
            log.warning("client_refused", extra={"source": source, "times": times})
        if free > 0:
            raise TooManyConnections(f"one address may have {self._most_of_a_source} connections to a node")
        raise TooManyConnections(f"the node serves {self._total} connections and takes no more from there")


class Openings:
    """How often a source may open a producer session: where there are too many, each closes another one."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What each source had left, and when; the one that has not asked for longest first."""

    def take(self, source: str) -> bool:
        """Whether the source may open one now."""
        now = trio.current_time()
        left, since = self._left.pop(source, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._per_s)
        taken = left >= 1
        self._left[source] = (left - taken, now)
        if len(self._left) > limits.MAX_SOURCES:
            self._left.popitem(last=False)
        return taken
