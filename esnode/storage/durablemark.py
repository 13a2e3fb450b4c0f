"""The durable mark: a small file that remembers the number of the last write that was durable.

A log's journal (SQLite's WAL, RocksDB's) cannot tell a torn tail from damage in its synced part: both
end with a bad checksum, and both are cut when it is opened. The mark tells them apart. It is advanced
after the log's sync, and synced itself once a second: after a crash of the process it is exact, after a power
cut it may be so much older, and it is never ahead. Two slots with checksums, written in turn.
"""

import mmap
import os
import struct
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import google_crc32c

from esnode import limits
from esnode.errors import DamagedRecord
from esnode.formats import refuse_newer
from esnode.storage.files import file_id

_SLOT: Final = struct.Struct(">QI")
_SLOT_AT: Final = (0, 64)
_FORMAT_AT: Final = 112
"""A slot of its own for the file's format; zeros are the first one."""
FORMAT: Final = 1
FILE_BYTES: Final = 128


class DurableMark:
    """The mark's file, mapped into memory. Raises `OSError` and, when opened, `DamagedRecord`."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it when it is missing; `is_new` says which."""
        self.is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if os.fstat(descriptor).st_size < FILE_BYTES:
                self.is_new = True
                os.pwrite(descriptor, bytes(FILE_BYTES), 0)
                os.fsync(descriptor)
            self._map = mmap.mmap(descriptor, FILE_BYTES)
            self.file_id = file_id(os.fstat(descriptor))
            undo.pop_all()
        self._descriptor: int | None = descriptor
        self._in_use = threading.Lock()
        self.number = self._synced = self._newest()

    def advance(self, number: int) -> None:
        """Remember `number`; costs no system call."""
        assert number > self.number
        at = _SLOT_AT[number % 2]
        _SLOT.pack_into(self._map, at, number, _crc(number))
        self.number = number

    def sync(self) -> None:
        """Make the number durable, if it has grown since. May run in any thread: it may take long.

        By the file: `mmap.flush` keeps the interpreter's lock meanwhile.
        """
        with self._in_use:
            number = self.number
            if self._descriptor is not None and number > self._synced:
                os.fdatasync(self._descriptor)
                self._synced = number

    def close(self) -> None:
        """Idempotent; waits for a `sync` that is under way, for so long as an end may take."""
        in_time = self._in_use.acquire(timeout=limits.STOP_TIMEOUT_S)
        self._map.close()
        if in_time:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            self._in_use.release()

    def _newest(self) -> int:
        found: list[tuple[int, int]] = [_SLOT.unpack_from(self._map, at) for at in _SLOT_AT]
        if not any(number or crc for number, crc in found):
            return 0
        whole = [number for number, crc in found if crc == _crc(number)]
        if not whole:
            self.close()
            raise DamagedRecord("the mark of what was durable is damaged")
        return max(whole)


def refuse_newer_mark(path: Path) -> None:
    """Raise `NewerFormat` where a later version wrote the mark; looks only. A format that is not whole says
    nothing."""
    try:
        data = path.read_bytes()[:FILE_BYTES]
    except FileNotFoundError:
        return
    if len(data) == FILE_BYTES:
        number, crc = _SLOT.unpack_from(data, _FORMAT_AT)
        if crc == _crc(number):
            refuse_newer(f"the mark {path}", number, FORMAT)


def _crc(number: int) -> int:
    crc: int = google_crc32c.value(number.to_bytes(8, "big"))
    return crc
