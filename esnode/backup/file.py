"""The file of a backup: a head, chunks, the manifest, and a tail that says where the manifest is.

Decides the format (docs/protocol.md), and what damage is. The file is written under another name, synced,
then renamed: under its final name it is complete, or was damaged later. Memory holds one chunk, whatever the
size of the log; nothing is encoded again. Called by the code that makes, checks or restores a backup.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from esnode import limits
from esnode.backup.chain import Chain
from esnode.backup.manifest import Chunk, ChunkKind, Manifest, Origin, SnapshotPlace
from esnode.errors import DamagedBackup, DamagedRecord, NewerFormat
from esnode.formats import refuse_newer
from esnode.fsync import sync_directory
from esnode.messages import SnapshotPiece
from esnode.raft.entry import Entry, parse

MAGIC: Final = b"ESBACKUP"
END: Final = b"ESBKPEND"
VERSION: Final = 1
CHUNK_BYTES: Final = 4 * limits.MIB
"""A chunk is closed once it has so much."""
MAX_CHUNK_BYTES: Final = CHUNK_BYTES + limits.MAX_FRAME_BYTES
MAX_MANIFEST_BYTES: Final = 1024 * limits.MIB
# magic | version
_HEAD: Final = struct.Struct(">8sI")
# kind | length of the body
_CHUNK: Final = struct.Struct(">BI")
# length of the manifest | its SHA-256 | end
_TAIL: Final = struct.Struct(">Q32s8s")
_LENGTH: Final = struct.Struct(">I")


class BackupWriter:
    """Writes one backup: `begin_snapshot` and its bytes, if there is one, then records, then `finish`.

    A context: what is left without `finish` is removed. Raises `OSError` as it comes, and `DamagedRecord` or
    `DamagedBackup` where what it is given is not a log.
    """

    def __init__(self, path: Path) -> None:
        """Begin a file beside `path`; raises `FileExistsError` where something is there already."""
        if path.exists():
            raise FileExistsError(17, "it exists", str(path))
        self._path = path
        self._beside = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file: BinaryIO = open(descriptor, "wb")  # noqa: SIM115 - closed by `__exit__`
        self._whole: Any = hashlib.sha256()
        self._position = 0
        self._chunks: list[Chunk] = []
        self._chain = Chain()
        self._first_offset = 0
        self._snapshot: SnapshotPlace | None = None
        self._snapshot_left = 0
        self._waiting: list[bytes] = []
        """Records of the chunk that is not closed yet."""
        self._waiting_bytes = 0
        self._begun = (1, 0)
        """Index and offset at which that chunk begins."""
        self._write(_HEAD.pack(MAGIC, VERSION))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._beside.unlink()

    @property
    def next_index(self) -> int:
        """The index of the entry that must come next."""
        return self._chain.index + 1

    @property
    def next_offset(self) -> int:
        """Of the next event."""
        return self._chain.next_offset

    @property
    def has_snapshot(self) -> bool:
        """Whether one has begun."""
        return self._snapshot is not None

    @property
    def snapshot_left(self) -> int:
        """How many bytes of it are still to come."""
        return self._snapshot_left

    @property
    def size_bytes(self) -> int:
        """Written so far."""
        return self._position

    def begin_snapshot(self, place: SnapshotPlace) -> None:
        """The log begins behind this snapshot; its bytes follow, in `add_snapshot`."""
        assert not self._chunks
        self._snapshot, self._snapshot_left = place, place.size_bytes
        self._chain = Chain.after(place.index, place.term, place.next_offset, place.log_time_ms)
        self._first_offset = place.next_offset

    def add_snapshot(self, data: bytes) -> None:
        """The next bytes of it, not more than a chunk may have."""
        assert self._snapshot is not None
        self._snapshot_left -= len(data)
        if self._snapshot_left < 0:
            raise DamagedBackup("the snapshot is longer than it was said to be")
        self._close_chunk(ChunkKind.SNAPSHOT, [data], (0, 0), 0, 0)

    def add_piece(self, piece: SnapshotPiece) -> None:
        """The next piece of a snapshot as a node gives it; the first one begins it."""
        if not piece.position:
            place = (piece.index, piece.term, piece.next_offset, piece.log_time_ms, piece.total_bytes)
            self.begin_snapshot(SnapshotPlace(*place))
        self.add_snapshot(piece.data)

    def add(self, records: Iterable[bytes]) -> int:
        """The next records, checked; how many events they hold. Raises `DamagedRecord`, `DamagedBackup`."""
        before = self._chain.next_offset
        for record in records:
            entry = parse(record)
            if not self._waiting:
                self._begun = (entry.index, entry.base_offset)
            self._chain.follow(entry)
            self._waiting += (_LENGTH.pack(len(record)), record)
            self._waiting_bytes += _LENGTH.size + len(record)
            if self._waiting_bytes >= CHUNK_BYTES:
                self._close_entries()
        return self._chain.next_offset - before

    def finish(self, origin: Origin) -> Manifest:
        """Put the file in its place, durably."""
        if self._waiting:
            self._close_entries()
        if self._snapshot_left:
            raise DamagedBackup(f"{self._snapshot_left} bytes of the snapshot are missing")
        chain = self._chain
        manifest = Manifest(
            origin=origin,
            snapshot=self._snapshot,
            first_index=chain.index - chain.entries + 1,
            last_index=chain.index,
            last_term=chain.term,
            first_offset=self._first_offset,
            next_offset=chain.next_offset,
            entries=chain.entries,
            log_time_ms=chain.log_time_ms,
            content_hash=chain.content.hexdigest(),
            sha256=self._whole.hexdigest(),
            chunks=tuple(self._chunks),
        )
        data = manifest.dump()
        self._file.write(data)
        self._file.write(_TAIL.pack(len(data), hashlib.sha256(data).digest(), END))
        self._file.flush()
        os.fsync(self._file.fileno())
        _name_it(self._beside, self._path)
        sync_directory(self._path.parent)
        return manifest

    def _close_entries(self) -> None:
        first_index, first_offset = self._begun
        entries, events = self._chain.index - first_index + 1, self._chain.next_offset - first_offset
        self._close_chunk(ChunkKind.ENTRIES, self._waiting, self._begun, entries, events)
        self._waiting, self._waiting_bytes = [], 0

    def _close_chunk(
        self, kind: ChunkKind, parts: Sequence[bytes], begun: tuple[int, int], entries: int, events: int
    ) -> None:
        body = b"".join(parts)
        data = _CHUNK.pack(kind, len(body)) + body
        digest = hashlib.sha256(data).hexdigest()
        self._chunks.append(
            Chunk(int(kind), self._position, len(data), begun[0], entries, begun[1], events, digest)
        )
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._whole.update(data)
        self._position += len(data)


@dataclass(frozen=True, slots=True)
class BackupReader:
    """A backup that is there: its manifest is whole, its chunks are checked as they are read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "BackupReader":
        """Read the manifest; raises `DamagedBackup`, `NewerFormat`, and `OSError` as it comes."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _HEAD.size + _TAIL.size:
                raise DamagedBackup(f"{path} has {size} bytes: it is no backup, or the beginning of one")
            magic, version = _HEAD.unpack(file.read(_HEAD.size))
            flipped_bit = (version ^ VERSION).bit_count() == 1  # or what its manifest says, too
            if magic == MAGIC and not flipped_bit:
                refuse_newer(f"the backup {path}", version, VERSION)
            if magic != MAGIC or (version != VERSION and not flipped_bit):
                raise DamagedBackup(f"{path} does not begin as a backup of version {VERSION}")
            file.seek(size - _TAIL.size)
            length, digest, end = _TAIL.unpack(file.read(_TAIL.size))
            if end != END:
                raise DamagedBackup(f"{path} does not end as a backup: it is torn, or damaged")
            if not 0 < length <= min(MAX_MANIFEST_BYTES, size - _HEAD.size - _TAIL.size):
                raise DamagedBackup(f"{path} says that its manifest has {length} bytes")
            file.seek(size - _TAIL.size - length)
            data = file.read(length)
        if hashlib.sha256(data).digest() != digest:
            raise DamagedBackup(f"the manifest of {path} is damaged")
        manifest = Manifest.load(data)
        if version != VERSION:
            raise DamagedBackup(f"{path} does not begin as a backup of version {VERSION}")
        if _HEAD.size + manifest.size_bytes + length + _TAIL.size != size:
            raise DamagedBackup(f"the chunks of {path} do not have the length that its manifest says")
        return cls(path, manifest)

    def bodies(self) -> Iterator[tuple[int, Chunk, bytes]]:
        """Each chunk, its number and its body, checked; `DamagedBackup` names the first bad one."""
        whole: Any = hashlib.sha256(_HEAD.pack(MAGIC, VERSION))
        position = _HEAD.size
        with self.path.open("rb") as file:
            file.seek(position)
            for number, chunk in enumerate(self.manifest.chunks, start=1):
                if chunk.position != position or not _CHUNK.size <= chunk.size_bytes <= MAX_CHUNK_BYTES:
                    raise DamagedBackup(f"chunk {number} of {self.path} is not where its manifest says")
                data = file.read(chunk.size_bytes)
                if hashlib.sha256(data).hexdigest() != chunk.sha256:
                    raise DamagedBackup(
                        f"{_name(self.path, number, chunk)} is damaged: its SHA-256 is another"
                    )
                if _CHUNK.unpack_from(data) != (chunk.kind, len(data) - _CHUNK.size):
                    raise DamagedBackup(
                        f"{_name(self.path, number, chunk)} is not of the kind that it should be"
                    )
                whole.update(data)
                position += len(data)
                yield number, chunk, data[_CHUNK.size :]
        if whole.hexdigest() != self.manifest.sha256:
            raise DamagedBackup(f"the SHA-256 of all chunks of {self.path} is not that of its manifest")

    def snapshot_data(self) -> bytearray:
        """The bytes of the snapshot; empty without one. Raises `DamagedBackup`."""
        data, place = bytearray(), self.manifest.snapshot
        for _, chunk, body in self.bodies():
            if chunk.kind != ChunkKind.SNAPSHOT:
                break
            data += body
        if len(data) != (0 if place is None else place.size_bytes):
            raise DamagedBackup(f"the snapshot in {self.path} has {len(data)} bytes, not what it should have")
        return data

    def pages(self) -> Iterator[list[Entry]]:
        """The entries of each chunk, in order, each checked, and the chain of all.

        Raises `DamagedBackup`, which names the first bad chunk, and `NewerFormat` for an entry of a kind that
        is not known here; the last check comes with the last page.
        """
        chain = self._begin()
        for number, chunk, body in self.bodies():
            if chunk.kind == ChunkKind.SNAPSHOT:
                continue
            try:
                page = [parse(record) for record in _split(body)]
                for entry in page:
                    chain.follow(entry)
            except (DamagedRecord, DamagedBackup) as error:
                raise DamagedBackup(f"{_name(self.path, number, chunk)}: {error}") from error
            except NewerFormat as error:
                raise NewerFormat(f"{_name(self.path, number, chunk)}: {error}") from error
            yield page
        self._check_end(chain)

    def _begin(self) -> Chain:
        place = self.manifest.snapshot
        if place is None:
            return Chain()
        return Chain.after(place.index, place.term, place.next_offset, place.log_time_ms)

    def _check_end(self, chain: Chain) -> None:
        manifest = self.manifest
        found = (chain.index, chain.term, chain.next_offset, chain.log_time_ms, chain.entries)
        said = (
            manifest.last_index,
            manifest.last_term,
            manifest.next_offset,
            manifest.log_time_ms,
            manifest.entries,
        )
        if found != said:
            raise DamagedBackup(f"the log in {self.path} does not end as its manifest says")
        if chain.content.hexdigest() != manifest.content_hash:
            raise DamagedBackup(f"the hash of the events in {self.path} is not that of its manifest")


def _split(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        if at + _LENGTH.size > len(body):
            raise DamagedBackup("it ends within a length")
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if at + length > len(body):
            raise DamagedBackup("it ends within a record")
        yield body[at : at + length]
        at += length


def _name(path: Path, number: int, chunk: Chunk) -> str:
    """Of a chunk, for people."""
    what = f"chunk {number} of {path}"
    if chunk.kind == ChunkKind.SNAPSHOT:
        return f"{what} (of the snapshot)"
    return f"{what} (events {chunk.first_offset} to {chunk.first_offset + chunk.events - 1})"


def _name_it(beside: Path, path: Path) -> None:
    """Give the file its name, and replace nothing that has come there meanwhile."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        beside.rename(path)
    else:
        beside.unlink()
