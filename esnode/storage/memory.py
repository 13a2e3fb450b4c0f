"""A disk in memory, with faults on demand, and the engine on it: for simulation, tests, and trials.

A `MemoryDisk` outlives the `MemoryStorage` objects that are opened on it one after the other. Its log is
a journal of frames, one a write call, each with a CRC-32C. Decides what a crash leaves: the disk has two
images, `cache` (what the process has written) and `synced` (what survives). No clock, and no randomness
but the `random.Random` that a fault is given. Never used for data that must last.
"""

import hashlib
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import google_crc32c

from esnode.errors import CopiedDirectory, DirectoryInUse, StorageFailed, WrongDirectory
from esnode.raft.messages import NodeId, Snapshot, Write
from esnode.storage.checkpoints import CheckpointImage, MemoryCheckpoints
from esnode.storage.directory import check_trust
from esnode.storage.interface import Distrust, Identity
from esnode.storage.logoutline import Change, Contents, Row, Stamp, fold
from esnode.storage.snapshotfile import HEAD_BYTES, head_of, parse_snapshot
from esnode.storage.storedlog import StoredLog, closed_on_error

SECTOR_BYTES: Final = 512

# length of the body u32 | crc of the body u32
_FRAME: Final = struct.Struct(">II")
# cut_from u64 (0: none) | prefix_index u64 | length of state u32, of terms u32 (0: stays) | rows u32
_BODY: Final = struct.Struct(">QQIII")
# index u64 | base_offset u64 | number u64 | commit u64 | position u64 | crc u32 | length of the record u32
_ROW: Final = struct.Struct(">QQQQQII")


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A copy of all that was durable on a `MemoryDisk`."""

    identity: Identity | None
    directory: bytes
    distrust: Distrust | None
    peers: Mapping[NodeId, bytes]
    reached: Mapping[NodeId, int]
    mark: int
    journal: bytes
    snapshots: Mapping[tuple[int, int], bytes]
    checkpoints: CheckpointImage


class MemoryDisk:
    """What one node has on disk, and the faults that wait to happen."""

    def __init__(self, seed: bytes = b"") -> None:
        """`seed`: what the names of the directory are made of, one after the other."""
        self.identity: Identity | None = None
        self.distrust: Distrust | None = None
        """The marker: why what is not here means nothing."""
        self.peers: dict[NodeId, bytes] = {}
        self.set_aside = 0
        """How often a damaged log was put aside."""
        self.capacity_bytes: int | None = None
        """A write that would take all that is here over it fails. None: no bound."""
        self.reached: dict[NodeId, int] = {}
        self.mark = self.witnessed = 0
        self.checkpoints = MemoryCheckpoints(self._take)
        self._journal = bytearray()
        self._synced_bytes = 0
        self._replaced: bytes | None = None
        self._snapshots: dict[tuple[int, int], bytearray] = {}
        self._doomed: list[tuple[int, int]] = []
        """Snapshots that go with the next sync."""
        self._fail_in: int | None = None
        self._holder: MemoryStorage | None = None
        self._seed = seed
        self._names_made = 0
        self._is_copy = False
        self.directory = self._new_name()

    # --- the two images ---

    @property
    def cache(self) -> bytes:
        """The journal as the process reads it."""
        return bytes(self._journal)

    @property
    def synced(self) -> bytes:
        """The journal as a crash that loses everything unsynced leaves it."""
        return bytes(self._journal[: self._synced_bytes]) if self._replaced is None else self._replaced

    def append(self, frame: bytes) -> int:
        """Add to the cache; returns where it begins."""
        self._take(len(frame))
        begin = len(self._journal)
        self._journal += frame
        return begin

    def replace(self, journal: bytes) -> None:
        """Another journal in place of this one, as by renaming a file: all or nothing."""
        self._take(len(journal) - len(self._journal))
        self._replaced = self.synced
        self._journal = bytearray(journal)
        self._synced_bytes = 0

    def truncate(self, size: int) -> None:
        """Cut off an unfinished tail, if there is one."""
        if len(self._journal) > size:
            del self._journal[size:]
            self._synced_bytes = min(self._synced_bytes, size)

    def sync(self) -> None:
        """Make the cache durable."""
        if self._fail_in is not None:
            self._fail_in -= 1
            if self._fail_in < 0:
                self._fail_in = None
                self._lose()
                raise StorageFailed("the disk did not sync: input/output error")
        self._synced_bytes = len(self._journal)
        self._replaced = None
        self._drop_the_doomed()

    def check_files(self, index: int, term: int) -> None:
        """There are none."""

    def sync_mark(self) -> None:
        """It lasts as it is."""

    def bytes_at(self, begin: int, size: int) -> bytes:
        """Read from the cache."""
        return bytes(self._journal[begin : begin + size])

    # --- faults ---

    def fail_write(self, after: int = 0) -> None:
        """Let `after` more writes succeed and the next one fail; what it wrote is lost from the cache."""
        self._fail_in = after

    def crash(self, source: random.Random | None = None) -> None:
        """End the process and the power.

        Of what is not synced nothing is left; given a `source`: all, nothing, or a part that ends at any
        byte and lacks any of its sectors.
        """
        unsynced = bytes(self._journal[self._synced_bytes :])
        renamed = self._replaced is not None and source is not None and source.random() < 0.5
        if renamed:
            self._synced_bytes, self._replaced = len(self._journal), None
        elif self._replaced is None and source is not None and unsynced:
            self._lose()
            self._journal += _torn(unsynced, source)
            self._synced_bytes = len(self._journal)
        else:
            self._lose()
        self._fail_in = None
        if self._holder is not None:
            self._holder.end_process()

    def flip_bit(self, source: random.Random) -> None:
        """Damage one bit of the journal, in both images."""
        assert self._journal, "nothing is stored yet"
        self.flip_bit_at(source.randrange(8 * len(self._journal)))

    def flip_bit_at(self, bit: int) -> None:
        """Damage this bit of the journal, in both images."""
        self._journal[bit // 8] ^= 1 << bit % 8

    @property
    def has_snapshot(self) -> bool:
        """Whether there is one to be damaged."""
        return bool(self._snapshots)

    def flip_bit_of_snapshot(self, source: random.Random) -> None:
        """Damage one bit of the stored snapshot."""
        stored = self._snapshots[max(self._snapshots)]
        stored[source.randrange(len(stored))] ^= 1 << source.randrange(8)

    # --- copies, and a disk that is not to be believed ---

    def image(self) -> DiskImage:
        """A copy of what is durable now."""
        snapshots = {place: bytes(stored) for place, stored in self._snapshots.items()}
        names = (self.directory, self.distrust, dict(self.peers), dict(self.reached))
        return DiskImage(self.identity, *names, self.mark, self.synced, snapshots, self.checkpoints.image())

    def restore(self, image: DiskImage, *, unnoticed: bool = False, in_place: bool = False) -> None:
        """A copy in place of this: `unnoticed` by rolling back blocks, `in_place` over the same files."""
        self._check_free()
        self.identity, self.directory, self.distrust = image.identity, image.directory, image.distrust
        self.peers, self.reached = dict(image.peers), dict(image.reached)
        before = self.witnessed
        self._set_log(image.mark, image.journal, image.snapshots)
        self.witnessed = before if in_place else image.mark
        self.checkpoints.restore(image.checkpoints)
        self._is_copy = not unnoticed and not in_place

    def wipe(self) -> None:
        """An empty disk in place of this one; nobody may have it open."""
        self._check_free()
        self.identity, self.distrust, self._is_copy = None, None, False
        self.directory = self._new_name()
        self.peers, self.reached = {}, {}
        self._set_log(0, b"", {})

    def begin_rejoin(self, why: Distrust) -> None:
        """`esnode.storage.directory.begin_rejoin` for this disk; raises `DirectoryInUse`."""
        self._check_free()
        self.distrust, self._is_copy, self.reached = why.added_to(self.distrust), False, {}
        self.directory = self._new_name()
        if why is Distrust.DAMAGE:
            self.set_aside += 1
            self.peers = {}
            self._set_log(0, b"", {})

    def trust_copy(self, *, older: bool = False) -> None:
        """`directory.trust_copy` for this disk; raises `DirectoryInUse` and `DistrustedDirectory`."""
        self._check_free()
        check_trust(self.distrust)
        self.distrust, self._is_copy, self.peers, self.reached = None, False, {}, {}
        self.witnessed = self.mark if older else self.witnessed

    @property
    def rejoining(self) -> bool:
        """Whether the marker is there."""
        return self.distrust is not None

    # --- what `StoredLog` asks of an engine's home ---

    @property
    def is_new(self) -> bool:
        """Nothing was ever stored here."""
        return False

    def open_for(self, storage: "MemoryStorage", identity: Identity) -> None:
        """Take the lock; raises `WrongDirectory`, `DirectoryInUse` and `CopiedDirectory`."""
        if self.identity not in (None, identity):
            raise WrongDirectory(f"the disk belongs to {self.identity}, not to {identity}")
        self._check_free()
        if self._is_copy and not self.rejoining:
            raise CopiedDirectory("the disk is a copy")
        self._is_copy = False
        self.identity = identity
        self._holder = storage

    def advance(self, number: int) -> None:
        """Write call `number` is durable."""
        self.mark, self.witnessed = number, max(self.witnessed, number)

    def remember_peer(self, peer: NodeId, directory: bytes) -> None:
        """`Storage.remember_peer`."""
        self.peers[peer] = directory

    def remember_reached(self, reached: Mapping[NodeId, int]) -> None:
        """`Storage.remember_reached`."""
        self.reached = dict(reached)

    def end_rejoin(self) -> None:
        """Remove the marker, durably."""
        self.distrust, self.witnessed = None, self.mark

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store it durably beside the one in use."""
        self.checkpoints.sync_keys(snapshot.data)
        stored = bytearray(head_of(snapshot) + snapshot.data)
        self._take(len(stored))
        self._snapshots[snapshot.index, snapshot.term] = stored

    def load_snapshot(self, index: int, term: int) -> Snapshot:
        """Read it back; raises `DamagedRecord`."""
        stored = bytes(self._snapshots.get((index, term), b""))
        return parse_snapshot(stored[:HEAD_BYTES], stored[HEAD_BYTES:], index, term)

    def drop_snapshots(self, index: int, term: int) -> None:
        """Forget all snapshots but this one, once the record that names it is durable."""
        self._doomed = [place for place in self._snapshots if place != (index, term)]
        if self._replaced is None and self._synced_bytes == len(self._journal):
            self._drop_the_doomed()

    def close(self) -> None:
        """Give up the lock."""
        self._holder = None

    def _check_free(self) -> None:
        if self._holder is not None:
            raise DirectoryInUse("another storage has the disk open")

    def _new_name(self) -> bytes:
        """A name that this disk never had, not even in an image that is put back later."""
        self._names_made += 1
        return hashlib.blake2b(self._seed + self._names_made.to_bytes(8, "big"), digest_size=16).digest()

    def _set_log(self, mark: int, journal: bytes, snapshots: Mapping[tuple[int, int], bytes]) -> None:
        self.mark = self.witnessed = mark
        self._journal = bytearray(journal)
        self._synced_bytes, self._replaced, self._fail_in = len(journal), None, None
        self._snapshots = {place: bytearray(stored) for place, stored in snapshots.items()}
        self._doomed = []
        self.checkpoints.restore()

    def _take(self, size_bytes: int) -> None:
        used = len(self._journal) + sum(map(len, self._snapshots.values())) + self.checkpoints.size_bytes
        if self.capacity_bytes is not None and used + size_bytes > self.capacity_bytes:
            raise StorageFailed("no space left on the disk")

    def _drop_the_doomed(self) -> None:
        while self._doomed:
            del self._snapshots[self._doomed.pop()]
        oldest = min(self._snapshots, default=(0, 0))  # one that is staged needs no earlier keys
        self.checkpoints.needed.note_snapshot(self._snapshots.get(oldest, b"")[HEAD_BYTES:])

    def _lose(self) -> None:
        self._doomed = []
        self._journal = bytearray(self.synced)
        self._synced_bytes, self._replaced = len(self._journal), None


