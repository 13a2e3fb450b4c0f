"""The engine on RocksDB, through `rocksdict`: one batch and one sync of the journal a write call.

Decides keys and values. `rocksdict` keeps the interpreter's lock while it writes and syncs in one call,
which would stop the whole node for the time of an fsync; its `flush_wal` gives the lock up. So the
batch is written unsynced, then the journal is synced. RocksDB cuts its journal at the first bad
checksum; the durable mark tells a torn tail from damage (`mark`). Called by `StoredLog`.
"""

import struct
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final

from rocksdict import AccessType, DbClosedError, Options, Rdict, WriteBatch, WriteOptions

from esnode.errors import DamagedRecord, StorageFailed
from esnode.fsync import sync_directory
from esnode.limits import MIB
from esnode.raft.entry import FRONT, KNOWN_FRONTS
from esnode.storage.directory import Directory
from esnode.storage.files import check_same, disk_errors, file_id
from esnode.storage.interface import Identity
from esnode.storage.logoutline import Change, Contents, Row, Stamp
from esnode.storage.storedlog import StoredLog, closed_on_error

DATABASE: Final = "rocksdb"
_CONFIG: Final = "rocksdict-config.json"
_ENTRY: Final = b"e"
_STATE_KEY: Final = b"state"
_TERMS_KEY: Final = b"terms"
# base_offset u64 | number u64 | commit hint u64 | position u64 | crc u32; then the record
_STAMP: Final = struct.Struct(">QQQQI")
_BASE_OFFSET: Final = struct.Struct(">Q")


class RocksdbStorage(StoredLog):
    """A `Storage` in `data_dir`, on RocksDB."""

    def __init__(self, data_dir: Path, identity: Identity) -> None:
        """Create or open it; raises what `open_storage` says."""
        home = Directory(data_dir, "rocksdb", identity)
        with closed_on_error(home):
            engine = RocksdbEngine(data_dir / DATABASE)
            with closed_on_error(engine):
                super().__init__(identity, home, engine)


def unknown_records(data_dir: Path, after_index: int) -> list[bytes]:
    """Those after an index that are not of a known kind, of a log that nobody has open; changes nothing.

    Looks through a directory of links, since `rocksdict` writes beside what it only reads. None where
    RocksDB cannot read them.
    """
    found: list[bytes] = []
    if not (data_dir / DATABASE / "CURRENT").exists():
        return found
    with suppress(OSError, StorageFailed, DamagedRecord), TemporaryDirectory(prefix="esnode-") as links:
        for file in (data_dir / DATABASE).absolute().iterdir():
            if file.name != _CONFIG:
                (Path(links) / file.name).symlink_to(file)
        with _rocksdb_errors:
            _look(links, after_index, found)
    return found


def _look(path: str, after_index: int, found: list[bytes]) -> None:
    database = Rdict(path, Options(raw_mode=True), access_type=AccessType.read_only())
    rows = database.iter()
    try:
        rows.seek(_key(after_index + 1))
        while rows.valid():
            record = rows.value()[_STAMP.size :]
            if rows.key().startswith(_ENTRY) and record[FRONT] not in KNOWN_FRONTS:
                found.append(record)
            rows.next()
    finally:
        del rows  # see `contents`
        database.close()


