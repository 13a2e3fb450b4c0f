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
"""Events of producer sessions are numbered from here on, and sent by no other way: they never repeat."""


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
        _faults(random.Random(f"{seed}:faults"), weather), _operations(random.Random(f"{seed}:load"), weather)
    )


def _faults(source: random.Random, weather: Weather) -> tuple[Fault, ...]:
    faults = []
    for kind, rate in weather.faults_a_minute.items():
        for at_ns in _times(source, rate, weather.duration_ms):
            node = source.randint(1, weather.voters)
            other = source.randint(1, weather.voters)
            for_ns = int(source.choice((0.02, 0.3, 1.0, 3.0, 10.0)) * source.uniform(0.5, 1.5) * SECOND)
            faults.append(Fault(at_ns, kind, node, other, for_ns, source.getrandbits(32)))
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


def _operations(source: random.Random, weather: Weather) -> tuple[Operation, ...]:
    load, operations = weather.load, []
    sent = in_sessions = 0
    for at_ns in sorted(_times(source, load.operations_a_minute, weather.duration_ms)):
        client, to = source.randrange(load.clients), source.randint(1, weather.voters)
        if source.random() < load.reads:
            operations.append(Operation(at_ns, client, (), session=False, to=to))
            continue
        session = source.random() < load.sessions
        size = _size(source, load)
        if session:
            events = [SESSION_EVENTS + in_sessions + n for n in range(size)]
            in_sessions += size
        else:
            events = []
            for _ in range(size):
                if sent and source.random() < load.repeats:
                    events.append(sent - 1 - min(int(source.expovariate(0.05)), sent - 1))
                else:
                    events.append(sent)
                    sent += 1
        operations.append(Operation(at_ns, client, tuple(events), session, to))
    return tuple(operations)


def _size(source: random.Random, load: Load) -> int:
    """Mostly small: a big batch now and then."""
    return source.randint(1, load.max_events if source.random() < 0.3 else min(load.max_events, 4))


def _times(source: random.Random, a_minute: float, duration_ms: int) -> list[int]:
    times, at_ms = [], 0.0
    while (at_ms := at_ms + source.expovariate(a_minute / 60_000)) < duration_ms:
        times.append(int(at_ms * MS))
    return times
