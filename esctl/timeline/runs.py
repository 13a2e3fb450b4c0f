"""A run of a playbook as moments, and what clients felt meanwhile, from what the run left on the disk.

`$XDG_STATE_HOME/esctl/runs/RUN/journal.jsonl` has one JSON object a line, with `at` (seconds since 1970) and
`event`; `loads/NAME/samples.jsonl` the samples of a load beside it. Lines that are not as expected are
skipped: a newer esctl may have written them, and the last one may be cut. Called by `esctl timeline`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esctl import state
from esctl.errors import InputUnreadable
from esctl.timeline.moments import Kind, Moment

JOURNAL: Final = "journal.jsonl"
_DETAILS: Final = ("step", "title", "state", "why", "command", "verdict")
SAMPLES: Final = "loads/*/samples.jsonl"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did, in the order of its journal."""

    cluster: str
    """Its name; empty where the journal does not say."""
    moments: list[Moment]
    latency_ms: list[tuple[float, float]]
    """When, in seconds since 1970, and how long clients waited at most."""


def read(name: str) -> Run:
    """The run of that name; raises `InputUnreadable` when there is none, or it says nothing."""
    directory = state.clusters_root().parent / "runs" / name
    if Path(name).name != name or not (directory / JOURNAL).is_file():
        raise InputUnreadable(
            f"there is no run {name!r} of a playbook: {directory / JOURNAL} is not there",
            next_step=f"ls {directory.parent}",
        )
    lines = list(_lines(directory / JOURNAL))
    moments = [moment for line in lines for moment in [_moment(line)] if moment is not None]
    if not moments:
        raise InputUnreadable(
            f"{directory / JOURNAL} says nothing that has a time", next_step=f"ls {directory}"
        )
    cluster = next((str(line["cluster"]) for line in lines if isinstance(line.get("cluster"), str)), "")
    latency = sorted(sample for path in directory.glob(SAMPLES) for sample in _latencies(path))
    return Run(cluster, moments, latency)


def _moment(line: dict[str, Any]) -> Moment | None:
    at_s, event, path = line.get("at"), line.get("event"), line.get("step")
    if not isinstance(at_s, int | float) or isinstance(at_s, bool):
        return None
    details: dict[str, Any] = {name: line[name] for name in _DETAILS if name in line}
    match event:
        case "run-begins" | "session-begins" | "session-ends":
            # They bound the run on the axis and tell nothing of the cluster.
            return Moment(at_s, None, Kind.RUN, str(event), {})
        case "step-begins" if isinstance(path, str):
            title = line.get("title")
            return Moment(at_s, None, Kind.STEP, f"step {path}{f': {title}' if title else ''}", details)
        case "step-ends" if isinstance(path, str):
            why = line.get("why")
            return Moment(
                at_s, None, Kind.STEP_OVER, f"{line.get('state')}{f' ({why})' if why else ''}", details
            )
        case "undo-begins" if isinstance(path, str):
            return Moment(at_s, None, Kind.STEP, f"undo of step {path}", {**details, "step": f"undo {path}"})
        case "undo-ends" if isinstance(path, str):
            done = "done" if line.get("ok") else f"failed: {line.get('why')}"
            return Moment(at_s, None, Kind.STEP_OVER, done, {**details, "step": f"undo {path}"})
        case "verdict":
            why = line.get("why")
            text = f"verdict: {line.get('verdict')}{f' ({why})' if why else ''}"
            return Moment(at_s, None, Kind.STEP_OVER, text, {**details, "step": "verdict"})
        case "guard" if line.get("state") == "breached":
            return Moment(at_s, None, Kind.TROUBLE, f"guard breached: {line.get('expr')}", details)
        case _:
            return None


def _latencies(path: Path) -> Iterator[tuple[float, float]]:
    """The longest wait that each sample tells of: that of an ack, or the time without any."""
    for line in _lines(path):
        values = [line.get(name) for name in ("max_ms", "silence_ms")]
        known = [float(value) for value in values if isinstance(value, int | float)]
        at_s = line.get("at")
        if known and isinstance(at_s, int | float):
            yield float(at_s), max(known)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
