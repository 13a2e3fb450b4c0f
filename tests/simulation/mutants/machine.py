"""Bugs in what the log means: the applied state, its snapshots, and how a node finds itself again."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

APPLY: Final = "esnode.apply"
RECOVERY: Final = "esnode.upkeep.recovery"
WINDOW: Final = "esnode.dedup.keywindow"
PRODUCERS: Final = "esnode.dedup.producers"

MACHINE: Final = (
    Mutant(
        "snapshot-without-producers",
        "#24",
        "a node that was restored from a snapshot has the keys but not the producer sessions",
        "A",
        (
            Edit(
                APPLY,
                "self.producers.adopt(loaded.producers)",
                "self.producers.closed = loaded.producers.closed",
            ),
        ),
    ),
    Mutant(
        "snapshot-one-entry-behind-its-data",
        "#10",
        "a snapshot is labelled with the index before the last entry that it contains",
        "A",
        (
            Edit(
                APPLY,
                "return Snapshot(self.applied_index, self.applied_term,",
                "return Snapshot(self.applied_index - 1, self.applied_term,",
            ),
            Edit(
                APPLY,
                "data = bytearray(_HEAD.pack(version, self.digest(), len(tables)) + tables)",
                """
                self.applied_index -= 1
                data = bytearray(_HEAD.pack(version, self.digest(), len(tables)) + tables)
                self.applied_index += 1
                """,
            ),
        ),
    ),
    Mutant(
        "restart-commits-its-tail",
        "#10",
        "a starting node treats everything on its disk as committed",
        "A",
        (
            Edit(
                RECOVERY,
                "pages(storage, first_index, found.commit,",
                "pages(storage, first_index, found.last_index,",
            ),
        ),
    ),
    Mutant(
        "recent-keys-missing-in-a-snapshot",
        "#10",
        "the most recent keys in a snapshot are zeros",
        "A",
        (
            Edit(
                WINDOW,
                "return memoryview(self._open)[:end].toreadonly()",
                "return memoryview(bytes(end))",
            ),
        ),
    ),
    Mutant(
        "snapshot-resets-session-sequence",
        "#24",
        "a session that was restored from a snapshot starts again with sequence number 0",
        "A",
        (
            Edit(
                PRODUCERS,
                "self.closed = other.closed",
                """
                self.closed = other.closed
                for session in self._sessions.values():
                    session.next_sequence = 0
                """,
            ),
        ),
    ),
    Mutant(
        "snapshot-resets-named-session-sequence",
        "KIP-98",
        "a named session that was restored from a snapshot starts again with sequence number 0",
        "A",
        (
            Edit(
                PRODUCERS,
                "session = _Session(epoch, next_sequence, known)",
                "session = _Session(epoch, 0 if named else next_sequence, known)",
            ),
        ),
    ),
    Mutant(
        "snapshot-without-names",
        "KIP-98",
        "a node that was restored from a snapshot has the sessions but not their names",
        "A",
        (
            Edit(
                PRODUCERS,
                "self._names = other._sessions, other._named, other._names",
                "self._names = other._sessions, other._named, dict[str, int]()",
            ),
        ),
    ),
)
