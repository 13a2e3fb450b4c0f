"""The disks where data is or would be: how long a sync takes, and how much room is left.

Writes a few hundred kilobytes into a file without a name, and nothing else. Called by `examination.py`.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from esctl.clusters import state
from esctl.observe.host.checkresult import CheckResult

FSYNC_ROUNDS: Final = 40
SLOW_FSYNC_MS: Final = 20.0
"""Every batch waits for one fsync; at this speed an ack takes longer than an operator expects."""
LITTLE_BYTES: Final = 1 << 30
LITTLE_SHARE: Final = 0.05
NONE_BYTES: Final = 100 << 20
FEW_FILES: Final = 1_000


def findings(data_dir: Path | None) -> Iterator[CheckResult]:
    """The disk of `data_dir`, or of new clusters; and the room on each disk that has a cluster."""
    here = existing(data_dir or state.clusters_root())
    yield fsync(here)
    places = {here.stat().st_dev: here}
    for path in _data_dirs():
        if path.is_dir():
            places.setdefault(path.stat().st_dev, path)
    for path in places.values():
        facts = os.statvfs(path)
        free, size = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
        yield room(path, free, size, facts.f_favail if facts.f_files else None)


def fsync(directory: Path) -> CheckResult:
    """The median time to make 4 KiB durable."""
    took_ms = []
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(FSYNC_ROUNDS):
                file.write(os.urandom(4096))
                file.flush()
                begun = time.perf_counter()
                os.fdatasync(file.fileno())
                took_ms.append(1000 * (time.perf_counter() - begun))
    except OSError as error:
        return CheckResult(
            "fsync", "bad", f"{directory}: {error.strerror}", "choose a directory that can be written"
        )
    found = f"{median(took_ms):.2f} ms (median), {max(took_ms):.2f} ms (worst) in {directory}"
    if median(took_ms) > SLOW_FSYNC_MS:
        return CheckResult("fsync", "warning", found, "use a faster disk: --data-dir")
    return CheckResult("fsync", "ok", found)


def room(path: Path, free_bytes: int, size_bytes: int, free_files: int | None) -> CheckResult:
    """Is there room for a log that grows? `free_files` is None where there is no bound."""
    found = f"{_size(free_bytes)} of {_size(size_bytes)} free in {path}"
    if free_bytes < NONE_BYTES:
        return CheckResult("disk space", "bad", found, "make room: a node ends when its disk is full")
    if free_files is not None and free_files < FEW_FILES:
        return CheckResult(
            "disk space", "warning", f"{found}, for {free_files:,} more files", "delete small files"
        )
    if free_bytes < LITTLE_BYTES or free_bytes < LITTLE_SHARE * size_bytes:
        return CheckResult("disk space", "warning", found, "make room, or set a retention")
    return CheckResult("disk space", "ok", found)


def existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    return next((each for each in (path, *path.parents) if each.is_dir()), Path.cwd())


def _data_dirs() -> Iterator[Path]:
    for cluster in state.readable():  # the others are reported by `leftovers.py`
        yield from (node.data_dir for node in cluster.nodes)


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
