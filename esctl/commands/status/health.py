"""`esctl status health`: is the cluster well, and if not, why, and what helps?"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.errors import InvalidArgument, NotHealthy
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import leaders_named
from esctl.ui.terminal import Output, Terminal
from esctl.ui.values import NodeId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from esctl.query.checkup import Checkup, StageData
    from esctl.query.ringsurvey import PartitionLeader
    from esctl.query.survey import QuorumData


class HealthAnswer(TypedDict):
    """Whether the cluster is well, stage by stage."""

    cluster: str
    healthy: bool
    serving: bool
    leader: NodeId | None
    quorum: Annotated["QuorumData", "With several partitions, that of the worst"]
    stages: "list[StageData]"
    partitions: NotRequired["list[PartitionLeader]"]


class HealthRecord(HealthAnswer):
    """A line of --watch."""

    time: str


def health(
    run: Invocation,
    wait: Annotated[
        float,
        duration_option("--wait", "Time to wait for the cluster to be healthy"),
    ] = 0.0,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print each change, until Ctrl-C")] = False,
) -> Answer[HealthAnswer] | None:
    """Check the cluster in four stages: alive, ready, quorum, deep; exit with code 10 if something is
    wrong, 20 if no node answers"""
    from esctl.query import checkup  # loaded late: it brings trio and the client

    cluster = run.cluster()
    if watch and wait:
        raise InvalidArgument("--watch never ends, but --wait does", next_step="esctl status health --watch")
    if watch:
        run.on_interrupt(lambda: None)
        run.trio(lambda: _watch(run.terminal, checkup.changes(cluster)))
        return None
    with run.terminal.progress(f"examining {cluster.name}"):
        return answer_of(run.trio(lambda: checkup.wait_healthy(cluster, wait)))


async def _watch(terminal: Terminal, changes: "AsyncIterator[Checkup]") -> None:
    """Print each change: a line of JSON, or a line for people with the reasons below it."""
    async for checkup in changes:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if terminal.output is Output.JSON:
            record: HealthRecord = {"time": time, **_data(checkup)}
            terminal.record(record)
        else:
            summary = _summary(checkup)
            leads = leaders_named(checkup.leaders)
            terminal.toned([(f"{time} ", Tone.DIM), (f"{summary.text}; {leads}", summary.tone)])
            for stage in checkup.stages:
                for reason, step in stage.flaws:
                    head = (f"  {stage.name}: {reason}", Tone.NORMAL)
                    terminal.toned([head, ("; next: ", Tone.DIM), (step, Tone.STRONG)])
        terminal.flush()
        terminal.check_reader()


def _data(checkup: "Checkup") -> HealthAnswer:
    survey = checkup.survey
    alone = checkup.leaders[0] if checkup.ring is None else None
    data: HealthAnswer = {
        "cluster": survey.cluster.name,
        "healthy": checkup.healthy,
        "serving": checkup.serving,
        "leader": alone,
        "quorum": survey.quorum_data(),
        "stages": [stage.as_data() for stage in checkup.stages],
    }
    if checkup.ring is not None:
        data["partitions"] = checkup.ring.leaders()
    return data


def answer_of(checkup: "Checkup") -> Answer[HealthAnswer]:
    """The answer of `esctl status health`."""
    survey, data = checkup.survey, _data(checkup)
    rows: list[list[Value]] = []
    for stage in checkup.stages:
        if stage.ok:
            rows.append([stage.name, Cell("ok", Tone.GOOD), stage.asks, None])
        for place, (reason, step) in enumerate(stage.flaws):
            rows.append([stage.name if not place else "", Cell("no", Tone.BAD), reason, step])
    columns = ["stage", "", "what", "next"]
    steps = {step for stage in checkup.stages for _, step in stage.flaws}
    if survey.up and len(steps) <= 1:  # the error names it, and the reasons have the room
        columns, rows = columns[:3], [row[:3] for row in rows]
    views: list[View] = [Table(columns, rows), _summary(checkup)]
    if not survey.up:
        return Answer(data, views, [survey.nobody], Exit.UNREACHABLE)
    if checkup.healthy:
        return Answer(data, views)
    reasons = [reason for stage in checkup.stages for reason, _ in stage.flaws]
    step = next(step for stage in checkup.stages for _, step in stage.flaws)
    what = f"cluster {survey.cluster.name} is not well"
    more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    trouble = Trouble(NotHealthy.code, what, f"{reasons[0]}{more}", step)
    return Answer(data, views, [trouble], exit_of(NotHealthy))


def _summary(checkup: "Checkup") -> Line:
    if checkup.healthy:
        return Line(f"healthy: {checkup.quorum_text}", Tone.GOOD)
    if checkup.serving:
        return Line(f"degraded: events are taken and read; {checkup.quorum_text}", Tone.WARN)
    return Line(f"not serving: {checkup.quorum_text}", Tone.BAD)
