"""A node's data directory: whose it is, who holds it, its snapshots and its durable mark.

Decides whether this node may open it: its title is written when it is first used, and compared before
anything is touched; a lock keeps every other process out. New files are 0600, new directories 0700, and
a name counts only after its directory was synced. Called by the disk engines and by `place`.

    *.json  see `identity`    written-N  see `witness`    lock  held while a process has it open
    snapshot-INDEX-TERM    see `snapshot_file`      rejoining   there while what is stored is not believed
    savepoint, keys-N, keyindex-N   see `checkpoints`
    damaged-N    a log that was put aside           durable     see `mark`
"""

import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from esnode.apply import OUTLINE_VERSION
from esnode.errors import (
    CopiedDirectory,
    DamagedRecord,
    DirectoryInUse,
    DistrustedDirectory,
    MembersChanged,
    WrongDirectory,
)
from esnode.fsync import sync_directory
from esnode.raft.messages import NodeId, Snapshot
from esnode.storage.birthtime import born_ns
from esnode.storage.checkpoints import CheckpointFiles
from esnode.storage.durablemark import FILE_BYTES, DurableMark
from esnode.storage.files import FileId, check_same, disk_errors, file_id
from esnode.storage.identity import (
    IDENTITY_FILE,
    REACHED_FILE,
    REJOIN_FILE,
    Marker,
    Title,
    new_name,
    read_marker,
    read_partitions,
    read_peers,
    read_reached,
    read_title,
    write_marker,
    write_peers,
    write_reached,
    write_title,
)
from esnode.storage.interface import Distrust, Identity
from esnode.storage.snapshotfile import HEAD_BYTES, parse_snapshot, write_snapshot
from esnode.storage.witness import Witness

MARK_FILE: Final = "durable"
SNAPSHOT_NAME: Final = re.compile(r"snapshot-\d+-\d+")
LOG_NAME: Final = re.compile(
    r"durable|written-.*|peers\.json|reached\.json|snapshot-.*|savepoint.*|keys-.*|keyindex-.*|log\.sqlite.*|rocksdb|segments|.*\.json\.new"
)
"""What is put aside with a damaged log, of any engine; an operator's own files stay where they are."""
WHY: Final = {
    Distrust.COPY: "the directory is a copy",
    Distrust.PEERS: "the other nodes know another directory of this node",
    Distrust.OLDER: "the node has had more than is stored here: an older state was restored",
    Distrust.OPERATOR: "the operator has said --rejoin",
    Distrust.DAMAGE: "the log was damaged, and put aside in damaged-N",
}
"""What the marker says, for people."""
ASIDE_NAME: Final = re.compile(r"damaged-(\d+)")


