"""A run of a playbook as moments, and what clients felt meanwhile, from what the run left on the disk.

The journal is read by `esctl/playbook/journal.py`, the samples of its loads by `esctl/bench/ledger.py`.
Events that are not known here are skipped: a newer esctl may have written them. Called by `esctl timeline`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esctl.bench import ledger
from esctl.observe.timeline.moments import Moment, MomentKind
from esctl.playbook import journal
from esctl.playbook.journal import Event

STRETCHES: Final = 600
_DETAILS: Final = ("step", "title", "state", "why", "command", "verdict")


@dataclass(frozen=True, slots=True)
class PlaybookRun:
    """What a run did, in the order of its journal."""

    cluster: str
    """Its name; empty where the journal does not say."""
    moments: list[Moment]
    latency_ms: list[tuple[float, float]]
    """When, in seconds since 1970, and how long clients waited at most."""
    acked_per_s: list[tuple[float, float]]
    """When, and how many events a second were acked, of all loads together."""


def read(name: str) -> PlaybookRun:
    """The run of that name; raises `RunNotFound`, `RunUnreadable`."""
    directory = journal.find(name)
    events = journal.read(directory)
    cluster = next((str(event["cluster"]) for event in events if "cluster" in event), "")
    loads = [path.parent for path in directory.glob(f"loads/*/{ledger.SAMPLES}")]
    told = [moment for event in events for moment in [_moment(event)] if moment]
    return PlaybookRun(cluster, told, latencies(loads), rates(loads))


def latencies(loads: Iterable[Path]) -> list[tuple[float, float]]:
    """When, and how long clients of these loads waited at most, in milliseconds."""
    return sorted(sample for load in loads for sample in _latencies(load))


def rates(loads: Iterable[Path]) -> list[tuple[float, float]]:
    """When, and how many events a second were acked in the second before it, of all these loads."""
    found: defaultdict[float, float] = defaultdict(float)
    for load in loads:
        samples: Iterable[Mapping[str, Any]] = ledger.samples(load)  # as far as the file holds what it should
        for sample in samples:
            at_s, rate = sample.get("at"), sample.get("rate_per_s")
            if isinstance(at_s, int | float) and isinstance(rate, int | float):
                found[round(float(at_s), 1)] += float(rate)
    return sorted(found.items())


def _moment(line: Event) -> Moment | None:
    at_s, event, path = line.get("at"), line.get("event"), line.get("step")
    if not isinstance(at_s, int | float) or isinstance(at_s, bool):
        return None
    details: dict[str, Any] = {name: line[name] for name in _DETAILS if name in line}
    match event:
        case "run-begins" | "session-begins" | "session-ends":
            # They bound the run on the axis and tell nothing of the cluster.
            return Moment(at_s, None, MomentKind.RUN, str(event), {})
        case "step-begins" if isinstance(path, str):
            title = line.get("title")
            return Moment(at_s, None, MomentKind.STEP, f"step {path}{f': {title}' if title else ''}", details)
        case "step-ends" if isinstance(path, str):
            why = line.get("why")
            return Moment(
                at_s, None, MomentKind.STEP_OVER, f"{line.get('state')}{f' ({why})' if why else ''}", details
            )
        case "undo-begins" if isinstance(path, str):
            return Moment(
                at_s, None, MomentKind.STEP, f"undo of step {path}", {**details, "step": f"undo {path}"}
            )
        case "undo-ends" if isinstance(path, str):
            done = "done" if line.get("ok") else f"failed: {line.get('why')}"
            return Moment(at_s, None, MomentKind.STEP_OVER, done, {**details, "step": f"undo {path}"})
        case "verdict":
            why = line.get("why")
            text = f"verdict: {line.get('verdict')}{f' ({why})' if why else ''}"
            return Moment(at_s, None, MomentKind.STEP_OVER, text, {**details, "step": "verdict"})
        case "guard" if line.get("state") == "breached":
            return Moment(at_s, None, MomentKind.TROUBLE, f"guard breached: {line.get('expr')}", details)
        case _:
            return None


def fewer(
    samples: Sequence[tuple[float, float]],
    begin_s: float,
    end_s: float,
    worst: Callable[[Iterable[float]], float],
) -> list[tuple[float, float]]:
    """Those between the two times; of more than a page shows, the worst of each stretch."""
    inside = [one for one in samples if begin_s <= one[0] <= end_s]
    if len(inside) <= STRETCHES:
        return inside
    groups: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for at_s, value in inside:
        groups[int((at_s - begin_s) / (end_s - begin_s) * STRETCHES)].append((at_s, value))
    return [(group[0][0], worst(value for _, value in group)) for _, group in sorted(groups.items())]


def _latencies(load: Path) -> Iterator[tuple[float, float]]:
    """The longest wait that each sample tells of: that of an ack, or the time without any."""
    for sample in ledger.samples(load):
        values = [sample.get(name) for name in ("max_ms", "silence_ms")]
        known = [float(value) for value in values if isinstance(value, int | float)]
        at_s = sample.get("at")
        if known and isinstance(at_s, int | float):
            yield float(at_s), max(known)
