"""The probes of `esctl status metrics`: one figure of a cluster each, and what it means.

Pure. A figure past its threshold is a warning or critical; one that cannot be had is unknown, unless that
itself is what the probe is about. Of several partitions, the worst counts. Called by `esctl status metrics`.
"""

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, NotRequired, TypedDict

from esctl.observe.diagnosis.situation import Situation
from esctl.query.dedupstate import DedupState
from esctl.query.survey import MAX_LAG_EVENTS, Report
from esctl.ui.formatting import quantity
from esctl.ui.values import Count

StateWord = Literal["ok", "warning", "critical", "unknown"]
_WORDS: Final[tuple[StateWord, ...]] = ("ok", "warning", "critical", "unknown")


class ReadingData(TypedDict):
    """A figure, its state, and the thresholds."""

    probe: str
    state: StateWord
    value: float | None
    unit: str
    warn: float | None
    crit: float | None
    text: str
    partition: NotRequired[
        Annotated[Count | None, "Of several partitions: the one that has this figure; null where all have it"]
    ]


class ProbeState(enum.IntEnum):
    """What a monitor makes of it; the numbers are those of Nagios."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> StateWord:
        """What the answer calls it."""
        return _WORDS[self]


@dataclass(frozen=True, slots=True)
class Probe:
    """What is measured, when it is bad, and how it is said."""

    name: str
    unit: str
    warn: float
    crit: float
    falling: bool
    """Is a small figure the bad one?"""
    asks: str


PROBES: Final = (
    Probe("quorum", "", 1, 0, True, "how many more nodes may fail"),
    Probe("leader", "ms", 500, 2000, False, "how long a read took that a majority has confirmed"),
    Probe("lag", "", 10_000, MAX_LAG_EVENTS, False, "events that the slowest follower is behind"),
    Probe("disk", "%", 10, 5, True, "free part of the fullest disk"),
    Probe("faults", "", 0, math.inf, False, "active injected faults"),
    Probe("window", "%", 90, 99, False, "used part of the fullest deduplication window"),
    Probe("memory", "MB", 500, 1000, False, "resident memory of the largest node"),
)
"""A threshold itself is still well: what lies beyond it is not."""
NAMES: Final = tuple(probe.name for probe in PROBES)


@dataclass(frozen=True, slots=True)
class ProbeReading:
    """One probe, read once. `value` is None when there is no figure."""

    probe: Probe
    value: float | None
    state: ProbeState
    text: str
    partition: int | None = None
    """The one of several that has this figure."""

    def as_data(self, *, several: bool = False) -> ReadingData:
        """For the JSON answer; with `several` partitions it says which one has the figure."""
        data: ReadingData = {
            "probe": self.probe.name,
            "state": self.state.word,
            "value": self.value,
            "unit": self.probe.unit,
            "warn": None if math.isinf(self.probe.warn) else self.probe.warn,
            "crit": None if math.isinf(self.probe.crit) else self.probe.crit,
            "text": self.text,
        }
        if several:
            data["partition"] = self.partition
        return data


def read(probe: Probe, seen: Situation) -> ProbeReading:
    """The figure of the probe, its state and a line for people."""
    value, text, missing = _READERS[probe.name](seen)
    if value is None:
        return ProbeReading(probe, None, missing, text)
    return ProbeReading(probe, value, state_of(probe, value), text)


def read_all(probe: Probe, seen: Sequence[Situation]) -> ProbeReading:
    """The same of all partitions: the worst figure, with the partition that has it where not all do."""
    if probe.name == "faults":
        value, text, missing = _faults_of(seen)
        return ProbeReading(probe, value, missing if value is None else state_of(probe, value), text)
    readings = [read(probe, one) for one in seen]
    first = readings[0]
    if all((one.value, one.text) == (first.value, first.text) for one in readings):
        return first
    state = worst(readings)
    numbers = [number for number, one in enumerate(readings) if one.state is state]
    way = 1 if probe.falling else -1
    chosen = min(numbers, key=lambda number: way * (readings[number].value or 0.0))
    found = readings[chosen]
    return replace(found, partition=chosen, text=f"partition {chosen}: {found.text}")


def state_of(probe: Probe, value: float) -> ProbeState:
    """Where the figure stands."""
    for bound, state in ((probe.crit, ProbeState.CRITICAL), (probe.warn, ProbeState.WARNING)):
        if value < bound if probe.falling else value > bound:
            return state
    return ProbeState.OK


def worst(readings: Sequence[ProbeReading]) -> ProbeState:
    """Critical before warning before unknown."""
    order = (ProbeState.CRITICAL, ProbeState.WARNING, ProbeState.UNKNOWN)
    states = {reading.state for reading in readings}
    return next((state for state in order if state in states), ProbeState.OK)


_Read = tuple[float | None, str, ProbeState]
"""The figure, what it says, and the state of a figure that there is none of."""


def _quorum(seen: Situation) -> _Read:
    survey = seen.survey
    if len(survey.cluster.nodes) == 1 and survey.may_fail == 0:
        return 1.0, "the only node is up", ProbeState.CRITICAL  # one node has nothing to spare, ever
    if survey.may_fail >= 0 and survey.leader is None:
        return -1.0, survey.quorum_text, ProbeState.CRITICAL
    return float(survey.may_fail), survey.quorum_text, ProbeState.CRITICAL


def _leader(seen: Situation) -> _Read:
    leader = seen.survey.leader
    if seen.read_ms is None:
        why = str(seen.read_error) if seen.read_error is not None else "nobody leads"
        return None, why, ProbeState.CRITICAL
    who = (
        f"node {leader.node.id} leads in term {seen.survey.term}"
        if leader is not None
        else "a leader answered"
    )
    return round(seen.read_ms, 2), f"{who}, a confirmed read took {seen.read_ms:.1f} ms", ProbeState.CRITICAL


def _lag(seen: Situation) -> _Read:
    survey = seen.survey
    behind = {r.node.id: lag for r in survey.up if (lag := survey.behind(r, "next_offset")) is not None}
    if not behind:
        return None, "nobody leads, so nothing can be said of lag", ProbeState.UNKNOWN
    number, most = max(behind.items(), key=lambda item: item[1])
    return (
        float(most),
        f"node {number} is {quantity(most, 'event')} behind" if most else "nobody is behind",
        ProbeState.UNKNOWN,
    )


def _disk(seen: Situation) -> _Read:
    if not seen.disks:
        return None, "no data directory can be looked at from here", ProbeState.UNKNOWN
    number, disk = min(seen.disks.items(), key=lambda item: item[1].free_percent)
    text = f"{disk.free_percent:.1f} % ({disk.free_bytes / 1e9:,.1f} GB) free for node {number}"
    return round(disk.free_percent, 2), text, ProbeState.UNKNOWN


def _faults(seen: Situation) -> _Read:
    return _faults_of([seen])


def _faults_of(every: Sequence[Situation]) -> _Read:
    """What is broken on purpose anywhere: a fault of a node is one fault, however many partitions it has."""
    if not any(seen.survey.up or seen.struck for seen in every):
        return None, "no node answers, so nothing can be said of faults", ProbeState.UNKNOWN
    told = [fault for seen in every for report in seen.survey.up for fault in report.faults]
    ids = {str(fault["id"]).partition(".")[0] for fault in told}
    ids |= {one.fault for seen in every for one in seen.struck}
    return float(len(ids)), ", ".join(sorted(ids)) or "none is active", ProbeState.UNKNOWN


def _window(seen: Situation) -> _Read:
    used = {r.node.id: part for r in seen.survey.up if (part := _used_percent(r)) is not None}
    if not used:
        return None, "no node says how full its deduplication window is", ProbeState.UNKNOWN
    number, part = max(used.items(), key=lambda item: item[1])
    state = DedupState.of(seen.survey.report(number).status)
    text = f"node {number} remembers {state.live_keys or 0:,} of at most {state.max_keys or 0:,} keys"
    return round(part, 1), text, ProbeState.UNKNOWN


def _used_percent(report: Report) -> float | None:
    """Without a time-to-live, a window keeps what has room: it is as full as its log is long."""
    state = DedupState.of(report.status)
    if state.live_keys is None or not state.max_keys:
        return None
    events = (report.number("next_offset") or 0) - (report.number("first_offset") or 0)
    return 100 * (events if state.ttl_ms == 0 else state.live_keys) / state.max_keys


def _memory(seen: Situation) -> _Read:
    several = seen.survey.partition is not None  # then a node is all its processes
    known = {
        r.node.id: (None if several else r.number("rss_bytes")) or r.process.rss_bytes
        for r in seen.survey.reports
    }
    taken = {number: size for number, size in known.items() if size}
    if not taken:
        return None, "no node runs", ProbeState.UNKNOWN
    number, size = max(taken.items(), key=lambda item: item[1])
    return round(size / 1e6, 1), f"node {number} takes {size / 1e6:,.0f} MB", ProbeState.UNKNOWN


_READERS: Final[Mapping[str, Callable[[Situation], _Read]]] = {
    "quorum": _quorum,
    "leader": _leader,
    "lag": _lag,
    "disk": _disk,
    "faults": _faults,
    "window": _window,
    "memory": _memory,
}
