"""Events out of the log: into an SQLite database to be queried, or into lines that `esctl produce` takes.

Decides the shape of the table, and where an export goes on: with the offset after the last one that the
database has of a partition. A database of another cluster, or of a log that was restored to before that
offset, is refused. With several partitions, its rows have the number of theirs, and a database that was begun
with one gets that column. Memory holds a batch. Never prints. Called by `esctl export`.
"""

import base64
import gzip
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final, Protocol

from sqlite_utils import Database as SQLite

from esctl.clusters.state import Cluster
from esctl.errors import ExportOfAnother, FileTaken, InputUnreadable, MachineRefused
from esctl.query.logreading import ReadRequest, reading
from esctl.query.partitionreading import BatchSource, reading_all
from esnode.client import StoredEvent

_EVENTS: Final = {
    "offset": int,
    "id": str,
    "source": str,
    "type": str,
    "time": str,
    "subject": str,
    "data": str,
    "attributes": str,
    "log_time_ms": int,
}
_EXPORT: Final = {"cluster": str, "next_offset": int}
_PARTITION: Final = {"partition": int}
"""What both tables have beside, with several partitions."""
_INDEXES: Final = {"events_by_key": ("source", "id"), "events_by_type": ("type",)}
_COLUMNS: Final = ("id", "source", "type", "time", "subject")

_REFUSED: Final = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
}  # fmt: skip
"""What keeps a database from being written that may be whole."""


class ExportProgress(Protocol):
    """Who is told how far it has come."""

    def advance(self, amount: int = 1) -> None:
        """So many more events of the log are read."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: at most so many, of one source, of one of several partitions; None for no bound.

    `begins` has the offset to begin at, by partition; where it has none, from the first that is kept.
    """

    begins: Mapping[int, int]
    max_events: int | None
    source: str | None
    partition: int | None = None


@dataclass(slots=True)
class Written:
    """What was done so far, and where to go on in each partition."""

    events: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)


class Sink(Protocol):
    """Where events go."""

    def put(self, stored: StoredEvent, log_time_ms: int) -> None:
        """One event."""
        ...

    def reached(self, partition: int, next_offset: int) -> None:
        """Everything of the partition before this offset is there, or was not wanted."""
        ...


class Database:
    """An SQLite file. The transaction that has events has the offset to go on with, too."""

    def __init__(self, database: SQLite, cluster: str, *, several: bool = False) -> None:
        """`cluster`: whose events come into it from now on; with `several` partitions, of all of them."""
        self._database = database
        self._events, self._export = database.table("events"), database.table("export")
        self._cluster = cluster
        self._rows: list[dict[str, Any]] = []
        began = self._events.exists()
        self._several = several or (began and "partition" in self._events.columns_dict)
        beside = _PARTITION if self._several else {}
        self._pk = (*beside, "offset")
        with database.atomic():
            if began and self._several and "partition" not in self._events.columns_dict:
                self._add_partition()
            self._events.create(
                {**beside, **_EVENTS},
                pk=self._pk if self._several else "offset",
                not_null=("id", "source", "log_time_ms"),
                if_not_exists=True,
            )
            for name, columns in _INDEXES.items():
                self._events.create_index(columns, name, if_not_exists=True)
            self._export.create({**beside, **_EXPORT}, not_null=(*beside, *_EXPORT), if_not_exists=True)
        rows = list(self._export.rows)
        self.owner: str | None = str(rows[0]["cluster"]) if rows else None
        """Whose events are in it; None in a new one."""
        self.next_offsets = {int(row.get("partition", 0)): int(row["next_offset"]) for row in rows}
        """Where it was to be gone on with in each partition; nothing in a new one."""
        self._reached = dict(self.next_offsets)

    def _add_partition(self) -> None:
        """All that is in it is of partition 0."""
        for table in (self._events, self._export):
            table.add_column("partition", int, not_null_default=0)
        self._events.transform(pk=self._pk, column_order=["partition"])

    def put(self, stored: StoredEvent, log_time_ms: int) -> None:
        """See `Sink`."""
        event = stored.event
        rest = {name: value for name, value in event.items() if name not in (*_COLUMNS, "data")}
        row: dict[str, Any] = {name: _text(event.get(name)) for name in _COLUMNS}
        row |= {
            "offset": stored.offset,
            "data": None if event.get("data") is None else as_json(event["data"]),
            "attributes": as_json(rest) if rest else None,
            "log_time_ms": log_time_ms,
        }
        if self._several:
            row["partition"] = stored.partition
        self._rows.append(row)

    def reached(self, partition: int, next_offset: int) -> None:
        """See `Sink`."""
        rows, self._rows = self._rows, []
        self._reached[partition] = next_offset
        with self._database.atomic():
            self._events.insert_all(rows, pk=self._pk if self._several else "offset", replace=True)
            self._export.delete_where()
            for number, at in self._reached.items():
                beside = {"partition": number} if self._several else {}
                self._export.insert({**beside, "cluster": self._cluster, "next_offset": at})


