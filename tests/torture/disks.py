"""Small file systems in memory, to be filled up: tmpfs, where root is there.

Mounts, fills, empties, and unmounts again whatever happens. Called by the arena and by `full`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 512 * 1024 * 1024
FILLER: Final = "filler"


def missing() -> str:
    """What this machine lacks for it; empty when nothing."""
    if os.geteuid() != 0:
        return "a small file system needs root"
    return "" if shutil.which("mount") else "there is no mount"


@contextmanager
def small_disk(path: Path, size_bytes: int = SIZE_BYTES) -> Iterator[None]:
    """An empty file system of its own at the directory `path`."""
    options = f"size={size_bytes},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "torture", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def free_bytes(path: Path) -> int:
    """What can still be written there."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize


def fill(path: Path, left_bytes: int) -> None:
    """Leave only about `left_bytes` free, by a file beside the node's own."""
    wanted = free_bytes(path) - left_bytes
    descriptor = os.open(path / FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, max(1, wanted))
    finally:
        os.close(descriptor)


def make_space(path: Path) -> None:
    """Take the filler away."""
    (path / FILLER).unlink()
