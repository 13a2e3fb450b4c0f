"""A node's data directory: whose it is, who holds it, its snapshots and its durable mark.

Decides whether this node may open it: the identity is written once, when the directory is first used,
and compared before anything is touched; a lock keeps every other process out. New files are 0600, new
directories 0700, and a name counts only after its directory was synced. Called by the disk engines.

    identity.json   engine, format, cluster, node id     lock      held while a process has it open
    snapshot-INDEX-TERM   see `snapshot_file`            durable   see `mark`
"""

import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from esnode.errors import DamagedRecord, DirectoryInUse, StorageFailed, WrongDirectory
from esnode.raft.messages import Snapshot
from esnode.storage.interface import Identity
from esnode.storage.mark import DurableMark
from esnode.storage.snapshot_file import HEAD_BYTES, parse_snapshot, write_snapshot

FORMAT: Final = 1
"""The version of everything in the directory; a newer one is refused."""

_SNAPSHOT_NAME: Final = re.compile(r"snapshot-\d+-\d+(\.new)?")


class Directory:
    """An opened, locked data directory: the `Home` of an engine on disk."""

    def __init__(self, path: Path, engine: str, identity: Identity) -> None:
        """Create or open it.

        Raises `WrongDirectory` (nothing is changed then), `DirectoryInUse`, `DamagedRecord`, and
        `StorageFailed` when the file system refuses.
        """
        self.path = path
        self._staged: Snapshot | None = None
        self._snapshot_files = threading.Lock()
        with disk_errors(f"open {path}"):
            _check_identity(path, engine, identity)
            _make(path)
            with ExitStack() as undo:
                self._lock = _locked(path / "lock")
                undo.callback(os.close, self._lock)
                if not _check_identity(path, engine, identity):
                    _write_identity(path, engine, identity)
                self._mark = DurableMark(path / "durable")
                undo.callback(self._mark.close)
                sync_directory(path)
                undo.pop_all()
        self._closed = False

    @property
    def is_new(self) -> bool:
        """Nothing was ever stored here."""
        return self._mark.is_new

    @property
    def mark(self) -> int:
        """The number of the last write known to have been durable."""
        return self._mark.number

    def advance(self, number: int) -> None:
        """Write call `number` is durable."""
        self._mark.advance(number)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Write it beside the others, durably, unless this very object was written just before."""
        path = self._snapshot_path(snapshot.index, snapshot.term)
        new = path.with_name(path.name + ".new")
        with self._snapshot_files, disk_errors("write the snapshot"):
            if self._staged is not snapshot:
                write_snapshot(new, snapshot)
                new.rename(path)
                sync_directory(self.path)
                self._staged = snapshot

    def load_snapshot(self, index: int, term: int) -> Snapshot:
        """Read it back; raises `DamagedRecord`."""
        path = self._snapshot_path(index, term)
        with disk_errors("read the snapshot"):
            try:
                with path.open("rb") as file:
                    head, data = file.read(HEAD_BYTES), file.read()
            except FileNotFoundError as error:
                raise DamagedRecord(f"the file {path.name} is missing") from error
        return parse_snapshot(head, data, index, term)

    def drop_snapshots(self, index: int, term: int) -> None:
        """Remove the files of all snapshots but this one."""
        kept = self._snapshot_path(index, term).name
        with self._snapshot_files, disk_errors("remove old snapshots"):
            self._staged = None
            for path in list(self.path.iterdir()):
                if _SNAPSHOT_NAME.fullmatch(path.name) and path.name != kept:
                    path.unlink()

    def close(self) -> None:
        """Give up the lock. Idempotent."""
        if not self._closed:
            self._closed = True
            self._mark.close()
            os.close(self._lock)

    def _snapshot_path(self, index: int, term: int) -> Path:
        return self.path / f"snapshot-{index}-{term}"


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate what the operating system says into `StorageFailed`."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"cannot {what}: {error.strerror or error}") from error


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_file(path: Path) -> None:
    """An empty file that only its owner may read, if there is none."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _make(path: Path) -> None:
    """Create the directory and its missing parents; each new name is synced into its parent."""
    if path.is_dir():
        return
    _make(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DirectoryInUse(f"process {holder or 'unknown'} has {path.parent} open") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _check_identity(path: Path, engine: str, identity: Identity) -> bool:
    """Whether the directory is ours already; False when it is nobody's. Raises `WrongDirectory`."""
    try:
        text = (path / "identity.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    try:
        found: dict[str, Any] = json.loads(text)
        version, owner = found["format"], Identity(found["cluster"], found["node_id"])
        found_engine = found["engine"]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedRecord(f"{path / 'identity.json'} is not the identity of a node") from error
    if version != FORMAT:
        raise WrongDirectory(f"{path} is of format {version}; this version reads and writes {FORMAT}")
    if owner != identity:
        raise WrongDirectory(
            f"{path} belongs to node {owner.node_id} of cluster {owner.cluster!r},"
            f" not to node {identity.node_id} of cluster {identity.cluster!r}"
        )
    if found_engine != engine:
        raise WrongDirectory(f"{path} holds a log of the engine {found_engine}, not {engine}")
    return True


def _write_identity(path: Path, engine: str, identity: Identity) -> None:
    content = {
        "format": FORMAT,
        "engine": engine,
        "cluster": identity.cluster,
        "node_id": identity.node_id,
    }
    new = path / "identity.json.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path / "identity.json")
    sync_directory(path)
