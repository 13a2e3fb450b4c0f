"""A leader without Raft: a log, a machine, an admission, and a hand that commits.

Stands where the core and the driver stand, so that tests can choose what is committed, and when.
"""

from collections.abc import Iterable

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.dedup.admission import Admission, Admitted
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.dedup.ownership import RingChange
from esnode.dedup.producers import Opened
from esnode.raft.entry import Entry, EntryKind, parse, seal_opening, seal_ring_change
from esnode.raft.messages import Snapshot
from esnode.refusal import Refusal

from .events import batch, entry

FOREVER = Dedup.of_keys(10**9, ttl_ms=10**12)


class Leader:
    """Decides and appends as the core does; `commit` applies as the driver does."""

    def __init__(self, dedup: Dedup = FOREVER, log: Iterable[Entry] = (), partition: int = 0) -> None:
        self.dedup = dedup
        self.partition = partition
        self.machine = Machine(dedup)
        self.log = list(log)
        self.log_time_ms = self.log[-1].log_time_ms if self.log else 0
        self.term = 1
        self._take_over()

    @property
    def next_offset(self) -> int:
        return self.log[-1].next_offset if self.log else 0

    def send(self, numbers: Iterable[int], producer: ProducerStamp | None = None) -> Admitted:
        """A client's batch of events, decided and appended."""
        return self.send_batch(batch(numbers, producer))

    def send_batch(self, wanted: Batch) -> Admitted:
        admitted = self.admission.decide(wanted, self.next_offset, self.log_time_ms)
        if admitted.fresh is not None:
            self._append(EntryKind.BATCH, admitted.fresh)
        return admitted

    def open_producer(self) -> int:
        """The id of a new session, not committed yet."""
        return self._append(EntryKind.PRODUCER).index

    def open(self, name: str = "", producer_id: int = 0, holder: int = 0) -> Opened | Refusal:
        """A session opened as a client asks for it, not committed yet."""
        index = len(self.log) + 1
        opened = self.admission.open(name, producer_id, holder, index, self.log_time_ms)
        if isinstance(opened, Opened):
            made = seal_opening(
                opened.opening,
                index=index,
                term=self.term,
                base_offset=self.next_offset,
                log_time_ms=self.log_time_ms,
            )
            self.log.append(parse(made.record))
            self.admission.appended(self.log[-1])
        return opened

    def change_ring(self, change: RingChange, keys: bytes = b"") -> Refusal | None:
        """What a plan asks for, not committed yet."""
        refusal = self.admission.why_not(change)
        if refusal is None:
            made = seal_ring_change(
                change,
                keys,
                index=len(self.log) + 1,
                term=self.term,
                base_offset=self.next_offset,
                log_time_ms=self.log_time_ms,
            )
            self.log.append(parse(made.record))
            self.admission.appended(self.log[-1])
        return refusal

    def commit(self, index: int | None = None) -> None:
        """Apply up to `index`; by default all."""
        upto = len(self.log) if index is None else index
        for one in self.log[self.machine.applied_index : upto]:
            self.machine.apply(one)
        self.admission.applied(self.machine.applied_index)

    def lose(self, keep: int = 0) -> None:
        """Another leader has come and gone; of what was not applied, the first `keep` entries survived."""
        del self.log[self.machine.applied_index + keep :]
        self.admission.reset()
        self.log_time_ms = max(self.log_time_ms, self.log[-1].log_time_ms if self.log else 0)
        self._become()

    def restart(self, snapshot: Snapshot | None) -> None:
        """The same log on a machine that starts from `snapshot`, or from nothing, and replays."""
        applied_index = self.machine.applied_index
        self.machine = Machine(self.dedup, seed=applied_index)
        if snapshot is not None:
            self.machine.restore(snapshot)
        for one in self.log[self.machine.applied_index : applied_index]:
            self.machine.apply(one)
        self._take_over()

    def _take_over(self) -> None:
        machine = self.machine
        self.admission = Admission(machine.keys, machine.producers, machine.ring, self.partition)
        self._become()

    def _become(self) -> None:
        self.term += 1
        for one in self.log[self.machine.applied_index :]:
            self.admission.appended(one)
        self._append(EntryKind.NOOP)

    def _append(self, kind: EntryKind, content: Batch | None = None) -> Entry:
        made = entry(
            len(self.log) + 1,
            self.next_offset,
            content,
            kind=kind,
            term=self.term,
            log_time_ms=self.log_time_ms,
        )
        self.log.append(made)
        self.admission.appended(made)
        return made
