"""`esctl health`: is the cluster well, and if not, why, and what helps? For people, scripts and probes."""

from typing import TYPE_CHECKING, Annotated

import typer

from esctl.answer import Answer, Cell, Line, Table, Tone, Trouble, Value, View
from esctl.errors import NotHealthy
from esctl.exits import Exit, exit_of
from esctl.invocation import Invocation, command, new_typer

if TYPE_CHECKING:
    from esctl.inquiry.checkup import Checkup

app = new_typer()


@command(app, "health")
def health(
    run: Invocation,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Wait so long for the cluster to be well"),
    ] = 0.0,
) -> Answer:
    """Check in stages: alive, ready, quorum, deep; exit 10 if something is wrong, 20 if nothing answers"""
    from esctl.inquiry import checkup  # loaded late: it brings trio and the client

    cluster = run.cluster()
    with run.terminal.progress(f"examining {cluster.name}"):
        return answer_of(run.trio(lambda: checkup.wait_healthy(cluster, wait)))


def answer_of(checkup: "Checkup") -> Answer:
    """The answer of `esctl health`."""
    survey = checkup.survey
    data = {
        "cluster": survey.cluster.name,
        "healthy": checkup.healthy,
        "serving": checkup.serving,
        "leader": survey.leader.node.id if survey.leader is not None else None,
        "quorum": survey.quorum_data(),
        "stages": [stage.as_data() for stage in checkup.stages],
    }
    rows: list[list[Value]] = []
    for stage in checkup.stages:
        if stage.ok:
            rows.append([stage.name, Cell("ok", Tone.GOOD), stage.asks, None])
        for place, (reason, step) in enumerate(stage.flaws):
            rows.append([stage.name if not place else "", Cell("no", Tone.BAD), reason, step])
    views: list[View] = [Table(["stage", "", "what", "next"], rows), _summary(checkup)]
    if not survey.up:
        return Answer(data, views, [survey.nobody], Exit.UNREACHABLE)
    if checkup.healthy:
        return Answer(data, views)
    reasons = [reason for stage in checkup.stages for reason, _ in stage.flaws]
    step = next(step for stage in checkup.stages for _, step in stage.flaws)
    what = f"cluster {survey.cluster.name} is not well"
    trouble = Trouble(NotHealthy.code, what, "; ".join(reasons), step)
    return Answer(data, views, [trouble], exit_of(NotHealthy))


def _summary(checkup: "Checkup") -> Line:
    survey = checkup.survey
    if checkup.healthy:
        return Line(f"healthy: {survey.quorum_text}", Tone.GOOD)
    if checkup.serving:
        return Line(f"degraded: events are taken and read; {survey.quorum_text}", Tone.WARN)
    return Line(f"not serving: {survey.quorum_text}", Tone.BAD)
