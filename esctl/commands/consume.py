"""`esctl consume`: events in the order of their offsets, to the end of the log or on and on."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import typer

from esctl.cli.arguments import OnlyPartition
from esctl.cli.invocation import MAX_NUMBER, Invocation, command, new_typer
from esctl.errors import InvalidArgument
from esctl.exits import exit_of
from esctl.ui.answer import Tone, Trouble
from esctl.ui.formatting import partitions_named
from esctl.ui.terminal import Output, Terminal
from esctl.ui.values import Count
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.query.logreading import ReadRequest
    from esctl.query.partitionreading import BatchSource
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
    """What was printed so far, and the offset that follows what was read, of each partition."""

    def __init__(self) -> None:
        self.events = 0
        self.next_offsets: dict[int | None, int] = {}
        """The key is None where the cluster has one partition."""
        self.printed_of: set[int] = set()
        """The partitions that had what was printed."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first offset, or how many events before the end of the log; with neither, its first event."""

    from_offset: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of the events that are read are printed: of one source, and so many; None for no bound."""

    source: str | None
    max_events: int | None


def _place(text: str) -> str:
    """A place in the log, as it is typed. Raises `typer.BadParameter`."""
    if text in (START, END) or (text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER):
        return text
    raise typer.BadParameter(f"{text!r} is no place in the log: write an offset such as 120, start or end.")


@command(app, "consume", record=EventRecord, partitions=True)
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
    partition: OnlyPartition = None,
    of_source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Print only the events of this source")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new events as they arrive, until Ctrl-C")
    ] = False,
) -> None:
    """Print the acked events of the log, one per line; with --follow, keep printing new ones

    Without options it prints all events that are acked by now. --from or --last selects where to begin.
    --follow begins at the end of the log, unless --from or --last is given. With several partitions, an
    offset is one of a partition, and --last counts in each. Up to the end, one partition is printed after the
    other; with --follow, events are printed as they arrive"""
    from esctl.query.logreading import ReadRequest  # loaded late: it brings trio and the client

    cluster = run.cluster()
    one = None if partition is None else run.partition(cluster, partition)
    beginning = _beginning(cluster, place, last, one, of_source, follow=follow)
    from_node = cluster.node(node) if node is not None else None
    bound = max_events if of_source is None else None  # else what is read is not what is counted
    wanted = ReadRequest(beginning.from_offset, bound, follow, from_node, beginning.last, one)
    chosen = Chosen(of_source, max_events)
    tally = ConsumeTally()
    if one is not None or cluster.partitions == 1:
        tally.next_offsets[one] = beginning.from_offset or 0
    run.on_interrupt(lambda: run.terminal.note(_summary(tally)))
    try:
        run.trio(lambda: _print_all(run.terminal, cluster, wanted, chosen, tally))
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


def _beginning(
    cluster: "Cluster",
    place: str | None,
    last: int | None,
    partition: int | None,
    source: str | None = None,
    *,
    follow: bool,
) -> Beginning:
    """What --from, --last and --follow say of where to begin."""
    if place is not None and last is not None:
        raise InvalidArgument("--from and --last both say where to begin", next_step="take one of the two")
    if place == END or (place is None and last is None and follow):
        last = 0
    if place is None or not place.isdigit():
        return Beginning(None, last)
    if partition is None and source is None and cluster.partitions > 1:
        raise InvalidArgument(
            f"{cluster.name} has {cluster.partitions} partitions, and each has offsets of its own",
            next_step=f"esctl consume --from {place} --partition 0 --cluster {cluster.name}",
        )
    return Beginning(int(place), last)


async def _print_all(
    terminal: Terminal, cluster: "Cluster", wanted: "ReadRequest", chosen: Chosen, tally: ConsumeTally
) -> None:
    from esctl.query.logreading import Staleness, reading  # loaded late: it brings trio and the client
    from esctl.query.partitionreading import reading_all

    def stale(staleness: Staleness) -> None:
        assert wanted.node is not None
        terminal.warn(f"a stale read from node {wanted.node.id}: {staleness}")

    def begins(offset: int, where: str = "") -> None:
        if wanted.from_offset is None and wanted.last is None and offset:
            terminal.warn(
                f"the events before {offset}{where} are no longer kept; this begins with the first that is"
            )

    def not_yet(begin: int, end: int, partition: int | None) -> None:
        if begin <= end:
            return
        of = "" if partition is None else f" --partition {partition}"
        waiting = f"esctl consume --from {begin} --follow{of} --cluster {cluster.name}"
        terminal.warn(f"there is no event {begin} yet; next, to wait for it: {waiting}")
        tally.next_offsets[partition] = end

    several = cluster.partitions > 1
    followed = chosen.source is not None and wanted.follow  # it may move once there are several
    if wanted.partition is None and (several or followed):
        async with reading_all(cluster, wanted, stale, chosen.source) as (every, bounds):
            for partition, one in bounds.items():
                tally.next_offsets[partition if several else None] = one.begin
                begins(one.begin, f" of partition {partition}" if several else "")
                if not wanted.follow:
                    not_yet(one.begin, one.next_offset, partition)
            await _print_each(terminal, every, chosen, tally, follow=wanted.follow)
        return
    async with reading(cluster, wanted, stale) as source:
        tally.next_offsets[wanted.partition] = source.begins_at
        begins(source.begins_at)
        if source.ends_before is not None:
            not_yet(source.begins_at, source.ends_before, wanted.partition)
        await _print_each(terminal, source, chosen, tally, follow=wanted.follow)


async def _print_each(
    terminal: Terminal, source: "BatchSource", chosen: Chosen, tally: ConsumeTally, *, follow: bool
) -> None:
    """Print what is chosen of all that comes, each event with its partition where there are several."""
    several = None not in tally.next_offsets
    while (batch := await source.next_batch()) is not None:
        if not batch.count and len(tally.next_offsets) == 1:
            tally.next_offsets = dict.fromkeys(tally.next_offsets, batch.next_offset)  # adopted keys
        for stored in batch.events():
            tally.next_offsets[stored.partition if several else None] = stored.offset + 1
            if chosen.source is not None and stored.event.get("source") != chosen.source:
                continue
            _print(terminal, stored, several=several)
            tally.events += 1
            tally.printed_of.add(stored.partition)
            terminal.check_reader()
            if tally.events == chosen.max_events:
                return
        if follow:
            terminal.flush()


def _print(terminal: Terminal, stored: "StoredEvent", *, several: bool) -> None:
    match terminal.output:
        case Output.JSON:
            record: EventRecord = {
                "partition": stored.partition,
                "offset": stored.offset,
                "event": stored.event,
            }
            terminal.record(record)
        case Output.PLAIN:
            place = [str(stored.partition), str(stored.offset)] if several else [str(stored.offset)]
            fields = [_word(stored.event.get(name)) for name in ("source", "id", "type", "time")]
            terminal.record({}, *place, *fields, _compact(stored.event.get("data")))
        case Output.TABLE:
            terminal.toned(
                [
                    *([(f"{stored.partition:>2}  ", Tone.DIM)] if several else []),
                    (f"{stored.offset:>10}  ", Tone.DIM),
                    (f"{_word(stored.event.get('time')):<25}  ", Tone.DIM),
                    (f"{_word(stored.event.get('source'))} ", Tone.ACCENT),
                    (f"{_word(stored.event.get('id'))} ", Tone.STRONG),
                    (f"{_word(stored.event.get('type'))} ", Tone.NORMAL),
                    (_compact(stored.event.get("data")), Tone.DIM),
                ]
            )


def _summary(tally: ConsumeTally) -> str:
    if len(tally.next_offsets) != 1:
        printed = tally.printed_of
        return f"{tally.events:,} events" + (f" of {partitions_named(printed)}" if printed else "")
    ((partition, offset),) = tally.next_offsets.items()
    of = "" if partition is None else f" of partition {partition}"
    return f"{tally.events:,} events; the next one is at offset {offset}{of}"


def _word(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
