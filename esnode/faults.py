"""The table of active faults: what becomes of each message to or from a peer, of each write, of the clock.

Pure: time and chance come in. Decides what may be set, for how long, and what each fault does; a fault is
over when its lease is, whoever set it. A message is struck whole or not at all: Raft sends again what is
lost, and no byte of a frame that leaves is changed. Asked by `peerlink.py`, `replication.py`, the storage
worker and the wall clock, each only while it has a fault; filled by `faultinjector.py`; read by the status.
"""

import enum
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, NamedTuple, Protocol

from esnode import limits
from esnode.errors import FaultsNotAllowed, InvalidRequest, StorageFailed
from esnode.messages import FaultRequest, FaultsReply, SetFault


class Kind(enum.StrEnum):
    """What a fault does."""

    BLOCK = "block"
    """No message passes, no connection is opened."""
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    """A message waits, and those that are sent after it do not."""
    DELAY = "delay"
    RATE = "rate"
    RESET = "reset"
    """A message breaks the connection instead of arriving."""
    STALL = "stall"
    """The connection stays, and what is sent waits until the fault is over."""
    SLOW = "disk-slow"
    FAIL = "disk-fail"
    FULL = "disk-full"
    JUMP = "clock-jump"
    """The node sees another time of day: so much later, or earlier."""
    DRIFT = "clock-drift"
    """Its time of day goes faster, or slower, from the moment on at which the fault is set."""


class Direction(enum.StrEnum):
    """Which messages of a link are struck, as the node sees it that has the fault."""

    OUT = "out"
    IN = "in"
    BOTH = "both"


class Span(NamedTuple):
    """What a parameter may be; one without a default must be given."""

    low: int
    high: int
    default: int | None = None


_SHARE: Final = {"permille": Span(1, 1000)}
_DELAY: Final = {
    "delay_ms": Span(0, limits.MAX_FAULT_DELAY_MS),
    "jitter_ms": Span(0, limits.MAX_FAULT_DELAY_MS, 0),
}
PARAMETERS: Final[Mapping[Kind, Mapping[str, Span]]] = {
    Kind.BLOCK: {},
    Kind.DROP: _SHARE,
    Kind.DUPLICATE: _SHARE,
    Kind.REORDER: {**_SHARE, "hold_ms": Span(1, limits.MAX_FAULT_DELAY_MS, 200)},
    Kind.DELAY: _DELAY,
    Kind.RATE: {"bytes_per_s": Span(1, 10**10)},
    Kind.RESET: _SHARE,
    Kind.STALL: {},
    Kind.SLOW: _DELAY,
    Kind.FAIL: {},
    Kind.FULL: {},
    Kind.JUMP: {"by_ms": Span(-limits.MAX_FAULT_JUMP_MS, limits.MAX_FAULT_JUMP_MS)},
    Kind.DRIFT: {"permille": Span(-500, 500)},
}
DISK_KINDS: Final = frozenset({Kind.SLOW, Kind.FAIL, Kind.FULL})
CLOCK_KINDS: Final = frozenset({Kind.JUMP, Kind.DRIFT})
OUT_ONLY: Final = frozenset({Kind.DELAY, Kind.RATE, Kind.RESET, Kind.STALL, Kind.REORDER})
"""What is sent can be held back; what has arrived has arrived."""


class Chance(Protocol):
    """The part of `random.Random` that faults use."""

    def random(self) -> float:
        """A number from 0 up to 1."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as it was asked for. `peers` is empty for one of the disk or the clock."""

    id: str
    kind: Kind
    peers: tuple[int, ...]
    direction: Direction
    parameters: Mapping[str, int]

    def strikes(self, peer: int, direction: Direction) -> bool:
        """Does it strike messages to (`OUT`) or from (`IN`) the peer?"""
        return peer in self.peers and self.direction in (direction, Direction.BOTH)


@dataclass(slots=True)
class Active:
    """A fault under its lease, and how often it has hit: messages, handshakes, writes, looks at a clock."""

    fault: Fault
    lease_s: float
    until: float
    hits: int = 0
    begun_s: float | None = None
    """When a clock's drift began, by the true time of day."""

    def picture(self, now: float) -> dict[str, Any]:
        """For status and replies; the keys are a contract, see docs/protocol.md."""
        return {
            "id": self.fault.id,
            "kind": self.fault.kind.value,
            "peers": list(self.fault.peers),
            "direction": self.fault.direction.value if self.fault.peers else "",
            "parameters": dict(self.fault.parameters),
            "lease_ms": round(self.lease_s * 1000),
            "left_ms": max(0, round((self.until - now) * 1000)),
            "hits": self.hits,
        }


