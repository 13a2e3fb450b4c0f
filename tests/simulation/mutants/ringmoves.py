"""Bugs in what happens while sources move from one partition to another."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

ADMISSION: Final = "esnode.dedup.admission"
APPLY: Final = "esnode.apply"
BATCH: Final = "esnode.dedup.batch"
OWNERSHIP: Final = "esnode.dedup.ownership"
REQUESTS: Final = "esnode.raft.requests"
STEPS: Final = "esnode.growth.steps"

RING_MOVES: Final = (
    Mutant(
        "fence-forgotten-on-leader-change",
        "ring",
        "a new leader does not see a switch to another ring in its uncommitted tail, so it takes events of"
        " sources that have moved",
        "R",
        (
            Edit(
                REQUESTS,
                "self._inherited_index = self._log.last_index",
                """
                self._admission._ownership = self._admission._ring.now
                self._inherited_index = self._log.last_index
                """,
            ),
        ),
    ),
    Mutant(
        "fence-counts-once-applied",
        "ring",
        "a leader goes by the new ring only once the switch is applied, so it takes events of moved sources"
        " behind the fence",
        "R",
        (
            Edit(
                ADMISSION,
                "self._ownership = self._ownership.after(change, entry.base_offset, entry.count, floor)",
                "self._ownership.after(change, entry.base_offset, entry.count, floor)",
            ),
        ),
    ),
    Mutant(
        "adoption-read-before-the-fence-only",
        "ring",
        "keys that were stored between the first copy and the fence are not copied",
        "R",
        (Edit(STEPS, "allowed = NEARLY_LEVEL if unswitched else 0", "allowed = NEARLY_LEVEL"),),
    ),
    Mutant(
        "opened-before-the-last-adoption",
        "ring",
        "the new owner takes events of moved sources as soon as the old one has been told to stop",
        "R",
        (Edit(STEPS, "for one in unswitched or waiting]", "for one in (*unswitched, *waiting)]"),),
    ),
    Mutant(
        "old-ring-of-a-client-believed",
        "ring",
        "a partition takes whatever a client sends to it, whoever owns the source",
        "R",
        (Edit(ADMISSION, "if not self._owns(batch.keys):", "if not batch.keys:"),),
    ),
    Mutant(
        "token-of-the-id",
        "ring",
        "the token of a key is that of the event's id, not that of its source",
        "R",
        (
            Edit(
                BATCH,
                "return token + hashed.digest()[TOKEN_BYTES:]",
                "return token_of(event_id) + hashed.digest()[TOKEN_BYTES:]",
            ),
        ),
    ),
    Mutant(
        "adopted-keys-lost-in-a-snapshot",
        "ring",
        "the snapshot of what retention cuts away has the offsets of adopted keys, and not the keys",
        "R",
        (
            Edit(APPLY, "self._dedup = dedup", "self._dedup, self._is_applied = dedup, searchable"),
            Edit(
                APPLY,
                """
                self.ring.now = self.ring.now.after(change, entry.base_offset, entry.count, floor)
                self.keys.add(entry.keys, entry.base_offset, entry.log_time_ms)
                """,
                """
                self.ring.now = self.ring.now.after(change, entry.base_offset, entry.count, floor)
                keys = entry.keys if self._is_applied else bytes(len(entry.keys))
                self.keys.add(keys, entry.base_offset, entry.log_time_ms)
                """,
            ),
        ),
    ),
    Mutant(
        "ring-lost-in-a-snapshot",
        "ring",
        "a node that is restored from a snapshot goes by the first ring again",
        "R",
        (
            Edit(
                APPLY,
                "return Loaded(snapshot.index, snapshot.term, snapshot.log_time_ms, keys, producers, owned)",
                """
                return Loaded(
                    snapshot.index, snapshot.term, snapshot.log_time_ms, keys, producers, Ownership()
                )
                """,
            ),
        ),
    ),
    Mutant(
        "ring-lost-in-a-checkpoint",
        "ring",
        "a node that starts from a checkpoint goes by the first ring again",
        "R",
        (
            Edit(
                APPLY,
                "self.adopt(Loaded(*position, keys, producers, owned))",
                "self.adopt(Loaded(*position, keys, producers, Ownership()))",
            ),
        ),
    ),
    Mutant(
        "first-partition-of-a-retry-ignored",
        "ring",
        "a batch that may be in the log of another partition is judged by the window of this one, so an"
        " event whose key was forgotten is stored twice",
        "R",
        (
            Edit(
                ADMISSION,
                "if batch.sent_to in (None, self._partition):",
                "if batch.sent_to is None or batch.sent_to >= 0:",
            ),
        ),
    ),
    Mutant(
        "floor-of-the-old-owner-ignored",
        "ring",
        "the new owner believes to know all events of the old one, also those whose keys had been"
        " forgotten there when the keys were copied",
        "R",
        (
            Edit(
                OWNERSHIP,
                "one.old_owner == old_owner and one.floor <= offset <= one.end_offset and",
                "one.old_owner == old_owner and offset <= one.end_offset and",
            ),
        ),
    ),
    Mutant(
        "own-floor-ignored-for-adopted-keys",
        "ring",
        "the new owner believes to know all events of the old one for ever, also once it has forgotten"
        " the copied keys itself",
        "R",
        (
            Edit(
                OWNERSHIP,
                "offset <= one.end_offset and floor <= one.first_offset",
                "offset <= one.end_offset",
            ),
        ),
    ),
    Mutant(
        "adopted-key-told-as-an-event",
        "ring",
        "a duplicate of an event of another partition is acked with the offset of the copied key",
        "R",
        (
            Edit(
                ADMISSION,
                "return [UNKNOWN_OFFSET if is_adopted(offset) else offset for offset in offsets]",
                "return [offset for offset in offsets if is_adopted(offset) is not None]",
            ),
        ),
    ),
    Mutant(
        "two-plans-at-once",
        "ring",
        "a plan is taken while the one before it is carried out",
        "R",
        (
            Edit(
                OWNERSHIP,
                "follows = before.ended and change.version == before.version + 1",
                "follows = change.version == before.version + 1",
            ),
        ),
    ),
    Mutant(
        "back-to-an-older-ring",
        "ring",
        "a late request lets a partition go by an older ring again",
        "R",
        (
            Edit(
                OWNERSHIP,
                "if change.version <= self.version or change.version < self.adopting_for:",
                "if change.version == self.version:",
            ),
        ),
    ),
)
"""Those that `../ring` must see."""
