"""The simulator bites: planted bugs that it finds within seconds are found in every run of the tests.

All the others, and how long each takes: `python -m tests.simulation.mutants`, docs/testing.md.
"""

import subprocess
import sys

import pytest

from tests.simulation.mutants.catalogue import BY_NAME
from tests.simulation.mutants.mutant import ROOT, Edit, Garden, Mutant, NotPlanted
from tests.simulation.mutants.trial import watch
from tests.simulation.outcome import Outcome, Violation

QUICK = (
    "vote-before-fsync",
    "own-entry-counted-before-fsync",
    "sent-counts-as-acknowledged",
    "stored-part-appended-again",
    "acked-when-appended",
    "messages-overtake-an-older-write",
)


def test_a_handful_of_planted_bugs_is_found_at_once() -> None:
    command = [sys.executable, "-m", "tests.simulation.mutants", "--seeds", "12", "--only", *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed ") == len(QUICK) == len(BY_NAME.keys() & set(QUICK))


def test_what_a_run_raises_and_what_it_brings_back_both_count() -> None:
    def fine(seed: int) -> Outcome:
        return Outcome(seed, "A", 60.0, "")

    def broken(seed: int) -> Outcome:
        return Outcome(seed, "A", 60.0, "", violation=Violation("a rule", "why") if seed == 2 else None)

    def raising(seed: int) -> Outcome:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [AssertionError("no\nreason")])])

    survivor = watch("fine", fine, range(5))
    assert (survivor.killed, survivor.seeds, survivor.simulated_s) == (False, 5, 300.0)
    seen = watch("broken", broken, range(5))
    assert (seen.rule, seen.seed, seen.seeds, seen.simulated_s) == ("a rule", 2, 3, 180.0)
    raised = watch("raising", raising, range(5))
    assert (raised.rule, raised.text, raised.seeds) == ("assert", "no", 1)


def test_a_bug_cannot_be_planted_where_the_module_is_loaded_already() -> None:
    late = Mutant("late", "", "", "A", (Edit("tests.simulation.outcome", "SPLIT", "JOINED"),))
    with pytest.raises(NotPlanted, match="0 places"):
        Garden(late)
    late = Mutant(
        "late", "", "", "A", (Edit("tests.simulation.outcome", "class Violation", "class Violated"),)
    )
    with pytest.raises(NotPlanted, match="loaded already"):
        Garden(late).plant()
