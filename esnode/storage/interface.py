"""The Protocol of a storage engine, and what it promises.

An engine keeps one node's hard state, one snapshot, and the log after it. It is synchronous and
single-threaded: `esnode/storage/worker.py` calls it from one worker thread at a time. It decides
nothing about Raft. `tests/storage/` holds every engine to the contract below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from esnode.raft.entry import Entry
from esnode.raft.log import TermRun
from esnode.raft.messages import HardState, Snapshot, Write

__all__ = ["Identity", "Recovered", "Storage", "TermRun", "pages"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data this is. Written once, when the directory is first used, and checked ever after."""

    cluster: str
    node_id: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a node finds when it starts.

    `prefix_index` and `prefix_term` are those of the snapshot, 0 and 0 without one; `last_index` is
    `prefix_index` when there are no entries. `commit` is the last hint that was stored: committed
    for certain, perhaps not all that was. `terms` are the runs of the entries after the prefix.
    """

    hard_state: HardState
    commit: int
    prefix_index: int
    prefix_term: int
    last_index: int
    terms: tuple[TermRun, ...]


class Storage(Protocol):
    """One node's disk.

    Durability contract:

    - When `write` returns, everything it was given is on disk and survives a crash of the process
      and of the machine: the file's data, the file's metadata, and the directory entries of files
      that were created. It is all or nothing for each `Write`, and in order: after a crash a
      prefix of the given writes is there, whole.
    - Term and vote are one record, never torn apart.
    - The first error of `write`, `cut_prefix` or `sync` raises `StorageFailed`; after that every
      call does. Nothing is retried on the same handle (a failed fsync drops dirty pages and marks
      them clean). The caller ends the process.
    - What was not acked by a returned `write` may be there or not after a crash, but never half.
      An unfinished tail is cut at the next open. Damage inside what was durable raises
      `DamagedRecord`, on open or on read; it is never skipped or cut.
    - Each record's CRC-32C is checked whenever it is read.
    """

    @property
    def identity(self) -> Identity:
        """Whose data this is."""
        ...

    def recover(self) -> Recovered:
        """What is there. Cheap: reads no payloads but the last entry's."""
        ...

    def write(self, writes: Sequence[Write]) -> None:
        """Make all `writes` durable, in order, with one fsync (group commit).

        Within each: the snapshot first (it replaces the whole log, entries after its index too),
        then the hard state, then the entries, after cutting away
        whatever is stored at or after the first one's index. The largest `commit` is kept.
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
        """The stored snapshot; raises `DamagedRecord` when its checksum does not match."""
        ...

    def cut_prefix(self, snapshot: Snapshot) -> None:
        """Store `snapshot` and drop the entries up to its index, in one transaction.

        The entry at the snapshot's index must be in the log (with its term).
        """
        ...

    def size_bytes(self) -> int:
        """What the log takes on disk, roughly."""
        ...

    def close(self) -> None:
        """Release files and locks. Idempotent."""
        ...


def pages(storage: Storage, first_index: int, last_index: int, max_bytes: int) -> Iterator[list[Entry]]:
    """All entries from `first_index` to `last_index`, a page of at most `max_bytes` at a time."""
    while first_index <= last_index:
        page = storage.read(first_index, last_index, max_bytes)
        if not page:
            return
        yield page
        first_index = page[-1].index + 1
