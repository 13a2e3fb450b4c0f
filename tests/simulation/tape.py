"""What will happen to one world, written down before it begins: faults and clients' operations.

A tape is data: it can be printed, shortened (`shrink.py`) and played again. Whatever else is random (how
long a message takes) is drawn while it plays, from streams of the seed's own. Used by tier A.
"""

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from .schedule import MS, SECOND
from .weather import Load, Weather

SESSION_EVENTS: Final = 1 << 32
"""Where keys are forgotten, events of sessions have numbers from here on: they are in the log once, ever."""


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at_ns`, `kind` befalls `node` (and `other`, where it takes two), for `for_ns`.

    `salt` seeds whatever else the fault has to draw.
    """

    at_ns: int
    kind: str
    node: int
    other: int
    for_ns: int
    salt: int


@dataclass(frozen=True, slots=True)
class Operation:
    """At `at_ns`, `client` wants to append events, `session` or not, or to read (no events).

    Events are numbers; one that was used before is the same event again.
    """

    at_ns: int
    client: int
    events: tuple[int, ...]
    session: bool
    to: int
    """The node that is asked when the client does not know better."""


@dataclass(frozen=True, slots=True)
class Tape:
    """Both, each in the order of time."""

    faults: tuple[Fault, ...]
    operations: tuple[Operation, ...]

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Back from it."""
        operations = [
            Operation(**{**item, "events": tuple(item["events"])}) for item in document["operations"]
        ]
        return cls(tuple(Fault(**item) for item in document["faults"]), tuple(operations))


def record(seed: int, weather: Weather) -> Tape:
    """The tape of `seed`."""
    return Tape(
        faults_of(random.Random(f"{seed}:faults"), weather),
        _operations(random.Random(f"{seed}:load"), weather),
    )


def faults_of(source: random.Random, weather: Weather) -> tuple[Fault, ...]:
    """What befalls a group in this weather, in the order of time."""
    faults = []
    for kind, rate in weather.faults_a_minute.items():
        for at_ns in _times(source, rate, weather.duration_ms):
            node = source.randint(1, weather.voters)
            other = source.randint(1, weather.voters)
            for_ns = int(source.choice((0.02, 0.3, 1.0, 3.0, 10.0)) * source.uniform(0.5, 1.5) * SECOND)
            faults.append(Fault(at_ns, kind, node, other, for_ns, source.getrandbits(32)))
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


def _operations(source: random.Random, weather: Weather) -> tuple[Operation, ...]:
    load, events = weather.load, _Events(source, weather)
    times = _times(source, load.operations_a_minute, weather.duration_ms)
    for at_ns in _times(source, load.bursts_a_minute, weather.duration_ms):
        times += [at_ns + int(source.uniform(0, 300) * MS) for _ in range(source.randint(5, 30))]
    operations = []
    for at_ns in sorted(times):
        client, to = source.randrange(load.clients), source.randint(1, weather.voters)
        if source.random() < load.reads:
            operations.append(Operation(at_ns, client, (), session=False, to=to))
            continue
        session = source.random() < load.sessions
        operations.append(
            Operation(at_ns, client, events.take(_size(source, load), session=session), session, to)
        )
    return tuple(operations)


class _Events:
    """Numbers of events, new ones and some that were sent before."""

    def __init__(self, source: random.Random, weather: Weather) -> None:
        self._source = source
        self._repeats = weather.load.repeats
        self._mixed = not weather.forgets
        """Sessions may send what others have sent: nobody forgets it."""
        self._loose: list[int] = []
        self._in_sessions: list[int] = []

    def take(self, count: int, *, session: bool) -> tuple[int, ...]:
        """The events of one batch."""
        return tuple(self._next(session) for _ in range(count))

    def _next(self, session: bool) -> int:
        known = self._in_sessions if session and not self._mixed else self._loose
        may_repeat = known and (self._mixed or not session)
        if may_repeat and self._source.random() < self._repeats:
            if self._source.random() < 0.5:
                return self._source.choice(known)
            return known[-1 - min(int(self._source.expovariate(0.05)), len(known) - 1)]
        event = len(self._loose) if self._mixed or not session else SESSION_EVENTS + len(self._in_sessions)
        known.append(event)
        return event


def _size(source: random.Random, load: Load) -> int:
    """Mostly small: a big batch now and then."""
    return source.randint(1, load.max_events if source.random() < 0.3 else min(load.max_events, 4))


def _times(source: random.Random, a_minute: float, duration_ms: int) -> list[int]:
    times: list[int] = []
    if not a_minute:
        return times
    at_ms = 0.0
    while (at_ms := at_ms + source.expovariate(a_minute / 60_000)) < duration_ms:
        times.append(int(at_ms * MS))
    return times
