"""Whether a newer version has written a data directory: asked before a byte of it is touched.

Looks at every format that a directory has, and at the records that a start will read; changes nothing, not
even a file's time. Never says that something is damaged: what cannot be read here is for the open that
follows. Called by `engines` and by `place`, before a directory is opened or marked.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import esnode
from esnode import apply
from esnode.errors import DamagedRecord, DirectoryInUse, NewerFormat
from esnode.formats import refuse_newer
from esnode.raft.entry import parse
from esnode.storage import segments, snapshotfile, sqlite
from esnode.storage.checkpoints import CHECKPOINT_FILE, unpack_checkpoint
from esnode.storage.directory import MARK_FILE, SNAPSHOT_NAME, nobody_else
from esnode.storage.durablemark import refuse_newer_mark
from esnode.storage.files import disk_errors
from esnode.storage.identity import read_marker, read_peers, read_reached, read_title

Look = Callable[[Path, int], Iterable[bytes]]
"""The records after an index, of a log that nobody has open, that may be of a kind which is not known."""


def _rocksdb(path: Path, after_index: int) -> Iterable[bytes]:
    try:
        from esnode.storage import rocksdb
    except ImportError:
        return ()  # the open says so
    return rocksdb.unknown_records(path, after_index)


_LOOKS: Final[dict[str, Look]] = {
    "sqlite": sqlite.unknown_records,
    "segments": segments.unknown_records,
    "rocksdb": _rocksdb,
}


def refuse_newer_directory(engine: str, path: Path) -> None:
    """Raise `NewerFormat` where a newer version has written to `path`; `StorageFailed`."""
    with disk_errors(f"open {path}"), _alone(path) as is_alone:
        if not is_alone:
            return  # the process that has it open can read it
        written_by = ""
        try:
            with suppress(DamagedRecord):
                title = read_title(path)
                written_by = "" if title is None else title.written_by
            _small_files(path)
            for snapshot in sorted(path.glob("snapshot-*")):
                if SNAPSHOT_NAME.fullmatch(snapshot.name):
                    _snapshot(snapshot)
            after_index = _checkpoint(path / CHECKPOINT_FILE)
            _records(_LOOKS[engine](path, after_index) if engine in _LOOKS else ())
        except NewerFormat as error:
            if written_by in ("", esnode.__version__) or f"version {written_by} wrote" in str(error):
                raise
            raise NewerFormat(f"{error}; version {written_by} wrote to {path} last") from error


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody has the directory open: then nobody has while this lasts."""
    try:
        held = nobody_else(path) if (path / "lock").exists() else nullcontext()
        with held:
            yield True
    except DirectoryInUse:
        yield False


def _small_files(path: Path) -> None:
    refuse_newer_mark(path / MARK_FILE)
    read_marker(path)
    with suppress(DamagedRecord):
        read_peers(path)
        read_reached(path)


def _snapshot(path: Path) -> None:
    """Reads the whole file only where its first bytes are not those of a format that is known."""
    with path.open("rb") as file:
        head = file.read(snapshotfile.HEAD_BYTES)
        data = file.read(1)
        if snapshotfile.is_known(head) and data and 0 < data[0] <= apply.SNAPSHOT_VERSION:
            return
        data += file.read()
    _, index, term = path.name.split("-")
    with suppress(DamagedRecord):
        snapshotfile.parse_snapshot(head, data, int(index), int(term))
        refuse_newer(f"the state in {path.name}", apply.format_of_snapshot(data), apply.SNAPSHOT_VERSION)


def _checkpoint(path: Path) -> int:
    """The index up to which this version has applied the log, as the checkpoint says; 0 without one."""
    with suppress(DamagedRecord, FileNotFoundError):
        checkpoint = unpack_checkpoint(path.read_bytes())
        state = apply.format_of_checkpoint(checkpoint.state)
        refuse_newer("the state in the checkpoint", state, apply.CHECKPOINT_VERSION)
        return checkpoint.index
    return 0


def _records(unknown: Iterable[bytes]) -> None:
    with suppress(DamagedRecord):  # the look has met it
        for record in unknown:
            with suppress(DamagedRecord):  # this one is it
                parse(record)
