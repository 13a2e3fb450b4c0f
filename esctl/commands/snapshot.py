"""`esctl snapshot`: what each node starts from, and how to make that younger.

A node has a checkpoint of its state, beside its log, so that a start replays little; and, where the prefix
of the log was cut, the snapshot of what that meant. Neither holds an event: for that see `esctl backup`.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NotRequired, TypedDict

from esctl.cli.arguments import DryRun, OnlyPartition
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.errors import ClusterNotRunning
from esctl.exits import Exit
from esctl.query import ringsurvey
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report
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


class PartitionSnapshots(TypedDict):
    """What the process of each node for one of several partitions would start from."""

    id: Count
    nodes: list[CheckpointRow | SilentNodeRow]


class SnapshotsAnswer(TypedDict):
    """What each node would start from."""

    cluster: ClusterName
    nodes: Annotated[list[CheckpointRow | SilentNodeRow] | None, "null with several partitions"]
    partitions: NotRequired[list[PartitionSnapshots]]


class PlannedSnapshotAnswer(TypedDict):
    """The nodes that would take a checkpoint."""

    cluster: ClusterName
    dry_run: Literal[True]
    nodes: list[NodeId]


CHECKPOINT_S: Final = 120.0
"""A node writes at its leisure (`limits.CHECKPOINT_PAUSE_S`): the largest table takes half a minute."""


@command(app, "create", partitions=True)
def create(
    run: Invocation, partition: OnlyPartition = None, dry_run: DryRun = False
) -> Answer[SnapshotsAnswer | PlannedSnapshotAnswer]:
    """Make every node write a checkpoint of its state now, so that it starts quickly next time"""
    cluster = run.cluster()
    only = run.partition(cluster, partition, required=False)
    ring = run.trio(lambda: ringsurvey.ask(cluster, only=only))
    _want_somebody(cluster, ring)
    if dry_run:
        numbers = sorted({report.node.id for survey in ring.partitions for report in survey.up})
        data: PlannedSnapshotAnswer = {"cluster": cluster.name, "dry_run": True, "nodes": numbers}
        return Answer(data, [Line(f"nodes {numbers} would each take a checkpoint; {ring.quorum_text}")])
    taken = run.trio(lambda: _take_all(ring))
    return _answer(run.trio(lambda: ringsurvey.ask(cluster, only=only)), taken)


@command(app, "ls", partitions=True)
def ls(run: Invocation, partition: OnlyPartition = None) -> Answer[SnapshotsAnswer]:
    """Show each node's checkpoint, how many entries it would replay at startup, and where its log begins"""
    cluster = run.cluster()
    only = run.partition(cluster, partition, required=False)
    ring = run.trio(lambda: ringsurvey.ask(cluster, only=only))
    _want_somebody(cluster, ring)
    return _answer(ring, {})


def _want_somebody(cluster: Cluster, ring: RingSurvey) -> None:
    if not ring.up:
        raise ClusterNotRunning(
            f"no node of {cluster.name} answers", next_step=f"esctl cluster start {cluster.name}"
        )


Outcome = dict[tuple[int | None, int], str]
"""What became of it, by partition and node: empty is well."""


async def _take_all(ring: RingSurvey) -> Outcome:
    """Ask every process at the same time."""
    import trio  # loaded late, with the client

    from esnode.client import connect_node
    from esnode.errors import EventStreamError

    outcome: Outcome = {}

    async def take(partition: int | None, report: Report) -> None:
        try:
            link = connect_node(
                report.node.client, cluster=ring.cluster.identity, partition=partition, timeout_s=CHECKPOINT_S
            )
            async with link:
                await link.take_checkpoint()
            outcome[partition, report.node.id] = ""
        except EventStreamError as error:
            outcome[partition, report.node.id] = str(error)

    async with trio.open_nursery() as nursery:
        for survey in ring.partitions:
            for report in survey.up:
                nursery.start_soon(take, survey.partition, report)
    return outcome


def _answer(ring: RingSurvey, taken: Outcome) -> Answer[SnapshotsAnswer]:
    rows: list[Sequence[Value]] = []
    each: list[PartitionSnapshots] = []
    for survey in ring.partitions:
        nodes = [_row(report, taken.get((survey.partition, report.node.id))) for report in survey.reports]
        each.append({"id": survey.partition or 0, "nodes": nodes})
        number = [] if survey.partition is None else [str(survey.partition)]
        rows += [[*number, *_cells(node)] for node in nodes]
    several = ["partition"] if ring.partitions[0].partition is not None else []
    columns = [*several, "node", "checkpoint", "a start replays", "cut up to", "first offset", ""]
    failed = any(taken.values()) or any(not node["up"] for one in each for node in one["nodes"])
    data: SnapshotsAnswer = {"cluster": ring.cluster.name, "nodes": None if several else each[0]["nodes"]}
    if several:
        data["partitions"] = each
    return Answer(data, [Table(columns, rows)], exit_code=Exit.ERROR if taken and failed else Exit.OK)


def _row(report: Report, outcome: str | None) -> CheckpointRow | SilentNodeRow:
    """Of one process; `outcome` is None where it was not asked to take a checkpoint."""
    number, status = report.node.id, report.status
    why = outcome or ("" if report.up else report.why)
    if status is None:
        return {"id": number, "up": False, "why": why}
    checkpoint, applied = int(status["savepoint_index"]), int(status["applied_index"])
    replayed = applied - max(checkpoint, int(status["prefix_index"]))
    return {
        "id": number, "up": True, "savepoint_index": checkpoint, "entries_to_replay": replayed,
        "prefix_index": status["prefix_index"], "first_offset": status["first_offset"],
        "kept": None if outcome is None else not why, "why": why or None,
    }  # fmt: skip


def _cells(node: CheckpointRow | SilentNodeRow) -> list[Value]:
    if not node["up"]:
        return [node["id"], None, None, None, None, Cell(node["why"], Tone.WARN)]
    return [
        node["id"], node["savepoint_index"], node["entries_to_replay"], node["prefix_index"],
        node["first_offset"], node["why"] or "ok",
    ]  # fmt: skip
