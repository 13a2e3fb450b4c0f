"""`esctl dedup`: what the nodes remember of the events they have. For one event: `esctl event dedup`."""

from typing import Any, Final

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value, View
from esctl.ui.formatting import span

app = new_typer()
_FIGURES: Final = (
    "live_keys", "max_keys", "ttl_ms", "when_full", "forgotten_early", "producers", "named_producers",
    "closed_producers",
)  # fmt: skip
"""Of a node that answers; a node that does not has none of them."""


@command(app, "dedup")
def dedup(run: Invocation) -> Answer:
    """Show how many events each node remembers, for how long, and whether the bound was met"""
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client

    cluster = run.cluster()
    survey = run.trio(lambda: surveys.ask(cluster))
    if not survey.up:
        return Answer(errors=[survey.nobody], exit_code=Exit.UNREACHABLE)
    rows: list[list[Value]] = []
    nodes: list[dict[str, Any]] = []
    for report in survey.reports:
        dedup: dict[str, Any] = dict.fromkeys(_FIGURES) | (report.status or {}).get("dedup", {})
        log_time_ms = (report.status or {}).get("log_time_ms")
        nodes.append({"id": report.node.id, "up": report.up, "log_time_ms": log_time_ms, **dedup})
        forgotten = dedup.get("forgotten_early")
        rows.append(
            [
                report.node.id,
                dedup.get("live_keys"),
                dedup.get("max_keys"),
                span(dedup.get("ttl_ms")),
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
