"""The unit that a figure's name ends in: which way is better, and how people read it.

`_per_s` and `_of_floor` (a share of the bare floor that ran beside it) up; `_ms`, `_bytes`, `_us_per_event`,
and what should never be down; every other figure is told and never judged, and so are `raw_` ones: they
hide what the log did while it stood still, or say the same again. Pure. Called by `esctl/bench`,
`esctl/bench/report` and `esctl/commands/bench`.
"""

from dataclasses import dataclass
from typing import Final

HIGHER_IS_BETTER: Final = ("_per_s", "_of_floor")
NEVER_ONE: Final = ("lost", "duplicates", "failed", "unknown", "undelivered", "never")
"""Counts of which one more is one too many, in any run."""
LOWER_IS_BETTER: Final = ("_ms", "_bytes", "_us_per_event", *NEVER_ONE)
FAR_TAILS: Final = ("p999_ms", "p9999_ms", "max_ms")
TAILS: Final = ("p99_ms", *FAR_TAILS)
PARTS: Final = ("detect_ms", "elect_ms", "first_commit_ms", "client_ms", "calm_ms")
"""Of a failover: pieces of what a client waits, and what it waits without one."""

_UNITS: Final = {
    "_us_per_event": ("µs an event", 1.0),
    "_bytes": ("MB", 1e6),
    "_ms": ("ms", 1.0),
    "_mb_per_hour": ("MB an hour", 1.0),
    "_ms_per_hour": ("ms an hour", 1.0),
    "_of_floor": ("of the floor", 1.0),
    "_percent": ("%", 1.0),
    "_ratio": ("×", 1.0),
    "_s": ("s", 1.0),
}
_COUNTED: Final = ("events", "batches", "requests", "frames", "fsyncs", "commits")
_PERCENTILES: Final = {"p999": "p99.9", "p9999": "p99.99"}


@dataclass(frozen=True, slots=True)
class FigureText:
    """How people read a figure: `label`, and its value divided by `divisor`, in `unit`."""

    label: str
    unit: str
    divisor: float = 1.0


def better(figure: str) -> int:
    """1: more is better; -1: less is better; 0: it is only told."""
    if figure.startswith("raw_"):
        return 0
    if figure.endswith(HIGHER_IS_BETTER):
        return 1
    return -1 if figure.endswith(LOWER_IS_BETTER) else 0


def reading(figure: str) -> FigureText:
    """`p999_ms` is p99.9 in ms; `events_per_s` is events in events/s; `node_1_bytes` is node 1 in MB."""
    if figure.endswith("_per_s"):
        label, _, what = figure.removesuffix("_per_s").rpartition("_")
        if what == "bytes":
            return FigureText(_words(label) or what, "MB/s", 1e6)
        if what == "mb":
            return FigureText(_words(label) or "megabytes", "MB/s")
        if what == "rate":
            return FigureText(_words(figure.removesuffix("_per_s")), "events/s")
        if what in _COUNTED:
            return FigureText(_words(label) or what, f"{what}/s")
        return FigureText(_words(figure.removesuffix("_per_s")), "/s")
    for suffix, (unit, divisor) in _UNITS.items():
        if figure.endswith(suffix) and figure != suffix:
            return FigureText(_words(figure.removesuffix(suffix)), unit, divisor)
    return FigureText(_words(figure), "")


def _words(name: str) -> str:
    return " ".join(_PERCENTILES.get(word, word) for word in name.split("_")).strip()
