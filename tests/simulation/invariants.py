"""What must hold at every step, over all nodes and all time. A breach is a `Violation` with its rule's name.

It keeps what no node may forget: leaders, votes, what is behind each (index, term), what was durable
where, what was committed. It only looks. Called by the hosts at everything that they do. Raft figure 3 has
the first rules; the others are this project's promises.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from esnode.config import Dedup
from esnode.dedup.batch import OffsetRange, split_keys
from esnode.raft.entry import Entry
from esnode.raft.messages import AppendReply, PeerMessage, Role, Snapshot, VoteReply, VoteRequest, Write
from esnode.storage.interface import Recovered

from .outcome import Violation
from .shadow import Shadow

if TYPE_CHECKING:
    from .host import Host
    from .process import Process


def demand(holds: bool, rule: str, text: str) -> None:
    """Raise the `Violation` of `rule` unless it holds."""
    if not holds:
        raise Violation(rule, text)


class Invariants:
    """The memory of the whole cluster."""

    def __init__(self, hosts: Mapping[int, "Host"], dedup: Dedup, counts: Counter[str]) -> None:
        self.shadows: dict[int, Shadow] = {}
        self.committed: list[Entry] = []
        self.key_at: list[bytes] = []
        """The key of each committed event, by offset."""
        self._log_time_at: list[int] = []
        self._hosts = hosts
        self._dedup = dedup
        self._counts = counts
        self._leader_of: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._chain: dict[tuple[int, int], tuple[int, Entry]] = {}
        """(index, term) -> the term before it, and the entry: equal everywhere is log matching."""
        self._appended: dict[int, dict[bytes, tuple[int, int]]] = {}
        """Term -> key -> where its leader appended it last: offset and log time."""
        self._holders: dict[tuple[int, int], set[int]] = {}
        """Who has ever made it durable, and not cut it away again."""
        self._last_seen: dict[bytes, int] = {}
        """Where a key was committed last."""
        self._committed_in: list[int] = []
        """The term of the leader that committed each entry: that of the entry, or a later one."""
        self._digests: dict[int, bytes] = {}
        self._positions: dict[int, tuple[int, int, int, int]] = {}

    @property
    def last_committed(self) -> int:
        """The last committed index."""
        return len(self.committed)

    @property
    def newest_term(self) -> int:
        """The highest term that anybody has led in."""
        return max(self._leader_of, default=0)

    # --- the disk --------------------------------------------------------------------------------

    def wrote(self, host: "Host", write: Write) -> None:
        """A node hands entries to its disk: they are part of its log from now on."""
        process = host.process
        assert process is not None
        self.shadows[host.id].pending.append(write)
        for entry in write.entries:
            before = process.core.log.term_at(entry.index - 1)
            assert before is not None
            new = (entry.index, entry.term) not in self._chain
            known, theirs = self._chain.setdefault((entry.index, entry.term), (before, entry))
            same = known == before and theirs.record == entry.record
            demand(same, "log matching", f"two entries {entry.index}@{entry.term}")
            if new:
                self._appended_once(entry)

    def _appended_once(self, entry: Entry) -> None:
        """A leader appends no event that it has appended before: decision 4 holds for the tail, too."""
        known = self._appended.setdefault(entry.term, {})
        for place, key in enumerate(split_keys(entry.keys)):
            offset, before = entry.base_offset + place, known.get(key)
            if before is not None:
                forgotten = self._is_over(entry.log_time_ms - before[1], offset - before[0])
                demand(forgotten, "exactly once", f"one leader appends an event at {before[0]} and {offset}")
            known[key] = (offset, entry.log_time_ms)

    def persisted(self, host: "Host", write: Write) -> None:
        """The disk has said that a write is durable."""
        assert self.shadows[host.id].pending[0] is write, "writes become durable in their order"
        self._persist_next(host)

    def _persist_next(self, host: "Host") -> None:
        kept = self.shadows[host.id].persist_next()
        for place in kept.gone:
            self._holders[place].discard(host.id)
        for place in kept.come:
            self._holders.setdefault(place, set()).add(host.id)

    def cut(self, host: "Host", snapshot: Snapshot) -> None:
        """Retention has cut a prefix."""
        demand(snapshot.index <= self.last_committed, "retention", "a prefix that is not committed was cut")
        self.shadows[host.id].cut(snapshot)

    def recovered(self, host: "Host", found: Recovered) -> None:
        """A starting node has found this: all that was durable, and of the rest a beginning, whole."""
        shadow = self.shadows.setdefault(host.id, Shadow())
        while not shadow.matches(found):
            text = f"node {host.id} finds what was never written: {found}"
            demand(bool(shadow.pending), "durability", text)
            self._persist_next(host)
            self._counts["disk.kept more than was synced"] += 1
        shadow.pending.clear()
        demand(found.commit <= self.last_committed, "durability", "a commit hint past what is committed")

    def lost(self, host: "Host", found: Recovered) -> None:
        """The disk was damaged, wiped or exchanged: from now on it holds this.

        A vote that the node gave to itself and did not win with is gone with the life that counted it.
        """
        for voter, term in [
            place for place, candidate in self._votes.items() if candidate == host.id == place[0]
        ]:
            if self._leader_of.get(term) != host.id:
                del self._votes[voter, term]
        shadow = self.shadows[host.id] = Shadow()
        shadow.hard_state = found.hard_state
        shadow.prefix_index, shadow.prefix_term = found.prefix_index, found.prefix_term
        ends = [run.first_index for run in found.terms[1:]] + [found.last_index + 1]
        for run, end in zip(found.terms, ends, strict=True) if found.terms else ():
            shadow.terms.update(dict.fromkeys(range(run.first_index, end), run.term))
        for place in shadow.terms.items():
            self._holders.setdefault(place, set()).add(host.id)

    # --- messages --------------------------------------------------------------------------------

    def left(self, host: "Host", to: int, message: PeerMessage) -> None:
        """A message leaves a node: what it claims must be on its disk."""
        match message:
            case VoteReply(term, granted=True, pre=False):
                self._voted(host, term, to)
            case VoteRequest(term, pre=False):
                self._voted(host, term, host.id)
            case AppendReply(term, match_index):
                self._matched(host, term, match_index, to)
            case _:
                return

    def _voted(self, host: "Host", term: int, candidate: int) -> None:
        durable = self.shadows[host.id].hard_state
        stands = durable.term > term or (durable.term == term and durable.vote == candidate)
        demand(
            stands, "durable votes", f"node {host.id} votes for {candidate} in {term}; stored is {durable}"
        )
        first = self._votes.setdefault((host.id, term), candidate)
        demand(
            first == candidate, "one vote a term", f"{host.id} votes for {first} and {candidate} in {term}"
        )

    def _matched(self, host: "Host", term: int, match_index: int, to: int) -> None:
        shadow = self.shadows[host.id]
        if shadow.hard_state.term > term:
            return  # what was durable in that term may have given way to a newer leader's in the same commit
        durable = shadow.last_index >= match_index and shadow.hard_state.term == term
        demand(durable, "durable acks", f"node {host.id} acks {match_index} in {term}, which is not synced")
        leader = self._hosts[to].process
        if leader is None or leader.core.term != term or leader.core.role is not Role.LEADER:
            return
        if match_index >= max(leader.core.log.prefix_index, shadow.prefix_index):
            same = shadow.term_at(match_index) == leader.core.log.term_at(match_index)
            demand(
                same, "log matching", f"node {host.id} acks {match_index} to {to}, where their logs differ"
            )

    # --- steps -----------------------------------------------------------------------------------

    def started(self, host: "Host") -> None:
        """A new process: it may have forgotten positions, never a term that it promised."""
        process = host.process
        assert process is not None
        self._positions[host.id] = (self.shadows[host.id].hard_state.term, 0, 0, 0)
        self._agree_on_state(host, process)

    def turned(self, host: "Host", process: "Process") -> None:
        """After each turn of a driver."""
        core, log = process.core, process.core.log
        if core.role is Role.LEADER and self._leader_of.get(core.term) != host.id:
            self._leads(host, process)
        before = self._positions[host.id]
        now = (core.term, log.committed, log.applied, process.machine.log_time_ms)
        if now == before:
            return
        demand(all(map(int.__ge__, now, before)), "nothing falls", f"node {host.id}: {before} -> {now}")
        if log.committed > before[1]:
            self._commits(host, process, before[1])
        if log.applied > before[2]:
            self._agree_on_state(host, process)
        self._positions[host.id] = now

    def _leads(self, host: "Host", process: "Process") -> None:
        core = process.core
        known = self._leader_of.setdefault(core.term, host.id)
        demand(known == host.id, "one leader a term", f"nodes {known} and {host.id} lead in {core.term}")
        # Raft 5.4.3 is about later terms. Votes that were long on their way may make a leader of an earlier
        # one: it lacks what a later leader has committed meanwhile, and commits nothing.
        last = self.last_committed
        while last and self._committed_in[last - 1] >= core.term:
            last -= 1
        if last > core.log.prefix_index:
            whole = core.log.term_at(last) == self.committed[last - 1].term
            text = f"node {host.id} leads in {core.term} without entry {last}@{self.committed[last - 1].term}"
            demand(whole, "leader completeness", text)

    def _agree_on_state(self, host: "Host", process: "Process") -> None:
        index = process.machine.applied_index
        digest = process.machine.digest()
        if index not in self._digests:
            host.note(f"is the first at {index}: {digest.hex()}")
        same = self._digests.setdefault(index, digest) == digest
        demand(same, "equal states", f"the state of node {host.id} at {index} differs")

    def _commits(self, host: "Host", process: "Process", seen: int) -> None:
        log = process.core.log
        for index in range(max(seen, log.prefix_index - 1) + 1, log.committed + 1):
            term = log.term_at(index)
            assert term is not None
            if index > self.last_committed:
                self._commit(index, term, process.core.term)
            else:
                ours = self.committed[index - 1].term
                text = f"node {host.id} commits {index}@{term}; committed is {index}@{ours}"
                demand(ours == term, "committed once", text)
        demand(log.committed <= self.last_committed, "committed once", "a snapshot of what is not committed")

    def _commit(self, index: int, term: int, in_term: int) -> None:
        demand(index == self.last_committed + 1, "committed once", f"entry {index} is committed out of turn")
        holders = self._holders.get((index, term), set())
        enough = 2 * len(holders) > len(self._hosts)
        demand(enough, "durable on a majority", f"{index}@{term} is committed, on {sorted(holders)} only")
        entry = self._chain[index, term][1]
        last = self.committed[-1] if self.committed else None
        dense = entry.base_offset == (last.next_offset if last else 0)
        demand(dense, "dense offsets", f"entry {index} begins at offset {entry.base_offset}")
        demand(
            entry.log_time_ms >= (last.log_time_ms if last else 0), "log time", f"it falls at entry {index}"
        )
        self._note_keys(entry)
        self.committed.append(entry)
        self._committed_in.append(in_term)

    def _note_keys(self, entry: Entry) -> None:
        """Each key once within its window, in a session once for ever; `key_at` is what offsets mean."""
        for place, key in enumerate(split_keys(entry.keys)):
            offset = entry.base_offset + place
            before = self._last_seen.get(key)
            if before is not None:
                forgotten = self._is_forgotten(before, offset, entry.log_time_ms) and entry.producer is None
                text = f"the event at offset {before} is committed again at {offset}"
                demand(forgotten, "exactly once", text)
                self._counts["dedup.again after its window"] += 1
            self._last_seen[key] = offset
            self.key_at.append(key)
            self._log_time_at.append(entry.log_time_ms)

    def may_repeat(self, earlier: int, later: int) -> bool:
        """Whether the key of one offset may have been forgotten at another."""
        return self._is_forgotten(earlier, later, self._log_time_at[later])

    def _is_forgotten(self, offset: int, at_offset: int, log_time_ms: int) -> bool:
        return self._is_over(log_time_ms - self._log_time_at[offset], at_offset - offset)

    def _is_over(self, age_ms: int, events: int) -> bool:
        """Whether a window may have forgotten by then; one that refuses forgets nothing for want of room."""
        dedup = self._dedup
        return 0 < dedup.ttl_ms <= age_ms or (dedup.when_full == "shrink" and events >= dedup.max_keys)

    # --- clients ---------------------------------------------------------------------------------

    def acked(self, host: "Host", keys: bytes, ranges: tuple[OffsetRange, ...]) -> None:
        """A node is about to say that these events are at these offsets."""
        offsets = (o for r in ranges for o in _offsets(r))
        for key, offset in zip(split_keys(keys), offsets, strict=True):
            if offset < 0:
                demand(key in self._last_seen, "acked is committed", f"node {host.id} acks what is nowhere")
                continue
            there = offset < len(self.key_at) and self.key_at[offset] == key
            demand(
                there, "acked is committed", f"node {host.id} acks offset {offset}, which is another event"
            )


def _offsets(found: OffsetRange) -> range | tuple[int, ...]:
    if found.base_offset < 0:
        return (-1,) * found.count
    return range(found.base_offset, found.base_offset + found.count)
