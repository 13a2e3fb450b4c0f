"""`esctl consume`: events in the order of their offsets, to the end of the log or on and on."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import typer

from esctl.cli.invocation import MAX_NUMBER, Invocation, command, new_typer
from esctl.errors import InvalidArgument
from esctl.exits import exit_of
from esctl.ui.answer import Tone, Trouble
from esctl.ui.terminal import Output, Terminal
from esctl.ui.values import Count
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.query.logreading import ReadRequest
    from esnode.client import StoredEvent

app = new_typer()
START: Final = "start"
END: Final = "end"


class EventRecord(TypedDict):
    """An event, and where it is in the log."""

    partition: int
    offset: Count
    event: Annotated[dict[str, Any], "A CloudEvent, as it was sent"]


class ConsumeTally:
    """What was printed so far."""

    def __init__(self, from_offset: int) -> None:
        self.events = 0
        self.next_offset = from_offset


def _place(text: str) -> str:
    """A place in the log, as it is typed. Raises `typer.BadParameter`."""
    if text in (START, END) or (text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER):
        return text
    raise typer.BadParameter(f"{text!r} is no place in the log: write an offset such as 120, start or end.")


@command(app, "consume", record=EventRecord)
def consume(
    run: Invocation,
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="OFFSET|start|end",
            parser=_place,
            show_default=False,
            help="Offset of the first event; the default is start, or end with --follow",
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", metavar="N", min=1, help="Begin this number of events before the end of the log"
        ),
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="Stop after this number of events")
    ] = None,
    node: Annotated[
        int | None,
        typer.Option("--node", metavar="ID", min=1, help="Node to read from; its data may be out of date"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new events as they arrive, until Ctrl-C")
    ] = False,
) -> None:
    """Print the acked events of the log, one per line; with --follow, keep printing new ones

    Without options it prints all events that are acked by now. --from or --last selects where to begin.
    --follow begins at the end of the log, unless --from or --last is given"""
    from esctl.query.logreading import ReadRequest  # loaded late: it brings trio and the client

    cluster = run.cluster()
    if place is not None and last is not None:
        raise InvalidArgument("--from and --last both say where to begin", next_step="take one of the two")
    if place == END or (place is None and last is None and follow):
        last = 0
    from_offset = int(place) if place is not None and place.isdigit() else None
    from_node = cluster.node(node) if node is not None else None
    wanted = ReadRequest(from_offset, max_events, follow, from_node, last)
    tally = ConsumeTally(from_offset or 0)
    run.on_interrupt(lambda: run.terminal.note(_summary(tally)))
    try:
        run.trio(lambda: _print_all(run.terminal, cluster, wanted, tally))
    except EventStreamError as error:
        if not tally.events:
            raise
        # The stream has begun: what follows its lines on standard output would not be one of them.
        run.terminal.flush()
        run.terminal.trouble(Trouble.of(error))
        raise typer.Exit(exit_of(error)) from error
    finally:
        run.terminal.flush()
    run.terminal.note(_summary(tally))


async def _print_all(
    terminal: Terminal, cluster: "Cluster", wanted: "ReadRequest", tally: ConsumeTally
) -> None:
    from esctl.query.logreading import Staleness, reading  # loaded late: it brings trio and the client

    def stale(staleness: Staleness) -> None:
        assert wanted.node is not None
        terminal.warn(f"a stale read from node {wanted.node.id}: {staleness}")

    async with reading(cluster, wanted, stale) as source:
        tally.next_offset = source.begins_at
        if wanted.from_offset is None and wanted.last is None and source.begins_at:
            terminal.warn(
                f"the events before {source.begins_at} are no longer kept; this begins with the first that is"
            )
        if source.ends_before is not None:
            waiting = f"esctl consume --from {wanted.from_offset} --follow --cluster {cluster.name}"
            terminal.warn(f"there is no event {wanted.from_offset} yet; next, to wait for it: {waiting}")
            tally.next_offset = source.ends_before
        while (batch := await source.next_batch()) is not None:
            for stored in batch.events():
                _print(terminal, stored)
                tally.events += 1
                tally.next_offset = stored.offset + 1
                terminal.check_reader()
            if wanted.follow:
                terminal.flush()


def _print(terminal: Terminal, stored: "StoredEvent") -> None:
    match terminal.output:
        case Output.JSON:
            record: EventRecord = {
                "partition": stored.partition,
                "offset": stored.offset,
                "event": stored.event,
            }
            terminal.record(record)
        case Output.PLAIN:
            fields = [_word(stored.event.get(name)) for name in ("source", "id", "type", "time")]
            terminal.record({}, str(stored.offset), *fields, _compact(stored.event.get("data")))
        case Output.TABLE:
            terminal.toned(
                [
                    (f"{stored.offset:>10}  ", Tone.DIM),
                    (f"{_word(stored.event.get('time')):<25}  ", Tone.DIM),
                    (f"{_word(stored.event.get('source'))} ", Tone.ACCENT),
                    (f"{_word(stored.event.get('id'))} ", Tone.STRONG),
                    (f"{_word(stored.event.get('type'))} ", Tone.NORMAL),
                    (_compact(stored.event.get("data")), Tone.DIM),
                ]
            )


def _summary(tally: ConsumeTally) -> str:
    return f"{tally.events:,} events; the next one is at offset {tally.next_offset}"


def _word(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
