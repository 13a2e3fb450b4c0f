"""`esctl bench compare`: is what was measured now worse than then? Exit 15 if so, 12 if it cannot be seen.

How a figure is judged is in `esctl/bench/comparison.py`, its noise band in `esctl/bench/noise.py`.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.invocation import Invocation
from esctl.errors import Finding, Inconclusive, InvalidArgument, NotComparable, Regression
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Trouble, Value, View
from esctl.ui.terminal import Output

if TYPE_CHECKING:
    from esctl.bench.comparison import Change, Comparison
    from esctl.bench.result import AnyResult
    from esctl.commands.bench.answers import CompareAnswer, ComparedData

TONES: Final = {
    "better": Tone.GOOD, "same": Tone.NORMAL, "worse": Tone.BAD, "undecided": Tone.WARN, "missing": Tone.WARN,
}  # fmt: skip
SOURCES: Final = {"runs": "", "tolerance": " least", "given": " given", "coarse": " coarse"}
"""What is said of a band, besides its width."""
REPEATED: Final = {
    "produce": "--runs", "consume": "--runs", "e2e": "--runs", "failover": "--times",
}  # fmt: skip
"""Measurements that hold several runs, and the option that says how many."""
SHORT: Final = {"runs": "", "tolerance": "", "given": "", "coarse": " ?"}


def compare(
    run: Invocation,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Files that --save wrote; the others are compared with the first, the base"
        ),
    ],
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="PERCENT",
            min=0,
            show_default=False,
            help="Percent up to which a change counts as none; 5 unless given; if given, single runs "
            "are judged too",
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Compare even if the results are from different settings or commands"),
    ] = False,
) -> "Answer[CompareAnswer]":
    """Compare saved results with the first one, figure by figure

    Exits with code 15 if a figure is worse by more than the noise. Exits with code 12 if that cannot be
    decided: the runs differ too much, or a result has fewer than 3 runs and no change is large (25%; 100% for
    tails)"""
    from esctl.bench import comparison, result  # loaded late: most of `bench` does without

    if len(files) < 2:
        raise InvalidArgument(
            "two results are compared, and one was named",
            next_step=f"esctl bench compare {shlex.quote(str(files[0]))} OTHER.json",
        )
    base, *others = [result.read(path) for path in files]
    for path, other in zip(files[1:], others, strict=True):
        found = comparison.of_other_things(base, other)
        if found and not anyway:
            raise NotComparable(
                f"{path} does not measure what {files[0]} does: {comparison.listed(found)}",
                next_step=f"esctl bench compare --anyway {shlex.join(map(str, files))}",
            )
    compared = [comparison.compare(base, other, tolerance) for other in others]
    return answer_of(files, compared, run.terminal.output)


def answer_of(
    files: Sequence[Path], comparisons: "Sequence[Comparison]", output: Output
) -> "Answer[CompareAnswer]":
    """The answer on `comparisons`: each is of one of `files[1:]` with `files[0]`."""
    from esctl.bench import comparison

    row = _row_for_people if output is Output.TABLE else _row

    views: list[View] = [Line(f"base   {_about(files[0], comparisons[0].base)}")]
    data: list[ComparedData] = []
    errors: list[Finding] = []
    for path, compared in zip(files[1:], comparisons, strict=True):
        caveats = comparison.caveats(compared)
        views.append(Line(f"other  {_about(path, compared.other)}"))
        views += [Line(f"warning: {text}", Tone.WARN) for text in caveats]
        views.append(
            Table(
                ["figure", "base", "other", "ratio", "band", "verdict"],
                [cells for change in compared.changes if (cells := row(change))],
                empty="there is no figure in either",
            )
        )
        finding = _finding(files[0], path, compared)
        if finding is None:
            views.append(Line(_summary(compared), Tone.GOOD))
        else:
            errors.append(finding)
        data.append(
            {
                "file": str(path),
                "verdict": compared.verdict,
                "warnings": caveats,
                "figures": [change.as_data() for change in compared.changes],
            }
        )
    worst = max((exit_of(error) for error in errors), default=Exit.OK)
    return Answer(
        {"base": str(files[0]), "comparisons": data}, views, [Trouble.of(error) for error in errors], worst
    )


def _finding(base: Path, other: Path, compared: "Comparison") -> Finding | None:
    """What keeps the comparison from being a yes."""
    from esctl.bench.comparison import FigureVerdict

    look = f"esctl bench report {shlex.quote(str(base))} {shlex.quote(str(other))}"
    match compared.verdict:
        case FigureVerdict.WORSE:
            coarse = "; by more than single runs are trusted to differ" if compared.guessed else ""
            return Regression(f"{other} is worse than {base}: {_told(compared)}{coarse}", next_step=look)
        case FigureVerdict.UNDECIDED:
            return _undecided(other, compared, look)
        case FigureVerdict.MISSING if missing := compared.names(FigureVerdict.MISSING):
            return Inconclusive(f"{other} lacks {', '.join(missing)}", next_step=look)
        case FigureVerdict.MISSING:
            return Inconclusive("they have no figure in common that can be judged", next_step=look)
        case _:
            return None


def _undecided(other: Path, compared: "Comparison", look: str) -> Inconclusive:
    """What could not be seen, and how it could."""
    from esctl.bench.noise import FEWEST_RUNS

    if not compared.guessed:
        names = ", ".join(change.title for change in compared.undecided)
        return Inconclusive(f"{other}: too noisy to see a change in {names}", next_step=look)
    kind = compared.base.kind
    if kind not in REPEATED:
        text = f"no band: a {kind} is a single run, and nothing has changed coarsely"
        step = "esctl bench compare BASE.json OTHER.json --tolerance PERCENT"
        return Inconclusive(f"{other}: {text}", next_step=step)
    runs = "a single run" if compared.runs == 1 else f"only {compared.runs} runs"
    return Inconclusive(
        f"{other}: no band: {runs}; repeat with {REPEATED[kind]} {FEWEST_RUNS}",
        next_step=f"esctl bench {kind} {REPEATED[kind]} {FEWEST_RUNS} --save FILE, for both sides",
    )


def _told(compared: "Comparison") -> str:
    from esctl.bench.comparison import FigureVerdict

    return "; ".join(
        change.title if change.ratio is None else f"{change.title} {change.ratio:.2f} times"
        for change in compared.changes
        if change.verdict is FigureVerdict.WORSE
    )


def _summary(compared: "Comparison") -> str:
    from esctl.bench.comparison import FigureVerdict

    gained, same = compared.names(FigureVerdict.BETTER), compared.names(FigureVerdict.SAME)
    aside = f"; undecided {', '.join(one.title for one in compared.undecided)}" if compared.undecided else ""
    if not gained:
        return f"no regression: {len(same)} figures are the same within their bands{aside}"
    return f"no regression: better {', '.join(gained)}; the same {len(same)}{aside}"


def _row(change: "Change", title: str = "", divisor: float = 1.0) -> list[Value]:
    tone = TONES.get(change.verdict, Tone.DIM)
    return [
        title or change.title,
        _number(change.base, divisor),
        _number(change.other, divisor),
        None if change.ratio is None else round(change.ratio, 4),
        _band(change),
        Cell(change.verdict, tone),
    ]


def _row_for_people(change: "Change") -> list[Value]:
    """With the unit in words, and nothing of what is only told."""
    from esctl.bench.comparison import FigureVerdict
    from esctl.bench.units import reading

    if change.verdict is FigureVerdict.TOLD:
        return []
    read = reading(change.name)
    name = read.unit if read.unit.startswith(read.label) else f"{read.label}, {read.unit}".rstrip(", ")
    cells = _row(change, name + change.title.removeprefix(change.name), read.divisor)
    cells[-2] = _band(change, SHORT)
    return cells


def _band(change: "Change", sources: Mapping[str, str] = SOURCES) -> str | None:
    if change.band is None:
        return None
    percent = change.band_percent
    wide = f"±{percent:.1f}%" if percent is not None else f"±{change.band.width:.3g}"
    return wide + sources[change.band.source]


def _number(value: float | None, divisor: float) -> float | None:
    """Without digits that nobody reads."""
    if value is None:
        return None
    value /= divisor
    return round(value) if abs(value) >= 1000 or value == round(value) else round(value, 4)


def _about(path: Path, result: "AnyResult") -> str:
    runs = len(result.runs)
    return f"{path}: {result.kind}, {runs} run{'s' if runs != 1 else ''}, {result.taken_at}"
