"""The result of a measurement: one JSON document with its figures and everything needed to compare them.

A figure's name ends in its unit, and the unit says which way is better (`esctl/bench/units.py`). A file may
come from anywhere: what is read is checked (`esctl/bench/validity.py`). Called by `esctl/commands/bench`.
"""

import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

from esctl.bench import validity
from esctl.bench.machine import ClusterData, MachineData
from esctl.bench.validity import SCHEMA
from esctl.errors import InputUnreadable, MachineRefused

Figures = Annotated[Mapping[str, float | None], "By a name that ends in its unit; null is not known"]
Point = tuple[float, float]
S_co = TypeVar("S_co", bound=Mapping[str, object], covariant=True)
"""The settings of one kind of measurement."""
D_co = TypeVar("D_co", bound=Mapping[str, object], covariant=True)
"""The detail of one kind of measurement."""


class Measurement(TypedDict, Generic[S_co, D_co]):
    """A result of esctl bench; settings and detail are the command's own."""

    schema: Literal["esctl-bench/1"]
    kind: str
    settings: S_co
    machine: MachineData
    cluster: ClusterData
    runs: Sequence[Figures]
    series: Mapping[str, Sequence[Point]]
    detail: D_co
    taken_at: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Result(Generic[S_co, D_co]):
    """One measurement, of one run or of several with the same settings."""

    kind: str
    """The command: produce, consume, e2e, failover, sweep, soak."""
    settings: S_co
    machine: MachineData
    cluster: ClusterData
    runs: Sequence[Figures]
    """The figures of each run."""
    detail: D_co
    """What is told and neither compared nor drawn."""
    series: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """Curves to draw, by a name that ends in the unit of the second number; the first is seconds, or what
    `settings["x"]` names."""
    taken_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def figures(self) -> dict[str, float | None]:
        """The median of each figure over the runs that have it."""
        names = list(dict.fromkeys(name for run in self.runs for name in run))
        return {name: median([run.get(name) for run in self.runs]) for name in names}

    @property
    def extremes(self) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """The lowest and the highest value that any run has, of each figure."""
        known = {name: [value for run in self.runs if (value := run.get(name)) is not None]
                 for name in self.figures}  # fmt: skip
        return (
            {name: min(values, default=None) for name, values in known.items()},
            {name: max(values, default=None) for name, values in known.items()},
        )

    def to_json(self) -> Measurement[S_co, D_co]:
        """The document."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "settings": self.settings,
            "machine": self.machine,
            "cluster": self.cluster,
            "runs": self.runs,
            "series": self.series,
            "detail": self.detail,
            "taken_at": self.taken_at,
            "figures": self.figures,
        }

    @classmethod
    def from_json(cls, document: Any, origin: str) -> "AnyResult":
        """Back from the document; `origin` names it in the `InvalidResult` that a wrong one raises."""
        validity.check(document, origin)
        return Result(**{name: document[name] for name in cls.__slots__})


AnyResult = Result[Any, Any]
"""Of whatever kind, as a file may hold it: what its settings and its detail are is not known."""


def save(result: AnyResult, path: Path) -> None:
    """Write it, whole or not at all; raises `MachineRefused` where that cannot be."""
    text = json.dumps(result.to_json(), indent=1) + "\n"
    try:
        with _in_place_of(path) as new:
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _not_written(path, error) from error


def check_place(path: Path) -> None:
    """Raise `MachineRefused`, before anything is measured, where `save` will not be able to write."""
    try:
        with _in_place_of(path) as new:
            if not new.exists():
                new.touch()
                new.unlink()
    except OSError as error:
        raise _not_written(path, error) from error


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end, if it is there; a device stays what it is."""
    path = path.resolve()  # what a link leads to is written, and the link stays
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        yield path
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
        if new.exists():
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _not_written(path: Path, error: OSError) -> MachineRefused:
    return MachineRefused(f"cannot write {path}: {error.strerror}", next_step="name another file with --save")


def read(path: Path) -> AnyResult:
    """Read it; raises `InputUnreadable`, or `InvalidResult` where the file is something else."""
    try:
        with path.open("rb") as file:
            text = file.read(validity.MAX_BYTES + 1)
    except OSError as error:
        raise InputUnreadable(
            f"cannot read {path}: {error.strerror}",
            next_step="name a file that --save wrote, as in: esctl bench produce --save FILE",
        ) from error
    return Result.from_json(validity.parse(text, str(path)), str(path))


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
