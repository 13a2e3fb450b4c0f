"""`esctl dedup`: what the nodes remember of the events they have, and what becomes of one sent again."""

from typing import Annotated, Any, Final

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.escape import quoted
from esnode.dedup.batch import event_key

app = new_typer()
_FIGURES: Final = (
    "live_keys", "max_keys", "ttl_ms", "when_full", "forgotten_early", "producers", "named_producers",
    "closed_producers",
)  # fmt: skip
"""Of a node that answers; a node that does not has none of them."""


@command(app, "stats")
def stats(run: Invocation) -> Answer:
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
                _span(dedup.get("ttl_ms")),
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


@command(app, "explain")
def explain(
    run: Invocation,
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Name the event's source")],
    event_id: Annotated[str, typer.Option("--id", metavar="TEXT", help="Name the event's id")],
) -> Answer:
    """Say whether an event would be taken if it were sent now, and why"""
    from esctl.query import lookup  # loaded late: it brings trio and the client

    cluster = run.cluster()
    state = run.trio(lambda: lookup.known(cluster, source, event_id))
    known = state.offset is not None
    data = {
        "source": source,
        "id": event_id,
        "key": event_key(source, event_id).hex(),
        "known": known,
        "offset": state.offset,
        "expires_in_ms": state.expires_in_ms if known else None,
        "would_store": not known,
        "why": _why(state.offset, state.expires_in_ms),
    }
    pairs: list[tuple[str, Value]] = [
        ("source", source),
        ("id", event_id),
        ("key", Cell(str(data["key"]), Tone.DIM)),
        ("known", Cell("yes", Tone.GOOD) if known else Cell("no", Tone.WARN)),
        ("first offset", str(state.offset) if known else None),
        ("known for", f"{_span(state.expires_in_ms)} of log time" if known else None),
        ("sent again", str(data["why"])),
    ]
    if not known:
        pairs.append(
            (
                "in the log?",
                f"esctl event --source {quoted(source)} --id {quoted(event_id)} --cluster {cluster.name}",
            )
        )
    return Answer(data, [Fields(pairs)])


def _why(offset: int | None, expires_in_ms: int) -> str:
    if offset is None:
        return (
            "it would be stored: it was never sent, or longer ago than the deduplication window reaches"
            " (a producer session knows what it has sent for longer, by its numbers)"
        )
    return (
        f"it would be acked with offset {offset} and not stored again; after another"
        f" {_span(expires_in_ms)} of log time it would be stored a second time"
    )


def _span(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
