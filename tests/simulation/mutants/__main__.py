"""Plant every bug of the catalogue, one a process, and say which seed of the simulation saw it.

    python -m tests.simulation.mutants [--only NAME ...] [--tier A|B|R|T] [--seeds 200] [--jobs 2]

Prints a line for each bug, then the table in Markdown, as `docs/testing.md` has it. Exit code 1 when a bug
survives, or when a simulation without any bug goes wrong in the same seeds: then a kill says nothing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from tests.simulation.mutants.catalogue import BY_NAME, CATALOGUE, SOUND
from tests.simulation.mutants.mutant import ROOT, Mutant
from tests.simulation.mutants.table import line_of, markdown, summary
from tests.simulation.mutants.trial import Verdict, trial

SEEDS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    wanted = _parse(arguments)
    if wanted.here:
        mutant = (BY_NAME | SOUND)[wanted.here]
        print(json.dumps(asdict(trial(mutant, range(wanted.first, wanted.first + wanted.seeds)))))
        return 0
    chosen = [BY_NAME[name] for name in wanted.only or BY_NAME]
    chosen = [mutant for mutant in chosen if wanted.tier in (None, mutant.tier)]
    verdicts: dict[str, Verdict] = {}
    for verdict in _tried(chosen, wanted):
        verdicts[verdict.name] = verdict
        print(line_of(verdict), flush=True)
    print("\n" + markdown([one for one in CATALOGUE if one in chosen], verdicts))
    # As many sound seeds as the slowest kill took: what they would not survive says nothing.
    tried = max((verdict.seeds for verdict in verdicts.values() if verdict.killed), default=0)
    wanted.seeds = min(tried, wanted.seeds)
    sound = list(
        _tried([SOUND[f"sound-{tier}"] for tier in "ABR" if tier in {one.tier for one in chosen}], wanted)
    )
    print("\n" + summary(list(verdicts.values()), sound))
    return 0 if all(one.killed for one in verdicts.values()) and not any(one.killed for one in sound) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(BY_NAME), help="these bugs")
    parser.add_argument("--tier", choices=("A", "B", "R", "T"), help="the bugs that this tier must see")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="how many seeds at most")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at the same time")
    parser.add_argument("--here", metavar="NAME", help="one bug in this process; prints JSON")
    return parser.parse_args(arguments)


def _tried(mutants: Sequence[Mutant], wanted: argparse.Namespace) -> Iterator[Verdict]:
    """Each bug in a process of its own, as they end."""
    with ThreadPoolExecutor(wanted.jobs) as pool:
        pending = [pool.submit(_try, mutant, wanted.first, wanted.seeds) for mutant in mutants]
        for done in as_completed(pending):
            yield done.result()


def _try(mutant: Mutant, first: int, seeds: int) -> Verdict:
    command = [sys.executable, "-m", "tests.simulation.mutants", "--here", mutant.name]
    command += ["--first", str(first), "--seeds", str(seeds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the trial of {mutant.name} broke:\n{done.stderr}")
    return Verdict(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
