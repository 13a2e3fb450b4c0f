"""File systems made for one run, where root is there: small ones to be filled, and ones with a plug.

A small one is a tmpfs. One with a plug is ext4 on a loop device: `Plug.pull` shuts it down as a power cut
does (FS_IOC_SHUTDOWN without a flush), so that all that was not synced is gone. Mounts, and unmounts again
whatever happens. Called by the arena, by `full` and by `power`.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 512 * 1024 * 1024
_SHUTDOWN: Final = 0x8004587D
"""FS_IOC_SHUTDOWN, _IOR('X', 125, __u32): ext4 and xfs have it for their own tests of crashes."""
_WITHOUT_FLUSH: Final = struct.pack("=I", 2)
FILLER: Final = "filler"


def missing() -> str:
    """What this machine lacks for a small one; empty when nothing."""
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


def plug_missing() -> str:
    """What this machine lacks for one with a plug; empty when nothing."""
    if os.geteuid() != 0:
        return "a file system of its own needs root"
    if not shutil.which("mkfs.ext4"):
        return "there is no mkfs.ext4"
    return "" if Path("/dev/loop-control").exists() else "there are no loop devices"


class Plug:
    """A mounted file system whose power can be cut."""

    def __init__(self, path: Path, image: Path) -> None:
        self._path, self._image = path, image

    def mount(self) -> None:
        """Mount it; after a cut its journal is replayed, as at the next boot."""
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self._path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self._path)], check=True)

    def pull(self) -> None:
        """From now on nothing reaches the disk, not even what the kernel still holds."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)


@contextmanager
def plugged(path: Path, image: Path) -> Iterator[Plug]:
    """An empty file system of its own at the directory `path`, kept in the file `image`."""
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    plug = Plug(path, image)
    plug.mount()
    try:
        yield plug
    finally:
        plug.unmount()


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
