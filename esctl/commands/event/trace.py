"""`esctl event trace`: where one event is on each node, or how a probe goes from a client to all."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypedDict

import typer

from esctl.cli.arguments import DryRun, OnlyPartition
from esctl.cli.invocation import Invocation
from esctl.clusters.state import Cluster
from esctl.commands.event.dedup import left
from esctl.errors import EventNotFound, InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.values import ClusterName, Count, KeyExpiry, NodeId

if TYPE_CHECKING:
    from esctl.query.entrycopies import EntryCopy
    from esctl.query.probe import ProbeResult, ProbeStepData
    from esctl.query.survey import QuorumData
    from esnode.raft.entry import Entry

_MATES: Final = 5
"""Of the events in the same batch, so many are named before and after."""


class PlannedTraceAnswer(TypedDict):
    """The probe that would be sent."""

    dry_run: Literal[True]
    cluster: ClusterName
    source: str
    quorum: "QuorumData"


class SessionData(TypedDict):
    """The producer session of an entry, and its place in that."""

    id: str | int
    epoch: Count
    sequence: Count


class EntryOnDisk(TypedDict):
    """The entry of the log that has the event."""

    index: Count
    term: Count
    partition: Count
    base_offset: Count
    count: Count
    log_time_ms: Count
    bytes: Count
    crc: str
    producer: SessionData | None


class Reign(TypedDict):
    """Who led then, and from when on."""

    node: NodeId
    since: str


class CopyData(TypedDict):
    """The entry on one node."""

    id: NodeId
    up: bool
    role: str | None
    durable: bool | None
    applied: bool | None
    crc: str | None
    equal: bool | None
    why: str | None


class MateData(TypedDict):
    """An event of the same batch."""

    offset: Count
    source: str | None
    id: str | None


class BatchData(TypedDict):
    """How many events the batch has, and those near the one."""

    count: Count
    around: list[MateData]


class TraceAnswer(TypedDict):
    """Where an event is on each node."""

    cluster: ClusterName
    offset: Count
    entry: EntryOnDisk
    key: str
    expires_in_ms: KeyExpiry | None
    led_by: Reign | None
    equal: bool
    nodes: list[CopyData]
    batch: BatchData


class WatchedData(TypedDict):
    """How a node was watched."""

    node: NodeId
    looks: Count
    round_trip_ms: float | None
    why: str | None


class LiveTraceAnswer(TypedDict):
    """How a probe went from a client to all nodes; `partition` is said where there are several."""

    partition: NotRequired[Count]
    cluster: ClusterName
    offset: Count
    index: Count
    term: Count
    leader: NodeId
    event: dict[str, Any]
    connect_ms: float
    steps: "list[ProbeStepData]"
    watched: list[WatchedData]


def trace(
    run: Invocation,
    offset: Annotated[
        int | None, typer.Argument(metavar="[OFFSET]", min=0, help="Offset of the event")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Source of the event")
    ] = None,
    event_id: Annotated[str | None, typer.Option("--id", metavar="TEXT", help="Id of the event")] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Send a probe and trace it; the probe stays in the log as one more event"
        ),
    ] = False,
    partition: OnlyPartition = None,
    dry_run: DryRun = False,
) -> Answer[PlannedTraceAnswer | TraceAnswer | LiveTraceAnswer]:
    """Show the path of one event: its entry on every node, and the leader that appended it; with --live,
    send a probe and measure how long each step takes"""
    by_id = source is not None and event_id is not None
    ways = [offset is not None, by_id, live]
    if ways.count(True) != 1 or (source is None) is not (event_id is None) or (dry_run and not live):
        raise InvalidArgument(
            "trace an event by its offset, or by --source and --id together, or a new one with --live",
            next_step="esctl event trace 0, or: esctl event trace --live",
        )
    cluster = run.cluster()
    if live:
        only = run.partition(cluster, partition)
        return _would_send(run, cluster, only) if dry_run else _live(run, cluster, only)
    if offset is None:
        assert source is not None
        assert event_id is not None
        return _stored(run, cluster, *_place_of(run, cluster, source, event_id))
    return _stored(run, cluster, offset, run.partition(cluster, partition))


def _place_of(run: Invocation, cluster: Cluster, source: str, event_id: str) -> tuple[int, int | None]:
    """Offset and partition, by the deduplication table, or else by looking through the logs.

    Raises `EventNotFound`.
    """
    from esctl.query import lookup  # loaded late: it brings trio and the client

    state, partition = run.trio(lambda: lookup.known(cluster, source, event_id))
    if state.offset is not None:
        return state.offset, partition
    run.terminal.note(f"{lookup.unplaced(state)}; looking through the whole log")
    with run.terminal.progress("looking") as bar:
        found = run.trio(lambda: lookup.in_the_logs(cluster, source, event_id, bar.advance))
    if found is None:
        raise EventNotFound(f"no event of the log has source {source!r} and id {event_id!r}")
    return found.offset, found.partition if cluster.partitions > 1 else None


# --- one that is stored ---------------------------------------------------------------------------


def _stored(run: Invocation, cluster: Cluster, offset: int, partition: int | None) -> Answer[TraceAnswer]:
    from esctl.query import entrycopies  # loaded late: it brings trio and the client
    from esnode.errors import Unreachable

    found = run.trio(lambda: entrycopies.copies(cluster, offset, partition=partition))
    if not any(copy.up for copy in found):
        reasons = "; ".join(f"node {copy.node}: {copy.why}" for copy in found)
        raise Unreachable(
            f"no node of {cluster.name} answers: {reasons}",
            next_step=f"esctl status health --cluster {cluster.name}",
        )
    having = [copy for copy in found if copy.entry is not None]
    if not having:
        reasons = "; ".join(f"node {copy.node}: {copy.why}" for copy in found)
        raise EventNotFound(f"no node gives the event at offset {offset}: {reasons}")
    # The leader's copy where it has one: all are compared with it.
    first = next((copy for copy in having if (copy.status or {}).get("role") == "leader"), having[0])
    entry = first.entry
    assert entry is not None
    same = {copy.crc for copy in having} == {first.crc}
    led = entrycopies.elected(cluster, entry.term, partition)
    data: TraceAnswer = {
        "cluster": cluster.name,
        "offset": offset,
        "entry": _entry_data(entry),
        "key": entrycopies.key_at(entry, offset - entry.base_offset).hex(),
        "expires_in_ms": first.key.expires_in_ms
        if first.key is not None and first.key.offset == offset
        else None,
        "led_by": {"node": led.node, "since": led.time} if led is not None else None,
        "equal": same,
        "nodes": [_copy_data(copy, entry) for copy in found],
        "batch": _mates(entry, offset),
    }
    where = "" if partition is None else f"partition {partition}, "
    about = f"{where}event {offset}: entry {entry.index} of term {entry.term}"
    views: list[View] = [
        Line(about, Tone.STRONG),
        Fields(_facts(data, entry, offset)),
        _copies_table(found, entry),
    ]
    absent = [copy for copy in found if copy.entry is None]
    if not same:
        views.append(Line("the copies differ: esctl verify", Tone.BAD))
        return Answer(data, views, exit_code=Exit.VERDICT_FAILED)
    whole = "every node has it, all copies alike" if not absent else (
        f"{len(having)} of {len(found)} nodes have shown it, these copies alike"
    )  # fmt: skip
    views.append(Line(whole, Tone.WARN if absent else Tone.GOOD))
    return Answer(data, views)


def _entry_data(entry: "Entry") -> EntryOnDisk:
    producer = entry.producer
    return {
        "index": entry.index,
        "term": entry.term,
        "partition": entry.partition,
        "base_offset": entry.base_offset,
        "count": entry.count,
        "log_time_ms": entry.log_time_ms,
        "bytes": entry.size_bytes,
        "crc": entry.record[:4].hex(),
        "producer": None if producer is None else {
            "id": producer.producer_id, "epoch": producer.epoch, "sequence": producer.sequence,
        },
    }  # fmt: skip


def _copy_data(copy: "EntryCopy", entry: "Entry") -> CopyData:
    return {
        "id": copy.node,
        "up": copy.up,
        "role": (copy.status or {}).get("role"),
        "durable": copy.reached("durable_index", entry.index),
        "applied": copy.reached("applied_index", entry.index),
        "crc": copy.crc or None,
        "equal": copy.crc == entry.record[:4].hex() if copy.crc else None,
        "why": copy.why,
    }


def _facts(data: TraceAnswer, entry: "Entry", offset: int) -> list[tuple[str, Value]]:
    led, expires_in_ms, producer = data["led_by"], data["expires_in_ms"], data["entry"]["producer"]
    last = entry.next_offset - 1
    place = f"{offset - entry.base_offset + 1} of {entry.count}, offsets {entry.base_offset} to {last}"
    mates = data["batch"]["around"]
    named = ", ".join(f"{one['offset']} ({one['id']})" for one in mates if one["offset"] != offset)
    pairs: list[tuple[str, Value]] = [
        (
            "appended by",
            f"node {led['node']}, which led from {led['since']}" if led else "the logs do not tell",
        ),
        ("log time", f"{entry.log_time_ms:,} ms"),
        ("in its batch", place),
        ("beside it", named or "nothing"),
        ("size of entry", f"{entry.size_bytes:,} bytes"),
        ("checksum", f"{data['entry']['crc']} (CRC-32C)"),
        ("key", str(data["key"])),
        ("key known for", _left(expires_in_ms)),
    ]
    if producer is not None:
        pairs.append(("session", f"producer {producer['id']}, sequence {producer['sequence']}"))
    return pairs


def _left(expires_in_ms: int | None) -> str:
    if expires_in_ms is None:
        return "no longer: sent again, it would be stored again"
    return left(expires_in_ms)


def _mates(entry: "Entry", offset: int) -> BatchData:
    """The events of the same batch, by id; those near it where there are many."""
    from esnode.client import StoredBatch
    from esnode.errors import ProtocolError

    begin = max(entry.base_offset, offset - _MATES)
    end = min(entry.next_offset, offset + _MATES + 1)
    try:
        events = StoredBatch(entry, begin, end).events()
    except ProtocolError:
        return {"count": entry.count, "around": []}
    around: list[MateData] = [
        {"offset": one.offset, "source": one.event.get("source"), "id": one.event.get("id")} for one in events
    ]
    return {"count": entry.count, "around": around}


def _copies_table(found: "Sequence[EntryCopy]", entry: "Entry") -> Table:
    rows: list[list[Value]] = []
    for copy in found:
        alike = copy.crc == entry.record[:4].hex() if copy.crc else None
        rows.append([
            copy.node,
            (copy.status or {}).get("role"),
            copy.reached("durable_index", entry.index),
            copy.reached("applied_index", entry.index),
            Cell(copy.crc, Tone.GOOD if alike else Tone.BAD) if copy.crc else None,
            copy.why or None,
        ])  # fmt: skip
    return Table(["node", "role", "durable", "applied", "checksum", "why not"], rows)


# --- a probe --------------------------------------------------------------------------------------


def _would_send(run: Invocation, cluster: Cluster, partition: int | None) -> Answer[PlannedTraceAnswer]:
    from esctl.query import probe
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client
    from esctl.query.ringsurvey import source_of

    survey = run.trio(lambda: surveys.ask(cluster, partition=partition))
    source = run.trio(lambda: source_of(cluster, partition, probe.SOURCE))
    text = f"would append one event of source {source} to {cluster.name}; {survey.state_text}"
    data: PlannedTraceAnswer = {
        "dry_run": True,
        "cluster": cluster.name,
        "source": source,
        "quorum": survey.quorum_data(),
    }
    return Answer(data, [Line(text)])


def _live(run: Invocation, cluster: Cluster, partition: int | None) -> Answer[LiveTraceAnswer]:
    from esctl.query import probe  # loaded late: it brings trio and the client

    way = run.trio(lambda: probe.probe(cluster, partition))
    data: LiveTraceAnswer = {
        "cluster": cluster.name,
        "offset": way.offset,
        "index": way.entry.index,
        "term": way.entry.term,
        "leader": way.leader,
        "event": way.event,
        "connect_ms": round(way.connected_ms, 3),
        "steps": [step.as_data() for step in way.steps],
        "watched": [
            {
                "node": one.node,
                "looks": len(one.looks),
                "round_trip_ms": None if one.round_trip_ms is None else round(one.round_trip_ms, 3),
                "why": one.why,
            }
            for one in way.watched
        ],
    }
    if partition is not None:
        data["partition"] = partition
    return Answer(data, _live_views(way, partition))


def _live_views(way: "ProbeResult", partition: int | None) -> list[View]:
    rows: list[list[Value]] = [["connected", "client", f"{way.connected_ms:.2f}, before"]]
    for step in way.steps:
        who = (
            "client"
            if step.node is None
            else f"node {step.node}{' (leads)' if step.node == way.leader else ''}"
        )
        exact = step.after_ms == step.before_ms
        rows.append([step.name, who, f"{'' if exact else _ms(step.after_ms)}{step.before_ms:.2f}"])
    where = "" if partition is None else f"partition {partition}, "
    entry = way.entry
    about = f"{where}event {way.offset}: entry {entry.index} of term {entry.term}, led by node {way.leader}"
    views: list[View] = [Line(about, Tone.STRONG), Table(["step", "where", "ms after sending"], rows)]
    unwatched = [one for one in way.watched if one.why]
    views += [Line(f"node {one.node} was not watched to the end: {one.why}", Tone.WARN) for one in unwatched]
    looks = [(one.node, one.round_trip_ms) for one in way.watched if one.round_trip_ms is not None]
    told = ", ".join(f"node {node} {trip_ms:.2f} ms" for node, trip_ms in looks)
    views.append(Line(f"two numbers: between two looks; a look takes in the middle: {told}", Tone.DIM))
    return views


def _ms(value: float) -> str:
    return "before " if math.isinf(value) else f"{value:.2f} to "
