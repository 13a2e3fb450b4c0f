"""Bugs in what counts as a duplicate: keys, the uncommitted tail, and producer sessions."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

REQUESTS: Final = "esnode.raft.requests"
ADMISSION: Final = "esnode.dedup.admission"
PRODUCERS: Final = "esnode.dedup.producers"
WINDOW: Final = "esnode.dedup.keywindow"

DEDUPLICATION: Final = (
    Mutant(
        "truncated-keys-stay",
        "#15",
        "keys of entries that were cut away stay known, so a valid retry is answered as a duplicate",
        "A",
        (
            Edit(
                REQUESTS,
                """
                self._leadership = None
                self._admission.reset()
                """,
                "self._leadership = None",
            ),
            Edit(
                REQUESTS,
                """
                self._admission.reset()
                for entry in self._log.unapplied():
                """,
                "for entry in self._log.unapplied():",
            ),
        ),
    ),
    Mutant(
        "tail-not-known-to-a-new-leader",
        "#24",
        "a new leader does not know the keys of its uncommitted tail: a retry is stored twice",
        "A",
        (
            Edit(
                REQUESTS,
                "for entry in self._log.unapplied():",
                "for entry in ():",
            ),
        ),
    ),
    Mutant(
        "duplicate-acked-before-its-original",
        "#22",
        "a duplicate of an event that is not committed yet is acked at once",
        "A",
        (
            Edit(
                ADMISSION,
                "return Admitted(None, _merged(offsets), wait_index, duplicates, None)",
                "return Admitted(None, _merged(offsets), 0, duplicates, None)",
            ),
        ),
    ),
    Mutant(
        "known-part-appended-again",
        "decision 4",
        "a batch of which a part is known is appended whole",
        "A",
        (
            Edit(
                ADMISSION,
                "else replace(select(batch, fresh), producer=stamp)",
                "else replace(batch, producer=stamp)",
            ),
        ),
    ),
    Mutant(
        "twice-within-a-batch",
        "decision 4",
        "a batch that holds an event twice is appended as it is",
        "A",
        (Edit(ADMISSION, "or sent_before or has_repeats(hashes):", "or sent_before:"),),
    ),
    Mutant(
        "young-keys-not-looked-at",
        "decision 4",
        "only the sealed chunks of the key table are searched, not the youngest keys",
        "A",
        (
            Edit(
                ADMISSION,
                "recent = self._recent.find(batch.keys, hashes)",
                "recent = dict[int, int]()",
            ),
        ),
    ),
    Mutant(
        "keys-expire-a-lifetime-early",
        "#16",
        "a key is forgotten when its generation closes, not a time-to-live later",
        "A",
        (
            Edit(
                WINDOW,
                "if generation.closes_at_ms + self.ttl_ms > log_time_ms:",
                "if generation.closes_at_ms > log_time_ms:",
            ),
        ),
    ),
    Mutant(
        "generation-reopened-after-a-snapshot",
        "#16",
        "a node that came back by a snapshot forgets keys at another time than the others",
        "A",
        (
            Edit(
                WINDOW,
                "self._closes_at_ms = self._generations[-1].closes_at_ms",
                "self._closes_at_ms = 0",
            ),
        ),
    ),
    Mutant(
        "leader-expires-by-its-own-clock",
        "#17",
        "a leader forgets keys by its own running time when a batch comes, the others by the log's",
        "A",
        (
            Edit(
                ADMISSION,
                "known = self._keys.find_sealed(batch.keys, hashes)",
                """
                self._keys.expire(log_time_ms)
                known = self._keys.find_sealed(batch.keys, hashes)
                """,
            ),
        ),
    ),
    Mutant(
        "session-forgets-its-tail",
        "#24",
        "a producer session is continued from what is applied, not from the leader's log",
        "A",
        (Edit(ADMISSION, "if place is not None and tail:", "if place == (0, 0) and tail:"),),
    ),
    Mutant(
        "gap-in-a-session-taken",
        "#24",
        "a batch that comes before the one it follows is taken",
        "A",
        (Edit(ADMISSION, "if stamp.sequence > expected:", "if stamp.sequence > 2**60:"),),
    ),
    Mutant(
        "session-keys-trusted-to-the-sequence",
        "#24",
        "events with a new sequence number are not looked up by key: two producers store one event twice",
        "A",
        (
            Edit(
                ADMISSION,
                "if known or recent or sent_before or has_repeats(hashes):",
                "if sent_before or stamp is None and (known or recent or has_repeats(hashes)):",
            ),
        ),
    ),
    Mutant(
        "offsets-remembered-for-a-part",
        "decision 5",
        "a session's memory of offsets counts numbers of events that were known by key before",
        "A",
        (
            Edit(
                PRODUCERS,
                "if count == stamp.covered:",
                "if count:",
            ),
            Edit(
                ADMISSION,
                "if part.count == part.covered:",
                "if part.count:",
            ),
        ),
    ),
    Mutant(
        "sequence-counts-what-was-stored",
        "decision 5",
        "a session advances by the events stored, not by the numbers covered",
        "A",
        (Edit(PRODUCERS, "session.next_sequence += stamp.covered", "session.next_sequence += count"),),
    ),
    Mutant(
        "older-epoch-taken",
        "KIP-98",
        "the epoch of a batch is not compared: whoever held a session before still writes to it",
        "A",
        (Edit(ADMISSION, "if stamp.epoch < epoch:", "if stamp.epoch < 0:"),),
    ),
    Mutant(
        "session-goes-on-under-the-same-epoch",
        "KIP-360",
        "a session that is opened again keeps its epoch: late copies of what was given up are not shut out",
        "A",
        (
            Edit(
                ADMISSION,
                "Opening(known.producer_id, place[0] + 1,",
                "Opening(known.producer_id, place[0],",
            ),
        ),
    ),
    Mutant(
        "name-opened-without-the-tail",
        "KIP-360",
        "whoever opens a name is told the last number that is applied, not the last one in the leader's log",
        "A",
        (
            Edit(
                ADMISSION,
                """
                place = self._place(known.producer_id)
                assert place is not None
                """,
                """
                place = self._place(known.producer_id)
                assert place is not None
                place = (place[0], known.next_sequence)
                """,
            ),
        ),
    ),
)