class Hold(NamedTuple):
    """Why a message waits: for so long after it was sent, and not before a time."""

    by: Active
    wait_s: float = 0.0
    not_before: float = 0.0


class Fate(NamedTuple):
    """What becomes of a message: so many copies of it leave, not before `due`."""

    copies: int
    due: float
    reset: bool = False
    """The connection breaks instead."""
    holds: tuple[Hold, ...] = ()
    """What makes it wait. When one of these is over, it waits for the others only."""


@dataclass(slots=True)
class Held:
    """A frame that waits."""

    number: int
    """In the order in which they were sent."""
    frame: bytes
    sent: float
    due: float
    holds: tuple[Hold, ...]

    @property
    def aside_for(self) -> Active | None:
        """The fault that lets others pass it."""
        return next((hold.by for hold in self.holds if hold.by.fault.kind is Kind.REORDER), None)


class LinkFaults:
    """The faults of one direction of one peer, together; never none."""

    def __init__(self, active: Sequence[Active], chance: Chance) -> None:
        assert active, "a link without faults has None"
        self.active = tuple(active)
        self._chance = chance
        self._free_at = 0.0
        """When a link of that rate has sent all that it was given."""
        self._last_due = 0.0
        """Of those that keep their order."""
        self.held_bytes = 0
        self._queue: deque[Held] = deque()
        """Frames that wait until they are due, and keep their order."""
        self._aside: list[Held] = []
        """Frames that others may pass."""
        self._sent = 0
        self._newest_left = 0
        """The highest number among the frames that have left."""

    @property
    def blocked(self) -> bool:
        """Does nothing pass?"""
        return any(one.fault.kind is Kind.BLOCK for one in self.active)

    def refuse(self) -> bool:
        """Is a connection or a snapshot refused? Counted as a hit of what blocks it."""
        for one in self.active:
            if one.fault.kind is Kind.BLOCK:
                one.hits += 1
                return True
        return False

    def fate(self, size_bytes: int, now: float) -> Fate:
        """What becomes of one message. A link keeps their order, but for those that stand aside."""
        copies, holds = 1, list[Hold]()
        for one in self.active:
            parameters = one.fault.parameters
            hit = True
            match one.fault.kind:
                case Kind.BLOCK:
                    copies = 0
                case Kind.DROP if hit := self._happens(parameters):
                    copies = 0
                case Kind.DUPLICATE if hit := self._happens(parameters):
                    copies = 2
                case Kind.RESET if hit := self._happens(parameters):
                    one.hits += 1
                    return Fate(0, now, reset=True)
                case Kind.DELAY:
                    holds.append(Hold(one, wait_s(parameters, self._chance)))
                case Kind.RATE:
                    self._free_at = max(self._free_at, now) + size_bytes / parameters["bytes_per_s"]
                    holds.append(Hold(one, not_before=self._free_at))
                case Kind.STALL:
                    holds.append(Hold(one, not_before=inf))
                case Kind.REORDER:
                    hit = False  # it hits when another overtakes it
                    if self._happens(parameters):
                        holds.append(Hold(one, parameters["hold_ms"] / 1000))
            one.hits += hit
            if not copies:
                return Fate(0, now)
        return Fate(copies, self._due(now, holds), holds=tuple(holds))

    def _due(self, sent: float, holds: Sequence[Hold]) -> float:
        """When a message leaves: not before those ahead of it, unless it stands aside."""
        due = max([sent + sum(hold.wait_s for hold in holds), *(hold.not_before for hold in holds)])
        if any(hold.by.fault.kind is Kind.REORDER for hold in holds):
            return max(due, self._last_due)
        self._last_due = due = max(due, self._last_due)
        return due

    def pace(self, size_bytes: int, now: float) -> float:
        """When a piece of a snapshot may leave: only its rate and a stall hold it up."""
        due = now
        for one in self.active:
            if one.fault.kind is Kind.RATE:
                self._free_at = max(self._free_at, now) + size_bytes / one.fault.parameters["bytes_per_s"]
                due = max(due, self._free_at)
            elif one.fault.kind is Kind.STALL:
                due = inf
            one.hits += due > now
        return due

    def hold(self, frame: bytes, fate: Fate, now: float) -> None:
        """Keep every copy of a frame until it is due."""
        for _ in range(fate.copies):
            self._sent += 1
            self._put(Held(self._sent, frame, now, fate.due, fate.holds))

    def take_over(self, older: "LinkFaults") -> None:
        """Hold what `older` held: each frame waits for those faults that last, and for no other."""
        self._free_at, self._sent, self._newest_left = older._free_at, older._sent, older._newest_left
        for held in sorted([*older._queue, *older._aside], key=lambda held: held.number):
            held.holds = tuple(hold for hold in held.holds if any(hold.by is one for one in self.active))
            held.due = self._due(held.sent, held.holds)
            self._put(held)
        older.drop()

    def drop(self) -> None:
        """Forget what is held."""
        self._queue.clear()
        self._aside.clear()
        self.held_bytes = 0

    @property
    def next_due(self) -> float:
        """When the next frame is due."""
        first = self._queue[0].due if self._queue else inf
        return min([first, *(held.due for held in self._aside)])

    def ripe(self, now: float) -> list[bytes]:
        """Take the frames that are due, in the order of their times; with `inf` all of them."""
        leaving = [held for held in self._aside if held.due <= now]
        if leaving:
            self._aside = [held for held in self._aside if held.due > now]
        while self._queue and self._queue[0].due <= now:
            leaving.append(self._queue.popleft())
        leaving.sort(key=lambda held: (held.due, held.number))
        for held in leaving:
            self.held_bytes -= len(held.frame)
            if held.number < self._newest_left and (by := held.aside_for) is not None:
                by.hits += 1
            self._newest_left = max(self._newest_left, held.number)
        return [held.frame for held in leaving]

    def _put(self, held: Held) -> None:
        (self._queue if held.aside_for is None else self._aside).append(held)
        self.held_bytes += len(held.frame)

    def _happens(self, parameters: Mapping[str, int]) -> bool:
        return self._chance.random() * 1000 < parameters["permille"]