class Directory:
    """An opened, locked data directory: the `Home` of an engine on disk."""

    def __init__(self, path: Path, engine: str, identity: Identity) -> None:
        """Create or open it.

        Raises `WrongDirectory`, `MembersChanged`, `NewerFormat`, `CopiedDirectory` (nothing is changed then),
        `DirectoryInUse`, `DamagedRecord`, and `StorageFailed` when the file system refuses.
        """
        self.path = path
        self.checkpoints = CheckpointFiles(path)
        self._staged: Snapshot | None = None
        self._snapshot_files = threading.Lock()
        with disk_errors(f"open {path}"):
            check_title(path, engine, identity)
            make(path)
            with ExitStack() as undo:
                self._lock = _locked(path / "lock")
                undo.callback(os.close, self._lock)
                title = check_title(path, engine, identity)
                if title is None:
                    sync_directory(path.parent)  # whoever made the directory, or moved another one away
                marker = read_marker(path)
                self.distrust = None if marker is None else marker.distrust
                """Why what is stored here is not to be believed."""
                if title is not None and title.inode is not None and marker is None:
                    _check_mark(path, title)
                self._peers, self._reached = read_peers(path), read_reached(path)
                self._witness = Witness(path)
                undo.callback(self._witness.close)
                self._mark = DurableMark(path / MARK_FILE)
                undo.callback(self._mark.close)
                name = new_name() if title is None else title.directory
                # A crash may have come between the marker and the title: the marker has the newer name.
                self.directory = name if marker is None else marker.directory
                if title is not None and not identity.members:
                    identity = title.identity
                self._settle(title, Title(engine, identity, self.directory, None))
                sync_directory(path)
                self._opened: dict[Path, FileId | None] = {
                    path: file_id(path.stat()),
                    path / "lock": file_id(os.fstat(self._lock)),
                    path / MARK_FILE: self._mark.file_id,
                    path / IDENTITY_FILE: None,  # written anew by its own kind, under another inode
                }
                undo.pop_all()
        self._closed = False

    @property
    def peers(self) -> Mapping[NodeId, bytes]:
        """The names of the peers' directories."""
        return self._peers

    def remember_peer(self, peer: NodeId, directory: bytes) -> None:
        """Remember the name of a peer's directory, durably."""
        peers = self._peers | {peer: directory}
        with disk_errors("write what is known of the peers"):
            write_peers(self.path, peers)
            sync_directory(self.path)
        self._peers = peers

    @property
    def reached(self) -> Mapping[NodeId, int]:
        """Up to where each peer once held the log, durably."""
        return self._reached

    def remember_reached(self, reached: Mapping[NodeId, int]) -> None:
        """Remember up to where peers hold the log, durably."""
        with disk_errors("write what is known of the peers"):
            write_reached(self.path, reached)
            sync_directory(self.path)
        self._reached = dict(reached)

    def end_rejoin(self) -> None:
        """What is stored can be believed from now on: remove the marker, durably."""
        with disk_errors("remove the marker of rejoining"):
            self._witness.begin_again(self._mark.number)
            (self.path / REJOIN_FILE).unlink()
            sync_directory(self.path)
        self.distrust = None

    @property
    def is_new(self) -> bool:
        """Nothing was ever stored here."""
        return self._mark.is_new

    @property
    def mark(self) -> int:
        """The number of the last write known to have been durable."""
        return self._mark.number

    @property
    def witnessed(self) -> int:
        """A write that was durable here, whatever the mark says: see `witness`."""
        return self._witness.number

    def advance(self, number: int) -> None:
        """Write call `number` is durable."""
        self._mark.advance(number)
        self._witness.note(number)

    def check_files(self, index: int, term: int) -> None:
        """Raise `FilesGone` where the names here lead no longer to what was opened; any thread may ask.

        `index` and `term` are those of the snapshot in use, 0 without one.
        """
        for path, known in self._opened.items():
            check_same(path, known)
        if index:
            check_same(self._snapshot_path(index, term))

    def sync_mark(self) -> None:
        """Make the mark durable; may run in any thread."""
        with disk_errors("sync the mark of what was durable"):
            self._mark.sync()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Write it beside the others, durably, unless this very object was written just before."""
        path = self._snapshot_path(snapshot.index, snapshot.term)
        new = path.with_name(path.name + ".new")
        with self._snapshot_files, disk_errors("write the snapshot"):
            if self._staged is not snapshot:
                self.checkpoints.sync_keys(snapshot.data)
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
        kept = self._snapshot_path(index, term)
        with self._snapshot_files, disk_errors("remove old snapshots"):
            self._staged = None
            self.checkpoints.needed.note_snapshot(_outline_in(kept))
            for path in list(self.path.iterdir()):
                if SNAPSHOT_NAME.fullmatch(path.name.removesuffix(".new")) and path != kept:
                    path.unlink()

    def close(self) -> None:
        """Give up the lock. Idempotent."""
        if not self._closed:
            self._closed = True
            self._witness.note(self._mark.number, at_once=True)
            self._witness.close()
            self.checkpoints.close()
            self._mark.close()
            os.close(self._lock)

    def _settle(self, title: Title | None, wanted: Title) -> None:
        """Write down the directory's name, and which file the mark is, where `title` does not say so yet."""
        mark = self.path / MARK_FILE
        settled = replace(wanted, inode=mark.stat().st_ino, born_ns=born_ns(mark))
        if title != settled:
            write_title(self.path, settled)

    def _snapshot_path(self, index: int, term: int) -> Path:
        return self.path / f"snapshot-{index}-{term}"


