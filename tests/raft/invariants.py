"""What must hold at every step, over all nodes and all time; a breach is an AssertionError.

It keeps what no node may forget: leaders, votes, the content behind each (index, term), what was
committed. It only looks. Called by the network after everything it does.
"""

from typing import TYPE_CHECKING

from esnode.dedup.batch import split_keys
from esnode.raft.entry import Entry
from esnode.raft.messages import AppendReply, PeerMessage, Role, VoteReply, VoteRequest, Write
from esnode.raft.quorum import majority

if TYPE_CHECKING:
    from .network import Node


class Invariants:
    """The memory of the whole cluster."""

    def __init__(self, nodes: "dict[int, Node]") -> None:
        self.nodes = nodes
        self.leader_of: dict[int, int] = {}
        self.votes: dict[tuple[int, int, int], int] = {}
        """By node, life and term: a lost disk has lost its votes, and nobody may count them any more."""
        self.chain: dict[tuple[int, int], tuple[int, bytes]] = {}
        """(index, term) -> the term before it, and its bytes: equal everywhere is log matching."""
        self.committed: list[Entry] = []
        self.offsets: dict[bytes, int] = {}
        self.digests: dict[int, bytes] = {}
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._to_regain: dict[int, int] = {}
        """By rejoining node: what was committed when it lost its disk."""

    @property
    def last_committed(self) -> int:
        return len(self.committed)

    def committed_term(self, index: int) -> int:
        return self.committed[index - 1].term if index else 0

    def wrote(self, node: "Node", write: Write) -> None:
        """A node hands entries to its disk: they are now part of its log."""
        for entry in write.entries:
            before = node.core.log.term_at(entry.index - 1)
            assert before is not None
            known = self.chain.setdefault((entry.index, entry.term), (before, entry.record))
            assert known == (before, entry.record), f"two entries {entry.index}@{entry.term}"
        if write.entries:
            unapplied = node.core.log.unapplied()
            keys = [key for entry in unapplied for key in split_keys(entry.keys)]
            assert len(keys) == len(set(keys)), f"the log of {node.id} holds a key twice"
            twice = [key for key in keys if key in node.machine.offsets]
            assert not twice, f"the log of {node.id} holds an applied key again"

    def left(self, node: "Node", to: int, message: PeerMessage) -> None:
        """A message leaves a node: what it claims must be durable."""
        match message:
            case VoteReply(term, granted=True, pre=False):
                self._voted(node, term, to)
            case VoteReply(granted=True, pre=True):
                assert not node.core.rejoining, f"{node.id} has no vote to promise"
            case VoteRequest(term, pre=False):
                if node.disk.hard_state.vote == node.id:
                    self._voted(node, term, node.id)
            case AppendReply(term, match_index):
                assert node.disk.last_index >= match_index, f"{node.id} acks what is not durable"
                assert node.disk.hard_state.term >= term
                leader = self.nodes[to]
                if leader.up and leader.core.term == term and leader.core.role is Role.LEADER:
                    held = node.disk.term_at(match_index)
                    if match_index >= max(leader.core.log.prefix_index, node.disk.prefix_index):
                        assert held == leader.core.log.term_at(match_index), "a match that is none"

    def _voted(self, node: "Node", term: int, candidate: int) -> None:
        durable = node.disk.hard_state
        assert durable.term > term or (durable.term == term and durable.vote == candidate), (
            "a vote not durable"
        )
        assert not node.disk.rejoining, f"{node.id} votes before its disk is sound"
        assert self.votes.setdefault((node.id, node.life, term), candidate) == candidate, (
            f"{node.id} voted twice in {term}"
        )

    def applied(self, node: "Node", entries: tuple[Entry, ...]) -> None:
        """A node has applied entries, in order, each the one that is committed there."""
        for entry in entries:
            known = self.committed[entry.index - 1]
            assert known.record == entry.record, f"{node.id} applies another entry {entry.index}"
        index = node.machine.index
        if entries:
            digest = node.machine.digest()
            assert self.digests.setdefault(index, digest) == digest, (
                f"the state of {node.id} at {index} differs"
            )

    def stepped(self, node: "Node") -> None:
        """After every step of a node."""
        core = node.core
        log = core.log
        if core.role is Role.LEADER:
            first = core.term not in self.leader_of
            assert self.leader_of.setdefault(core.term, node.id) == node.id, f"two leaders of {core.term}"
            if first:
                self._is_complete(node)
        if not core.rejoining and node.id in self._to_regain:
            self._holds_all(node, self._to_regain.pop(node.id), "rejoined too early")
        positions = (core.term, log.committed, log.applied)
        before = self._seen.get(node.id, (0, 0, 0))
        assert all(now >= then for now, then in zip(positions, before, strict=True)), "something fell"
        self._commits(node, before[1])
        self._seen[node.id] = positions

    def restarted(self, node: "Node") -> None:
        """A restart may forget positions, never a term that was promised."""
        self._seen.pop(node.id, None)
        if node.core.rejoining:
            self._to_regain.setdefault(node.id, self.last_committed)

    def _is_complete(self, node: "Node") -> None:
        assert not node.disk.rejoining, "a leader whose disk is not sound"
        self._holds_all(node, self.last_committed, "a leader lacks committed entries")

    def _holds_all(self, node: "Node", last: int, complaint: str) -> None:
        log = node.core.log
        assert last <= log.prefix_index or log.term_at(last) == self.committed_term(last), complaint

    def _commits(self, node: "Node", seen: int) -> None:
        log = node.core.log
        for index in range(max(seen, log.prefix_index - 1) + 1, log.committed + 1):
            term = log.term_at(index)
            assert term is not None
            if index <= self.last_committed:
                assert self.committed_term(index) == term, f"{node.id} commits another entry {index}"
            else:
                self._commit(index, term)
        assert log.committed <= self.last_committed, "a snapshot of what is not committed"

    def _commit(self, index: int, term: int) -> None:
        assert index == self.last_committed + 1
        holders = [node.id for node in self.nodes.values() if node.disk.held(index, term)]
        assert len(holders) >= majority(len(self.nodes)), f"{index}@{term} committed, durable on {holders}"
        entry = next(
            node.disk.entries[index]
            for node in self.nodes.values()
            if index in node.disk.entries and node.disk.entries[index].term == term
        )
        assert self.chain[index, term][1] == entry.record
        last = self.committed[-1] if self.committed else None
        assert entry.base_offset == (last.next_offset if last else 0), "offsets are not dense"
        assert entry.log_time_ms >= (last.log_time_ms if last else 0), "log time fell"
        for position, key in enumerate(split_keys(entry.keys)):
            assert key not in self.offsets, "a key is committed twice"
            self.offsets[key] = entry.base_offset + position
        self.committed.append(entry)