class NdjsonFile:
    """NDJSON: the events as they were produced."""

    def __init__(self, file: gzip.GzipFile | BufferedWriter) -> None:
        self._file = file

    def put(self, stored: StoredEvent, log_time_ms: int) -> None:
        """See `Sink`."""
        self._file.write(as_json(stored.event).encode() + b"\n")

    def reached(self, partition: int, next_offset: int) -> None:
        """See `Sink`."""


@contextmanager
def open_database(path: Path, cluster: Cluster, ancestors: Sequence[tuple[str, int]]) -> Iterator[Database]:
    """The database at `path`, new or to be gone on with.

    `ancestors`: what the cluster was restored from, and up to where it is the same. Raises `ExportOfAnother`,
    `InputUnreadable`, `MachineRefused`.
    """
    try:
        with closing(SQLite(path)) as file:
            _check_tables(path, file, cluster.name)
            database = Database(file, cluster.identity, several=cluster.partitions > 1)
            _check_owner(path, database, cluster, ancestors)
            yield database
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _REFUSED:
            raise MachineRefused(f"{path} cannot be written: {error}") from error
        raise InputUnreadable(f"{path} is no database that can be used: {error}") from error


def _check_tables(path: Path, file: SQLite, cluster: str) -> None:
    """Tables that are there already must be such as an export makes; another program's are not touched."""
    names = {name.lower() for name in [*file.table_names(), *file.view_names()]}
    for name, columns in (("events", _EVENTS), ("export", _EXPORT)):
        there = file[name].columns_dict if name in names else columns
        if missing := columns.keys() - there.keys():
            lacks = ", ".join(sorted(missing))
            raise InputUnreadable(
                f"{path} has a table {name} that no export made: no column {lacks}; it was not touched",
                next_step=f"esctl export --save ANOTHER.db --cluster {cluster}",
            )


def _check_owner(
    path: Path, database: Database, cluster: Cluster, ancestors: Sequence[tuple[str, int]]
) -> None:
    """Its events must be those of this cluster, or of one that it was restored from, as far as that goes."""
    owner, reached = database.owner, max(database.next_offsets.values(), default=0)
    if owner in (None, cluster.identity):
        return
    known = [name for name, _ in ancestors]
    shared = min(end for _, end in ancestors[known.index(owner) :]) if owner in known else 0
    if reached > shared:
        raise ExportOfAnother(
            f"{path} has the events of {owner} before offset {reached}; this is {cluster.identity}, which has"
            f" the same ones only before offset {shared}"
        )


@contextmanager
def open_lines(path: Path) -> Iterator[NdjsonFile]:
    """A new file of lines, packed when it ends in `.gz`; it has its name once it is whole.

    Raises `FileTaken`, `MachineRefused`.
    """
    if path.exists():
        raise FileTaken(f"{path} exists already; it was not touched")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                    yield NdjsonFile(packed)
            else:
                yield NdjsonFile(raw)
            raw.flush()
            os.fsync(raw.fileno())
        beside.rename(path)
    except OSError as error:
        raise MachineRefused(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


async def export(
    cluster: Cluster, chosen: Selection, sink: Sink, written: Written, begin: Callable[[int], ExportProgress]
) -> None:
    """All events up to the end of the log as a majority confirms it now; raises what `reading` does."""
    partition, several = chosen.partition, cluster.partitions > 1
    wanted = ReadRequest(None, None, follow=False, node=None, partition=partition)
    if several and partition is None:
        reads = reading_all(cluster, wanted, lambda _stale: None, chosen.source, chosen.begins)
        async with reads as (every, bounds):
            written.next_offsets.update({number: one.begin for number, one in bounds.items()})
            watcher = begin(sum(max(0, one.next_offset - one.begin) for one in bounds.values()))
            await _copy(every, chosen, sink, written, watcher)
        return
    wanted = replace(wanted, from_offset=chosen.begins.get(partition or 0))
    async with reading(cluster, wanted, lambda _stale: None) as source:
        written.next_offsets[partition or 0] = source.begins_at
        watcher = begin(max(0, source.end - source.begins_at))
        await _copy(source, chosen, sink, written, watcher)


async def _copy(
    source: BatchSource, chosen: Selection, sink: Sink, written: Written, watcher: ExportProgress
) -> None:
    while (batch := await source.next_batch()) is not None:
        if not batch.count:
            continue  # adopted keys
        partition = batch.entry.partition
        for stored in batch.events():
            if chosen.source in (None, stored.event.get("source")):
                sink.put(stored, batch.entry.log_time_ms)
                written.events += 1
                if written.events == chosen.max_events:
                    written.next_offsets[partition] = stored.offset + 1
                    sink.reached(partition, stored.offset + 1)
                    return
        written.next_offsets[partition] = batch.next_offset
        sink.reached(partition, batch.next_offset)
        watcher.advance(batch.count)


def as_json(value: Any) -> str:
    """As JSON has it; bytes, which it has not, in base64."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_packed)


def _packed(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else as_json(value)
