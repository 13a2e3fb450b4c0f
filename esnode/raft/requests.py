"""What clients ask of a node: appended in the same turn, or refused; reads are handed to the leadership.

Decides what goes into a leader's log, in which entry, and which log time it carries: batches that arrived
together become one entry, so that all which is done for each entry, on every node, is done once for them.
Once it has refused a batch of a client's run, it refuses the rest of the run (`appendorder.py`).
Never decides who leads, never commits, never waits: each request is answered once, by a `Decision` or a
`ReadGrant`. Called by `core.py` alone, which tells it when a leadership begins and ends.
"""

from collections.abc import Sequence
from typing import TypedDict

from esnode import limits
from esnode.dedup.admission import Admission
from esnode.dedup.batch import Batch, OffsetRange, merge
from esnode.raft.entry import Entry, EntryKind, seal, seal_opening, seal_ring_change
from esnode.raft.leadership import Leadership
from esnode.raft.log import RaftLog
from esnode.raft.messages import Decision, OpenProducer, Propose, ProposeRing, ReadGrant, Transfer
from esnode.refusal import Refusal


class _Place(TypedDict):
    """Where the next entry stands."""

    index: int
    term: int
    base_offset: int
    log_time_ms: int


class Requests:
    """The clients' side of the core; `leadership` is there while this node leads."""

    def __init__(self, log: RaftLog, admission: Admission) -> None:
        self._log = log
        self._admission = admission
        self._leadership: Leadership | None = None
        self._log_time_ms = 0
        self._decisions: list[Decision] = []
        self._read_grants: list[ReadGrant] = []
        self._gathered: list[Propose] = []
        """Batches of this turn that have no session."""
        self._gathered_events = 0
        self._gathered_bytes = 0
        self.refused_by_window = 0
        """Batches refused because the deduplication window was full, ever."""
        self._inherited_index = 0
        """The end of what earlier leaders left."""
        self._inherited_bytes = 0
        """What of it this leader may hold in memory beside what it takes itself; 0 once it is applied."""

    def take(self) -> tuple[list[Decision], list[ReadGrant]]:
        """Append what was gathered; the answers since the last time, each handed out once."""
        if self._gathered:
            self._flush()
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
        self._inherited_index = self._log.last_index
        self._inherited_bytes = min(self._log.unapplied_bytes, limits.MAX_UNAPPLIED_BYTES)
        self._append(leadership, EntryKind.NOOP)

    def end(self, leadership: Leadership) -> None:
        """This node does not lead any more: the reads that wait are refused."""
        self._read_grants += [ReadGrant(token, 0, Refusal.NOT_LEADER) for token in leadership.reads.drain()]
        self._leadership = None
        self._admission.reset()
        self._flush()  # nothing that came to this leadership is appended in another

    def tick(self, elapsed_ms: int) -> None:
        """Log time passes while this node leads."""
        self._log_time_ms += elapsed_ms

    def applied(self, index: int) -> None:
        """The machine has applied everything up to `index`."""
        self._admission.applied(index)
        if index >= self._inherited_index:
            self._inherited_bytes = 0

    # --- the requests --------------------------------------------------------------------------

    def propose(self, proposal: Propose) -> None:
        """Let what is new in the batch be appended, before anything that comes after it."""
        batch = proposal.batch
        alone = batch.producer is not None or self._admission.has_passed(batch)
        if alone or not self._fits(batch):
            self._flush()
        if alone or self._why_not(proposal) is not None:
            self._append_batch(proposal)
            return
        self._gathered.append(proposal)
        self._gathered_events += batch.count
        self._gathered_bytes += len(batch.payload)

    def _fits(self, batch: Batch) -> bool:
        """Whether it may become a part of the entry for what is gathered."""
        return (
            self._gathered_events + batch.count <= limits.MAX_BATCH_EVENTS
            and self._gathered_bytes + len(batch.payload) <= limits.MAX_MERGED_BYTES
            and (not self._gathered or self._gathered[0].batch.partition == batch.partition)
        )

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._gathered_events = self._gathered_bytes = 0
        if len(gathered) > 1 and self._append_together(gathered):
            return
        for proposal in gathered:
            self._append_batch(proposal)

    def _append_together(self, gathered: Sequence[Propose]) -> bool:
        """Append one entry if everything in it is new; False when nothing was done."""
        leadership = self._leadership
        if leadership is None or self._is_busy(leadership):
            return False
        merged = merge([proposal.batch for proposal in gathered])
        admitted = self._admission.decide(merged, self._log.end.next_offset, self._log_time_ms)
        if admitted.fresh is not merged:
            return False
        entry = self._append(
            leadership,
            EntryKind.BATCH,
            count=merged.count,
            keys=merged.keys,
            payload=merged.payload,
            partition=merged.partition,
        )
        offset = entry.base_offset
        for proposal in gathered:
            count = proposal.batch.count
            ranges = (OffsetRange(offset, count),)
            self._decisions.append(Decision(proposal.token, entry.term, entry.index, ranges, 0, None))
            offset += count
        return True

    def _append_batch(self, proposal: Propose) -> None:
        leadership = self._leadership
        refusal = self._why_not(proposal)
        if leadership is None or refusal is not None:
            self._refuse_batch(proposal, refusal or Refusal.NOT_LEADER)
            return
        admitted = self._admission.decide(proposal.batch, self._log.end.next_offset, self._log_time_ms)
        if admitted.refusal is not None:
            self._refuse_batch(proposal, admitted.refusal)
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

    def heed(self, wanted: OpenProducer | ProposeRing | Transfer) -> None:
        """The rare ones."""
        if isinstance(wanted, OpenProducer):
            self.open_producer(wanted)
        elif isinstance(wanted, ProposeRing):
            self.change_ring(wanted)
        else:
            self.transfer(wanted)

    def open_producer(self, wanted: OpenProducer) -> None:
        """Append an entry that opens a producer session, or goes on with one."""
        self._flush()
        leadership = self._appending(wanted.token)
        if leadership is None:
            return
        term, index = leadership.term, self._log.last_index + 1
        opened = self._admission.open(
            wanted.name, wanted.producer_id, wanted.holder, index, self._log_time_ms
        )
        if isinstance(opened, Refusal):
            self._decisions.append(Decision(wanted.token, term, 0, (), 0, opened))
            return
        self._add(seal_opening(opened.opening, **self._next_place(leadership)))
        self._decisions.append(Decision(wanted.token, term, index, (), 0, None, opened))

    def change_ring(self, wanted: ProposeRing) -> None:
        """Append an entry that says something of the ring, behind all that was proposed before."""
        self._flush()
        leadership = self._appending(wanted.token)
        if leadership is None:
            return
        refusal = None
        if not self._admission.says_already(wanted.change):
            refusal = self._admission.why_not(wanted.change)
            if refusal is None:
                self._add(seal_ring_change(wanted.change, wanted.keys, **self._next_place(leadership)))
        wait_index = self._log.last_index if refusal is None else 0
        self._decisions.append(Decision(wanted.token, leadership.term, wait_index, (), 0, refusal))

    def read_index(self, token: int) -> None:
        """Let the read wait for the next round of heartbeats (thesis 6.4)."""
        if self._leadership is None:
            self._read_grants.append(ReadGrant(token, 0, Refusal.NOT_LEADER))
        elif len(self._leadership.reads) >= limits.MAX_PENDING_READS:
            self._read_grants.append(ReadGrant(token, 0, Refusal.BUSY))
        else:
            self._leadership.reads.add(token)

    def transfer(self, wanted: Transfer) -> None:
        """Begin to hand the leadership over, after everything that was proposed before."""
        self._flush()
        leadership, refusal = self._leadership, None
        if leadership is None:
            refusal = Refusal.NOT_LEADER
        elif not leadership.transfer(wanted.to, asked=wanted.asked):
            refusal = Refusal.TRANSFER_PENDING
        if wanted.token:
            term = 0 if leadership is None else leadership.term
            self._decisions.append(Decision(wanted.token, term, 0, (), 0, refusal))

    def _appending(self, token: int) -> Leadership | None:
        """The leadership under which something may be appended now; without one, `token` is refused."""
        leadership = self._leadership
        if leadership is None:
            self._refuse(token, Refusal.NOT_LEADER)
        elif self._is_busy(leadership):
            self._refuse(token, Refusal.BUSY)
        else:
            return leadership
        return None

    def _why_not(self, proposal: Propose) -> Refusal | None:
        """Why this batch may not be appended now, new or not; None: it may."""
        leadership = self._leadership
        if leadership is None:
            return Refusal.NOT_LEADER
        if proposal.order is not None and not proposal.order.takes(proposal.run, leadership.term):
            return Refusal.EARLIER_REFUSED
        return Refusal.BUSY if self._is_busy(leadership) else None

    def _is_busy(self, leadership: Leadership) -> bool:
        most_bytes = limits.MAX_UNAPPLIED_BYTES + self._inherited_bytes
        return leadership.transferee is not None or self._log.unapplied_bytes >= most_bytes

    def _refuse_batch(self, proposal: Propose, refusal: Refusal) -> None:
        """What follows in its run would overtake it: from now on that is refused, too."""
        if proposal.order is not None:
            proposal.order.end(proposal.run)
        if refusal is Refusal.WINDOW_FULL:
            self.refused_by_window += 1
        self._refuse(proposal.token, refusal)

    def _refuse(self, token: int, refusal: Refusal) -> None:
        self._decisions.append(Decision(token, 0, 0, (), 0, refusal))

    def _append(self, leadership: Leadership, kind: EntryKind, **content: object) -> Entry:
        return self._add(seal(kind=kind, **self._next_place(leadership), **content))  # type: ignore[arg-type]

    def _next_place(self, leadership: Leadership) -> "_Place":
        return {
            "index": self._log.last_index + 1,
            "term": leadership.term,
            "base_offset": self._log.end.next_offset,
            "log_time_ms": self._log_time_ms,
        }

    def _add(self, entry: Entry) -> Entry:
        self._log.append((entry,))
        self._admission.appended(entry)
        return entry
