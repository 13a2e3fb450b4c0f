"""One good message of every kind, and entries that follow each other: what the mutations begin with."""

import cbor2

from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp, event_key
from esnode.messages import (
    PROTOCOL_VERSION,
    Append,
    Appended,
    ExplainKey,
    FaultsReply,
    Goodbye,
    HealFault,
    Hello,
    KeyExplained,
    LeaderIs,
    ListFaults,
    OpenProducerSession,
    ProducerOpened,
    Read,
    Records,
    Refused,
    SetFault,
    Side,
    StatusReply,
    StatusRequest,
    Subscribe,
    TransferLeadership,
    Transferred,
    Welcome,
)
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    LogPoint,
    Rejoin,
    RejoinReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from esnode.wire import Message, encode
from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotChunk
from esnode.wire.layout import LENGTH_BYTES

CLUSTER = "fuzz"
BEAT = encode(Heartbeat(3, 6, 1))[LENGTH_BYTES:]


def batch(*names: str, stamp: ProducerStamp | None = None) -> Batch:
    """Events of these ids."""
    encoded = [cbor2.dumps({"id": name, "source": "s", "type": "t"}) for name in names]
    keys = b"".join(event_key("s", name) for name in names)
    return Batch(len(names), keys, cbor2.dumps(encoded), stamp)


def chain(terms: tuple[int, ...], index: int = 1, base_offset: int = 0, log_time_ms: int = 0) -> list[Entry]:
    """Entries in a row, one for each term: no-ops where a term begins, a session, else batches."""
    made: list[Entry] = []
    before = 0
    for term in terms:
        number = index + len(made)
        kind = EntryKind.NOOP if term != before else EntryKind.PRODUCER if number == 2 else EntryKind.BATCH
        stamp = ProducerStamp(2, 1, 0, 2) if number == 3 else None
        events = batch(f"a{number}", f"b{number}", stamp=stamp) if kind is EntryKind.BATCH else None
        made.append(
            seal(
                index=number,
                term=term,
                kind=kind,
                base_offset=base_offset,
                log_time_ms=log_time_ms + 10 * number,
                count=events.count if events else 0,
                keys=events.keys if events else b"",
                payload=events.payload if events else b"",
                producer=stamp if events else None,
            )
        )
        base_offset, before = made[-1].next_offset, term
    return made


def hello() -> Hello:
    """Node 2 calls node 1."""
    version = PROTOCOL_VERSION
    settings = (b"m" * 16, "1, 2, 3", b"d" * 16, "ttl_ms = 600000")
    return Hello(Side.PEER, version, version, CLUSTER, 2, 1, 77, bytes(16), False, *settings, 5, 4)


def welcome() -> Welcome:
    """Node 1 answers."""
    return Welcome(PROTOCOL_VERSION, CLUSTER, 1, 99)


def messages() -> list[Message]:
    """One of each type at least."""
    entries = chain((1, 1, 1, 2))
    return [
        hello(),
        Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 5),
        welcome(),
        Goodbye("ES2004", "another cluster"),
        LeaderIs(3, 2, "127.0.0.1:7102"),
        Append(1, batch("a", "b")),
        Append(2, batch("c", stamp=ProducerStamp(2, 1, 4, 1)), run=3),
        Appended(1, (OffsetRange(5, 2), OffsetRange(-1, 1)), 1),
        Refused(4, "ES1101", "full"),
        OpenProducerSession(5),
        OpenProducerSession(5, "billing-1", 2, 77),
        ProducerOpened(5, 2, 1),
        ProducerOpened(5, 2, 3, 41, 99),
        Read(6, 3, 100, 4096, linearizable=True),
        Subscribe(7, 0),
        Records(7, 0, 4, -1, tuple(entry.record for entry in entries[1:])),
        StatusRequest(8),
        StatusReply(8, {"role": "leader", "term": 3, "lag": [1, 2.5, None], "of": {"a": True}}),
        TransferLeadership(9, 2),
        Transferred(9, 2, 4),
        ExplainKey(10, event_key("s", "a")),
        KeyExplained(10, 5, 1000),
        SetFault(11, "cut-1", "delay", [2, 3], "out", {"delay_ms": 20, "jitter_ms": 5}, 1000),
        HealFault(12, "cut-1"),
        ListFaults(13),
        FaultsReply(13, [{"id": "cut-1", "kind": "delay", "peers": [2], "hits": 3}]),
        VoteRequest(3, 7, 2, pre=False, transfer=True),
        VoteReply(3, granted=True, pre=True),
        AppendEntries(2, 0, 0, 2, tuple(entries)),
        AppendEntries(4, 4, 2, 3, tuple(chain((4, 4), 5, 4, 100))),
        AppendReply(3, 7),
        AppendReject(3, 7, 5, 2),
        Heartbeat(3, 6, 1, LogPoint(6, 2, 8, 60)),
        HeartbeatReply(3, 1, LogPoint(5, 2, 7, 50)),
        TimeoutNow(3),
        TimeoutNow(3, asked=True),
        Rejoin(99),
        RejoinReply(3, 99, sound=True, last_index=7, last_term=2),
        SnapshotChunk(3, 6, 2, 8, 60, 10, 0, b"01234"),
        SnapshotChunk(3, 6, 2, 8, 60, 10, 5, b"56789"),
        Fragment(len(BEAT), 0, BEAT[:9]),
        Fragment(len(BEAT), 9, BEAT[9:]),
        FetchKeys(7, (b"d" * 16, b"e" * 16)),
        KeyChunk(7, b""),
    ]
