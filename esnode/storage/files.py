"""What every file of a data directory needs: made private, named durably, its errors translated.

Decides nothing. Called by the data directory, the engines and the checkpoints.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esnode.errors import FilesGone, StorageFailed

FileId = tuple[int, int]
"""Device and inode: which file a name led to."""


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Translate what the operating system says into `StorageFailed`."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"cannot {what}: {error.strerror or error}") from error


def create_file(path: Path) -> None:
    """An empty file that only its owner may read, if there is none."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def write_all(descriptor: int, piece: bytes | bytearray | memoryview) -> None:
    """Write all of it, however little the system takes at once."""
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def file_id(found: os.stat_result) -> FileId:
    """Which file that is."""
    return found.st_dev, found.st_ino


def check_same(path: Path, known: FileId | None = None) -> None:
    """Raise `FilesGone` where `path` no longer leads to the file that is `known`; None: to any."""
    try:
        found = file_id(path.stat())
    except OSError as error:
        raise FilesGone(f"{path} was there and cannot be found: {error.strerror or error}") from error
    if known not in (None, found):
        raise FilesGone(f"{path} is another file than the one that this node has opened")