class DiskFaults:
    """The faults of the disk, together; never none."""

    def __init__(self, active: Sequence[Active], chance: Chance) -> None:
        assert active, "a disk without faults has None"
        self.active = tuple(active)
        self._chance = chance

    def before_commit(self) -> float:
        """For how many seconds the disk hesitates before the next commit. Raises `StorageFailed`."""
        pause_s = 0.0
        for one in self.active:
            one.hits += 1
            match one.fault.kind:
                case Kind.FAIL:
                    raise StorageFailed(f"cannot write: Input/output error (the fault {one.fault.id})")
                case Kind.FULL:
                    raise StorageFailed(f"cannot write: No space left on device (the fault {one.fault.id})")
                case _:
                    pause_s += wait_s(one.fault.parameters, self._chance)
        return pause_s


class ClockFaults:
    """The faults of the wall clock, together; never none."""

    def __init__(self, active: Sequence[Active]) -> None:
        assert active, "a clock without faults has None"
        self.active = tuple(active)

    def begin(self, true_s: float) -> None:
        """Those that are new begin now, by the true time of day."""
        for one in self.active:
            one.begun_s = true_s if one.begun_s is None else one.begun_s

    def seen(self, true_s: float) -> float:
        """The time of day that the node sees."""
        seen_s = true_s
        for one in self.active:
            one.hits += 1
            if one.fault.kind is Kind.JUMP:
                seen_s += one.fault.parameters["by_ms"] / 1000
            elif one.begun_s is not None:
                seen_s += max(0.0, true_s - one.begun_s) * one.fault.parameters["permille"] / 1000
        return seen_s


