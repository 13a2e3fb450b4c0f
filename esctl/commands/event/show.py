"""`esctl event`: one event, by its offset or by its source and id."""

import json
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from esctl.cli.arguments import PartitionOption
from esctl.cli.invocation import Invocation
from esctl.clusters.state import Cluster
from esctl.commands.consume import EventRecord
from esctl.errors import EventNotFound, InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Tone, Trouble, Value
from esctl.ui.values import Count

if TYPE_CHECKING:
    from esnode.client import StoredEvent


class EventAnswer(EventRecord):
    """The event."""


class PastTheEndAnswer(TypedDict):
    """An offset that the log has not reached, and where that ends."""

    offset: Count
    next_offset: Count


class UnknownEventAnswer(TypedDict):
    """A source and an id that no event of the log has."""

    source: str
    id: str


def event(
    run: Invocation,
    offset: Annotated[
        int | None,
        typer.Argument(metavar="OFFSET", min=0, help="Show the event at this offset", show_default=False),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Source of the event")
    ] = None,
    event_id: Annotated[str | None, typer.Option("--id", metavar="TEXT", help="Id of the event")] = None,
    partition: PartitionOption = None,
) -> Answer[EventAnswer | PastTheEndAnswer | UnknownEventAnswer]:
    """Show one event, selected by OFFSET or by --source and --id"""
    by_id = source is not None and event_id is not None
    if (offset is None) is not by_id or (source is None) is not (event_id is None):
        raise InvalidArgument(
            "an event is named by its offset, or by --source and --id together",
            next_step="esctl event 0, or: esctl event --source SOURCE --id ID",
        )
    cluster = run.cluster()
    if offset is not None:
        return _by_offset(run, cluster, offset, run.partition(cluster, partition))
    assert source is not None
    assert event_id is not None
    return _by_id(run, cluster, source, event_id)


def _by_offset(
    run: Invocation, cluster: Cluster, offset: int, partition: int | None
) -> Answer[EventAnswer | PastTheEndAnswer]:
    from esctl.query import lookup  # loaded late: it brings trio and the client
    from esnode.client import StoredEvent

    found = run.trio(lambda: lookup.at_offset(cluster, offset, partition))
    if isinstance(found, StoredEvent):
        return _shown(found)
    whose = cluster.name if partition is None else f"partition {partition} of {cluster.name}"
    trouble = Trouble(
        EventNotFound.code,
        f"there is no event at offset {offset} yet",
        f"the log of {whose} ends at offset {found.next_offset}",
        f"esctl consume --from {offset} --follow --cluster {cluster.name}",
    )
    end: PastTheEndAnswer = {"offset": offset, "next_offset": found.next_offset}
    return Answer(end, errors=[trouble], exit_code=Exit.ERROR)


def _by_id(
    run: Invocation, cluster: Cluster, source: str, event_id: str
) -> Answer[EventAnswer | PastTheEndAnswer | UnknownEventAnswer]:
    from esctl.query import lookup  # loaded late: it brings trio and the client

    state, partition = run.trio(lambda: lookup.known(cluster, source, event_id))
    if state.offset is not None:
        return _by_offset(run, cluster, state.offset, partition)
    run.terminal.note(f"{lookup.unplaced(state)}; looking through the whole log")
    with run.terminal.progress("looking") as bar:
        found = run.trio(lambda: lookup.in_the_logs(cluster, source, event_id, bar.advance))
    if found is not None:
        return _shown(found)
    trouble = Trouble(
        EventNotFound.code,
        f"no event has source {source!r} and id {event_id!r}",
        f"it is nowhere in the log of {cluster.name}",
        f"esctl consume --from 0 --max 5 --cluster {cluster.name}",
    )
    asked: UnknownEventAnswer = {"source": source, "id": event_id}
    return Answer(asked, errors=[trouble], exit_code=Exit.ERROR)


def _shown(found: "StoredEvent") -> Answer[EventAnswer]:
    data: EventAnswer = {"partition": found.partition, "offset": found.offset, "event": found.event}
    pairs: list[tuple[str, Value]] = [
        ("offset", Cell(str(found.offset), Tone.STRONG)),
        ("partition", str(found.partition)),
    ]
    pairs += [(name, _text(value)) for name, value in found.event.items() if name != "data"]
    content = found.event.get("data")
    if isinstance(content, dict):
        pairs += [(f"data.{name}", _text(value)) for name, value in content.items()]
    elif content is not None:
        pairs.append(("data", _text(content)))
    return Answer(data, [Fields(pairs)] if pairs else [Line("no attributes")])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
