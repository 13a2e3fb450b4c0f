"""A diagnosis as lines for people: the most important first, with what shows it and what to type next.

Pure. Called by `esctl why` and `esctl top`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.diagnosis.problem import Problem
from esctl.observe.diagnosis.ranking import Diagnosis, RingDiagnosis
from esctl.ui.answer import Line, Tone

FEW: Final = 3
"""When there are more findings than that, only the first one is shown with everything: one screen."""
MOST: Final = 6
"""More than these are only counted: the first ones have to be mended before anything else."""
_TONES: Final = {0: Tone.DIM, 1: Tone.WARN, 2: Tone.WARN, 3: Tone.BAD}


def views(found: Diagnosis | RingDiagnosis) -> Iterator[Line]:
    """All of it."""
    if isinstance(found, RingDiagnosis):
        name, state = found.ring.cluster.name, found.ring.quorum_text
    else:
        name, state = found.situation.survey.cluster.name, found.situation.survey.state_text
    wrong = sum(finding.wrong for finding in found.findings)
    if found.well:
        yield Line(f"nothing is wrong with {name}", Tone.GOOD)
        for fact in found.facts:
            yield Line(f"  {fact}")
    else:
        worst = found.findings[0]
        count = "1 problem" if wrong == 1 else f"{wrong} problems"
        yield Line(f"{name}: {count}; {state}", _TONES[worst.severity])
    most = 2 if len(found.findings) <= FEW else 1
    for place, finding in enumerate(found.findings[:MOST], start=1):
        yield from _problem(finding, place, full=place <= most)
    if len(found.findings) > MOST:
        yield Line(f"and {len(found.findings) - MOST} more: esctl why -o json", Tone.DIM)


def _problem(problem: Problem, place: int, *, full: bool) -> Iterator[Line]:
    head = f"{place}. {problem.what}" if problem.wrong else f"note: {problem.what}"
    if full:
        yield Line("")
    yield Line(head, _TONES[problem.severity])
    if full:
        for text in problem.evidence:
            yield Line(f"   {text}")
        for part in problem.because:
            yield Line(f"   because {part.what}")
            if part.first:
                yield Line(f"      first: {part.first}")
        for part in problem.so:
            yield Line(f"   so {part.what}")
    if problem.first:
        yield Line(f"   first: {problem.first}")
    yield Line(f"   next: {problem.next}", Tone.STRONG)
    if full and problem.also:
        yield Line(f"   also: {'; '.join(problem.also)}", Tone.DIM)
