"""Bugs below the log: what is called durable, what a crash leaves, and what damage is taken for."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

ENTRY: Final = "esnode.raft.entry"
MEMORY: Final = "esnode.storage.memory"
OUTLINE: Final = "esnode.storage.logoutline"
STORED: Final = "esnode.storage.storedlog"

DISKS: Final = (
    Mutant(
        "torn-frame-believed",
        "decision 10",
        "the unfinished end of the journal is read without a look at its checksum",
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
        "lost-end-believed",
        "#19",
        "a log that ends before the mark of what was durable is taken"
        " as it is, whatever else says that there was more",
        "A",
        (
            Edit(STORED, "if outline.number < self._home.mark:", "if outline.number < 0:"),
            Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),
        ),
    ),
    Mutant(
        "set-back-believed",
        "decision 24",
        "a log that was set back in place is taken as it is, whatever says that there was more",
        "A",
        (Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),),
    ),
    Mutant(
        "record-checksum-ignored",
        "#19",
        "a record's checksum is not compared: a flipped bit is served, and sent to others",
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
        "a failed fsync is tried again, and its success believed",
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
        "decision 10",
        "the mark of what is durable moves before the fsync: a crash between looks like damage",
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
        "cut-stays-on-disk",
        "Raft 5.3",
        "a conflicting tail is cut in memory, and not on disk",
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
        "terms-of-the-cut-stay",
        "Raft 5.3",
        "the table of terms on disk keeps the runs of entries that were cut away",
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
        "cut-takes-one-entry-too-many",
        "#12",
        "cutting the prefix drops the first entry after the snapshot, too",
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
        "late-cut-after-a-snapshot",
        "#12",
        "retention cuts a log that a leader's snapshot has replaced meanwhile",
        "T",
        (Edit(STORED, "if snapshot.index > self._outline.prefix.index:", "if snapshot.index:"),),
        "tests/storage/test_contract_snapshots.py::test_a_prefix_that_is_gone_already_is_not_cut_again",
    ),
    Mutant(
        "old-snapshot-dropped-first",
        "#8",
        "the snapshot in use is removed before the record that names the new one is durable",
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
        "the engine says that a write is durable when it is in the cache",
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
