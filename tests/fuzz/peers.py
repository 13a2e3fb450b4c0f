"""The door of the peers: what an authenticated node may say, true or not, to a live core in each role.

A message goes as bytes through frame, decoder and the replication's filter, so what is wrong in itself
ends the connection there. What gets through may contradict this node's own history: then, and only then,
the process may end, with an error that names the contradiction, and its disk must open again. Used by
`targets`.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Final

from esnode import limits
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.errors import (
    Bug,
    DamagedRecord,
    FrameTooLarge,
    HistoryConflict,
    NewerFormat,
    ProtocolError,
)
from esnode.messages import Append
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import (
    ORIGIN,
    AppendEntries,
    AppendReject,
    AppendReply,
    Beat,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    LogPoint,
    OpenProducer,
    PartReceived,
    PeerClosed,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    Propose,
    ReadIndex,
    Received,
    Rejoin,
    RejoinReply,
    Role,
    Snapshot,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
)
from esnode.replication.outbox import Outbox
from esnode.replication.replication import _peer_message
from esnode.wire import FetchKeys, FragmentAssembler, FrameReader, KeyChunk, SnapshotAssembler, chunks, encode

from . import samples
from .node import LOG, LiveNode
from .source import Source
from .target import told

ROLES: Final = (Role.FOLLOWER, Role.LEADER, Role.CANDIDATE, Role.PRE_CANDIDATE)
MAX_EVENTS: Final = 24
SESSION: Final = re.compile(r"^producer \d+ is at \d+, not at")
"""An entry of a session, out of its sequence: seen only when it is applied, so it may be on the disk."""
CONTRADICTIONS: Final = re.compile(
    "^two leaders in term"
    "|cannot follow what ends at"  # the first entry after what is held: only the log knows
    r"|^node \d has committed entry \d+ of term .*; node \d, which leads, has entry"
    f"|{SESSION.pattern}"
)
"""The errors that a lie may bring about: what it contradicts is in this node's own log."""


def core(data: bytes) -> str:
    """Byte 0: role, and whether the prefix is cut, writes are durable at once, the node rejoins."""
    source = Source(data)
    how = source.byte()
    node = LiveNode(rejoining=how & 35 == 32)
    node.become(ROLES[how % len(ROLES)])
    if how & 4:
        node.persist()
    if how & 8:
        node.cut_prefix()
    liar = _Liar(node, source)
    word = "lived"
    for _ in range(MAX_EVENTS):
        if not source:
            break
        try:
            liar.next(at_once=bool(how & 16))
        except (Bug, HistoryConflict) as error:
            if not CONTRADICTIONS.search(str(error)):
                raise
            word = f"ended {told(error)}"
            break
        except (DamagedRecord, NewerFormat) as error:
            word = f"ended {told(error)}"
            break
    try:
        node.starts_again()
    except Bug as error:
        if not SESSION.search(str(error)):
            raise
    return f"{word} {node.core.role.value} {'+'.join(sorted(liar.said))}"


