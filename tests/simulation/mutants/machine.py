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
        "a node that came back by a snapshot has the keys, and not the producer sessions",
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
        "a snapshot is labelled with the entry before the last one that it holds",
        "A",
        (
            Edit(
                APPLY,
                "return Snapshot(self.applied_index, self.applied_term,",
                "return Snapshot(self.applied_index - 1, self.applied_term,",
            ),
            Edit(
                APPLY,
                "head = _HEAD.pack(version, self.digest(), len(producers))",
                """
                self.applied_index -= 1
                head = _HEAD.pack(version, self.digest(), len(producers))
                self.applied_index += 1
                """,
            ),
        ),
    ),
    Mutant(
        "restart-commits-its-tail",
        "#10",
        "a node that starts takes all that is on its disk for committed",
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
        "open-chunk-missing-in-the-snapshot",
        "#10",
        "a snapshot's youngest keys are zeroes",
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
        "session-reopened-by-a-snapshot",
        "#24",
        "a session that came by a snapshot begins again with sequence number 0",
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
        "name-forgets-its-number-in-a-snapshot",
        "KIP-98",
        "a session with a name that came by a snapshot begins again with sequence number 0",
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
        "names-missing-in-a-snapshot",
        "KIP-98",
        "a node that came back by a snapshot has the sessions, and not their names",
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
