"""Where checkpoints are kept: the last one, the sealed chunks of keys that it goes by, and their indexes.

A checkpoint only saves the time of a replay. What is here is checked when it is read, and a start that
cannot use it reads the log instead. Never decides when one is due, nor what it means. Called by the homes
of the engines.

    savepoint    a head with its checksum, then the state as it came; replaced whole
    keys-N       chunks of keys, in their order, `FILE_CHUNKS` a file: what chunk belongs where never changes
    keyindex-N   the index of a segment of chunks, the last one of which is number N - 1; replaced whole
"""

import contextlib
import math
import os
import random
import re
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import google_crc32c

from esnode import limits
from esnode.apply import Checkpoint, sealed_in
from esnode.dedup.keychunk import ChunkSource
from esnode.dedup.keysegment import IndexSource
from esnode.dedup.keywindow import CHUNK_BYTES
from esnode.errors import DamagedRecord
from esnode.fsync import sync_directory
from esnode.storage.files import disk_errors, write_all
from esnode.storage.neededchunks import NeededChunks
from esnode.storage.snapshotfile import refuse_newer_file

FILE_CHUNKS: Final = 256
"""16 MiB, the keys of about a million events."""
CHECKPOINT_FILE: Final = "savepoint"
"""Stored files, log events and JSON keys keep the word of version 0.1.0; the code says checkpoint."""
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", 0)
"""Of Linux: a read that would wait for the disk fails instead."""
_KEYS_NAME: Final = re.compile(r"keys-(\d+)")
_INDEX_NAME: Final = re.compile(r"keyindex-(\d+)")
_MAGIC: Final = b"ESSP"
_VERSION: Final = 1
# magic | version u8 | crc u32; the crc covers the rest of the head and the state
_FRONT: Final = struct.Struct(">4sBI")
# index u64 | term u64 | log_time_ms u64 | first_chunk u64 | open_chunk u64 | length of the state u64
_HEAD: Final = struct.Struct(">QQQQQQ")