class _Liar:
    """Two peers that say anything, and the node's own inputs in between."""

    def __init__(self, node: LiveNode, source: Source) -> None:
        self._node = node
        self._source = source
        self._assemblers = FragmentAssembler(), SnapshotAssembler()
        self._tokens = 0
        self.said: set[str] = set()

    def next(self, *, at_once: bool) -> None:
        """One thing happens."""
        what = self._source.byte()
        if what < 64:
            self._own_input(what)
        else:
            sender = 2 + what % 2
            for message in self._through_the_wire(self._message(what)):
                self.said.add(type(message).__name__)
                self._node.step(Received(sender, message))
        if at_once:
            self._node.persist()

    def _through_the_wire(self, message: PeerMessage) -> list[PeerMessage]:
        """What of it arrives: nothing, when the connection was ended for it."""
        parts = list(chunks(message)) if isinstance(message, InstallSnapshot) else [message]
        stream = bytearray(b"".join(encode(part) for part in parts))
        noise = self._source.byte()
        if 224 <= noise < 240:
            outbox = Outbox()
            outbox.put_bulk((bytes(stream),), len(stream))
            stream = bytearray(b"".join(part for _ in stream for part in outbox.take(noise - 192)))
        if noise >= 240:
            stream[self._source.byte() % len(stream)] = self._source.byte()
        arrived = []
        try:
            for part in FrameReader().feed(bytes(stream)):
                whole = _peer_message(part, *self._assemblers)
                if not isinstance(whole, FetchKeys | KeyChunk | None):
                    arrived.append(whole)
        except (ProtocolError, FrameTooLarge, DamagedRecord):
            self._assemblers = FragmentAssembler(), SnapshotAssembler()
            self.said.add("nonsense")
        return arrived

    # --- the node's own inputs -----------------------------------------------------------------

    def _own_input(self, what: int) -> None:
        node, peer = self._node, 2 + what % 2
        self._tokens += 1
        match what % 11:
            case 0:
                node.step(Tick(100))
            case 1:
                node.step(Beat() if what < 32 else PartReceived(peer))
            case 2:
                node.persist()
            case 3:
                node.step(Propose(self._tokens, self._batch()))
            case 4:
                node.step(ReadIndex(self._tokens))
            case 5:
                node.step(PeerClosed(peer))
            case 6:
                node.step(PeerConnected(peer))
            case 7:
                node.step(PeerUnreachable(peer))
            case 8:
                node.step(Transfer(peer if what < 32 else None))
            case 9:
                node.step(OpenProducer(self._tokens))
            case _:
                node.cut_prefix()

    def _batch(self) -> Batch:
        """What any client may send: ids that were seen or not, a session that is there or not."""
        source = self._source
        names = [f"{'abxn'[source.byte() % 4]}{source.byte() % 8}" for _ in range(1 + source.byte() % 3)]
        stamp = None
        if source.byte() % 2:
            producer_id, sequence = max(1, source.number((2, 5, 7))), source.number((0, 2, 4, 1))
            stamp = ProducerStamp(
                min(producer_id, limits.MAX_INDEX),
                source.byte() % 3,
                min(sequence, limits.MAX_INDEX),
                len(names),
            )
        sent = FrameReader().feed(encode(Append(self._tokens, samples.batch(*names, stamp=stamp))))
        assert isinstance(sent[0], Append)
        return sent[0].batch

    # --- what a peer says ----------------------------------------------------------------------

    def _message(self, what: int) -> PeerMessage:
        kinds: tuple[Callable[[], PeerMessage], ...] = (
            self._append,
            self._append,
            self._vote_request,
            self._vote_reply,
            self._reply,
            self._reject,
            self._heartbeat,
            self._heartbeat_reply,
            self._snapshot,
            lambda: TimeoutNow(self._term()),
            lambda: Rejoin(self._source.number((1, 99))),
            self._rejoin_reply,
        )
        return kinds[what // 2 % len(kinds)]()

    def _term(self) -> int:
        term = self._node.core.term
        return self._source.number((term, term, term, term + 1, 1))

    def _index(self) -> int:
        log = self._node.core.log
        return self._source.number(
            (log.last_index, log.committed, log.prefix_index, log.applied, log.durable)
        )

    def _term_at(self, index: int) -> int:
        known = self._node.core.log.term_at(index)
        return self._source.number((known or 0, known or 0, known or 0, 1, self._node.core.term))

    def _append(self) -> AppendEntries:
        prev_index = min(self._index(), 2**62)
        prev_term = self._term_at(prev_index)
        term = self._term()
        entries = self._entries(prev_index, prev_term, term)
        return AppendEntries(term, prev_index, prev_term, self._index(), entries)

    def _entries(self, prev_index: int, prev_term: int, term: int) -> tuple[Entry, ...]:
        """Entries that follow, each with at most one lie in it."""
        held = LOG[prev_index - 1] if 0 < prev_index <= len(LOG) else None
        end = self._node.core.log.end
        next_offset = held.next_offset if held else end.next_offset if prev_index else 0
        log_time_ms = held.log_time_ms if held else end.log_time_ms
        made: list[Entry] = []
        for _ in range(self._source.byte() % 4):
            entry = self._entry(
                prev_index + 1 + len(made), max(1, term - (not made)), next_offset, log_time_ms
            )
            made.append(entry)
            next_offset, log_time_ms = min(entry.next_offset, 2**62), min(entry.log_time_ms, 2**62)
        return tuple(made)

    def _entry(self, index: int, term: int, next_offset: int, log_time_ms: int) -> Entry:
        source = self._source
        lie = source.byte()
        batch = samples.batch(f"x{source.byte() % 8}", "y") if lie & 1 else None
        kind = EntryKind.BATCH if batch else EntryKind.NOOP if lie & 2 else EntryKind.PRODUCER
        stamp = None
        if lie >= 64:
            lied = lie % 8
            index = source.number((index,)) if lied == 2 else index
            term = source.number((term, term - 1, term + 1)) if lied == 3 else term
            next_offset = source.number((next_offset,)) if lied == 4 else next_offset
            log_time_ms = source.number((log_time_ms - 1, 0)) if lied == 5 else log_time_ms + 1
            kind = source.pick(tuple(EntryKind)) if lied == 6 else kind
            if lied == 7 and batch:
                number = (2, 5, 1)
                sequence, covered = source.number((0, 2)), source.number((2, 1)) % 2**32
                stamp = ProducerStamp(source.number(number), source.byte() % 3, sequence, covered)
        return seal(
            index=index,
            term=term,
            kind=kind,
            base_offset=next_offset,
            log_time_ms=log_time_ms,
            count=batch.count if batch else 0,
            keys=batch.keys if batch else b"",
            payload=batch.payload if batch else b"",
            producer=stamp,
        )

    def _vote_request(self) -> VoteRequest:
        flags = self._source.byte()
        index = self._index()
        return VoteRequest(self._term(), index, self._term_at(index), bool(flags & 1), bool(flags & 2))

    def _vote_reply(self) -> VoteReply:
        flags = self._source.byte()
        return VoteReply(self._term(), bool(flags & 1), bool(flags & 2))

    def _reply(self) -> AppendReply:
        return AppendReply(self._term(), self._index())

    def _reject(self) -> AppendReject:
        rejected, hint = self._index(), self._index()
        return AppendReject(self._term(), rejected, hint, self._term_at(hint))

    def _heartbeat(self) -> Heartbeat:
        term, commit, probe = self._term(), self._index(), self._source.number((0, 1))
        return Heartbeat(term, commit, probe, self._point() if probe > 1 else ORIGIN)

    def _heartbeat_reply(self) -> HeartbeatReply:
        term, probe = self._term(), self._source.number((0, 1))
        return HeartbeatReply(term, probe, self._point() if probe > 1 else ORIGIN)

    def _point(self) -> LogPoint:
        """What it has applied, it says."""
        index = self._index()
        return LogPoint(index, self._term_at(index), (self._index() >> 1) - 1, self._source.byte() - 1)

    def _rejoin_reply(self) -> RejoinReply:
        nonce, index = self._source.number((1, 99)), self._index()
        return RejoinReply(self._term(), nonce, self._source.byte() < 128, index, self._term_at(index))

    def _snapshot(self) -> InstallSnapshot:
        """The node's own, one of a longer log, or nonsense in a snapshot's clothes."""
        source = self._source
        how = source.byte()
        if how < 128:
            found = _longer_log(how % 3)
        else:
            place = (self._index(), source.number((1, 4, 5)), source.number((8, 0)), source.number((60, 0)))
            found = Snapshot(*place, source.take(source.byte()))
        if 32 <= how < 64:
            found = dataclasses.replace(found, index=self._index())
        if 64 <= how < 80:
            found = dataclasses.replace(found, term=self._term())
        if 80 <= how < 100 and found.data:
            bent = bytearray(found.data)
            bent[source.byte() % len(bent)] ^= source.byte() or 1
            found = dataclasses.replace(found, data=bytes(bent))
        return InstallSnapshot(self._term(), found)


def _longer_log(which: int) -> Snapshot:
    """What a machine says of a log that goes on."""
    from .stored import machine_of

    return machine_of((1, 1, 1, 2, 2, 4, 5, 5, 5)[: (6, 9, 4)[which]]).snapshot()


_APPEND_AT_END: Final = bytes([72, 0, 0, 0])
"""By node 2, in the current term, after the last entry that is held."""


def core_seeds() -> list[bytes]:
    """Every role, and each kind of message in it, told truthfully for the most part."""
    begun = [bytes([role | how]) for role in range(4) for how in (0, 4, 12, 28)] + [b"\x20", b"\x38"]
    spoken = [bytes([64 + 2 * kind, *[0] * 12]) for kind in range(12)]
    own = bytes(range(1, 12))
    seeds = [head + one * 2 for head in begun for one in spoken]
    seeds += [head + b"".join(spoken) + own + spoken[0] for head in begun]
    # An append at the end of the log: how many entries, then for each its lie, its name and a number.
    entries = [bytes([lie, 1, number]) for lie in (0, 1, 2, *range(64, 80)) for number in (0, 170, 230)]
    seeds += [head + _APPEND_AT_END + bytes([1]) + one * 2 for head in begun[:4] for one in entries]
    seeds += [head + (_APPEND_AT_END + bytes([3, 1, 1, 1, 2, 1, 1, 0, 0, 0])) * 2 for head in begun]
    return seeds
