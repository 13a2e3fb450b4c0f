"""One planted bug against one simulation, seed after seed, until something is seen; or against one test.

Any exception that a run raises or brings back counts: a `Violation` by its rule, an assertion of the
product as "assert", anything else by its name. A seed that uses too much processor time has no end, which
is a rule, too. Decides nothing about the bug. One process holds one trial. Called by `__main__.py`.
"""

import importlib
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

import outcome
import pytest

from tests.simulation.mutants.mutant import ROOT, Garden, Mutant, NotPlanted
from tests.simulation.outcome import Outcome, Violation

Run = Callable[[int], Outcome]

TIERS: Final = {
    "A": "tests.simulation.world",
    "B": "tests.simulation.whole.world",
    "R": "tests.simulation.ring.world",
}
"""The module of each tier; its `run` takes a seed."""
MAX_CPU_S: Final = 120
"""A seed that computes for longer than this has no end: a wait that nothing ends, or a growing queue."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one planted bug. `seeds` is how many were tried, the one that saw it included."""

    name: str
    seeds: int
    simulated_s: float
    rule: str | None
    text: str = ""
    seed: int | None = None

    @property
    def killed(self) -> bool:
        """Whether a seed saw it."""
        return self.rule is not None


class NoEndError(Exception):
    """A run computes and computes."""


def run_of(tier: str) -> Run:
    """The simulation of a tier."""
    run: Run = importlib.import_module(TIERS[tier]).run
    return run


def trial(mutant: Mutant, seeds: Iterable[int]) -> Verdict:
    """Plant `mutant` in this process and run `seeds` until one sees it; raises `NotPlanted`."""
    garden = Garden(mutant)
    garden.plant()
    if mutant.test:
        return _tested(mutant)
    verdict = watch(mutant.name, run_of(mutant.tier), seeds)
    if garden.never_loaded and not verdict.killed:
        raise NotPlanted(f"the simulation never loads {', '.join(garden.never_loaded)}")
    return verdict


def _tested(mutant: Mutant) -> Verdict:
    """Run the scripted test that must fail."""
    code = pytest.main(["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", str(ROOT / mutant.test)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise NotPlanted(f"{mutant.test} cannot be run: {code}")
    failed = code == pytest.ExitCode.TESTS_FAILED
    return Verdict(mutant.name, 0, 0.0, mutant.test.rpartition("::")[2] if failed else None)


def watch(name: str, run: Run, seeds: Iterable[int]) -> Verdict:
    """Run `seeds` until one goes wrong."""
    tried = 0
    simulated_s = 0.0
    for seed in seeds:
        tried += 1
        with _limited(MAX_CPU_S):
            result = outcome.capture(run, seed)
        error: BaseException | None
        if isinstance(result, outcome.Error):
            error = _innermost(result.error)
            if isinstance(error, KeyboardInterrupt):
                raise error
        else:
            simulated_s += result.value.simulated_s
            error = result.value.violation
        if error is not None:
            return Verdict(name, tried, simulated_s, _rule(error), _first_line(error), seed)
    return Verdict(name, tried, simulated_s, None)


def _rule(error: BaseException) -> str:
    if isinstance(error, Violation):
        return error.rule
    return "assert" if isinstance(error, AssertionError) else type(error).__name__


def _first_line(error: BaseException) -> str:
    text = error.text if isinstance(error, Violation) else str(error)
    return text.partition("\n")[0][:200]


def _innermost(error: BaseException) -> BaseException:
    """The first error of a group: a simulation of tasks raises it wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _limited(cpu_s: float) -> Iterator[None]:
    """Raise `NoEndError` in what computes for longer than `cpu_s`."""

    def give_up(signal_number: int, frame: FrameType | None) -> None:
        raise NoEndError(f"a run had no end within {cpu_s} s of processor time")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
