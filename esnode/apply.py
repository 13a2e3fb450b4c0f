"""What the log means: keys, offsets, producer sessions, the ring. Applies committed entries, one by one.

Deterministic: no clock, no randomness, nothing refused. Two machines that applied the same log, one by
replay and one from a snapshot or a checkpoint, are equal from then on (`digest`). Stores nothing. Called by
the driver, the recovery, the retention when it cuts a prefix, and the checkpointer.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from esnode.config import Dedup
from esnode.dedup import ownership
from esnode.dedup.keychunk import DIGEST_BYTES as KEY_DIGEST_BYTES
from esnode.dedup.keychunk import StoredChunk, StoredKeys
from esnode.dedup.keytable import KeyTable, LoadedKeys
from esnode.dedup.keywindow import CHUNK_BYTES, NO_CHUNKS, SealedChunks, SourceOf, is_chunk, split_outline
from esnode.dedup.ownership import Ownership, RingState
from esnode.dedup.producers import ProducerTable
from esnode.errors import Bug, DamagedRecord
from esnode.formats import refuse_newer
from esnode.raft.entry import Entry, EntryKind
from esnode.raft.messages import Snapshot

SNAPSHOT_VERSION: Final = 5
OUTLINE_VERSION: Final = 3
"""Of a snapshot without its sealed chunks of keys: these are kept apart, and it has their digests."""
WHOLE_VERSION: Final = 2
"""Of a snapshot with all its keys, as versions before had it, and as a backup has it."""
RING_WHOLE_VERSION: Final = 4
RING_OUTLINE_VERSION: Final = 5
"""The same two where the log has said something of the ring, which is in front of the producer table then."""
CHECKPOINT_VERSION: Final = 3
NAMED_CHECKPOINT_VERSION: Final = 2
"""Of a checkpoint where the log has said nothing of the ring."""
NAMELESS_VERSION: Final = 1
"""Of a checkpoint or a whole snapshot, where no producer session has a name: older versions can read it."""
DIGEST_BYTES: Final = 16

# version | digest | length of the tables; then these (the ring's state, with its length in front, and the
# producer table), then the key window, or its outline
_HEAD: Final = struct.Struct(f">B{DIGEST_BYTES}sQ")
# applied_index | applied_term | log_time_ms
_POSITION: Final = struct.Struct(">QQQ")
# version | ttl_ms | max_keys | refuses when full | length of the tables; then these, then the outline
_SAVED_HEAD: Final = struct.Struct(">BQQ?Q")
_RING_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after the entry at `index`, without the sealed chunks of keys that belong to it.

    These, numbered from `first_chunk` up to `open_chunk`, are kept apart: they never change, so one
    checkpoint costs only what came since the one before. The log is none the shorter for it.
    """

    index: int
    term: int
    log_time_ms: int
    first_chunk: int
    open_chunk: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a machine may become at once: checked, and all that takes time is done."""

    index: int
    term: int
    log_time_ms: int
    keys: LoadedKeys
    producers: ProducerTable
    ownership: Ownership


class Machine:
    """The state that the log up to `applied_index` has led to.

    `seed` makes the key index unpredictable to clients and changes nothing else. Without `searchable`
    it only follows the log: `keys.lookup` is not possible.
    """

    def __init__(
        self,
        dedup: Dedup,
        *,
        seed: int = 0,
        searchable: bool = True,
        segment_chunks: int | None = None,
    ) -> None:
        self.applied_index = 0
        self.applied_term = 0
        self.log_time_ms = 0
        self.keys = KeyTable(
            dedup.ttl_ms,
            dedup.max_keys,
            dedup.when_full,
            seed=seed,
            searchable=searchable,
            segment_chunks=segment_chunks,
        )
        self.producers = ProducerTable()
        self.ring = RingState()
        self._dedup = dedup

    @property
    def next_offset(self) -> int:
        """The offset of the next event."""
        return self.keys.next_offset

    def apply(self, entry: Entry) -> None:
        """Apply the entry after `applied_index`; raises `Bug` when it cannot be that."""
        self._check(entry)
        self.keys.expire(entry.log_time_ms)
        if entry.kind is EntryKind.BATCH:
            self.keys.add(entry.keys, entry.base_offset, entry.log_time_ms)
            if entry.producer is not None:
                self.producers.record(entry.producer, entry.base_offset, entry.count, entry.log_time_ms)
        elif (opening := entry.opening) is not None:
            self.producers.open(opening, entry.log_time_ms)
        elif (change := entry.ring_change) is not None:
            floor = self.keys.first_offset
            self.ring.now = self.ring.now.after(change, entry.base_offset, entry.count, floor)
            self.keys.add(entry.keys, entry.base_offset, entry.log_time_ms)
        self.applied_index = entry.index
        self.applied_term = entry.term
        self.log_time_ms = entry.log_time_ms

    def digest(self) -> bytes:
        """16 bytes: equal where the same log was applied under the same settings."""
        position = _POSITION.pack(self.applied_index, self.applied_term, self.log_time_ms)
        return _digest(position, self.keys.digest(), self.producers.digest(), self.ring.now.digest())

    def snapshot(self) -> Snapshot:
        """The whole state, as bytes that `restore` takes."""
        version = _whole_version(self.producers, self.ring.now)
        # Joined in one piece, millions of keys would stop every other thread.
        return self._snapshot(version, self.keys.dump())

    def outline(self) -> Snapshot:
        """The same without the sealed chunks of keys: `sealed_in` names them."""
        version = OUTLINE_VERSION if self.ring.now == Ownership() else RING_OUTLINE_VERSION
        return self._snapshot(version, [self.keys.dump_outline()])

    def _snapshot(self, version: int, keys: Iterable[bytes | memoryview]) -> Snapshot:
        tables = _dump_tables(self.producers, self.ring.now)
        data = bytearray(_HEAD.pack(version, self.digest(), len(tables)) + tables)
        for part in keys:
            data += part
        return Snapshot(self.applied_index, self.applied_term, self.next_offset, self.log_time_ms, data)

    def restore(self, snapshot: Snapshot, stored: StoredKeys | None = None) -> None:
        """Become the machine that was snapshot; raises `DamagedRecord` and is then unchanged."""
        self.adopt(self.load(snapshot, stored))

    def load(self, snapshot: Snapshot, stored: StoredKeys | None = None) -> Loaded:
        """What `snapshot` holds, checked, for `adopt`; raises `DamagedRecord`. May run in any thread.

        The chunks that an outline names are read from `stored`, and stay there.
        """
        view = memoryview(snapshot.data)
        if len(view) < _HEAD.size:
            raise DamagedRecord("the snapshot ends within its head")
        version, digest, tables_len = _HEAD.unpack_from(view)
        refuse_newer(f"the state in the snapshot of index {snapshot.index}", version, SNAPSHOT_VERSION)
        if not NAMELESS_VERSION <= version <= SNAPSHOT_VERSION:
            raise DamagedRecord(f"snapshot version {version} is not {SNAPSHOT_VERSION}")
        keys_start = _HEAD.size + tables_len
        producers, owned = _load_tables(
            view[_HEAD.size : keys_start], version, version in (RING_WHOLE_VERSION, RING_OUTLINE_VERSION)
        )
        if version in (OUTLINE_VERSION, RING_OUTLINE_VERSION):
            keys = self._load_outline(view[keys_start:], stored)
        elif version != _whole_version(producers, owned):
            raise DamagedRecord(f"a snapshot of version {version} has what is none of that version")
        else:
            keys = self.keys.load(view[keys_start:])
        position = _POSITION.pack(snapshot.index, snapshot.term, snapshot.log_time_ms)
        if (
            digest != _digest(position, keys.window.digest(), producers.digest(), owned.digest())
            or snapshot.next_offset != keys.window.next_offset
        ):
            raise DamagedRecord(f"the digest of the snapshot at index {snapshot.index} does not match")
        return Loaded(snapshot.index, snapshot.term, snapshot.log_time_ms, keys, producers, owned)

    def _load_outline(self, outline: memoryview, stored: StoredKeys | None) -> LoadedKeys:
        if stored is None:
            raise DamagedRecord("the snapshot names chunks of keys that are not with it")
        sealed = split_outline(outline)[1]
        chunks = stored.kept_keys(sealed.first_chunk, sealed.end_chunk)
        return self.keys.resume(outline, chunks, stored.chunk_source)

    def adopt(self, loaded: Loaded) -> None:
        """Become what was loaded."""
        self.applied_index, self.applied_term = loaded.index, loaded.term
        self.log_time_ms = loaded.log_time_ms
        self.keys.adopt(loaded.keys)
        self.producers.adopt(loaded.producers)
        self.ring.now = loaded.ownership

    def checkpoint(self) -> Checkpoint:
        """The state; `keys.sealed_chunks` has the rest of it, until the next change."""
        dedup, tables = self._dedup, _dump_tables(self.producers, self.ring.now)
        refuses = dedup.when_full == "refuse"
        version = _checkpoint_version(self.producers, self.ring.now)
        head = _SAVED_HEAD.pack(version, dedup.ttl_ms, dedup.max_keys, refuses, len(tables))
        return Checkpoint(
            self.applied_index,
            self.applied_term,
            self.log_time_ms,
            self.keys.first_chunk,
            self.keys.open_chunk,
            b"".join((head, tables, self.keys.dump_outline())),
        )

    def resume(
        self, checkpoint: Checkpoint, sealed: Iterable[bytes | StoredChunk], source_of: SourceOf
    ) -> None:
        """Become the machine of `checkpoint`, whose chunks are `sealed` and stay where they are on disk.

        Raises `DamagedRecord` where they are not, and where the checkpoint was made under other settings:
        under these the log may mean something else. The machine is then unchanged.
        """
        view, dedup = memoryview(checkpoint.state), self._dedup
        if len(view) < _SAVED_HEAD.size:
            raise DamagedRecord("the checkpoint ends within its head")
        version, *settings, tables_len = _SAVED_HEAD.unpack_from(view)
        refuse_newer("the state in the checkpoint", version, CHECKPOINT_VERSION)
        if not NAMELESS_VERSION <= version <= CHECKPOINT_VERSION:
            raise DamagedRecord(f"checkpoint version {version} is not {CHECKPOINT_VERSION}")
        if settings != [dedup.ttl_ms, dedup.max_keys, dedup.when_full == "refuse"]:
            raise DamagedRecord("the checkpoint was made under other settings of the window")
        keys_start = _SAVED_HEAD.size + tables_len
        tables = view[_SAVED_HEAD.size : keys_start]
        producers, owned = _load_tables(tables, version, version == CHECKPOINT_VERSION)
        if version != _checkpoint_version(producers, owned):
            raise DamagedRecord(f"a checkpoint of version {version} has what is none of that version")
        keys = self.keys.resume(view[keys_start:], sealed, source_of)
        position = checkpoint.index, checkpoint.term, checkpoint.log_time_ms
        self.adopt(Loaded(*position, keys, producers, owned))

    def _check(self, entry: Entry) -> None:
        if entry.index != self.applied_index + 1:
            raise Bug(f"entry {entry.index} is to be applied after entry {self.applied_index}")
        if entry.base_offset != self.next_offset:
            raise Bug(f"entry {entry.index} begins at offset {entry.base_offset}, not {self.next_offset}")
        if entry.log_time_ms < self.log_time_ms or entry.term < self.applied_term:
            raise Bug(f"log time or term falls at entry {entry.index}")


def format_of_snapshot(state: bytes) -> int:
    """What `state` says its format is; 0 where it does not begin as a snapshot's state of any format does."""
    return _format_of(_HEAD, state)


