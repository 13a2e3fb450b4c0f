"""What the leader knows of one follower, and what it may send to it now.

Three states (etcd-io/raft): PROBE looks for the place where the logs match, one message at a time;
REPLICATE streams, bounded by entries and bytes in flight; SNAPSHOT waits for a snapshot to arrive.
Never sends, never looks into the log. Called by `leadership.py` alone.

Invariant: match_index < next_index.
"""

import enum
from collections import deque
from typing import Final

from esnode import limits
from esnode.raft.disklag import DiskLag
from esnode.raft.messages import Fetch

NEVER_MS: Final = 1 << 40


class ProgressState(enum.Enum):
    """How the leader talks to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One follower, as its leader sees it during one term."""

    __slots__ = (
        "_inflight",
        "acked_probe",
        "asks_again",
        "awaits_reply",
        "disk",
        "fetching",
        "inflight_bytes",
        "match_index",
        "next_index",
        "overdue",
        "recently_active",
        "sent_commit",
        "silence_ms",
        "snapshot_index",
        "state",
    )

    def __init__(self, next_index: int) -> None:
        self.state = ProgressState.PROBE
        self.match_index = 0
        self.next_index = next_index
        self.sent_commit = 0
        self.snapshot_index = 0
        self.acked_probe = 0
        """The newest ReadIndex round that the follower has confirmed."""
        self.recently_active = False
        """Heard from since the last check of the quorum. Its vote does not count: it was for a candidate, and
        a leader that nobody hears must not go on for the time of a second check."""
        self.silence_ms = NEVER_MS
        """How long ago it was heard from."""
        self.awaits_reply = False
        """In PROBE: the one message is out."""
        self.asks_again = False
        """In PROBE: a heartbeat was answered and the message not, which may be lost or merely large. What is
        sent now has no entries: on a slow link many heartbeats pass what is large before that has arrived."""
        self.overdue = False
        """It was asked for a sign of life, and has not confirmed anything since."""
        self.fetching: Fetch | None = None
        """The entries for it that are being read from disk."""
        self.disk = DiskLag()
        self.inflight_bytes = 0
        self._inflight: deque[tuple[int, int]] = deque()

    def heard(self) -> None:
        """It has answered: it lives, and our messages reach it."""
        self.recently_active = True
        self.silence_ms = 0

    # --- may it be sent to ---------------------------------------------------------------------

    def may_send(self) -> bool:
        """Whether an AppendEntries may leave now."""
        if self.fetching is not None or self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.PROBE:
            return not self.awaits_reply
        return (
            len(self._inflight) < limits.MAX_INFLIGHT_APPENDS
            and self.inflight_bytes < limits.MAX_INFLIGHT_BYTES
        )

    def has_unconfirmed(self) -> bool:
        """Whether entries were streamed that are not confirmed."""
        return self.state is ProgressState.REPLICATE and self.match_index + 1 < self.next_index

    def sent(self, last_index: int, size_bytes: int, commit: int) -> None:
        """An AppendEntries has left whose last entry, if it has one, is at `last_index`."""
        self.sent_commit = max(self.sent_commit, commit)
        if self.state is ProgressState.PROBE:
            self.awaits_reply = True
        elif last_index >= self.next_index:
            self.next_index = last_index + 1
            self._inflight.append((last_index, size_bytes))
            self.inflight_bytes += size_bytes

    def ask_again(self) -> None:
        """A heartbeat was answered: what was to find the match may be lost."""
        self.asks_again = self.awaits_reply
        self.awaits_reply = False

    # --- transitions ---------------------------------------------------------------------------

    def probe(self, next_index: int | None = None) -> None:
        """Look for the match from `next_index`, or else from where the search or the stream is."""
        if next_index is None and self.state is ProgressState.PROBE:
            next_index = self.next_index  # not `match_index`, which is 0 before the first answer
        elif next_index is None:
            next_index = max(self.match_index, self.snapshot_index) + 1
        self._enter(ProgressState.PROBE)
        self.next_index = next_index
        # A follower that rejects what it once confirmed has lost its log. Believing less than
        # before is always safe: it only means sending more.
        self.match_index = min(self.match_index, next_index - 1)
        self.sent_commit = 0

    def await_snapshot(self, snapshot_index: int) -> None:
        """A snapshot up to `snapshot_index` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.snapshot_index = snapshot_index

    def matched(self, index: int) -> None:
        """The follower holds the log up to `index`."""
        self.overdue = False
        while self._inflight and self._inflight[0][0] <= index:
            self.inflight_bytes -= self._inflight.popleft()[1]
        if self.state is ProgressState.PROBE:
            self.awaits_reply = False
        if index > self.match_index:
            self.match_index = index
            self.next_index = max(self.next_index, index + 1)
        if self.state is ProgressState.PROBE or (
            self.state is ProgressState.SNAPSHOT and index >= self.snapshot_index
        ):
            self._enter(ProgressState.REPLICATE)
            self.next_index = self.match_index + 1

    def rejected(self, rejected_index: int, next_index: int) -> None:
        """The follower does not hold `rejected_index`: look for the match from `next_index`.

        A rejection that was overtaken by newer messages is stale: it names an index that has been
        confirmed since, or not the one that was probed last.
        """
        stale = {
            ProgressState.SNAPSHOT: True,
            ProgressState.REPLICATE: rejected_index <= self.match_index,
            ProgressState.PROBE: rejected_index != self.next_index - 1,
        }
        if not stale[self.state]:
            self.probe(next_index)

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.awaits_reply = self.asks_again = False
        self.snapshot_index = 0
        self.inflight_bytes = 0
        self._inflight.clear()