def _outline_in(snapshot: Path) -> bytes:
    """The state in this file, where that is an outline: one with all its keys takes long to read."""
    if not snapshot.exists():
        return b""
    with snapshot.open("rb") as file:
        version = file.read(HEAD_BYTES + 1)[HEAD_BYTES:]
        return version + file.read() if version == bytes([OUTLINE_VERSION]) else b""


def make(path: Path) -> None:
    """Create the directory and its missing parents; each new name is synced into its parent."""
    if path.is_dir():
        return
    make(path.parent)
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


def check_title(path: Path, engine: str, identity: Identity) -> Title | None:
    """The directory's title, if it is ours; None when it is nobody's.

    Raises `WrongDirectory`, and `MembersChanged` for another list of members than its own.
    """
    _check_undivided(path)
    title = read_title(path)
    if title is None:
        return None
    if (title.identity.cluster, title.identity.node_id) != (identity.cluster, identity.node_id):
        raise WrongDirectory(
            f"{path} belongs to node {title.identity.node_id} of cluster {title.identity.cluster!r},"
            f" not to node {identity.node_id} of cluster {identity.cluster!r}"
        )
    if title.identity.partition != identity.partition:
        raise WrongDirectory(
            f"{path} holds partition {title.identity.partition}, not partition {identity.partition}"
        )
    if title.engine != engine:
        raise WrongDirectory(f"{path} holds a log of the engine {title.engine}, not {engine}")
    before, now = title.identity.members, identity.members
    if before and now and before != now:
        raise MembersChanged(
            f"the file lists the members {_listed(now)};"
            f" {path} is of node {identity.node_id} of {_listed(before)}:"
            " a majority of the one list is none of the other"
        )
    return title


def _check_undivided(path: Path) -> None:
    """That no log was shared out below `path`: beside it, a new one would be empty."""
    if (found := read_partitions(path)) is not None:
        raise WrongDirectory(
            f"the data in {path} is in {found.number} partitions",
            next_step=f"set `partitions = {found.number}` in the node's file; nothing was changed",
        )


def _listed(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids[:40])) + (f" and {len(ids) - 40} more" if len(ids) > 40 else "")


def check_believed(path: Path, engine: str, identity: Identity) -> bool:
    """Whether this is a node's directory, and one whose log may be believed; changes nothing.

    Raises `WrongDirectory`, `CopiedDirectory`, `DistrustedDirectory`, `DamagedRecord`, and `StorageFailed`.
    """
    with disk_errors(f"look at {path}"):
        title, marker = check_title(path, engine, identity), read_marker(path)
        if title is None:
            return False
        if marker is not None:
            raise DistrustedDirectory(f"{path} cannot be trusted: {WHY[marker.distrust]}")
        if title.inode is not None:
            _check_mark(path, title)
        return True


def _check_mark(path: Path, title: Title) -> None:
    """The mark was there, whole, when `title` was written down."""
    try:
        found = (path / MARK_FILE).stat()
    except FileNotFoundError as error:
        raise DamagedRecord("the mark of what was durable is missing") from error
    born = born_ns(path / MARK_FILE)
    if found.st_ino != title.inode or (None not in (born, title.born_ns) and born != title.born_ns):
        raise CopiedDirectory(f"{path} is a copy of the directory that this node used last")
    if found.st_size < FILE_BYTES:
        raise DamagedRecord(f"the mark of what was durable has {found.st_size} bytes, not {FILE_BYTES}")


# --- a directory that is not to be believed ---------------------------------------------------------