class RocksdbEngine:
    """The database: entries under `e` and their index, and the records `state` and `terms`."""

    def __init__(self, path: Path) -> None:
        with disk_errors(f"create {path.name}"):
            path.mkdir(mode=0o700, exist_ok=True)
            sync_directory(path.parent)
        self._unsynced = WriteOptions()
        self._unsynced.sync = False
        self._kept_from = 1
        with _rocksdb_errors:
            self._database = Rdict(str(path), _options())
        with disk_errors(f"look at {path.name}"):
            self._opened = {each: file_id(each.stat()) for each in (path, path / "LOCK")}
        self._path = path

    def contents(self) -> Contents:
        """What is there."""
        with _rocksdb_errors:
            state, terms = self._database.get(_STATE_KEY), self._database.get(_TERMS_KEY)
            rows = self._database.iter()
            try:
                rows.seek_for_prev(_key(2**64 - 1))
                rows.status()
                key = rows.key() if rows.valid() else b""
                last = _row(key, rows.value()) if key.startswith(_ENTRY) else None
            finally:
                del rows  # it holds the database open, and the traceback of an error would hold it
        return Contents(state, terms, last)

    def commit(self, change: Change) -> None:
        """One batch, then one sync."""
        batch = WriteBatch(raw_mode=True)
        if change.cut_from is not None:
            batch.delete_range(_key(change.cut_from), _key(2**64 - 1))
        if change.prefix_index >= self._kept_from:
            batch.delete_range(_key(0), _key(change.prefix_index + 1))
        for key, value in ((_STATE_KEY, change.state), (_TERMS_KEY, change.terms)):
            if value is not None:
                batch.put(key, value)
        for row in change.rows:
            stamp = row.stamp
            head = _STAMP.pack(row.base_offset, stamp.number, stamp.commit, stamp.position, row.crc)
            batch.put(_key(row.index), head + row.record)
        with _rocksdb_errors:
            self._database.write(batch, self._unsynced)
            self._database.flush_wal(sync=True)
        self._kept_from = change.prefix_index + 1

    def row(self, index: int) -> Row | None:
        """One row."""
        with _rocksdb_errors:
            value = self._database.get(_key(index))
        return _row(_key(index), value) if value is not None else None

    def records(self, first_index: int, last_index: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Index and record, in order."""
        found: list[tuple[int, bytes]] = []
        end = _key(last_index)
        with _rocksdb_errors:
            rows = self._database.iter()
            try:
                rows.seek(_key(first_index))
                while rows.valid() and rows.key() <= end:
                    row = _row(rows.key(), rows.value())
                    max_bytes -= len(row.record)
                    if max_bytes < 0 and found:
                        break
                    found.append((row.index, row.record))
                    rows.next()
                rows.status()
            finally:
                del rows  # see `contents`
        return found

    def last_at_offset(self, offset: int, first_index: int, last_index: int) -> int:
        """Binary search: base offsets never fall."""
        low, high = first_index, last_index + 1
        while low < high:
            middle = (low + high) // 2
            with _rocksdb_errors:
                value = self._database.get(_key(middle))
            if value is None:
                raise DamagedRecord(f"entry {middle} is missing in the middle of the log")
            if _BASE_OFFSET.unpack_from(value)[0] <= offset:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def tend(self) -> bool:
        """RocksDB flushes and compacts in its own threads."""
        return False

    def check_files(self) -> None:
        """What it never replaces; of the rest, that there is a journal and a list of what counts."""
        for path, known in self._opened.items():
            check_same(path, known)
        check_same(self._path / "CURRENT")
        check_same(next(self._path.glob("*.log"), self._path / "its journal"))

    def close(self) -> None:
        """Close the database. Idempotent."""
        with _rocksdb_errors:
            self._database.close()


class _RocksdbErrors:
    """Translates what `rocksdict` raises: bare `Exception` for every error of RocksDB."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is DbClosedError or kind is Exception:
            if "corruption" in str(error).lower():
                raise DamagedRecord(f"RocksDB finds its files damaged: {error}") from error
            raise StorageFailed(f"RocksDB failed: {error}") from error


_rocksdb_errors: Final = _RocksdbErrors()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * MIB)
    options.set_max_write_buffer_number(4)
    options.set_max_total_wal_size(64 * MIB)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    return options


def _key(index: int) -> bytes:
    return _ENTRY + index.to_bytes(8, "big")


def _row(key: bytes, value: bytes) -> Row:
    if len(value) < _STAMP.size:
        raise DamagedRecord(f"the value under {key.hex()} ends within its head")
    base_offset, number, commit, position, crc = _STAMP.unpack_from(value)
    index = int.from_bytes(key[len(_ENTRY) :], "big")
    return Row(index, base_offset, Stamp(number, commit, position), crc, value[_STAMP.size :])
