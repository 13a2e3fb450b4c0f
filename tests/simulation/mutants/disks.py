"""Bugs below the log: what is called durable, what a crash leaves, and what damage is taken for."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

ENTRY: Final = "esnode.raft.entry"
MEMORY: Final = "esnode.storage.memory"
OUTLINE: Final = "esnode.storage.logoutline"
STORED: Final = "esnode.storage.storedlog"

DISKS: Final = (
    Mutant(
        "torn-frame-accepted",
        "decision 28",
        "a torn frame at the end of the journal is accepted without checking its checksum",
        "A",
        (
            Edit(
                MEMORY,
                "if len(body) < max(size, _BODY.size) or google_crc32c.value(body) != crc:",
                "if len(body) < max(size, _BODY.size):",
            ),
        ),
    ),
    Mutant(
        "lost-tail-accepted",
        "#19",
        "a log that ends before the durable mark is accepted, although other records show that entries"
        " are missing",
        "A",
        (
            Edit(STORED, "if outline.number < self._home.mark:", "if outline.number < 0:"),
            Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),
        ),
    ),
    Mutant(
        "rolled-back-log-accepted",
        "decision 24",
        "a log that was rolled back in place is accepted, although other records show that entries are"
        " missing",
        "A",
        (Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),),
    ),
    Mutant(
        "record-checksum-ignored",
        "#19",
        "the checksum of a record is not checked, so a record with a flipped bit is served to clients and"
        " sent to other nodes",
        "A",
        (
            Edit(
                ENTRY,
                "if google_crc32c.value(record[_AFTER_CRC:]) != crc:",
                "if google_crc32c.value(record[_AFTER_CRC:]) < 0:",
            ),
        ),
    ),
    Mutant(
        "failed-fsync-retried",
        "#21",
        "a failed fsync is retried, and the success of the retry is trusted",
        "A",
        (
            Edit(
                MEMORY,
                """
                with self._at_work():
                    self._disk.sync()
                """,
                """
                with self._at_work():
                    try:
                        self._disk.sync()
                    except StorageFailed:
                        self._disk.sync()
                """,
            ),
            Edit(
                MEMORY,
                """
                self.put(change)
                self._disk.sync()
                """,
                """
                self.put(change)
                try:
                    self._disk.sync()
                except StorageFailed:
                    self._disk.sync()
                """,
            ),
        ),
    ),
    Mutant(
        "mark-before-fsync",
        "decision 28",
        "the durable mark is moved before the fsync, so a crash in between looks like damage",
        "A",
        (
            Edit(
                MEMORY,
                """
                self._disk.sync()
                self._disk.advance(self._outline.number)
                """,
                "self._disk.sync()",
            ),
            Edit(
                MEMORY,
                "self._store(*fold(self._outline, writes, self._place), self._journal.put)",
                """
                self._store(*fold(self._outline, writes, self._place), self._journal.put)
                self._disk.advance(self._outline.number)
                """,
            ),
        ),
    ),
    Mutant(
        "truncation-not-on-disk",
        "Raft 5.3",
        "a conflicting tail is truncated in memory but not on disk",
        "A",
        (
            Edit(
                OUTLINE,
                "if first_index <= self._before.last_index and (self._cut_from",
                "if first_index <= self._before.prefix.index and (self._cut_from",
            ),
        ),
    ),
    Mutant(
        "terms-of-truncated-entries-kept",
        "Raft 5.3",
        "the table of terms on disk keeps the terms of truncated entries",
        "A",
        (
            Edit(
                OUTLINE,
                "terms = tuple(run for run in now.terms if run.first_index < first_index)",
                "terms = now.terms",
            ),
        ),
    ),
    Mutant(
        "compaction-removes-one-entry-too-many",
        "#12",
        "compaction also removes the first entry after the snapshot",
        "A",
        (
            Edit(
                MEMORY,
                "del self._rows[: max(0, self._prefix_index + 1 - self._first_index)]",
                "del self._rows[: max(0, self._prefix_index + 2 - self._first_index)]",
            ),
        ),
    ),
    Mutant(
        "late-compaction-after-a-snapshot",
        "#12",
        "retention compacts a log that a snapshot from the leader has replaced in the meantime",
        "T",
        (Edit(STORED, "if snapshot.index > self._outline.prefix.index:", "if snapshot.index:"),),
        "tests/storage/test_contract_snapshots.py::test_a_prefix_that_is_gone_already_is_not_cut_again",
    ),
    Mutant(
        "old-snapshot-dropped-first",
        "#8",
        "the current snapshot is removed before the record that names the new snapshot is durable",
        "A",
        (
            Edit(
                STORED,
                "self._home.save_snapshot(change.snapshot)",
                """
                self._home.save_snapshot(change.snapshot)
                self._home.drop_snapshots(change.snapshot.index, change.snapshot.term)
                """,
            ),
        ),
    ),
    Mutant(
        "commit-without-fsync",
        "#18",
        "the storage engine reports a write as durable when it is only in the cache",
        "A",
        (
            Edit(
                MEMORY,
                """
                self.put(change)
                self._disk.sync()
                """,
                "self.put(change)",
            ),
        ),
    ),
)
