"""Two measurements side by side: which figures are better, the same or worse, and whether the runs can tell.

A figure is judged by its median and the noise band around it (`esctl/bench/noise.py`), with many runs by its
worst ones too; losses and duplicates by the worst run, with no band. Says what differs between the two and
never refuses: that is the command's to do. Pure. Called by `esctl bench compare` and `esctl/bench/report`.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypedDict

from esctl.bench import noise
from esctl.bench.result import AnyResult
from esctl.bench.units import FAR_TAILS, NEVER_ONE, PARTS, TAILS, better

VERSIONS: Final = ("eventstreamcore", "python", "sqlite", "rocksdb")
"""What of the fingerprint is not the machine: what is compared is often two versions on one."""
PASSING: Final = ("load_average",)
"""What a fingerprint may hold that is another one each time."""
SAME_MEMORY: Final = 0.02
"""Kernels keep more or less of the same memory for themselves."""
VAGUE_PERCENT: Final = 50.0
"""Within a wider band than this nothing can be seen."""
ASIDE: Final = (*FAR_TAILS, *PARTS)
"""What moves so much by itself that no verdict hangs on whether it could be judged, while others could."""
_HARDLY: Final = 1e-9
"""A change at the very edge of its band is within it, whatever the arithmetic's last digit says."""