def begin_rejoin(path: Path, engine: str, identity: Identity, why: Distrust) -> Path | None:
    """Note durably that what `path` holds is not to be believed; where it is damaged, put it aside.

    Returns where it was put. The marker comes first and goes last (`Directory.end_rejoin`), so a crash
    at any point leaves a directory that rejoins, under another name than before: an older copy of it is
    then a stranger to all peers. What it holds by then does not matter. Raises `DirectoryInUse`,
    `WrongDirectory` (nothing is changed then) and `StorageFailed`.
    """
    with disk_errors(f"begin to rejoin with {path}"):
        make(path)
        with holding_lock(path):
            try:
                readable = check_title(path, engine, identity) is not None
            except DamagedRecord:
                readable, why = False, Distrust.DAMAGE
            before = read_marker(path)
            total = why.added_to(None if before is None else before.distrust)
            write_marker(path, Marker(total, new_name()))
            if (path / REACHED_FILE).exists():
                (path / REACHED_FILE).unlink()
            sync_directory(path)
            return _put_aside(path, with_title=not readable) if why is Distrust.DAMAGE else None


def trust_copy(path: Path, engine: str, identity: Identity, *, older: bool = False) -> None:
    """The directory was moved while its node was stopped: it is the node's own from now on, and the latest.

    Where it had begun to rejoin as a copy, it no longer does: its log was kept, and has only grown since,
    as a follower's does. Any directory that another node comes with is news then, since they may have met
    this one or its original. That the node has had more (`witness`) is found at the next start, unless it
    may be `older`. Raises `DistrustedDirectory` where it rejoins for a graver reason,
    `DirectoryInUse`, `WrongDirectory`, `DamagedRecord` and `StorageFailed`.
    """
    with disk_errors(f"take over {path}"):
        make(path)
        with holding_lock(path):
            title, marker = check_title(path, engine, identity), read_marker(path)
            if marker is not None:
                check_trust(marker.distrust)
            if title is not None:
                name = title.directory if marker is None else marker.directory
                write_title(path, replace(title, directory=name, inode=None))
                write_peers(path, {})
                (path / REACHED_FILE).unlink(missing_ok=True)
                if older:
                    with closing(Witness(path)) as witness:
                        witness.begin_again(0)
                sync_directory(path)
            if marker is not None:
                (path / REJOIN_FILE).unlink()
                sync_directory(path)


def check_trust(distrust: Distrust | None) -> None:
    """Raise `DistrustedDirectory` where the operator's word is not enough to believe a disk."""
    if distrust not in (None, Distrust.COPY):
        raise DistrustedDirectory(f"{WHY[distrust]}: --trust-copy is for a copy that is whole and the latest")


def _put_aside(path: Path, *, with_title: bool) -> Path | None:
    names = sorted(each.name for each in path.iterdir() if LOG_NAME.fullmatch(each.name))
    if with_title and (path / IDENTITY_FILE).exists():
        names.append(IDENTITY_FILE)
    if not names:
        return None
    earlier = [int(found[1]) for each in path.iterdir() if (found := ASIDE_NAME.fullmatch(each.name))]
    aside = path / f"damaged-{1 + max(earlier, default=0)}"
    aside.mkdir(mode=0o700)
    for name in names:
        (path / name).rename(aside / name)
    sync_directory(aside)
    sync_directory(path)
    return aside


@contextmanager
def holding_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the directory; raises `DirectoryInUse`."""
    descriptor = _locked(path / "lock")
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def nobody_else(path: Path) -> Iterator[None]:
    """Hold the lock of a stopped node's directory without a byte written to it.

    Raises `DirectoryInUse`, and `WrongDirectory` where there is no lock.
    """
    try:
        descriptor = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WrongDirectory(f"{path} is no data directory: it has no lock") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DirectoryInUse(f"the node that {path} belongs to is running") from error
    finally:
        os.close(descriptor)
