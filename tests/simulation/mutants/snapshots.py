"""Bugs in snapshots whose chunks of keys are files: when they are written, fetched, believed and removed."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

NEEDED: Final = "esnode.storage.neededchunks"
DIRECTORY: Final = "esnode.storage.directory"
DRIVER: Final = "esnode.loop.driver"
KEYCHUNKS: Final = "esnode.replication.keychunks"
RETENTION: Final = "esnode.upkeep.retention"
WINDOW: Final = "esnode.dedup.keywindow"
OUTLINES: Final = "tests/storage/test_contract_outlines.py"
FETCHED: Final = "tests/replication/test_keychunks.py"

SNAPSHOTS: Final = (
    Mutant(
        "snapshot-installed-before-its-chunks",
        "#10",
        "a follower installs a snapshot before it has the chunks of keys that the snapshot names",
        "B",
        (Edit(DRIVER, "if not await self._peers.fetch_keys(sender, message.snapshot):", "if sender == 0:"),),
    ),
    Mutant(
        "snapshot-names-a-chunk-that-was-never-written",
        "#10",
        "a cut of the log stores a snapshot although one of its chunks of keys is not on disk",
        "B",
        (Edit(RETENTION, "for run in in_runs(missing,", "for run in in_runs(missing[1:],"),),
    ),
    Mutant(
        "checkpoint-removes-chunks-of-the-snapshot",
        "#10",
        "a checkpoint removes chunks of keys that the stored snapshot needs",
        "B",
        (Edit(NEEDED, "yield min(by_checkpoint, by_snapshot, *self._held)", "yield by_checkpoint"),),
    ),
    Mutant(
        "checkpoint-removes-chunks-of-a-cut",
        "#10",
        "a checkpoint removes chunks of keys that a cut of the log is about to name",
        "T",
        (
            Edit(
                NEEDED,
                "yield min(by_checkpoint, by_snapshot, *self._held)",
                "yield min(by_checkpoint, by_snapshot)",
            ),
        ),
        f"{OUTLINES}::test_a_checkpoint_removes_nothing_that_the_snapshot_or_a_holder_needs",
    ),
    Mutant(
        "chunks-not-synced-before-their-snapshot",
        "#8",
        "a snapshot is stored although its chunks of keys may be only in the page cache",
        "T",
        (Edit(DIRECTORY, "self.checkpoints.sync_keys(snapshot.data)", "pass"),),
        f"{OUTLINES}::test_a_chunk_that_a_killed_process_left_in_the_cache_is_synced_before_it_is_named",
    ),
    Mutant(
        "chunk-believed-without-its-digest",
        "#19",
        "a follower stores the keys that a peer sends without comparing them with the digest",
        "T",
        (
            Edit(
                KEYCHUNKS, "if not is_chunk(chunk.keys, self._request.digests[place]):", "if not chunk.keys:"
            ),
        ),
        f"{FETCHED}::test_keys_that_their_digest_does_not_name_are_refused_and_not_stored",
    ),
    Mutant(
        "chunk-on-disk-believed-by-its-number",
        "#19",
        "a follower does not fetch a chunk of keys if its disk has another one with this number",
        "T",
        (
            Edit(
                WINDOW,
                "return is_chunk(next(iter(stored.kept_keys(number, number + 1))), digest)",
                "return bool(next(iter(stored.kept_keys(number, number + 1))))",
            ),
        ),
        f"{FETCHED}::test_what_is_on_disk_is_not_asked_for",
    ),
)
