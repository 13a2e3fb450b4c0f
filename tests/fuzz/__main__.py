"""`python -m tests.fuzz`: look for inputs that bring out what no door of a node may let out.

Prints a line for each target and, last, a summary as JSON; exit code 1 when something was found. A
finding is kept in the corpus and comes with the command that replays it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from .engine import Found, Tally, attempt, fuzz, keep_news
from .target import Target
from .targets import TARGETS

PIECE: Final = 20_000


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _options(arguments)
    chosen = [TARGETS[options.target]] if options.target else list(TARGETS.values())
    if options.replay:
        return _replay(chosen[0], options.replay)
    if options.engine == "atheris":
        from .coverage_guided import run_atheris

        return run_atheris(chosen[0], options.cases, options.seed)
    begun = time.perf_counter()
    tallies = run_all(shares(chosen, options.cases), options.seed, options.jobs)
    for tally in tallies:
        _tell(tally)
        if options.keep:
            print(f"  {keep_news(tally)} new inputs kept")
    print(json.dumps(summary(tallies, options.seed, time.perf_counter() - begun)))
    return int(any(tally.found for tally in tallies))


def run_all(wanted: list[tuple[Target, int]], seed: int, jobs: int) -> list[Tally]:
    """Every target's cases, in pieces that several processes share; the pieces do not depend on `jobs`."""
    pieces = [
        (target.name, min(PIECE, cases - begin), seed + begin)
        for target, cases in wanted
        for begin in range(0, cases, PIECE)
    ]
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            done = _watched(pool.map(_piece, pieces), len(pieces))
    else:
        done = _watched(map(_piece, pieces), len(pieces))
    tallies = {target.name: Tally(target.name) for target, _ in wanted}
    for tally in done:
        tallies[tally.target].add(tally)
    return list(tallies.values())


def _watched(running: Iterable[Tally], pieces: int) -> list[Tally]:
    """The tallies as they come; each is told at once, so that a long run shows where it is."""
    done: list[Tally] = []
    for tally in running:
        done.append(tally)
        if pieces > 1:
            rate = f"{tally.cases / max(tally.seconds, 1e-9):.0f}/s"
            print(f"{len(done)}/{pieces} {tally.target} {rate} found {len(tally.found)}", file=sys.stderr)
    return done


def _piece(piece: tuple[str, int, int]) -> Tally:
    name, cases, seed = piece
    return fuzz(TARGETS[name], cases, seed)


def shares(targets: list[Target], cases: int) -> list[tuple[Target, int]]:
    """How many of the cases each target gets: `cases` in all."""
    total = sum(target.share for target in targets)
    split = [(target, cases * target.share // total) for target in targets]
    first, given = split[0]
    return [(first, given + cases - sum(count for _, count in split)), *split[1:]]


def summary(tallies: list[Tally], seed: int, seconds: float) -> dict[str, Any]:
    """One line for a script: what was run, how fast, and what was found."""
    return {
        "seed": seed,
        "cases": sum(tally.cases for tally in tallies),
        "seconds": round(seconds, 1),
        "cases_per_s": round(sum(tally.cases for tally in tallies) / max(seconds, 1e-9)),
        "targets": {tally.target: tally.cases for tally in tallies},
        "findings": sum(len(tally.found) for tally in tallies),
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="cases in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the run's number (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this door")
    parser.add_argument("--engine", choices=("plain", "atheris"), default="plain")
    parser.add_argument("--keep", action="store_true", help="put what was new into the corpus")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input of --target, and tell all")
    options = parser.parse_args(arguments)
    if (options.replay or options.engine == "atheris") and not options.target:
        parser.error("name the --target")
    return options


def _replay(target: Target, path: Path) -> int:
    word, found = attempt(target, path.read_bytes())
    print(found.report if found else word)
    return int(found is not None)


def _tell(tally: Tally) -> None:
    rate = tally.cases / max(tally.seconds, 1e-9)
    words = ", ".join(f"{word} {count}" for word, count in tally.outcomes.most_common(8))
    print(f"{tally.target:<10} {tally.cases:>8} cases {rate:>7.0f}/s  {words}")
    for found in tally.found.values():
        tell_found(found)


def tell_found(found: Found) -> None:
    """A finding and how to see it again; the input goes into the corpus."""
    path = found.keep()
    print(f"FOUND {found.where}: {found.error}", file=sys.stderr)
    print(f"  python -m tests.fuzz --target {found.target} --replay {path}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