class FaultTable:
    """The active faults of a node, by id."""

    def __init__(self, me: int, peers: Collection[int], chance: Chance) -> None:
        self._me = me
        self._peers = frozenset(peers)
        self._chance = chance
        self._active: dict[str, Active] = {}

    def set(self, fault: Fault, lease_ms: int, now: float) -> Active:
        """Begin a fault, or renew the lease of the one with its id; raises `InvalidRequest`.

        One that is renewed unchanged keeps its hits.
        """
        self._check(fault, lease_ms)
        lease_s = lease_ms / 1000
        known = self._active.get(fault.id)
        if known is not None and known.fault == fault:
            known.lease_s, known.until = lease_s, now + lease_s
            return known
        if known is None and len(self._active) >= limits.MAX_FAULTS:
            raise InvalidRequest(f"{limits.MAX_FAULTS} faults are active already (MAX_FAULTS)")
        self._active[fault.id] = Active(fault, lease_s, now + lease_s)
        return self._active[fault.id]

    def heal(self, fault_id: str) -> list[Active]:
        """End a fault, or with an empty id all of them; those that were active."""
        ids = [fault_id] if fault_id else list(self._active)
        return [self._active.pop(one) for one in ids if one in self._active]

    def expire(self, now: float) -> list[Active]:
        """End those whose lease is over."""
        over = [one.fault.id for one in self._active.values() if one.until <= now]
        return [self._active.pop(one) for one in over]

    def next_expiry(self) -> float:
        """When the next lease is over."""
        return min((one.until for one in self._active.values()), default=inf)

    def pictures(self, now: float) -> list[dict[str, Any]]:
        """Those whose lease is not over, for status and replies."""
        return [one.picture(now) for one in self._active.values() if one.until > now]

    def of_link(self, peer: int, direction: Direction) -> LinkFaults | None:
        """The faults that strike messages to (`OUT`) or from (`IN`) the peer."""
        active = [one for one in self._active.values() if one.fault.strikes(peer, direction)]
        return LinkFaults(active, self._chance) if active else None

    def of_disk(self) -> DiskFaults | None:
        """The faults of the disk."""
        active = [one for one in self._active.values() if one.fault.kind in DISK_KINDS]
        return DiskFaults(active, self._chance) if active else None

    def of_clock(self) -> ClockFaults | None:
        """The faults of the wall clock."""
        active = [one for one in self._active.values() if one.fault.kind in CLOCK_KINDS]
        return ClockFaults(active) if active else None

    def _check(self, fault: Fault, lease_ms: int) -> None:
        if not limits.MIN_FAULT_LEASE_MS <= lease_ms <= limits.MAX_FAULT_LEASE_MS:
            raise InvalidRequest(
                f"a lease of {lease_ms} ms is not from {limits.MIN_FAULT_LEASE_MS} to"
                f" {limits.MAX_FAULT_LEASE_MS} ms (MAX_FAULT_LEASE_MS)"
            )
        if not 0 < len(fault.id.encode()) <= limits.MAX_FAULT_ID_BYTES or not fault.id.isprintable():
            raise InvalidRequest(f"the id of a fault is 1 to {limits.MAX_FAULT_ID_BYTES} bytes of text")
        alone = fault.kind in DISK_KINDS or fault.kind in CLOCK_KINDS
        if alone and fault.peers:
            what = "disk" if fault.kind in DISK_KINDS else "clock"
            raise InvalidRequest(f"{fault.kind} strikes the {what}, not peers")
        if not alone and not fault.peers:
            raise InvalidRequest(f"{fault.kind} names no peer")
        if strangers := sorted(set(fault.peers) - self._peers):
            known = ", ".join(map(str, sorted(self._peers)))
            raise InvalidRequest(f"node {strangers[0]} is no peer of node {self._me}; its peers are {known}")
        if fault.kind in OUT_ONLY and fault.direction is not Direction.OUT:
            raise InvalidRequest(f"{fault.kind} holds back what is sent: its direction can only be out")


def fault_of(message: SetFault) -> Fault:
    """The fault that a message asks for, with the defaults of its kind; raises `InvalidRequest`."""
    try:
        kind = Kind(message.kind)
        direction = Direction(message.direction) if message.peers else Direction.BOTH
    except ValueError as error:
        raise InvalidRequest(f"a fault cannot be that: {error}") from error
    spans = PARAMETERS[kind]
    if unknown := sorted(set(message.parameters) - set(spans)):
        raise InvalidRequest(f"{kind} has no parameter {unknown[0]}; it has {', '.join(spans) or 'none'}")
    parameters = {}
    for name, span in spans.items():
        value = message.parameters.get(name, span.default)
        if value is None or not span.low <= value <= span.high:
            raise InvalidRequest(f"{kind} needs {name} from {span.low} to {span.high}, not {value}")
        parameters[name] = value
    return Fault(message.fault, kind, tuple(sorted(set(message.peers))), direction, parameters)


def wait_s(parameters: Mapping[str, int], chance: Chance) -> float:
    """One delay in seconds: `delay_ms`, and up to `jitter_ms` more."""
    return (parameters["delay_ms"] + parameters["jitter_ms"] * chance.random()) / 1000


_Struck = LinkFaults | DiskFaults | None


def same(one: _Struck, other: _Struck) -> bool:
    """Are they the same faults, perhaps with renewed leases?"""
    if one is None or other is None:
        return one is other
    return [id(active) for active in one.active] == [id(active) for active in other.active]


Answer = Callable[[FaultRequest], FaultsReply]


def not_allowed(request: FaultRequest) -> FaultsReply:
    """The answer of a node that was not started for this: raises `FaultsNotAllowed`."""
    raise FaultsNotAllowed(
        "this node breaks nothing on purpose: it was started without `[faults] allowed = true`"
    )
