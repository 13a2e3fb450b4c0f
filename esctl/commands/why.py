"""`esctl why`: what is wrong, what shows it, and what to type next; the most important first."""

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer
from esctl.ui.values import ClusterName, NodeId, Seconds

if TYPE_CHECKING:
    from esctl.observe.diagnosis.problem import ProblemData
    from esctl.observe.diagnosis.ranking import Diagnosis, RingDiagnosis
    from esctl.query.survey import QuorumData

app = new_typer()


class WhyAnswer(TypedDict):
    """What is wrong, the most important first."""

    cluster: ClusterName
    well: bool
    leader: Annotated[NodeId | None, "null where several partitions have several"]
    quorum: Annotated["QuorumData", "With several partitions, that of the worst"]
    findings: "list[ProblemData]"
    facts: list[str]
    seconds: Seconds


@command(app, "why", partitions=True)
def why(
    run: Invocation,
    disk_free: Annotated[
        float,
        typer.Option(
            "--disk-free",
            metavar="PERCENT",
            min=0,
            max=100,
            help="Warn if less than this percentage of a disk is free",
        ),
    ] = 5.0,
) -> Answer[WhyAnswer]:
    """Show what is wrong, the evidence, and the next command to run; exit with code 10 if anything is wrong,
    20 if no node answers"""
    import time

    from esctl.observe.diagnosis import collect, ranking  # loaded late: they bring trio and the client

    cluster, begun = run.cluster(), time.perf_counter()
    with run.terminal.progress(f"looking at {cluster.name}"):
        seen = run.trio(lambda: collect.gather_all(cluster, disk_free))
        found = ranking.diagnose_all(seen)
    return answer_of(found, time.perf_counter() - begun)


def answer_of(found: "Diagnosis | RingDiagnosis", seconds: float = 0.0) -> Answer[WhyAnswer]:
    """The answer of `esctl why`."""
    from esctl.observe.diagnosis import presentation
    from esctl.observe.diagnosis.ranking import RingDiagnosis

    if isinstance(found, RingDiagnosis):
        survey, leader, up = found.ring.worst, found.ring.leader, found.ring.up
    else:
        survey = found.situation.survey
        leader, up = survey.leader.node.id if survey.leader is not None else None, bool(survey.up)
    data: WhyAnswer = {
        "cluster": survey.cluster.name,
        "well": found.well,
        "leader": leader,
        "quorum": survey.quorum_data(),
        "findings": [finding.as_data() for finding in found.findings],
        "facts": list(found.facts),
        "seconds": round(seconds, 3),
    }
    code = Exit.OK if found.well else Exit.UNHEALTHY if up else Exit.UNREACHABLE
    return Answer(data, list(presentation.views(found)), exit_code=code)