class Checkpoints(Protocol):
    """One place for them. Everything is durable when a call returns."""

    def keep_keys(self, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        """Write sealed chunks, the first of this number. Changes nothing by itself."""
        ...

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write it in place of the one before; its chunks are kept by now. Those that nobody needs go."""
        ...

    @property
    def needed(self) -> "NeededChunks":
        """Which chunks others than the checkpoint need."""
        ...

    def sync_keys(self, state: bytes | bytearray) -> None:
        """Make the chunks durable that this state of a snapshot names, whoever has written them: a process
        that is killed leaves them in the system's cache only. Raises `DamagedRecord` when one is missing."""
        ...

    def load(self) -> Checkpoint | None:
        """The last one; raises `DamagedRecord` when that is not what was written."""
        ...

    def keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """The chunks of these numbers, unchecked; raises `DamagedRecord` when one is not there."""
        ...

    def source(self, number: int) -> ChunkSource:
        """The chunk of this number, for reading parts of it; raises `DamagedRecord` when it is not there."""
        ...

    def keep_index(self, end_chunk: int, parts: Sequence[bytes | memoryview]) -> None:
        """Write the index of the segment that ends before this chunk, in place of the one that is there. It
        goes when the chunks may go."""
        ...

    def index(self, end_chunk: int) -> IndexSource | None:
        """The same, for reading parts of it; None where there is none."""
        ...


class KeyFile:
    """A file of chunks that is open for reading for as long as anything refers to it, deleted or not."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self.name = path.name
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


class ChunkInFile:
    """One chunk of a file of keys."""

    def __init__(self, file: KeyFile, position: int) -> None:
        self._file = file
        self._position = position

    def read(self, start: int, length: int) -> bytes:
        """See `ChunkSource`."""
        with disk_errors(f"read {self._file.name}"):
            data = os.pread(self._file.descriptor, length, self._position + start)
        if len(data) != length:
            raise DamagedRecord(f"the file {self._file.name} is cut short")
        return data

    def read_cached(self, start: int, length: int) -> bytes | None:
        """See `ChunkSource`."""
        data = bytearray(length)
        try:
            read = os.preadv(self._file.descriptor, [data], self._position + start, _NO_WAIT)
        except BlockingIOError:
            return None
        except OSError:  # a file system that does not tell; what else is wrong, `read` says
            return self.read(start, length)
        return bytes(data) if read == length else None


class IndexInFile(ChunkInFile):
    """The index of a segment."""

    def __init__(self, file: KeyFile, path: Path) -> None:
        super().__init__(file, 0)
        self._path = path

    def discard(self) -> None:
        """See `IndexSource`. What the disk says to it is no news: the node is about to end for its damage."""
        with contextlib.suppress(OSError):
            self._path.unlink()


class CheckpointFiles:
    """Checkpoints in a data directory. Raises `StorageFailed` where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open = True
        self._at_work = threading.Lock()
        self.needed = NeededChunks()
        self._key_files: weakref.WeakValueDictionary[int, KeyFile] = weakref.WeakValueDictionary()
        """Those that are being read, by number."""

    def keep_keys(self, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        """See `Checkpoints`."""
        written = 0
        while written < len(chunks):
            number, place = divmod(first_chunk + written, FILE_CHUNKS)
            end = written + min(FILE_CHUNKS - place, len(chunks) - written)
            self._write_keys(self._path / f"keys-{number}", place * CHUNK_BYTES, chunks[written:end])
            written = end

    def keep(self, checkpoint: Checkpoint) -> None:
        """See `Checkpoints`."""
        path = self._path / CHECKPOINT_FILE
        with self._while_open() as is_open, disk_errors("write a checkpoint"):
            if not is_open:
                return
            self._replace(path, [pack_checkpoint(checkpoint)])
            with self.needed.first(checkpoint.first_chunk) as first_chunk:
                for each in list(self._path.iterdir()):
                    if _end_of(each.name) <= first_chunk:
                        each.unlink()

    def sync_keys(self, state: bytes | bytearray) -> None:
        """See `Checkpoints`."""
        sealed = sealed_in(state)
        for number in range(sealed.first_chunk // FILE_CHUNKS, -(-sealed.end_chunk // FILE_CHUNKS)):
            name = f"keys-{number}"
            with disk_errors(f"sync {name}"):
                try:
                    file = (self._path / name).open("rb", buffering=0)
                except FileNotFoundError as error:
                    raise DamagedRecord(f"the file {name} is missing") from error
                with file:
                    os.fdatasync(file.fileno())

    def load(self) -> Checkpoint | None:
        """See `Checkpoints`."""
        with disk_errors("read the checkpoint"):
            try:
                file = (self._path / CHECKPOINT_FILE).read_bytes()
            except FileNotFoundError:
                return None
        return unpack_checkpoint(file)

    def keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """See `Checkpoints`."""
        while first_chunk < end_chunk:
            number, place = divmod(first_chunk, FILE_CHUNKS)
            end = min(end_chunk, (number + 1) * FILE_CHUNKS)
            with disk_errors(f"read keys-{number}"):
                try:
                    file = (self._path / f"keys-{number}").open("rb", buffering=0)
                except FileNotFoundError as error:
                    raise DamagedRecord(f"the file keys-{number} is missing") from error
                with file:
                    file.seek(place * CHUNK_BYTES)
                    for _ in range(first_chunk, end):
                        chunk = file.read(CHUNK_BYTES)
                        if len(chunk) != CHUNK_BYTES:
                            raise DamagedRecord(f"the file keys-{number} is cut short")
                        yield chunk
            first_chunk = end

    def source(self, number: int) -> ChunkInFile:
        """See `Checkpoints`."""
        file_number, place = divmod(number, FILE_CHUNKS)
        file = self._key_files.get(file_number)
        if file is None:
            name = f"keys-{file_number}"
            with disk_errors(f"read {name}"):
                try:
                    file = KeyFile(self._path / name)
                except FileNotFoundError as error:
                    raise DamagedRecord(f"the file {name} is missing") from error
            self._key_files[file_number] = file
        return ChunkInFile(file, place * CHUNK_BYTES)

    def keep_index(self, end_chunk: int, parts: Sequence[bytes | memoryview]) -> None:
        """See `Checkpoints`."""
        path = self._path / f"keyindex-{end_chunk}"
        with self._while_open() as is_open, disk_errors(f"write {path.name}"):
            if is_open:
                self._replace(path, parts)

    def index(self, end_chunk: int) -> IndexInFile | None:
        """See `Checkpoints`."""
        path = self._path / f"keyindex-{end_chunk}"
        with disk_errors(f"read {path.name}"):
            try:
                return IndexInFile(KeyFile(path), path)
            except FileNotFoundError:
                return None

    def close(self) -> None:
        """Let nobody write any more: a thread that was given up may still be on its way here."""
        in_time = self._at_work.acquire(timeout=limits.STOP_TIMEOUT_S)
        self._open = False
        if in_time:
            self._at_work.release()

    def _replace(self, path: Path, parts: Sequence[bytes | memoryview]) -> None:
        """Write a file that is there as a whole or not at all."""
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            for part in parts:
                write_all(descriptor, part)
            os.fsync(file.fileno())
        new.rename(path)
        sync_directory(self._path)

    def _write_keys(self, path: Path, position: int, chunks: Sequence[bytes | memoryview]) -> None:
        with self._while_open() as is_open, disk_errors(f"write {path.name}"):
            if not is_open:
                return
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                file.seek(position)
                for chunk in chunks:
                    write_all(descriptor, chunk)
                os.fdatasync(descriptor)

    @contextmanager
    def _while_open(self) -> Iterator[bool]:
        with self._at_work:
            yield self._open


class CheckpointImage(NamedTuple):
    """All that is kept of checkpoints in memory."""

    file: bytes | None
    chunks: Mapping[int, bytes]
    indexes: Mapping[int, bytes]


class MemoryCheckpoints:
    """Checkpoints in memory."""

    def __init__(self, take: Callable[[int], None]) -> None:
        """`take` is told the bytes of each write before it is done, and may refuse."""
        self._take = take
        self.needed = NeededChunks()
        self._file: bytes | None = None
        self._chunks: dict[int, bytes] = {}
        self._indexes: dict[int, bytes] = {}

    @property
    def size_bytes(self) -> int:
        """All that is kept."""
        indexes = sum(map(len, self._indexes.values()))
        return len(self._file or b"") + sum(map(len, self._chunks.values())) + indexes

    def keep_keys(self, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        """See `Checkpoints`."""
        self._take(len(chunks) * CHUNK_BYTES)
        self._chunks.update((number, bytes(chunk)) for number, chunk in enumerate(chunks, first_chunk))

    def keep(self, checkpoint: Checkpoint) -> None:
        """See `Checkpoints`."""
        file = pack_checkpoint(checkpoint)
        self._take(len(file))
        self._file = file
        with self.needed.first(checkpoint.first_chunk) as first_chunk:
            self._chunks = {at: chunk for at, chunk in self._chunks.items() if at >= first_chunk}
            self._indexes = {end: index for end, index in self._indexes.items() if end > first_chunk}

    def sync_keys(self, state: bytes | bytearray) -> None:
        """See `Checkpoints`."""
        sealed = sealed_in(state)
        for _ in self.keys(sealed.first_chunk, sealed.end_chunk):
            pass

    def load(self) -> Checkpoint | None:
        """See `Checkpoints`."""
        return None if self._file is None else unpack_checkpoint(self._file)

    def keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """See `Checkpoints`."""
        for number in range(first_chunk, end_chunk):
            if number not in self._chunks:
                raise DamagedRecord(f"chunk {number} of the keys is missing")
            yield self._chunks[number]

    def source(self, number: int) -> "ChunkInMemory":
        """See `Checkpoints`."""
        return ChunkInMemory(self, number)

    def keep_index(self, end_chunk: int, parts: Sequence[bytes | memoryview]) -> None:
        """See `Checkpoints`."""
        index = b"".join(parts)
        self._take(len(index))
        self._indexes[end_chunk] = index

    def index(self, end_chunk: int) -> "IndexInMemory | None":
        """See `Checkpoints`."""
        return IndexInMemory(self._indexes, end_chunk) if end_chunk in self._indexes else None

    def image(self) -> CheckpointImage:
        """A copy of all."""
        return CheckpointImage(self._file, dict(self._chunks), dict(self._indexes))

    def restore(self, image: CheckpointImage | None = None) -> None:
        """Put a copy in place of what is here; nothing, if there is none."""
        self._file, chunks, indexes = image or (None, {}, {})
        self._chunks, self._indexes = dict(chunks), dict(indexes)

    @property
    def chunks(self) -> int:
        """How many are kept."""
        return len(self._chunks)

    def flip_bit(self, source: random.Random) -> None:
        """Damage one bit of the checkpoint or of an index, if there is any."""
        bit = 1 << source.randrange(8)
        if self._indexes and source.random() < 0.5:
            end_chunk = source.choice(sorted(self._indexes))
            index = self._indexes[end_chunk]
            self._indexes[end_chunk] = _flipped(index, source.randrange(len(index)), bit)
        elif self._file is not None:
            self._file = _flipped(self._file, source.randrange(len(self._file)), bit)

    def flip_bit_of_keys(self, source: random.Random) -> None:
        """Damage one bit of a chunk of keys."""
        number = source.choice(sorted(self._chunks))
        at, bit = source.randrange(CHUNK_BYTES), 1 << source.randrange(8)
        self._chunks[number] = _flipped(self._chunks[number], at, bit)


class ChunkInMemory:
    """One chunk of `MemoryCheckpoints`."""

    def __init__(self, checkpoints: MemoryCheckpoints, number: int) -> None:
        self._checkpoints = checkpoints
        self._number = number

    def read(self, start: int, length: int) -> bytes:
        """See `ChunkSource`."""
        (chunk,) = self._checkpoints.keys(self._number, self._number + 1)
        return chunk[start : start + length]

    def read_cached(self, start: int, length: int) -> bytes:
        """See `ChunkSource`."""
        return self.read(start, length)


class IndexInMemory:
    """One index of `MemoryCheckpoints`; as it was, once it is gone."""

    def __init__(self, indexes: dict[int, bytes], end_chunk: int) -> None:
        self._indexes = indexes
        self._end_chunk = end_chunk
        self._last = indexes[end_chunk]

    def read(self, start: int, length: int) -> bytes:
        """See `ChunkSource`."""
        self._last = self._indexes.get(self._end_chunk, self._last)
        data = self._last[start : start + length]
        if len(data) != length:
            raise DamagedRecord(f"the index of the keys before chunk {self._end_chunk} is cut short")
        return data

    def read_cached(self, start: int, length: int) -> bytes:
        """See `ChunkSource`."""
        return self.read(start, length)

    def discard(self) -> None:
        """See `IndexSource`."""
        self._indexes.pop(self._end_chunk, None)


def _end_of(name: str) -> float:
    """The number of the chunk after those that a file of this name is about; endless for other files."""
    if found := _KEYS_NAME.fullmatch(name):
        return (int(found[1]) + 1) * FILE_CHUNKS
    found = _INDEX_NAME.fullmatch(name)
    return int(found[1]) if found else math.inf


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file."""
    head = _HEAD.pack(
        checkpoint.index,
        checkpoint.term,
        checkpoint.log_time_ms,
        checkpoint.first_chunk,
        checkpoint.open_chunk,
        len(checkpoint.state),
    )
    body = head + checkpoint.state
    return _FRONT.pack(_MAGIC, _VERSION, google_crc32c.value(body)) + body


def unpack_checkpoint(file: bytes) -> Checkpoint:
    """What was packed as `file`; raises `DamagedRecord`, and `NewerFormat` for one of a newer version."""
    if len(file) < _FRONT.size + _HEAD.size:
        raise DamagedRecord("the checkpoint ends within its head")
    magic, version, crc = _FRONT.unpack_from(file)
    if magic == _MAGIC and version > _VERSION:
        refuse_newer_file("the checkpoint", version, _VERSION, crc, b"", file[_FRONT.size :])
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedRecord(f"the checkpoint is not one of version {_VERSION}")
    if google_crc32c.value(file[_FRONT.size :]) != crc:
        raise DamagedRecord("the checksum of the checkpoint does not match")
    index, term, log_time_ms, first_chunk, open_chunk, length = _HEAD.unpack_from(file, _FRONT.size)
    state = file[_FRONT.size + _HEAD.size :]
    if length != len(state):
        raise DamagedRecord(f"the checkpoint has a state of {len(state)} bytes, not what its head says")
    return Checkpoint(index, term, log_time_ms, first_chunk, open_chunk, state)


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
