"""`python -m tests.simulation`: play many seeds, or one of them as a story.

    --seeds 1000 --jobs 2      many, with progress; prints what they add up to
    --seed 52                  one: its story, and what became of it
    --seed 52 --shrink         makes its tape shorter first, as long as it fails

Exit codes: 0 nothing was broken, 1 something was.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import world
from .outcome import Outcome
from .runner import MINUTES, TIERS, Summary, as_text, play, play_all, together
from .shrink import shrink
from .story import Story
from .tape import Tape, record
from .weather import draw


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _options(arguments)
    if options.seed is None:
        return _many(options)
    if options.hash:
        print(play(options.tier, options.seed, **_length(options)).trace_hash)
        return 0
    return _one(options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play simulated clusters")
    parser.add_argument("--tier", choices=TIERS, default="A", help="A: the core; B: whole nodes; R: a ring")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="play N of them")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="on N cores")
    parser.add_argument("--minutes", type=float, help="of faults, for tiers A and R: about")
    parser.add_argument(
        "--stretch", type=float, default=1.0, metavar="N", help="the same in N times the time"
    )
    parser.add_argument("--into", type=Path, metavar="FILE", help="add what they add up to to this file's")
    parser.add_argument("--seed", type=int, metavar="SEED", help="play this one, and tell its story")
    parser.add_argument("--lines", type=int, default=200, metavar="N", help="the last N lines of the story")
    parser.add_argument("--diagram", type=Path, metavar="FILE", help="write it as a Mermaid diagram, too")
    parser.add_argument("--shrink", action="store_true", help="look for a shorter tape that fails (tier A)")
    parser.add_argument("--tape", type=Path, metavar="FILE", help="play this tape; with --shrink: write it")
    parser.add_argument("--hash", action="store_true", help="print the hash of the seed's trace, and no more")
    options = parser.parse_args(arguments)
    if options.tier != "A" and (options.shrink or options.tape):
        parser.error("only tier A has tapes: a world of another tier is played again by its seed")
    if options.minutes is None:
        options.minutes = MINUTES[options.tier]
    return options


def _many(options: argparse.Namespace) -> int:
    seeds = range(options.first, options.first + options.seeds)

    told: set[int] = set()

    def progress(summary: Summary) -> None:
        for outcome in summary.failed:
            if outcome.seed not in told:
                told.add(outcome.seed)
                sys.stderr.write(f"\rseed {outcome.seed}: {outcome.violation}\n")
        if summary.seeds % 20 == 0 or summary.seeds == options.seeds:
            sys.stderr.write(
                f"\r{summary.seeds:,} of {options.seeds:,} seeds,"
                f" {summary.simulated_s / 3600:,.1f} simulated hours,"
                f" {summary.hours_a_minute:.1f} a minute a core, {len(summary.failed)} violations "
            )
            sys.stderr.flush()

    summary = play_all(options.tier, seeds, jobs=options.jobs, progress=progress, **_length(options))
    sys.stderr.write("\n")
    found = summary.to_json()
    if options.into is not None:
        if options.into.exists():
            found = together(json.loads(options.into.read_text(encoding="utf-8")), found)
        options.into.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(as_text(found))
    for outcome in summary.failed:
        print(f"seed {outcome.seed}: {outcome.violation}\n  replay: {_replay(options, outcome.seed)}")
    return 1 if summary.failed else 0


def _one(options: argparse.Namespace) -> int:
    tape = None
    if options.shrink:
        tape = _shrunk(options)
        if tape is None:
            print(f"seed {options.seed} breaks nothing: there is nothing to shrink")
            return 0
    elif options.tape is not None:
        tape = Tape.from_json(json.loads(options.tape.read_text(encoding="utf-8")))
    story = Story(options.lines)
    if tape is not None:
        outcome = world.run(options.seed, tape=tape, listener=story.hear, **_length(options))
    else:
        outcome = play(options.tier, options.seed, listener=story.hear, **_length(options))
    print(story.text())
    if options.diagram is not None:
        options.diagram.write_text(story.diagram() + "\n", encoding="utf-8")
    print(_result(outcome))
    return 0 if outcome.violation is None else 1


def _shrunk(options: argparse.Namespace) -> Tape | None:
    """The shortest tape found that breaks the same rule; written to the tape's file, if one is named."""
    first = world.run(options.seed, **_length(options))
    if first.violation is None:
        return None
    rule = first.violation.rule

    def fails(tape: Tape) -> bool:
        violation = world.run(options.seed, tape=tape, **_length(options)).violation
        return violation is not None and violation.rule == rule

    def progress(left: int) -> None:
        sys.stderr.write(f"\r{left} items left on the tape ")
        sys.stderr.flush()

    whole = record(options.seed, draw(options.seed, **_length(options)))
    tape = shrink(whole, int(first.simulated_s * 1e9), fails, progress)
    sys.stderr.write("\n")
    for name, left, all_of_them in (
        ("faults", tape.faults, whole.faults),
        ("operations", tape.operations, whole.operations),
    ):
        print(f"{len(left)} of {len(all_of_them)} {name}")
    if options.tape is not None:
        options.tape.write_text(json.dumps(tape.to_json(), indent=1), encoding="utf-8")
    return tape


def _result(outcome: Outcome) -> str:
    verdict = "nothing was broken" if outcome.violation is None else f"BROKEN {outcome.violation}"
    length = f"{outcome.simulated_s:.1f} simulated seconds"
    return f"seed {outcome.seed}, {length}, trace {outcome.trace_hash}: {verdict}"


def _replay(options: argparse.Namespace, seed: int) -> str:
    minutes = "" if options.minutes == MINUTES[options.tier] else f" --minutes {options.minutes:g}"
    stretch = "" if options.stretch == 1 else f" --stretch {options.stretch:g}"
    return f"python -m tests.simulation --tier {options.tier} --seed {seed}{minutes}{stretch}"


def _length(options: argparse.Namespace) -> dict[str, Any]:
    """How long a world of tier A or R is."""
    return {"minutes": options.minutes, "stretch": options.stretch}


if __name__ == "__main__":
    sys.exit(main())
