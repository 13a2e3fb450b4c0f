"""Bugs in checkpoints: what a start begins with, and what is read aside."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

APPLY: Final = "esnode.apply"
DRIVER: Final = "esnode.loop.driver"
CHECKPOINTER: Final = "esnode.upkeep.checkpointer"
ADOPT: Final = "self.adopt(Loaded(*position, keys, producers, owned))"
RECOVERY: Final = "esnode.upkeep.recovery"
SCRUB: Final = "esnode.upkeep.scrub"
WINDOW: Final = "esnode.dedup.keywindow"

CHECKPOINTS: Final = (
    Mutant(
        "checkpoint-one-entry-ahead",
        "#10",
        "a checkpoint is labelled with the index after the last entry that it contains",
        "A",
        (
            Edit(
                APPLY,
                """
                self.applied_index,
                self.applied_term,
                self.log_time_ms,
                """,
                """
                self.applied_index + 1,
                self.applied_term,
                self.log_time_ms,
                """,
            ),
        ),
    ),
    Mutant(
        "checkpoint-without-producers",
        "#24",
        "a node that starts from a checkpoint has the keys but not the producer sessions",
        "A",
        (
            Edit(
                APPLY,
                ADOPT,
                f"""
                producers = ProducerTable()
                {ADOPT}
                """,
            ),
        ),
    ),
    Mutant(
        "checkpoint-without-log-time",
        "#16",
        "a checkpoint restores the index of its last entry as the log time",
        "A",
        (
            Edit(
                APPLY,
                "position = checkpoint.index, checkpoint.term, checkpoint.log_time_ms",
                "position = checkpoint.index, checkpoint.term, checkpoint.index",
            ),
        ),
    ),
    Mutant(
        "checkpoint-older-than-the-log",
        "#10",
        "a node starts from its checkpoint although its log begins after that checkpoint",
        "A",
        (
            Edit(
                RECOVERY,
                "if checkpoint is None or checkpoint.index <= found.prefix_index:",
                "if checkpoint is None:",
            ),
        ),
    ),
    Mutant(
        "stored-commit-index-overrides-checkpoint",
        "#10",
        "at startup a node uses the stored commit index, although the checkpoint is ahead of it",
        "A",
        (
            Edit(
                RECOVERY,
                "applied = machine.applied_index",
                "applied = max(found.commit, found.prefix_index)",
            ),
        ),
    ),
    Mutant(
        "checkpoint-with-the-keys-of-a-later-state",
        "#10",
        "the most recent keys in a checkpoint are read when the checkpoint is written, not when it is"
        " started",
        "T",
        (
            Edit(
                CHECKPOINTER,
                "await worker.aside(partial(self._storage.save_checkpoint, pending.checkpoint))",
                """
                later = replace(self._machine.checkpoint(), index=pending.checkpoint.index)
                await worker.aside(partial(self._storage.save_checkpoint, later))
                """,
            ),
            Edit(
                CHECKPOINTER,
                "from dataclasses import dataclass",
                "from dataclasses import dataclass, replace",
            ),
        ),
        "tests/upkeep/test_recovery.py::test_a_checkpoint_in_pieces_is_the_state_at_its_beginning",
    ),
    Mutant(
        "checkpoint-keys-unverified",
        "promise 2",
        "the keys in a checkpoint are used without being verified",
        "T",
        (
            Edit(
                WINDOW,
                'if b"".join(window._digests) != view[digests_start:rest_start]:',
                "if len(window._digests) * DIGEST_BYTES != rest_start - digests_start:",
            ),
        ),
        "tests/upkeep/test_recovery.py::test_a_checkpoint_with_a_bit_flipped_costs_a_replay_and_nothing_else",
    ),
    Mutant(
        "lost-tail-replayed",
        "#7",
        "if the log ends before the index of the checkpoint, a node ignores the checkpoint and accepts"
        " the log as complete",
        "T",
        (
            Edit(
                RECOVERY,
                "if checkpoint is None or checkpoint.index <= found.prefix_index:",
                "if checkpoint is None or not found.prefix_index < checkpoint.index <= found.last_index:",
            ),
        ),
        "tests/upkeep/test_recovery.py::test_a_log_that_ends_before_the_checkpoint_has_lost_its_end",
    ),
    Mutant(
        "snapshot-adopted-when-read",
        "#10",
        "the state machine adopts a snapshot as soon as it is read, even if the Raft core rejects the"
        " snapshot",
        "T",
        (
            Edit(
                DRIVER,
                "self._inbox.put(_Read(sender, message, message.snapshot, loaded))",
                """
                if loaded is not None:
                    self._machine.adopt(loaded)
                self._inbox.put(_Read(sender, message, message.snapshot, loaded))
                """,
            ),
        ),
        "tests/loop/test_driver.py::test_a_snapshot_that_came_too_late_changes_nothing",
    ),
    Mutant(
        "scrub-reads-nothing",
        "promise 1",
        "the background scrub does not read the parts of the log that startup skipped",
        "T",
        (Edit(SCRUB, "while next_index <= self._last_index:", "while next_index < 0:"),),
        "tests/upkeep/test_recovery.py::test_the_scrub_finds_damage_in_the_log_and_in_the_snapshot",
    ),
)