class FigureVerdict(enum.StrEnum):
    """What became of a figure, or of all of them."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNDECIDED = "undecided"
    """Within a band that nobody knows, for want of runs, or that is too wide to see anything."""
    MISSING = "missing"
    """The base has it and the other has not: nobody can say that it is no worse."""
    NEW = "new"
    TOLD = "told"
    """Its unit says nothing about better or worse."""


class ChangeData(TypedDict):
    """One figure in both results."""

    name: str
    of: str
    base: float | None
    other: float | None
    ratio: float | None
    band_percent: float | None
    band_from: str | None
    verdict: FigureVerdict


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both results."""

    name: str
    base: float | None
    other: float | None
    band: noise.Band | None
    """None where there is nothing to judge, or no band is allowed."""
    verdict: FigureVerdict
    of: str = "median"
    """Of the runs: their median, or the worst of them."""

    @property
    def title(self) -> str:
        """The name, and what of the runs it is unless the median."""
        usual = self.of == "median" or self.name.endswith(NEVER_ONE)
        return self.name if usual else f"{self.name}, {self.of}"

    @property
    def ratio(self) -> float | None:
        """The other's over the base's."""
        return self.other / self.base if self.base and self.other is not None else None

    @property
    def band_percent(self) -> float | None:
        """The band as a share of the base's figure."""
        return self.band.width / self.base * 100 if self.band and self.base else None

    def as_data(self) -> ChangeData:
        """For the JSON answer."""
        return {
            "name": self.name,
            "of": self.of,
            "base": self.base,
            "other": self.other,
            "ratio": self.ratio,
            "band_percent": self.band_percent,
            "band_from": self.band.source if self.band else None,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that should be the same and is not."""

    name: str
    base: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.name} {_told(self.base)} → {_told(self.other)}"

    def as_data(self) -> dict[str, Any]:
        """For the JSON answer."""
        return {"name": self.name, "base": self.base, "other": self.other}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that can be said of `other` against `base`."""

    base: AnyResult
    other: AnyResult
    changes: Sequence[Change]

    def names(self, verdict: FigureVerdict) -> list[str]:
        """The figures of that verdict."""
        return [change.title for change in self.changes if change.verdict is verdict]

    @property
    def verdict(self) -> FigureVerdict:
        """Over all: worse if any figure is; one that is missing or undecided hides what it may be."""
        for verdict in (FigureVerdict.WORSE, FigureVerdict.MISSING):
            if self.names(verdict):
                return verdict
        judged = [verdict for verdict in (FigureVerdict.BETTER, FigureVerdict.SAME) if self.names(verdict)]
        if any(not judged or not change.name.endswith(ASIDE) for change in self.undecided):
            return FigureVerdict.UNDECIDED
        return judged[0] if judged else FigureVerdict.MISSING

    @property
    def undecided(self) -> list[Change]:
        """The figures whose change, if there is one, cannot be seen."""
        return [change for change in self.changes if change.verdict is FigureVerdict.UNDECIDED]

    @property
    def runs(self) -> int:
        """Of the side with fewer."""
        return min(len(self.base.runs), len(self.other.runs))

    @property
    def guessed(self) -> bool:
        """Whether a figure has no band of its own, for want of runs."""
        guesses = (noise.NoiseSource.COARSE, noise.NoiseSource.GIVEN)
        return any(one.band is not None and one.band.source in guesses for one in self.changes)


def compare(base: AnyResult, other: AnyResult, tolerance_percent: float | None = None) -> Comparison:
    """Judge each figure that one of the two has; `tolerance_percent` as in `noise.band`."""
    changes: list[Change] = []
    for name in dict.fromkeys((*base.figures, *other.figures)):
        before, after = _values(base, name), _values(other, name)
        if before or after:
            changes.append(_change(name, before, after, tolerance_percent))
        if better(name) and not name.endswith(NEVER_ONE) and min(len(before), len(after)) >= noise.TAIL_RUNS:
            changes.append(_worst(name, before, after, tolerance_percent))
    return Comparison(base, other, changes)


def of_other_things(base: AnyResult, other: AnyResult) -> list[Difference]:
    """Why the two do not answer the same question: the command, its settings, the cluster."""
    if base.kind != other.kind:
        return [Difference("kind", base.kind, other.kind)]
    return [*_differences(base.settings, other.settings), *_differences(base.cluster, other.cluster)]


def of_machines(base: AnyResult, other: AnyResult) -> list[Difference]:
    """In what the machines differ, as far as the fingerprints tell."""
    found = _differences(base.machine, other.machine)
    return [one for one in found if one.name not in (*VERSIONS, *PASSING) and not _hardly_more_memory(one)]


def of_versions(base: AnyResult, other: AnyResult) -> list[Difference]:
    """In which versions they differ."""
    return [one for one in _differences(base.machine, other.machine) if one.name in VERSIONS]


def caveats(compared: Comparison) -> list[str]:
    """What one must know before one believes the verdicts."""
    found = []
    if other_things := of_other_things(compared.base, compared.other):
        found.append(f"they do not measure the same: {listed(other_things)}")
    if machines := of_machines(compared.base, compared.other):
        found.append(
            f"another machine: {listed(machines)}; rates, latencies and CPU times are the machine's,"
            " only counts and shares of the floor go with the software"
        )
    if versions := of_versions(compared.base, compared.other):
        found.append(f"other versions: {listed(versions)}")
    overloads = [name for name, one in (("base", compared.base), ("other", compared.other))
                 if one.detail.get("rate_reached") is False]  # fmt: skip
    if overloads:
        found.append(
            f"the rate was not reached in the {' and the '.join(overloads)}: latencies of an overload"
        )
    if compared.guessed:
        found.append(
            f"fewer than {noise.FEWEST_RUNS} runs: how far a figure moves by itself is unknown;"
            f" only what is beyond ±{noise.COARSE_PERCENT:g}% is called a change, of tails"
            f" ±{noise.COARSE_TAIL_PERCENT:g}%, unless --tolerance says otherwise"
        )
    vague = [one.title for one in compared.undecided if _is_vague(one.band, one.base)]
    if vague:
        found.append(
            f"too noisy to tell less than {VAGUE_PERCENT:g}%: {', '.join(vague)}; take more runs,"
            " on a quieter machine"
        )
    return found


def listed(differences: Sequence[Difference]) -> str:
    """In one line."""
    return ", ".join(str(difference) for difference in differences)


def _change(
    name: str, base: Sequence[float], other: Sequence[float], tolerance_percent: float | None
) -> Change:
    """By the medians; one side may be empty."""
    way = better(name)
    before, after = median(base) if base else None, median(other) if other else None
    if way == 0:
        return Change(name, before, after, None, FigureVerdict.TOLD)
    if before is None or after is None:
        return Change(
            name, before, after, None, FigureVerdict.NEW if before is None else FigureVerdict.MISSING
        )
    if name.endswith(NEVER_ONE):
        before, after = max(base), max(other)
        return Change(name, before, after, None, _judged((after - before) * way, 0.0), "worst")
    coarse = noise.COARSE_TAIL_PERCENT if name.endswith(TAILS) else noise.COARSE_PERCENT
    band = noise.band(base, other, tolerance_percent, coarse_percent=coarse)
    verdict = _judged((after - before) * way, band.width)
    if verdict is FigureVerdict.SAME and (band.source is noise.NoiseSource.COARSE or _is_vague(band, before)):
        verdict = FigureVerdict.UNDECIDED
    return Change(name, before, after, band, verdict)


def _worst(
    name: str, base: Sequence[float], other: Sequence[float], tolerance_percent: float | None
) -> Change:
    """By the worst runs of many: a leader that is missed for long one time in ten moves no median."""
    bad = -better(name)
    tolerated = noise.TOLERANCE_PERCENT if tolerance_percent is None else tolerance_percent
    before, after = [bad * value for value in base], [bad * value for value in other]
    verdict = FigureVerdict.SAME
    if noise.is_higher_at_the_top(after, before, tolerated):
        verdict = FigureVerdict.WORSE
    elif noise.is_higher_at_the_top(before, after, tolerated):
        verdict = FigureVerdict.BETTER
    return Change(name, bad * max(before), bad * max(after), None, verdict, "worst")


def _is_vague(band: noise.Band | None, base: float | None) -> bool:
    """Does the figure move so much from run to run that nothing can be seen in it?"""
    if band is None or not base or band.source is not noise.NoiseSource.RUNS:
        return False
    return band.width / abs(base) * 100 > VAGUE_PERCENT


def _judged(gain: float, width: float) -> FigureVerdict:
    if abs(gain) <= width * (1 + _HARDLY):
        return FigureVerdict.SAME
    return FigureVerdict.BETTER if gain > 0 else FigureVerdict.WORSE


def _values(result: AnyResult, name: str) -> list[float]:
    return [value for run in result.runs if (value := run.get(name)) is not None]


def _differences(base: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys((*base, *other))
    return [Difference(n, base.get(n), other.get(n)) for n in names if base.get(n) != other.get(n)]


def _hardly_more_memory(difference: Difference) -> bool:
    base, other = difference.base, difference.other
    if difference.name != "memory_bytes" or not (isinstance(base, int) and isinstance(other, int)):
        return False
    return abs(base - other) <= SAME_MEMORY * max(base, other)


def _told(value: Any) -> str:
    if value is None:
        return "unknown"
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else str(value)
