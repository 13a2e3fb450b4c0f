"""The default engine: one SQLite database in WAL mode, one connection, one commit a write call.

Decides how rows lie on disk and when the WAL is checkpointed. A write call is one transaction and one
fsync, of the WAL. When SQLite opens a WAL it keeps the transactions up to the first frame whose checksum
fails and drops the rest: a torn tail is cut so, and so would be damage in the synced part; the durable
mark tells them apart (`mark`). Called by `StoredLog`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from esnode.errors import DamagedRecord, DirectoryInUse, StorageFailed
from esnode.fsync import sync_directory
from esnode.raft.entry import KNOWN_FRONTS
from esnode.storage.directory import Directory
from esnode.storage.files import check_same, create_file, disk_errors, file_id
from esnode.storage.interface import Identity
from esnode.storage.logoutline import Change, Contents, Row, Stamp
from esnode.storage.storedlog import StoredLog, closed_on_error

DATABASE: Final = "log.sqlite"
PAGE_BYTES: Final = 8192
CHECKPOINT_BYTES: Final = 1024 * 1024
"""WAL that is checkpointed at once: 1 MiB takes 1-2 ms here, 4 MiB 5-8 ms, 16 MiB 20-30 ms."""
CHECKPOINT_ANYWAY_BYTES: Final = 4 * CHECKPOINT_BYTES
WAL_FILE_BYTES: Final = 16 * CHECKPOINT_BYTES
"""A WAL that one large write made longer than this is shortened again."""
ROWS_A_STATEMENT: Final = 32
"""Rows inserted by one statement. Each statement gives up and takes back the interpreter's lock, which
can cost milliseconds each time while the event loop is busy: so one statement, not one a row."""
ROWS_DELETED_A_STEP: Final = 256
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_SETTINGS: Final = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA locking_mode = EXCLUSIVE",  # no shared-memory file, no lock calls
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",  # SQLite ignores errors of its own checkpoints; ours are seen
    f"PRAGMA journal_size_limit = {WAL_FILE_BYTES}",
    "PRAGMA secure_delete = OFF",
    "PRAGMA cell_size_check = ON",
)
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS entries (
        idx INTEGER PRIMARY KEY,
        base_offset INTEGER NOT NULL,
        number INTEGER NOT NULL,
        commit_hint INTEGER NOT NULL,
        position INTEGER NOT NULL,
        stamp_crc INTEGER NOT NULL,
        record BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
)
_ROW: Final = "SELECT idx, base_offset, number, commit_hint, position, stamp_crc, record FROM entries "
_LAST_AT_OFFSET: Final = """
    WITH RECURSIVE span (low, high) AS (
        VALUES (:first, :last + 1)
        UNION ALL
        SELECT iif(base_offset <= :offset, (low + high) / 2 + 1, low),
               iif(base_offset <= :offset, high, (low + high) / 2)
        FROM span LEFT JOIN entries ON idx = (low + high) / 2
        WHERE low < high
    )
    SELECT low - 1 FROM span WHERE low = high"""


class SqliteStorage(StoredLog):
    """A `Storage` in `data_dir`, on SQLite."""

    def __init__(self, data_dir: Path, identity: Identity) -> None:
        """Create or open it; raises what `open_storage` says."""
        home = Directory(data_dir, "sqlite", identity)
        with closed_on_error(home):
            engine = SqliteEngine(data_dir / DATABASE)
            with closed_on_error(engine):
                # First of all: what is found next is believed, and an old snapshot may go for it.
                engine.checkpoint()
                super().__init__(identity, home, engine)


def unknown_records(data_dir: Path, after_index: int) -> list[bytes]:
    """Those after an index that are not of a known kind, of a log that nobody has open; changes nothing.

    A journal is read as it is: what a killed process left stays for the open to take in. None where SQLite
    cannot read them.
    """
    path, journal = data_dir / DATABASE, data_dir / f"{DATABASE}-wal"
    shared = data_dir / f"{DATABASE}-shm"
    if not path.exists() or shared.exists():
        return []
    has_journal = journal.exists() and journal.stat().st_size > 0
    how = "mode=ro" if has_journal else "immutable=1"
    known = ", ".join(f"x'{front.hex()}'" for front in sorted(KNOWN_FRONTS))
    query = f"SELECT record FROM entries WHERE idx > ? AND substr(record, 5, 2) NOT IN ({known})"  # noqa: S608
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=0)) as connection:
            return [record for (record,) in connection.execute(query, (after_index,))]
    except sqlite3.Error:
        return []
    finally:
        shared.unlink(missing_ok=True)  # made for the index of the journal, and of no use to the engine


class SqliteEngine:
    """The database: table `entries`, and the records `state` and `terms` in table `kept`."""

    def __init__(self, path: Path) -> None:
        with disk_errors(f"create {path.name}"):
            create_file(path)
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=64
            )
        except sqlite3.Error as error:
            raise StorageFailed(f"SQLite cannot open {path.name}: {error}") from error
        with closed_on_error(self):
            with _reading():
                for setting in _SETTINGS:
                    self._connection.execute(setting).fetchall()
                with self._transaction():
                    for table in _SCHEMA:
                        self._connection.execute(table)
            with disk_errors(f"create {path.name}"):
                sync_directory(path.parent)
                files = (path, path.with_name(f"{path.name}-wal"))
                self._opened = {each: file_id(each.stat()) for each in files}
        self._deleted_to = 0
        """All rows up to it are gone."""
        self._prefix_index = 0
        self._wal_bytes = CHECKPOINT_BYTES

    def contents(self) -> Contents:
        """What is there."""
        with _reading():
            kept = dict(self._connection.execute("SELECT name, value FROM kept").fetchall())
            last = self._connection.execute(_ROW + "ORDER BY idx DESC LIMIT 1").fetchone()
        return Contents(kept.get("state"), kept.get("terms"), _row(last) if last else None)

    def commit(self, change: Change) -> None:
        """One transaction, one fsync."""
        only_rows = change.state is None and change.terms is None and change.cut_from is None
        with _writing():
            if only_rows and len(change.rows) <= ROWS_A_STATEMENT:
                self._insert(change.rows)  # a statement alone is a transaction
            else:
                with self._transaction():
                    self._carry_out(change)
        self._prefix_index = change.prefix_index
        if self._wal_bytes >= CHECKPOINT_ANYWAY_BYTES:
            self.checkpoint()

    def row(self, index: int) -> Row | None:
        """One row."""
        with _reading():
            found = self._connection.execute(_ROW + "WHERE idx = ?", (index,)).fetchone()
        return _row(found) if found else None

    def records(self, first_index: int, last_index: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Index and record, in order."""
        query = "SELECT idx, record FROM entries WHERE idx BETWEEN ? AND ? ORDER BY idx"
        found: list[tuple[int, bytes]] = []
        with _reading(), closing(self._connection.execute(query, (first_index, last_index))) as rows:
            for index, record in rows:
                max_bytes -= len(record)
                if max_bytes < 0 and found:
                    break
                found.append((index, record))
        return found

    def last_at_offset(self, offset: int, first_index: int, last_index: int) -> int:
        """Binary search over the primary key, in one statement: base offsets never fall."""
        bounds = {"first": first_index, "last": last_index, "offset": offset}
        with _reading():
            found: int = self._connection.execute(_LAST_AT_OFFSET, bounds).fetchone()[0]
        return found

    def tend(self) -> bool:
        """Delete a few dropped rows; checkpoint when the WAL is long enough."""
        if self._deleted_to < self._prefix_index:
            self._delete_some()
        if self._wal_bytes >= CHECKPOINT_BYTES:
            self.checkpoint()
        return self._deleted_to < self._prefix_index

    def check_files(self) -> None:
        """The database and its journal: SQLite keeps both while it has them open."""
        for path, known in self._opened.items():
            check_same(path, known)

    def close(self) -> None:
        """Close the connection; SQLite then checkpoints and removes the WAL."""
        with _writing():
            self._connection.close()

    def _carry_out(self, change: Change) -> None:
        if change.cut_from is not None:
            self._connection.execute("DELETE FROM entries WHERE idx >= ?", (change.cut_from,))
        for name, value in (("state", change.state), ("terms", change.terms)):
            if value is not None:
                self._connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))
                self._wal_bytes += len(value) + PAGE_BYTES
        for begin in range(0, len(change.rows), ROWS_A_STATEMENT):
            self._insert(change.rows[begin : begin + ROWS_A_STATEMENT])

    def _insert(self, rows: tuple[Row, ...]) -> None:
        values: list[int | bytes] = []
        for row in rows:
            stamp = row.stamp
            values += (row.index, row.base_offset, stamp.number, stamp.commit, stamp.position, row.crc)
            values.append(row.record)
            self._wal_bytes += len(row.record)
        self._connection.execute(_insert_statement(len(rows)), values)
        self._wal_bytes += 2 * PAGE_BYTES

    def _delete_some(self) -> None:
        with _writing():
            oldest = self._connection.execute("SELECT idx FROM entries ORDER BY idx LIMIT 1").fetchone()
            if oldest is None or oldest[0] > self._prefix_index:
                self._deleted_to = self._prefix_index
                return
            self._deleted_to = min(oldest[0] + ROWS_DELETED_A_STEP - 1, self._prefix_index)
            # Nobody was told of it, so it needs no fsync: that of the next commit covers it.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("DELETE FROM entries WHERE idx <= ?", (self._deleted_to,))
            self._connection.execute("PRAGMA synchronous = FULL")
        self._wal_bytes += 16 * PAGE_BYTES

    def checkpoint(self) -> None:
        """Sync the WAL, copy it into the database, sync that.

        Done at every open: what a killed process had written may be in the system's cache only.
        """
        with _writing():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._wal_bytes = 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        yield  # after an error nothing is rolled back: the connection is not used again
        self._connection.execute("COMMIT")


@lru_cache(maxsize=ROWS_A_STATEMENT)
def _insert_statement(rows: int) -> str:
    return "INSERT INTO entries VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)  # noqa: S608 - no input


def _row(found: tuple[int, int, int, int, int, int, bytes]) -> Row:
    index, base_offset, number, commit, position, crc, record = found
    return Row(index, base_offset, Stamp(number, commit, position), crc, record)


@contextmanager
def _reading() -> Iterator[None]:
    """Translate SQLite's errors while nothing is changed."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE:
            raise DamagedRecord(f"SQLite finds {DATABASE} damaged: {error}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DirectoryInUse(f"another program has {DATABASE} open") from error
        raise StorageFailed(f"SQLite cannot read {DATABASE}: {error}") from error


@contextmanager
def _writing() -> Iterator[None]:
    """Translate every error of SQLite: the disk did not take what it was given, or what is there is bad."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise DamagedRecord(f"SQLite finds {DATABASE} damaged: {error}") from error
        name = getattr(error, "sqlite_errorname", "no code")
        raise StorageFailed(f"SQLite cannot write {DATABASE}: {error} ({name})") from error
