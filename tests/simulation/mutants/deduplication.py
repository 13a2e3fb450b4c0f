"""Bugs in what counts as a duplicate: keys, the uncommitted tail, and producer sessions."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

REQUESTS: Final = "esnode.raft.requests"
ADMISSION: Final = "esnode.dedup.admission"
PRODUCERS: Final = "esnode.dedup.producers"
RETENTION: Final = "esnode.upkeep.retention"
WINDOW: Final = "esnode.dedup.keywindow"

DEDUPLICATION: Final = (
    Mutant(
        "truncated-keys-stay",
        "#15",
        "keys of truncated entries stay known, so a valid retry is answered as a duplicate",
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
        "a new leader does not know the keys of its uncommitted tail, so a retry is stored twice",
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
        "a duplicate of an uncommitted event is acked immediately",
        "A",
        (
            Edit(
                ADMISSION,
                "return Admitted(None, _merged(self._told(offsets)), wait_index, duplicates, None)",
                "return Admitted(None, _merged(self._told(offsets)), 0, duplicates, None)",
            ),
        ),
    ),
    Mutant(
        "stored-part-appended-again",
        "decision 14",
        "a batch that is partly stored already is appended whole",
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
        "duplicate-within-a-batch",
        "decision 13",
        "a batch that contains an event twice is appended unchanged",
        "A",
        (Edit(ADMISSION, "or sent_before or has_repeats(hashes):", "or sent_before:"),),
    ),
    Mutant(
        "recent-keys-not-searched",
        "decision 15",
        "only the full (sealed) chunks of the key table are searched, but not the most recent keys",
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
        "keys-expire-one-ttl-early",
        "#16",
        "a key is forgotten when its generation closes instead of one time-to-live later",
        "A",
        (
            Edit(
                WINDOW,
                "if generation.closes_at_ms + self._kept_ms > log_time_ms:",
                "if generation.closes_at_ms > log_time_ms:",
            ),
        ),
    ),
    Mutant(
        "no-time-to-live-means-no-time",
        "decision 82",
        "a window with ttl_ms = 0 forgets each key when its generation closes instead of never",
        "A",
        (
            Edit(WINDOW, "self._kept_ms = ttl_ms or _FOREVER_MS", "self._kept_ms = ttl_ms"),
            Edit(WINDOW, "if ttl_ms else UNTIMED_GENERATION_MS", "if True else UNTIMED_GENERATION_MS"),
        ),
    ),
    Mutant(
        "retention-forgets-the-keys-of-what-it-cuts",
        "decision 82",
        "a node without a time-to-live forgets the keys of the events that its own retention has cut away",
        "B",
        (
            Edit(
                RETENTION,
                "self._view.show_first_offset(prefix.next_offset)",
                """
                self._view.show_first_offset(prefix.next_offset)
                window = self._machine.keys._window
                if not window.ttl_ms:
                    window.floor = max(window.floor, prefix.next_offset)
                """,
            ),
        ),
    ),
    Mutant(
        "snapshot-changes-key-expiry",
        "#16",
        "a node that was restored from a snapshot forgets keys at a different time from the other nodes",
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
        "when a batch arrives, the leader expires keys by its own clock, while the other nodes expire"
        " them by log time",
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
        "session-ignores-the-tail",
        "#24",
        "a producer session is continued from the applied state, without the uncommitted entries in the"
        " leader's log",
        "A",
        (Edit(ADMISSION, "if place is not None and tail:", "if place == (0, 0) and tail:"),),
    ),
    Mutant(
        "session-gap-accepted",
        "#24",
        "a batch is accepted although the preceding batch of its session has not arrived",
        "A",
        (Edit(ADMISSION, "if stamp.sequence > expected:", "if stamp.sequence > 2**60:"),),
    ),
    Mutant(
        "session-keys-not-searched",
        "#24",
        "events with a new sequence number are not looked up by key, so two producers can store the same"
        " event twice",
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
        "offsets-remembered-for-a-partial-batch",
        "promise 2",
        "a session also remembers the offsets of a batch from which known events were removed, so"
        " sequence numbers lead to wrong offsets",
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
        "sequence-counts-stored-events",
        "promise 2",
        "a session advances by the number of events stored instead of the number of sequence numbers in"
        " the batch",
        "A",
        (Edit(PRODUCERS, "session.next_sequence += stamp.covered", "session.next_sequence += count"),),
    ),
    Mutant(
        "older-epoch-accepted",
        "KIP-98",
        "the epoch of a batch is not checked, so an earlier holder of a session can still write to it",
        "A",
        (Edit(ADMISSION, "if stamp.epoch < epoch:", "if stamp.epoch < 0:"),),
    ),
    Mutant(
        "reopened-session-keeps-its-epoch",
        "KIP-360",
        "a session that is opened again keeps its epoch, so late copies of abandoned batches are not"
        " fenced off",
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
        "named-session-ignores-the-tail",
        "KIP-360",
        "a producer that opens a named session is told the last sequence number applied, not the last one"
        " in the leader's log",
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
