"""When a file was made, as its file system remembers it: what no copy takes along.

An inode number alone tells no copy from the original: ext4 gives the number of a file that was just
deleted to the next one that is made. Asks Linux (`statx`); None wherever there is no answer. Called by
`directory`.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
# struct statx (linux/stat.h): the mask of what is filled in, then, 80 bytes in, the time of birth.
_MASK: Final = struct.Struct("=I")
_BORN: Final = struct.Struct("=qI")
_BORN_AT: Final = 80


def born_ns(path: Path) -> int | None:
    """Nanoseconds since 1970; None where the system or the file system does not tell."""
    statx = getattr(ctypes.CDLL(None), "statx", None) if sys.platform == "linux" else None
    if statx is None:
        return None
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, found) != 0:
        return None
    if not _MASK.unpack_from(found)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BORN.unpack_from(found, _BORN_AT)
    return int(seconds * 1_000_000_000 + nanoseconds)
