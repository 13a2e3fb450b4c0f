"""`esctl dedup`: what the nodes remember of the events they have. For one event: `esctl event dedup`."""

from typing import TYPE_CHECKING, Annotated, Final, NotRequired, TypedDict

from esctl.cli.arguments import PartitionOption
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration, megabytes
from esctl.ui.values import Count, NodeId

if TYPE_CHECKING:
    from esctl.query.dedupstate import DedupState
    from esctl.query.survey import Report

app = new_typer()

_COLUMNS: Final = [
    "node", "keys", "room for", "kept", "reaches", "disk", "memory", "when full", "lost", "sessions",
]  # fmt: skip
"""`lost`: keys forgotten early, or batches refused."""


class DedupRow(TypedDict):
    """What a node remembers; all is null of one that does not answer."""

    id: NodeId
    up: bool
    log_time_ms: Count | None
    live_keys: Count | None
    max_keys: Annotated[Count | None, "How many keys fit max_bytes"]
    max_bytes: Annotated[Count | None, "The bound of the keys on disk"]
    ttl_ms: Annotated[Count | None, "How long a key is kept, in log time; 0: as long as there is room"]
    window_ms: Annotated[Count | None, "How far back in log time all keys are known now"]
    bytes_on_disk: Annotated[Count | None, "Keys that are on disk and not in memory"]
    bytes_in_memory: Annotated[Count | None, "The other keys, and the index of all"]
    when_full: str | None
    full: Annotated[bool | None, "Whether it is forgetting keys early, or refusing new events"]
    forgotten_early: Count | None
    refused: Annotated[Count | None, "Batches refused because it was full, since the node started"]
    producers: Count | None
    named_producers: Count | None
    closed_producers: Count | None


class DedupAnswer(TypedDict):
    """What each node remembers of the events that it has."""

    cluster: str
    partition: NotRequired[Count]
    leader: NodeId | None
    nodes: list[DedupRow]


@command(app, "dedup", partitions=True)
def dedup(run: Invocation, partition: PartitionOption = None) -> Answer[DedupAnswer]:
    """Show how many event keys each node's deduplication table holds, how long it keeps them, and whether
    it has ever been full"""
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client
    from esctl.query.dedupstate import DedupState

    cluster = run.cluster()
    number = run.partition(cluster, partition)
    survey = run.trio(lambda: surveys.ask(cluster, partition=number))
    if not survey.up:
        return Answer(errors=[survey.nobody], exit_code=Exit.UNREACHABLE)
    states = [(report, DedupState.of(report.status)) for report in survey.reports]
    views: list[View] = [Table(_COLUMNS, [_cells(report.node.id, state) for report, state in states])]
    lossy = next((state for _, state in states if state.forgotten_early), None)
    if lossy is not None:
        text = f"keys were forgotten before their time: raise dedup.max_bytes, {lossy.remedy}"
        views.append(Line(text, Tone.WARN))
    if any(state.refuses for _, state in states):
        views.append(
            Line("new events are refused: wait for keys to expire, or raise dedup.max_bytes", Tone.BAD)
        )
    for report in survey.down:
        helps = f"{report.next_step} --cluster {cluster.name}"
        run.terminal.warn(f"node {report.node.id} is down: {report.why}; next: {helps}")
    leader = survey.leader.node.id if survey.leader is not None else None
    nodes = [_row(report, state) for report, state in states]
    data: DedupAnswer = {"cluster": cluster.name, "leader": leader, "nodes": nodes}
    if number is not None:
        data["partition"] = number
    return Answer(data, views)


def _row(report: "Report", state: "DedupState") -> DedupRow:
    return {
        "id": report.node.id,
        "up": report.up,
        "log_time_ms": (report.status or {}).get("log_time_ms"),
        "live_keys": state.live_keys,
        "max_keys": state.max_keys,
        "max_bytes": state.max_bytes,
        "ttl_ms": state.ttl_ms,
        "window_ms": state.window_ms,
        "bytes_on_disk": state.bytes_on_disk,
        "bytes_in_memory": state.bytes_in_memory,
        "when_full": state.when_full,
        "full": state.full,
        "forgotten_early": state.forgotten_early,
        "refused": state.refused,
        "producers": state.producers,
        "named_producers": state.named_producers,
        "closed_producers": state.closed_producers,
    }


def _reach(state: "DedupState") -> str | None:
    if state.window_ms is None:
        return None
    if not state.ttl_ms and not state.window_ms and state.full:
        return "under 1 h"  # the table does not know it more exactly
    return duration(state.window_ms / 1000)


def _cells(number: int, state: "DedupState") -> list[Value]:
    costs = {"shrink": state.forgotten_early, "refuse": state.refused}.get(state.when_full or "")
    kept = duration(state.ttl_ms / 1000) if state.ttl_ms else None if state.ttl_ms is None else "room lasts"
    return [
        number,
        state.live_keys,
        state.max_keys,
        kept,
        _reach(state),
        megabytes(state.bytes_on_disk),
        megabytes(state.bytes_in_memory),
        state.when_full,
        Cell(costs, Tone.WARN) if costs else costs,
        state.producers,
    ]
