"""What a measurement leaves: one JSON document with its figures and all that one must know to compare them.

A figure's name ends in its unit, and the unit says which way is better: `_per_s` up, `_ms`, `_bytes`,
`_us_per_event` and `lost` down; other figures are told and never compared. Called by `esctl/commands/bench`.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from esctl.errors import InputUnreadable

SCHEMA: Final = "esctl-bench/1"
LOWER_IS_BETTER: Final = ("_ms", "_bytes", "_us_per_event", "lost", "duplicates")
HIGHER_IS_BETTER: Final = ("_per_s",)

Figures = Mapping[str, float | None]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement, of one run or of several with the same settings."""

    kind: str
    """The command: produce, consume, e2e, failover, sweep, soak."""
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    cluster: Mapping[str, Any]
    runs: Sequence[Figures]
    """The figures of each run."""
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """Curves to draw, by a name that ends in the unit of the second number; the first is seconds, or what
    `settings["x"]` names."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What is told and neither compared nor drawn."""
    taken_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def figures(self) -> dict[str, float | None]:
        """The median of each figure over the runs that have it."""
        names = list(dict.fromkeys(name for run in self.runs for name in run))
        return {name: _median([run.get(name) for run in self.runs]) for name in names}

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"schema": SCHEMA, **asdict(self), "figures": self.figures}

    @classmethod
    def from_json(cls, document: Any, origin: str) -> "Result":
        """Back from the document; `origin` names it in the `InputUnreadable` that a wrong one raises."""
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise InputUnreadable(
                f"{origin} is not a result of esctl bench ({SCHEMA})",
                next_step="esctl bench produce --save FILE",
            )
        known = {name: document[name] for name in cls.__slots__ if name in document}
        try:
            return cls(**known)
        except TypeError as error:
            raise InputUnreadable(f"{origin} lacks a part of a result") from error


def better(figure: str) -> int:
    """1: more is better; -1: less is better; 0: it is only told."""
    if figure.endswith(HIGHER_IS_BETTER):
        return 1
    return -1 if figure.endswith(LOWER_IS_BETTER) else 0


def save(result: Result, path: Path) -> None:
    """Write it; raises `InputUnreadable` where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputUnreadable(f"cannot write {path}: {error.strerror}") from error


def read(path: Path) -> Result:
    """Read it; raises `InputUnreadable`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputUnreadable(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputUnreadable(f"{path} is not JSON: {error}") from error
    return Result.from_json(document, str(path))


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
