"""What clients ask of a node: appended at once, or refused; reads are handed to the leadership.

Decides what goes into a leader's log, and which log time it carries. Never decides who leads, never
commits, never waits: each request is answered once, by a `Decision` or a `ReadGrant`. Called by
`core.py` alone, which tells it when a leadership begins and ends.
"""

from esnode import limits
from esnode.dedup.admission import Admission
from esnode.errors import Refusal
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.leadership import Leadership
from esnode.raft.log import RaftLog
from esnode.raft.messages import Decision, Propose, ReadGrant


class Requests:
    """The clients' side of the core; `leadership` is there while this node leads."""

    def __init__(self, log: RaftLog, admission: Admission) -> None:
        self._log = log
        self._admission = admission
        self._leadership: Leadership | None = None
        self._log_time_ms = 0
        self._decisions: list[Decision] = []
        self._read_grants: list[ReadGrant] = []

    def take(self) -> tuple[list[Decision], list[ReadGrant]]:
        """The answers since the last time; each is handed out once."""
        taken = self._decisions, self._read_grants
        self._decisions, self._read_grants = [], []
        return taken

    # --- while this node leads, and when it does not any more ----------------------------------

    def begin(self, leadership: Leadership) -> None:
        """This node leads: append the no-op that says so (Raft 8)."""
        self._leadership = leadership
        self._log_time_ms = self._log.end.log_time_ms
        # Decision 4: a duplicate of an uncommitted event is known before the first batch is taken.
        self._admission.reset()
        for entry in self._log.unapplied():
            self._admission.appended(entry)
        self._append(leadership, EntryKind.NOOP)

    def end(self, leadership: Leadership) -> None:
        """This node does not lead any more: the reads that wait are refused."""
        self._read_grants += [ReadGrant(token, 0, Refusal.NOT_LEADER) for token in leadership.reads.drain()]
        self._leadership = None
        self._admission.reset()

    def tick(self, elapsed_ms: int) -> None:
        """Log time passes while this node leads."""
        self._log_time_ms += elapsed_ms

    def applied(self, index: int) -> None:
        """The machine has applied everything up to `index`."""
        self._admission.applied(index)

    # --- the requests --------------------------------------------------------------------------

    def propose(self, proposal: Propose) -> None:
        """Append what is new in the batch."""
        leadership = self._appending(proposal.token)
        if leadership is None:
            return
        admitted = self._admission.decide(proposal.batch, self._log.end.next_offset, self._log_time_ms)
        if admitted.refusal is not None:
            self._refuse(proposal.token, admitted.refusal)
            return
        wait_index = admitted.wait_index_of_duplicates
        if admitted.fresh is not None:
            fresh = admitted.fresh
            entry = self._append(
                leadership,
                EntryKind.BATCH,
                count=fresh.count,
                keys=fresh.keys,
                payload=fresh.payload,
                producer=fresh.producer,
                partition=fresh.partition,
            )
            wait_index = entry.index
        self._decisions.append(
            Decision(proposal.token, leadership.term, wait_index, admitted.ranges, admitted.duplicates, None)
        )

    def open_producer(self, token: int) -> None:
        """Append an entry whose index becomes the producer's id."""
        leadership = self._appending(token)
        if leadership is not None:
            entry = self._append(leadership, EntryKind.PRODUCER)
            self._decisions.append(Decision(token, leadership.term, entry.index, (), 0, None))

    def read_index(self, token: int) -> None:
        """Let the read wait for the next round of heartbeats (thesis 6.4)."""
        if self._leadership is None:
            self._read_grants.append(ReadGrant(token, 0, Refusal.NOT_LEADER))
        elif len(self._leadership.reads) >= limits.MAX_PENDING_READS:
            self._read_grants.append(ReadGrant(token, 0, Refusal.BUSY))
        else:
            self._leadership.reads.add(token)

    def _appending(self, token: int) -> Leadership | None:
        """The leadership under which something may be appended now; without one, `token` is refused."""
        leadership = self._leadership
        if leadership is None:
            self._refuse(token, Refusal.NOT_LEADER)
        elif leadership.transferee is not None or self._log.unapplied_bytes >= limits.MAX_UNAPPLIED_BYTES:
            self._refuse(token, Refusal.BUSY)
        else:
            return leadership
        return None

    def _refuse(self, token: int, refusal: Refusal) -> None:
        self._decisions.append(Decision(token, 0, 0, (), 0, refusal))

    def _append(self, leadership: Leadership, kind: EntryKind, **content: object) -> Entry:
        end = self._log.end
        entry = seal(
            index=self._log.last_index + 1,
            term=leadership.term,
            kind=kind,
            base_offset=end.next_offset,
            log_time_ms=self._log_time_ms,
            **content,  # type: ignore[arg-type]
        )
        self._log.append((entry,))
        self._admission.appended(entry)
        return entry
