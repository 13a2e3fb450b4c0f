"""`esctl why`: what is wrong, what shows it, and what to type next; the most important first."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, TypedDict

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer, Line, Tone, View
from esctl.ui.values import ClusterName, NodeId, Seconds

if TYPE_CHECKING:
    from esctl.observe.diagnosis.problem import Problem, ProblemData
    from esctl.observe.diagnosis.ranking import Diagnosis
    from esctl.query.survey import QuorumData

app = new_typer()
FEW: Final = 3
"""When there are more findings than that, only the first one is shown with everything: one screen."""
MOST: Final = 6
"""More than these are only counted: the first ones have to be mended before anything else."""
_TONES: Final = {0: Tone.DIM, 1: Tone.WARN, 2: Tone.WARN, 3: Tone.BAD}


class WhyAnswer(TypedDict):
    """What is wrong, the most important first."""

    cluster: ClusterName
    well: bool
    leader: NodeId | None
    quorum: "QuorumData"
    findings: "list[ProblemData]"
    facts: list[str]
    seconds: Seconds


@command(app, "why")
def why(
    run: Invocation,
    disk_free: Annotated[
        float,
        typer.Option(
            "--disk-free", metavar="PERCENT", min=0, max=100, help="Warn when less is left of a disk"
        ),
    ] = 5.0,
) -> Answer[WhyAnswer]:
    """Say what is wrong, what shows it, what to type next; exit 10 if anything is, 20 if nothing answers"""
    import time

    from esctl.observe.diagnosis import gathering, ranking  # loaded late: they bring trio and the client

    cluster, begun = run.cluster(), time.perf_counter()
    with run.terminal.progress(f"looking at {cluster.name}"):
        seen = run.trio(lambda: gathering.gather(cluster, disk_free))
        found = ranking.diagnose(seen)
    return answer_of(found, time.perf_counter() - begun)


def answer_of(found: "Diagnosis", seconds: float = 0.0) -> Answer[WhyAnswer]:
    """The answer of `esctl why`."""
    survey = found.situation.survey
    data: WhyAnswer = {
        "cluster": survey.cluster.name,
        "well": found.well,
        "leader": survey.leader.node.id if survey.leader is not None else None,
        "quorum": survey.quorum_data(),
        "findings": [finding.as_data() for finding in found.findings],
        "facts": list(found.facts),
        "seconds": round(seconds, 3),
    }
    code = Exit.OK if found.well else Exit.UNHEALTHY if survey.up else Exit.UNREACHABLE
    return Answer(data, list(_views(found)), exit_code=code)


def _views(found: "Diagnosis") -> Iterator[View]:
    survey = found.situation.survey
    wrong = sum(finding.wrong for finding in found.findings)
    if found.well:
        yield Line(f"nothing is wrong with {survey.cluster.name}", Tone.GOOD)
        for fact in found.facts:
            yield Line(f"  {fact}")
    else:
        worst = found.findings[0]
        count = "1 problem" if wrong == 1 else f"{wrong} problems"
        yield Line(f"{survey.cluster.name}: {count}; {survey.state_text}", _TONES[worst.severity])
    most = 2 if len(found.findings) <= FEW else 1
    for place, finding in enumerate(found.findings[:MOST], start=1):
        yield from _problem(finding, place, full=place <= most)
    if len(found.findings) > MOST:
        yield Line(f"and {len(found.findings) - MOST} more: esctl why -o json", Tone.DIM)


def _problem(problem: "Problem", place: int, *, full: bool) -> Iterator[Line]:
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
