"""A node's database and the one thread that writes it: everything that waits, in one commit.

Stores what `esnode/storage/sqlite.py` stores, with the same settings, tables, fsyncs and checkpoints. The
thread calls back itself when rows are durable, so that no other thread must wake up for it. Rows come as
one flat list, seven values each. Called by `node.py`.
"""

import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

DATABASE: Final = "log.sqlite"
PAGE_BYTES: Final = 8192
CHECKPOINT_BYTES: Final = 1024 * 1024
COLUMNS: Final = 7
ROWS_A_STATEMENT: Final = 128
"""A statement alone is a transaction, and gives the interpreter's lock up once."""
SETTINGS: Final = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    f"PRAGMA journal_size_limit = {16 * CHECKPOINT_BYTES}",
    "PRAGMA secure_delete = OFF",
    "PRAGMA cell_size_check = ON",
)
TABLE: Final = """CREATE TABLE entries (
        idx INTEGER PRIMARY KEY,
        base_offset INTEGER NOT NULL,
        number INTEGER NOT NULL,
        commit_hint INTEGER NOT NULL,
        position INTEGER NOT NULL,
        stamp_crc INTEGER NOT NULL,
        record BLOB NOT NULL
    ) STRICT"""

Rows = list[int | memoryview]


class Disk:
    """`on_durable` is called in the thread, with the index of the last row that is on disk."""

    def __init__(self, directory: Path, on_durable: Callable[[int], None]) -> None:
        self._connection = sqlite3.connect(
            directory / DATABASE, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        for setting in SETTINGS:
            self._connection.execute(setting).fetchall()
        self._connection.execute(TABLE)
        self._on_durable = on_durable
        self._waiting: queue.SimpleQueue[Rows | None] = queue.SimpleQueue()
        self._wal_bytes = 0
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def put(self, rows: Rows) -> None:
        """Queue rows."""
        self._waiting.put(rows)

    def stop(self) -> None:
        """Return when everything is on disk and the database is closed."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except (sqlite3.Error, OSError) as error:
            sys.stderr.write(f"bench.floor: a node cannot go on: {error}\n")
            os._exit(1)  # what the disk refused is never acked and never tried again

    def _work(self) -> None:
        waiting, goes_on = self._waiting, True
        while goes_on:
            rows = waiting.get()
            if rows is None:
                break
            while not waiting.empty():
                more = waiting.get()
                if more is None:
                    goes_on = False
                    break
                rows += more
            self._commit(rows)
            last = rows[-COLUMNS]
            assert isinstance(last, int)
            self._on_durable(last)
            if self._wal_bytes >= CHECKPOINT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._wal_bytes = 0
        self._connection.close()

    def _commit(self, rows: Rows) -> None:
        at_once = COLUMNS * ROWS_A_STATEMENT
        if len(rows) <= at_once:
            self._insert(rows)
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for begin in range(0, len(rows), at_once):
            self._insert(rows[begin : begin + at_once])
        self._connection.execute("COMMIT")

    def _insert(self, rows: Rows) -> None:
        self._connection.execute(_insert_statement(len(rows) // COLUMNS), rows)
        # As `esnode` counts them.
        self._wal_bytes += sum(map(len, rows[COLUMNS - 1 :: COLUMNS])) + 2 * PAGE_BYTES  # type: ignore[arg-type]


@lru_cache(maxsize=ROWS_A_STATEMENT)
def _insert_statement(rows: int) -> str:
    return "INSERT INTO entries VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)  # noqa: S608 - no input