class MemoryStorage(StoredLog):
    """A `Storage` on a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, identity: Identity) -> None:
        """Open it; raises `WrongDirectory`, `DirectoryInUse`, `CopiedDirectory`, `DamagedRecord`."""
        disk.open_for(self, identity)
        self._rejoined = False
        with closed_on_error(disk):
            self._journal = JournalEngine(disk)
            self._disk = disk
            if disk.cache != disk.synced:
                disk.sync()  # a killed process has left it in the cache only
            super().__init__(identity, disk, self._journal)

    def write_unsynced(self, writes: Sequence[Write]) -> None:
        """The first half of `write`: into the cache. A crash before `sync` loses or tears it."""
        with self._at_work():
            self._store(*fold(self._outline, writes, self._place), self._journal.put)
            self._rejoined = self._rejoined or any(write.rejoined for write in writes)

    def sync(self) -> None:
        """The second half of `write`."""
        with self._at_work():
            self._disk.sync()
            self._disk.advance(self._outline.number)
            if self._rejoined:
                self._disk.end_rejoin()
                self._rejoined = False

    def end_process(self) -> None:
        """The process that had this open is gone: nothing works any more, the lock is free."""
        self.close()


class JournalEngine:
    """Rows in the journal of a `MemoryDisk`, found by index."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self._state: bytes | None = None
        self._terms: bytes | None = None
        self._prefix_index = 0
        self._rows: list[tuple[int, int]] = []
        """Where each row begins and how long it is, from `_first_index` on."""
        self._first_index = 1
        self._end = self._replay()

    def contents(self) -> Contents:
        """What is there."""
        last_index = self._first_index + len(self._rows) - 1
        return Contents(self._state, self._terms, self.row(last_index))

    def commit(self, change: Change) -> None:
        """Write and sync."""
        self.put(change)
        self._disk.sync()

    def put(self, change: Change) -> None:
        """Write one frame; a cut prefix writes the journal anew."""
        self._disk.truncate(self._end)
        frame = _frame(change)
        begin = self._disk.append(frame)
        self._enter(begin + _FRAME.size)
        self._end = begin + len(frame)
        if change.snapshot is not None:
            self._rewrite()

    def row(self, index: int) -> Row | None:
        """One row."""
        at = index - self._first_index
        if not 0 <= at < len(self._rows):
            return None
        begin, size = self._rows[at]
        stored = self._disk.bytes_at(begin, size)
        found_index, base_offset, number, commit, position, crc, _ = _ROW.unpack_from(stored)
        return Row(found_index, base_offset, Stamp(number, commit, position), crc, stored[_ROW.size :])

    def records(self, first_index: int, last_index: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Index and record, in order."""
        found: list[tuple[int, bytes]] = []
        for index in range(first_index, last_index + 1):
            row = self.row(index)
            if row is None or (found and len(row.record) > max_bytes):
                break
            max_bytes -= len(row.record)
            found.append((row.index, row.record))
        return found

    def last_at_offset(self, offset: int, first_index: int, last_index: int) -> int:
        """Binary search: base offsets never fall."""
        low, high = first_index, last_index + 1
        while low < high:
            middle = (low + high) // 2
            row = self.row(middle)
            if row is not None and row.base_offset <= offset:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def tend(self) -> bool:
        """Nothing ever waits."""
        return False

    def check_files(self) -> None:
        """There are none."""

    def close(self) -> None:
        """Nothing is held."""
        self._rows = []

    def _replay(self) -> int:
        """Read the frames up to the first that is not whole; returns where that one begins."""
        journal, begin = self._disk.cache, 0
        while begin + _FRAME.size <= len(journal):
            size, crc = _FRAME.unpack_from(journal, begin)
            body = journal[begin + _FRAME.size : begin + _FRAME.size + size]
            if len(body) < max(size, _BODY.size) or google_crc32c.value(body) != crc:
                break
            self._enter(begin + _FRAME.size)
            begin += _FRAME.size + size
        return begin

    def _enter(self, begin: int) -> None:
        """Take in the frame whose body begins here."""
        head = self._disk.bytes_at(begin, _BODY.size)
        cut_from, self._prefix_index, state_bytes, terms_bytes, count = _BODY.unpack(head)
        begin += _BODY.size
        if state_bytes:
            self._state = self._disk.bytes_at(begin, state_bytes)
        if terms_bytes:
            self._terms = self._disk.bytes_at(begin + state_bytes, terms_bytes)
        begin += state_bytes + terms_bytes
        if cut_from:
            del self._rows[max(0, cut_from - self._first_index) :]
        del self._rows[: max(0, self._prefix_index + 1 - self._first_index)]
        self._first_index = max(self._first_index, self._prefix_index + 1)
        for _ in range(count):
            size = _ROW.size + _ROW.unpack(self._disk.bytes_at(begin, _ROW.size))[-1]
            self._rows.append((begin, size))
            begin += size

    def _rewrite(self) -> None:
        """The journal anew, with nothing in it that is no longer part of the log."""
        last_index = self._first_index + len(self._rows)
        rows = [row for index in range(self._first_index, last_index) if (row := self.row(index))]
        frame = _frame(
            Change(0, self._state, self._terms, None, self._prefix_index, tuple(rows), snapshot=None)
        )
        self._disk.replace(frame)
        self._rows = []
        self._enter(_FRAME.size)
        self._end = len(frame)


def _frame(change: Change) -> bytes:
    state, terms = change.state or b"", change.terms or b""
    sizes = (len(state), len(terms), len(change.rows))
    parts = [_BODY.pack(change.cut_from or 0, change.prefix_index, *sizes), state, terms]
    for row in change.rows:
        stamp, size = row.stamp, len(row.record)
        head = _ROW.pack(
            row.index, row.base_offset, stamp.number, stamp.commit, stamp.position, row.crc, size
        )
        parts += (head, row.record)
    body = b"".join(parts)
    return _FRAME.pack(len(body), google_crc32c.value(body)) + body


def _torn(written: bytes, source: random.Random) -> bytes:
    """What may be left of an unsynced write: all, nothing, or a part some of whose sectors never came."""
    fate = source.random()
    if fate < 0.25:
        return written
    if fate < 0.5:
        return b""
    left = bytearray(written[: source.randrange(len(written) + 1)])
    for begin in range(0, len(left), SECTOR_BYTES):
        if source.random() < 0.25:
            sector = left[begin : begin + SECTOR_BYTES]
            left[begin : begin + SECTOR_BYTES] = bytes(len(sector))
    return bytes(left)