def format_of_checkpoint(state: bytes) -> int:
    """The same for the state of a checkpoint."""
    return _format_of(_SAVED_HEAD, state)


def sealed_in(state: bytes | bytearray) -> SealedChunks:
    """The chunks of keys that a snapshot's `state` needs beside it: none, where it has all keys itself.

    Raises `DamagedRecord`.
    """
    if not state or state[0] not in (OUTLINE_VERSION, RING_OUTLINE_VERSION):
        return NO_CHUNKS
    return split_outline(memoryview(state)[_keys_start(state) :])[1]


def whole_bytes(state: bytes | bytearray) -> int:
    """How long the whole state is that `whole_state` gives."""
    sealed = sealed_in(state)
    return len(state) + len(sealed.digests) * (CHUNK_BYTES - KEY_DIGEST_BYTES)


def whole_state(state: bytes | bytearray, stored: StoredKeys) -> Iterator[bytes]:
    """The state of a snapshot with all its keys, in pieces: what `Machine.snapshot` gives, byte by byte.

    Raises `DamagedRecord` where a chunk that it names is not on disk as it was.
    """
    sealed = sealed_in(state)
    if sealed is NO_CHUNKS:
        yield bytes(state)
        return
    view, start = memoryview(state), _keys_start(state)
    version, digest, tables_len = _HEAD.unpack_from(view)
    tables = view[_HEAD.size : start]
    version = _whole_version(*_load_tables(tables, version, version == RING_OUTLINE_VERSION))
    head, sealed, rest = split_outline(view[start:])
    yield _HEAD.pack(version, digest, tables_len) + bytes(tables) + bytes(head)
    chunks = stored.kept_keys(sealed.first_chunk, sealed.end_chunk)
    for number, (wanted, chunk) in enumerate(zip(sealed.digests, chunks, strict=True), sealed.first_chunk):
        if not is_chunk(chunk, wanted):
            raise DamagedRecord(f"chunk {number} of the keys is not the one that the snapshot names")
        yield chunk
    if rest:
        yield bytes(rest)


