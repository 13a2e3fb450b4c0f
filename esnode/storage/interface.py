"""The Protocol of a storage engine, and what it promises.

An engine keeps one node's hard state, one snapshot, and the log after it. It is synchronous and
single-threaded: `esnode/storage/worker.py` calls it from one worker thread at a time. It decides
nothing about Raft. `tests/storage/` holds every engine to the contract below.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from esnode.apply import Checkpoint, whole_state
from esnode.dedup.keychunk import ChunkSource
from esnode.dedup.keysegment import IndexSource
from esnode.raft.entry import Entry
from esnode.raft.log import TermRun
from esnode.raft.messages import HardState, NodeId, Snapshot, Write

__all__ = ["Distrust", "Identity", "Recovered", "Storage", "TermRun", "pages"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data this is. Written once, when the directory is first used, and checked ever after.

    `members` are the ids of all voters, ascending; empty for whoever looks at a directory without running a
    node on it. A node votes and counts by them, so a directory belongs to one list for ever.
    """

    cluster: str
    node_id: int
    members: tuple[int, ...] = ()
    partition: int = 0


class Distrust(enum.StrEnum):
    """Why a disk is not to be believed, the least grave first. Several at once count as the gravest."""

    COPY = "copy"
    """The directory is a copy, perhaps an old one: its log is whole."""
    PEERS = "peers"
    """The other nodes know another directory of this node."""
    OLDER = "older"
    """The node has had more than is stored: an older state was put back in place."""
    OPERATOR = "operator"
    """The operator has said so."""
    DAMAGE = "damage"
    """Something is not what was written: the log was put aside."""

    def added_to(self, before: "Distrust | None") -> "Distrust":
        """What counts from now on where `before` was noted already."""
        return self if before is None else max(self, before, key=list(Distrust).index)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a node finds when it starts.

    `prefix_index`, `prefix_term` and `prefix_offset` (of the next event) are those of the snapshot, all 0
    without one; `last_index` is `prefix_index` when there are no entries. `commit` is the last hint that
    was stored: committed for certain, perhaps not all that was, and never outside the log. `terms` are the
    runs of the entries after the prefix. `rejoining`: this disk has lost something, or may have; until a
    write says `rejoined`, nothing that it does not hold means anything.
    """

    hard_state: HardState
    commit: int
    prefix_index: int
    prefix_term: int
    last_index: int
    terms: tuple[TermRun, ...]
    prefix_offset: int = 0
    rejoining: bool = False


class Storage(Protocol):
    """One node's disk.

    Durability contract:

    - When `write` or `cut_prefix` returns, everything it was given is on disk and survives a crash of
      the process and of the machine: the file's data, the file's metadata, and the directory entries of
      files that were created. One `write` is all or nothing, and writes are in order: after a crash a
      prefix of them is there, whole.
    - Term and vote are one record, never torn apart.
    - The first error of the disk raises `StorageFailed`, or `FilesGone` where that is the reason; after
      that every call but `close` raises the same. Nothing is retried on the same handle (a failed fsync
      drops dirty pages and marks them clean). The caller ends the process.
    - What `recover` tells of is durable by then, even where a killed process left it in the system's
      cache only: the node will speak of it to others.
    - What was not acked by a returned `write` may be there or not after a crash, but never half.
      An unfinished tail is cut at the next open. Damage inside what was durable raises
      `DamagedRecord`, on open, on read, or on a write that meets it; it is never skipped or cut.
    - Each record's CRC-32C is checked whenever it is read.
    - A disk that has begun to rejoin stays so, whatever crashes, until a write with `rejoined` is durable.
    - What cannot follow what is stored (a gap, an entry that replaces a committed one, a term that
      falls, a second vote in a term) is a `Bug`, and changes nothing.
    """

    @property
    def identity(self) -> Identity:
        """Whose data this is."""
        ...

    @property
    def directory(self) -> bytes:
        """16 bytes that name this very directory: new at first use, and whenever it begins to rejoin."""
        ...

    @property
    def peer_directories(self) -> Mapping[NodeId, bytes]:
        """The `directory` of each peer that was remembered here. May be called from any thread."""
        ...

    def remember_peer(self, peer: NodeId, directory: bytes) -> None:
        """Remember durably that `peer` has this directory, instead of another one."""
        ...

    @property
    def peers_reached(self) -> Mapping[NodeId, int]:
        """Up to where each peer once held the log durably, as was remembered here. From any thread."""
        ...

    def remember_reached(self, reached: Mapping[NodeId, int]) -> None:
        """Remember that durably, instead of what was remembered before. May run in another thread."""
        ...

    @property
    def last_index(self) -> int:
        """Where the log ends, durably. May be called from any thread."""
        ...

    @property
    def distrust(self) -> Distrust | None:
        """Why this disk is `rejoining`; None when it is not. May be called from any thread."""
        ...

    def recover(self) -> Recovered:
        """What is there. Costs the same however long the log is: reads no record but the last."""
        ...

    def write(self, writes: Sequence[Write]) -> None:
        """Make all `writes` durable, in order, with one fsync (group commit).

        Within each: the snapshot first (it replaces the whole log), then the hard state, then the
        entries, after cutting away whatever is stored at or after the first one's index. The largest
        `commit` is kept; a write with nothing else costs no fsync, and its hint goes to disk with the
        next one. Once one with `rejoined` is durable, the disk is no longer `rejoining`.
        """
        ...

    def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """Entries from `first_index` to at most `last_index`, in order, without gaps.

        Stops before the record that would pass `max_bytes`, but gives at least one entry if the
        first is there. Empty when `first_index` is not in the log.
        """
        ...

    def index_of_offset(self, offset: int) -> int:
        """The index of the entry that holds event `offset`.

        Before the first kept event: the first kept entry. After the last: `last_index + 1`.
        """
        ...

    def load_snapshot(self) -> Snapshot | None:
        """The stored snapshot; raises `DamagedRecord` when its checksum does not match.

        May run in another thread while the engine works: a large one takes long to read.
        """
        ...

    def stage_snapshot(self, snapshot: Snapshot) -> None:
        """Put the bytes of `snapshot` on disk, ahead of the `cut_prefix` that is given the same object.

        May run in another thread while the engine works: a large snapshot takes long to write, and
        commits need not wait for it. Changes nothing by itself.

        The chunks of keys that it names (`sealed_in`) have been kept (`keep_keys`); they are durable before
        it is, and stay for as long as it is the stored one.
        """
        ...

    def cut_prefix(self, snapshot: Snapshot) -> None:
        """Store `snapshot` and drop the entries up to its index, all or nothing.

        The entry at the snapshot's index must be in the log, with its term; where the prefix already
        reaches that far (a leader's snapshot came first), nothing is done. The space that the dropped
        entries took is used again bit by bit (`tend`).
        """
        ...

    def keep_keys(self, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        """Put sealed chunks of keys on disk, ahead of the checkpoint that goes by them.

        May run in another thread, as `stage_snapshot`. Changes nothing by itself.
        """
        ...

    def holding_keys(self, first_chunk: int) -> AbstractContextManager[None]:
        """While the block lasts, no chunk of keys from this number on is removed: a snapshot that is not
        stored yet needs them. May be called from any thread."""
        ...

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put `checkpoint` in place of the last one. May run in another thread, too.

        The entry at its index is durable and applied; its chunks of keys are kept. Those before them that
        the snapshot does not need, and nobody holds, are removed.
        """
        ...

    def load_checkpoint(self) -> Checkpoint | None:
        """The last one, if there is any. Raises `DamagedRecord` where it is not what was written: a
        checkpoint is no part of the log, and the log says the same."""
        ...

    def kept_keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """The chunks of keys of these numbers, as they are on disk: whoever reads them checks them.

        Raises `DamagedRecord` when one is missing.
        """
        ...

    def chunk_source(self, number: int) -> ChunkSource:
        """Where the chunk of keys of this number is on disk, for reading parts of it. May be called from any
        thread. Raises `StorageFailed`, `DamagedRecord` where it is not there."""
        ...

    def keep_index(self, end_chunk: int, parts: Sequence[bytes | memoryview]) -> None:
        """Put the index of a segment of chunks on disk, the last one of which is before `end_chunk`.

        May run in another thread. Changes nothing by itself, and goes with the chunks.
        """
        ...

    def index_source(self, end_chunk: int) -> IndexSource | None:
        """Where that is on disk, for reading parts of it; None where there is none. Whoever reads it checks
        it. May be called from any thread. Raises `StorageFailed`."""
        ...

    def size_bytes(self) -> int:
        """The length of all records in the log. May be called from any thread."""
        ...

    def tend(self) -> bool:
        """Do a small piece of the work that may wait; True when more of it is left.

        Checkpoints and the deletion of dropped entries: a few milliseconds at most, between writes,
        after what is durable was acked. An engine that is never tended does the necessary in `write`.
        """
        ...

    def sync_mark(self) -> None:
        """Make durable what tells a torn end of the log from a damaged one. May run in another thread.

        Where this is called now and then, what a power cut tears and what was durable for longer than that
        are told apart.
        """
        ...

    def check_files(self) -> None:
        """Raise `FilesGone` where the directory or a file of it was removed or replaced since it was opened.

        What is written after that is acked and lost: nobody finds it again. Costs a few system calls.
        """
        ...

    def close(self) -> None:
        """Release files and locks. Idempotent; waits for a call that is under way in another thread."""
        ...


def pages(storage: Storage, first_index: int, last_index: int, max_bytes: int) -> Iterator[list[Entry]]:
    """All entries from `first_index` to `last_index`, a page of at most `max_bytes` at a time."""
    while first_index <= last_index:
        page = storage.read(first_index, last_index, max_bytes)
        if not page:
            return
        yield page
        first_index = page[-1].index + 1


@contextmanager
def whole_snapshot(storage: Storage) -> Iterator[tuple[Snapshot | None, Iterator[bytes]]]:
    """The stored snapshot, and its state with all keys, in pieces; what it needs stays meanwhile.

    May run in another thread. Raises `DamagedRecord`, the pieces too.
    """
    with storage.holding_keys(0):
        snapshot = storage.load_snapshot()
        yield snapshot, iter(()) if snapshot is None else whole_state(snapshot.data, storage)


def check_snapshot(storage: Storage) -> None:
    """Read the snapshot and the chunks of keys that it names. Raises `DamagedRecord`."""
    with whole_snapshot(storage) as (_, pieces):
        for _ in pieces:
            pass


def resized(pieces: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in pieces of this size; the last one may be shorter."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size_bytes:
            yield bytes(waiting[:size_bytes])
            del waiting[:size_bytes]
    if waiting:
        yield bytes(waiting)
