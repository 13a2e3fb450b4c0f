"""Where a log is kept in a test: a place that one engine is opened on, one time after the other."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from esnode.storage.directory import MARK_FILE
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.segments import SegmentStorage

US = Identity("test", 1)


class Place:
    """One engine's directory or disk; what is opened here is closed at the end of the test."""

    engine = ""

    def __init__(self) -> None:
        self._opened: list[Storage] = []

    def open(self, identity: Identity = US) -> Storage:
        """Open the storage; one at a time."""
        storage = self._open(identity)
        self._opened.append(storage)
        return storage

    def reopened(self, storage: Storage, identity: Identity = US) -> Storage:
        """Close it and open it again."""
        storage.close()
        return self.open(identity)

    def twice(self, storage: Storage) -> Iterator[Storage]:
        """The storage as it is, then as it is after a restart."""
        yield storage
        yield self.reopened(storage)

    def close(self) -> None:
        """Close all that was opened."""
        for storage in self._opened:
            storage.close()

    def _open(self, identity: Identity) -> Storage:
        raise NotImplementedError

    @property
    def mark(self) -> bytes:
        """The durable mark of a closed log; set, it is as a process left it that was killed then."""
        raise NotImplementedError

    @mark.setter
    def mark(self, mark: bytes) -> None:
        raise NotImplementedError

    def damage_record(self, index: int) -> None:
        """Flip a bit in the record of a closed log's entry."""
        raise NotImplementedError

    def damage_snapshot(self) -> None:
        """Flip a bit in the snapshot of a closed log."""
        raise NotImplementedError


class DirectoryPlace(Place):
    """A data directory."""

    def __init__(self, engine: str, path: Path) -> None:
        super().__init__()
        self.engine = engine
        self.path = path

    def _open(self, identity: Identity) -> Storage:
        return open_storage(self.engine, self.path, identity)

    @property
    def mark(self) -> bytes:
        return (self.path / MARK_FILE).read_bytes()

    @mark.setter
    def mark(self, mark: bytes) -> None:
        with (self.path / MARK_FILE).open("r+b") as file:  # the same file: another one would be a copy
            file.write(mark)

    def damage_record(self, index: int) -> None:
        if self.engine == "sqlite":
            damage_sqlite_record(self.path, index)
        elif self.engine == "segments":
            damage_segment_record(self.path, index)
        else:
            damage_rocksdb_record(self.path, index)

    def damage_snapshot(self) -> None:
        (path,) = self.path.glob("snapshot-*")
        flip_bit(path, path.stat().st_size - 1)


class MemoryPlace(Place):
    """A disk in memory."""

    engine = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()

    def _open(self, identity: Identity) -> Storage:
        return MemoryStorage(self.disk, identity)

    @property
    def mark(self) -> bytes:
        return self.disk.mark.to_bytes(8, "big")

    @mark.setter
    def mark(self, mark: bytes) -> None:
        self.disk.mark = int.from_bytes(mark, "big")

    def damage_record(self, index: int) -> None:
        at = self.disk.cache.index(b" of %d/" % index)
        self.disk.flip_bit_at(8 * at)

    def damage_snapshot(self) -> None:
        self.disk.flip_bit_of_snapshot(random.Random(1))


def flip_bit(path: Path, at: int) -> None:
    """Flip the lowest bit of a file's byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def damage_sqlite_record(data_dir: Path, index: int) -> None:
    with closing(sqlite3.connect(data_dir / "log.sqlite")) as connection:
        (record,) = connection.execute("SELECT record FROM entries WHERE idx = ?", (index,)).fetchone()
        damaged = record[:-1] + bytes([record[-1] ^ 1])
        connection.execute("UPDATE entries SET record = ? WHERE idx = ?", (damaged, index))
        connection.commit()


def damage_segment_record(data_dir: Path, index: int) -> None:
    for path in sorted((data_dir / "segments").glob("*.log")):
        at = path.read_bytes().rfind(b" of %d/" % index)
        if at >= 0:
            flip_bit(path, at)


def damage_rocksdb_record(data_dir: Path, index: int) -> None:
    from rocksdict import Options, Rdict

    with closing(Rdict(str(data_dir / "rocksdb"), Options(raw_mode=True))) as database:
        key = b"e" + index.to_bytes(8, "big")
        value: bytes = database.get(key) or b""
        database[key] = value[:-1] + bytes([value[-1] ^ 1])


class SmallSegmentsPlace(DirectoryPlace):
    """The engine on plain files, with a new file for every few commits."""

    def __init__(self, path: Path) -> None:
        super().__init__("segments", path)

    def _open(self, identity: Identity) -> Storage:
        return SegmentStorage(self.path, identity, segment_bytes=1024)


def place_of(engine: str, path: Path) -> Place:
    """A new place for this engine."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    if engine == "small segments":
        return SmallSegmentsPlace(path / "data")
    return MemoryPlace() if engine == "memory" else DirectoryPlace(engine, path / "data")
