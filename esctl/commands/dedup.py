"""`esctl dedup`: what the nodes remember of the events they have. For one event: `esctl event dedup`."""

from typing import TypedDict

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration
from esctl.ui.values import Count, NodeId

app = new_typer()


class DedupRow(TypedDict):
    """What a node remembers; all is null of one that does not answer."""

    id: NodeId
    up: bool
    log_time_ms: Count | None
    live_keys: Count | None
    max_keys: Count | None
    ttl_ms: Count | None
    when_full: str | None
    forgotten_early: Count | None
    producers: Count | None
    named_producers: Count | None
    closed_producers: Count | None


class DedupAnswer(TypedDict):
    """What each node remembers of the events that it has."""

    cluster: str
    leader: NodeId | None
    nodes: list[DedupRow]


@command(app, "dedup")
def dedup(run: Invocation) -> Answer[DedupAnswer]:
    """Show how many event keys each node's deduplication table holds, how long it keeps them, and whether
    it has ever been full"""
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client

    cluster = run.cluster()
    survey = run.trio(lambda: surveys.ask(cluster))
    if not survey.up:
        return Answer(errors=[survey.nobody], exit_code=Exit.UNREACHABLE)
    rows: list[list[Value]] = []
    nodes: list[DedupRow] = []
    for report in survey.reports:
        dedup = (report.status or {}).get("dedup", {})
        log_time_ms = (report.status or {}).get("log_time_ms")
        nodes.append(
            {
                "id": report.node.id,
                "up": report.up,
                "log_time_ms": log_time_ms,
                "live_keys": dedup.get("live_keys"),
                "max_keys": dedup.get("max_keys"),
                "ttl_ms": dedup.get("ttl_ms"),
                "when_full": dedup.get("when_full"),
                "forgotten_early": dedup.get("forgotten_early"),
                "producers": dedup.get("producers"),
                "named_producers": dedup.get("named_producers"),
                "closed_producers": dedup.get("closed_producers"),
            }
        )
        forgotten = dedup.get("forgotten_early")
        rows.append(
            [
                report.node.id,
                dedup.get("live_keys"),
                dedup.get("max_keys"),
                duration(ttl_ms / 1000) if (ttl_ms := dedup.get("ttl_ms")) is not None else None,
                dedup.get("when_full"),
                Cell(forgotten, Tone.WARN) if forgotten else forgotten,
                dedup.get("producers"),
            ]
        )
    columns = ["node", "keys", "bound", "kept for", "when full", "forgotten", "sessions"]
    views: list[View] = [Table(columns, rows)]
    if any(node.get("forgotten_early") for node in nodes):
        text = "keys were forgotten before their time: raise dedup.max_keys, or set dedup.when_full to refuse"
        views.append(Line(text, Tone.WARN))
    for report in survey.down:
        helps = f"{report.next_step} --cluster {cluster.name}"
        run.terminal.warn(f"node {report.node.id} is down: {report.why}; next: {helps}")
    leader = survey.leader.node.id if survey.leader is not None else None
    return Answer({"cluster": cluster.name, "leader": leader, "nodes": nodes}, views)
