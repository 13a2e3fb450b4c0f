"""A directory whose data is shared out among the partitions of a node: a directory for the log of each.

Decides whether a node may use it with so many partitions: there may be more than before, never fewer. The log
of a node that had one partition moves into the directory of partition 0; begun once, that is gone on with
after a crash. Called by the supervisor.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from esnode.config import partition_directory
from esnode.errors import WrongDirectory
from esnode.fsync import sync_directory
from esnode.storage.directory import ASIDE_NAME, LOG_NAME, holding_lock, make
from esnode.storage.files import disk_errors
from esnode.storage.identity import (
    IDENTITY_FILE,
    REJOIN_FILE,
    read_partitions,
    read_title,
    write_partitions,
)

_MOVED: Final = re.compile(
    f"{re.escape(IDENTITY_FILE)}|{re.escape(REJOIN_FILE)}|{LOG_NAME.pattern}|{ASIDE_NAME.pattern}"
)
"""What belongs to a log, and with it to partition 0; an operator's own files stay where they are."""


@contextmanager
def hold_partitions(path: Path, partitions: int) -> Iterator[None]:
    """Hold the lock of a directory whose data is shared out among `partitions`, or is from now on.

    Raises `DirectoryInUse`; `WrongDirectory` where it was shared out among more; `DamagedRecord`,
    `NewerFormat`, and `StorageFailed` when the file system refuses.
    """
    with disk_errors(f"open {path}"):
        make(path)
    with holding_lock(path):
        with disk_errors(f"open {path}"):
            _share_out(path, partitions)
        yield


def _share_out(path: Path, partitions: int) -> None:
    found = read_partitions(path)
    if found is not None and found.number > partitions:
        raise WrongDirectory(
            f"the data in {path} is in {found.number} partitions, and the file says {partitions}",
            next_step=f"set `partitions = {found.number}` in the node's file; nothing was changed",
        )
    is_undivided = found.moves_log if found is not None else read_title(path) is not None
    if is_undivided:
        write_partitions(path, partitions, moves_log=True)
        sync_directory(path)
        _move_log(path, partition_directory(path, 0))
    if is_undivided or found is None or found.number != partitions:
        write_partitions(path, partitions)
        sync_directory(path)


def _move_log(path: Path, to: Path) -> None:
    make(to)
    for each in sorted(path.iterdir()):
        if _MOVED.fullmatch(each.name):
            each.rename(to / each.name)
    sync_directory(to)
    sync_directory(path)
