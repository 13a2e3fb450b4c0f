"""`esctl event dedup`: what becomes of an event if it is sent now, and why."""

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from esctl.cli.invocation import Invocation
from esctl.ui.answer import Answer, Cell, Fields, Tone, Value
from esctl.ui.escape import quoted
from esctl.ui.formatting import duration
from esctl.ui.values import Count, KeyExpiry
from esnode.dedup.batch import event_key

if TYPE_CHECKING:
    from esnode.client import KeyState


class EventDedupAnswer(TypedDict):
    """Whether an event is known, and what becomes of it if it is sent now."""

    source: str
    id: str
    key: str
    known: bool
    offset: Count | None
    expires_in_ms: KeyExpiry | None
    would_store: bool
    why: str


def dedup(
    run: Invocation,
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Source of the event")],
    event_id: Annotated[str, typer.Option("--id", metavar="TEXT", help="Id of the event")],
) -> Answer[EventDedupAnswer]:
    """Show whether an event would be stored or treated as a duplicate if it were sent now, and why"""
    from esctl.query import lookup  # loaded late: it brings trio and the client

    cluster = run.cluster()
    state, _ = run.trio(lambda: lookup.known(cluster, source, event_id))
    known = state.known
    data: EventDedupAnswer = {
        "source": source,
        "id": event_id,
        "key": event_key(source, event_id).hex(),
        "known": known,
        "offset": state.offset,
        "expires_in_ms": state.expires_in_ms if known else None,
        "would_store": not known,
        "why": _why(state),
    }
    pairs: list[tuple[str, Value]] = [
        ("source", source),
        ("id", event_id),
        ("key", Cell(str(data["key"]), Tone.DIM)),
        ("known", Cell("yes", Tone.GOOD) if known else Cell("no", Tone.WARN)),
        ("first offset", str(state.offset) if state.offset is not None else None),
        ("known for", left(state.expires_in_ms) if known else None),
        ("sent again", str(data["why"])),
    ]
    if state.offset is None:
        pairs.append(
            (
                "in the log?",
                f"esctl event --source {quoted(source)} --id {quoted(event_id)} --cluster {cluster.name}",
            )
        )
    return Answer(data, [Fields(pairs)])


def left(expires_in_ms: int) -> str:
    """How long a key will be known; negative: no time ends it."""
    if expires_in_ms < 0:
        return "as long as there is room for its key"
    return f"{duration(expires_in_ms / 1000)} of log time"


def _why(state: "KeyState") -> str:
    if not state.known:
        return (
            "it would be stored: it was never sent, or longer ago than the deduplication window reaches"
            " (a producer session knows what it has sent for longer, by its numbers)"
        )
    acked = (
        "it would be acked without an offset and not stored again, since its source has moved and another"
        " partition has it"
        if state.offset is None
        else f"it would be acked with offset {state.offset} and not stored again"
    )
    if state.expires_in_ms < 0:
        return f"{acked}, {left(state.expires_in_ms)}"
    return (
        f"{acked}; after another {duration(state.expires_in_ms / 1000)} of log time it would be stored"
        " a second time"
    )