def _keys_start(state: bytes | bytearray) -> int:
    if len(state) < _HEAD.size:
        raise DamagedRecord("the snapshot ends within its head")
    return int(_HEAD.size + _HEAD.unpack_from(state)[-1])


def _format_of(head: struct.Struct, state: bytes) -> int:
    """Every format begins with these fields: what needs others raises the number of the file around it."""
    if len(state) < head.size:
        return 0
    version, *_, tables_len = head.unpack_from(state)
    return int(version) if tables_len <= len(state) - head.size else 0


def _whole_version(producers: ProducerTable, owned: Ownership) -> int:
    if owned != Ownership():
        return RING_WHOLE_VERSION
    return WHOLE_VERSION if producers.named else NAMELESS_VERSION


def _checkpoint_version(producers: ProducerTable, owned: Ownership) -> int:
    if owned != Ownership():
        return CHECKPOINT_VERSION
    return NAMED_CHECKPOINT_VERSION if producers.named else NAMELESS_VERSION


def _dump_tables(producers: ProducerTable, owned: Ownership) -> bytes:
    """The ring's state, where there is any, with its length in front; then the producer table."""
    if not (said := owned.dump()):
        return producers.dump()
    return _RING_LENGTH.pack(len(said)) + said + producers.dump()


def _load_tables(data: memoryview, version: int, with_ring: bool) -> tuple[ProducerTable, Ownership]:
    """What `_dump_tables` gave, in a snapshot or checkpoint; raises `DamagedRecord`."""
    if not with_ring:
        return ProducerTable.load(data), Ownership()
    if len(data) < _RING_LENGTH.size:
        raise DamagedRecord(f"state of version {version} says nothing of the ring")
    producers_start = _RING_LENGTH.size + _RING_LENGTH.unpack_from(data)[0]
    owned = ownership.load(data[_RING_LENGTH.size : producers_start])
    if owned == Ownership():
        raise DamagedRecord(f"state of version {version} says nothing of the ring")
    return ProducerTable.load(data[producers_start:]), owned


def _digest(position: bytes, keys: bytes, producers: bytes, owned: bytes) -> bytes:
    return hashlib.blake2b(position + keys + producers + owned, digest_size=DIGEST_BYTES).digest()
