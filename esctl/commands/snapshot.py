"""`esctl snapshot`: what each node starts from, and how to make that younger.

A node has a checkpoint of its state, beside its log, so that a start replays little; and, where the prefix
of the log was cut, the snapshot of what that meant. Neither holds an event: for that see `esctl backup`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypedDict

from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.errors import ClusterNotRunning
from esctl.exits import Exit
from esctl.query import survey as surveys
from esctl.query.survey import Report, Survey
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value
from esctl.ui.values import ClusterName, Count, NodeId

app = new_typer()


class SilentNodeRow(TypedDict):
    """A node that does not answer."""

    id: NodeId
    up: Literal[False]
    why: str


class CheckpointRow(TypedDict):
    """What a node would start from."""

    id: NodeId
    up: Literal[True]
    savepoint_index: Count
    entries_to_replay: int
    prefix_index: Count
    first_offset: Count
    kept: Annotated[bool | None, "Whether it has taken one now; null when it was not asked to"]
    why: str | None


class SnapshotsAnswer(TypedDict):
    """What each node would start from."""

    cluster: ClusterName
    nodes: list[CheckpointRow | SilentNodeRow]


class PlannedSnapshotAnswer(TypedDict):
    """The nodes that would take a checkpoint."""

    cluster: ClusterName
    dry_run: Literal[True]
    nodes: list[NodeId]


CHECKPOINT_S: Final = 120.0
"""A node writes at its leisure (`limits.CHECKPOINT_PAUSE_S`): the largest table takes half a minute."""


@command(app, "create")
def create(run: Invocation, dry_run: DryRun = False) -> Answer[SnapshotsAnswer | PlannedSnapshotAnswer]:
    """Make every node write a checkpoint of its state now, so that it starts quickly next time"""
    cluster = run.cluster()
    survey = run.trio(lambda: surveys.ask(cluster))
    _want_somebody(cluster, survey)
    if dry_run:
        numbers = [report.node.id for report in survey.up]
        data: PlannedSnapshotAnswer = {"cluster": cluster.name, "dry_run": True, "nodes": numbers}
        return Answer(data, [Line(f"nodes {numbers} would each take a checkpoint; {survey.quorum_text}")])
    taken = run.trio(lambda: _take_all(survey))
    return _answer(run.trio(lambda: surveys.ask(cluster)), taken)


@command(app, "ls")
def ls(run: Invocation) -> Answer[SnapshotsAnswer]:
    """Show each node's checkpoint, how many entries it would replay at startup, and where its log begins"""
    cluster = run.cluster()
    survey = run.trio(lambda: surveys.ask(cluster))
    _want_somebody(cluster, survey)
    return _answer(survey, {})


def _want_somebody(cluster: Cluster, survey: Survey) -> None:
    if not survey.up:
        raise ClusterNotRunning(
            f"no node of {cluster.name} answers", next_step=f"esctl cluster start {cluster.name}"
        )


async def _take_all(survey: Survey) -> dict[int, str]:
    """What became of it on each node: empty is well."""
    import trio  # loaded late, with the client

    from esnode.client import connect_node
    from esnode.errors import EventStreamError

    outcome: dict[int, str] = {}

    async def take(report: Report) -> None:
        try:
            link = connect_node(report.node.client, cluster=survey.cluster.identity, timeout_s=CHECKPOINT_S)
            async with link:
                await link.take_checkpoint()
            outcome[report.node.id] = ""
        except EventStreamError as error:
            outcome[report.node.id] = str(error)

    async with trio.open_nursery() as nursery:
        for report in survey.up:
            nursery.start_soon(take, report)
    return outcome


def _answer(survey: Survey, taken: Mapping[int, str]) -> Answer[SnapshotsAnswer]:
    rows: list[Sequence[Value]] = []
    nodes: list[CheckpointRow | SilentNodeRow] = []
    for report in survey.reports:
        number, status = report.node.id, report.status
        why = taken.get(number, "") or ("" if report.up else report.why)
        if status is None:
            rows.append([number, None, None, None, None, Cell(why, Tone.WARN)])
            nodes.append({"id": number, "up": False, "why": why})
            continue
        checkpoint, applied = int(status["savepoint_index"]), int(status["applied_index"])
        replayed = applied - max(checkpoint, int(status["prefix_index"]))
        rows.append(
            [number, checkpoint, replayed, status["prefix_index"], status["first_offset"], why or "ok"]
        )
        nodes.append(
            {"id": number, "up": True, "savepoint_index": checkpoint, "entries_to_replay": replayed,
             "prefix_index": status["prefix_index"], "first_offset": status["first_offset"],
             "kept": not why if number in taken else None, "why": why or None}
        )  # fmt: skip
    table = Table(["node", "checkpoint", "a start replays", "cut up to", "first offset", ""], rows)
    failed = any(taken.values()) or any(not report.up for report in survey.reports)
    code = Exit.ERROR if taken and failed else Exit.OK
    return Answer({"cluster": survey.cluster.name, "nodes": nodes}, [table], exit_code=code)
