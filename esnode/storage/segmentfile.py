"""One file of the segment engine, and how its bytes lie. All numbers are big-endian.

    file    magic 8 | number u64 | salt u64 | crc u32 | frames | a full file: where its last frame begins u64
    frame   mark 4 | crc of the rest of the head u32 | crc of the body u32 | what `Head` has | body
    row     index, base offset, position u64 | stamp's crc u32 | record bytes u32 | record

After the frames come zeros that wait to be written over. The mark and the seed of both checksums come from
the salt, which no client knows: no payload can look like a frame. Decides what a whole frame is, and never
what it means (`segments`).
"""

import enum
import errno
import os
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from esnode.errors import DamagedRecord, StorageFailed
from esnode.formats import refuse_newer
from esnode.fsync import sync_directory
from esnode.storage.files import disk_errors, file_id

FORMAT: Final = 1
"""Of the files of this engine: the last byte of their magic, and `identity.ENGINE_FORMATS`."""
_NAME: Final = b"es-seg\0"
MAGIC: Final = _NAME + bytes([FORMAT])
_FILE_HEAD: Final = struct.Struct(">8sQQI")
FILE_HEAD_BYTES: Final = _FILE_HEAD.size
_HEAD: Final = struct.Struct(">4sIIIBQQQQQIII")
HEAD_BYTES: Final = _HEAD.size
_AFTER_CRC: Final = 8
_CRC_BYTES: Final = 4
ROW: Final = struct.Struct(">QQQII")
_DSYNC: Final = getattr(os, "RWF_DSYNC", 0)
"""One system call that writes and syncs: it gives the interpreter's lock up once, not twice."""
_SEARCH_BYTES: Final = 1 << 20
NO_ROOM: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class FrameKind(enum.IntEnum):
    """What a frame holds."""

    CHANGE = 1
    """One write call."""
    BEGINNING = 2
    """The first of each file: what was so when the file was begun."""
    INDEX = 3
    """The last of a file that is full: where its entries are."""


class Head(NamedTuple):
    """A frame's head: how long the first two parts of the body are, and how many rows follow them.

    The entries from `cut_from` on, the first of which is at the place `dead_from`, are dead; 0: none are.
    """

    kind: int
    number: int
    prefix_index: int
    commit: int = 0
    dead_from: int = 0
    cut_from: int = 0
    state_bytes: int = 0
    terms_bytes: int = 0
    rows: int = 0
    body_bytes: int = 0
    body_crc: int = 0


class SegmentFile:
    """One open file. Raises `StorageFailed` where the file system refuses."""

    def __init__(self, path: Path, descriptor: int, number: int, salt: int) -> None:
        """Use `open_segment` or `create_segment`."""
        self.path = path
        self.number = number
        self.end = FILE_HEAD_BYTES
        """Where the frames end that are known to be whole."""
        self.file_id = file_id(os.fstat(descriptor))
        self._descriptor: int | None = descriptor
        packed = salt.to_bytes(8, "big")
        self._mark = packed[:4]
        self._seed: int = google_crc32c.value(packed)

    def frame(self, head: Head, body: bytes) -> tuple[bytes, bytes]:
        """The two parts of a frame; `head.body_bytes` and `body_crc` are filled in here."""
        crc = google_crc32c.extend(self._seed, body)
        packed = _HEAD.pack(
            self._mark, 0, crc, len(body), head.kind, head.number, head.commit, head.dead_from, head.cut_from,
            head.prefix_index, head.state_bytes, head.terms_bytes, head.rows,
        )  # fmt: skip
        covered = packed[_AFTER_CRC:]
        head_crc: int = google_crc32c.extend(self._seed, covered)
        return self._mark + head_crc.to_bytes(4, "big") + covered, body

    def append(self, parts: tuple[bytes, ...]) -> None:
        """Write at the end, durably."""
        size = sum(map(len, parts))
        try:
            written = os.pwritev(self._file(), parts, self.end, _DSYNC)
            if written < size:  # the disk is full, most likely: the rest says so
                self._write(b"".join(parts)[written:], self.end + written)
            if written < size or not _DSYNC:
                os.fsync(self._file())
        except OSError as error:
            raise StorageFailed(f"cannot write {self.path.name}: {error.strerror or error}") from error
        self.end += size

    def parse_head(self, data: bytes, at: int = 0) -> Head | None:
        """The head that begins there, if it is whole."""
        if len(data) - at < HEAD_BYTES:
            return None
        (
            mark, crc, body_crc, body_bytes, kind, number, commit, dead_from, cut_from,
            prefix_index, state_bytes, terms_bytes, rows,
        ) = _HEAD.unpack_from(data, at)  # fmt: skip
        if mark != self._mark:
            return None
        if google_crc32c.extend(self._seed, data[at + _AFTER_CRC : at + HEAD_BYTES]) != crc:
            return None
        return Head(
            kind, number, prefix_index, commit, dead_from, cut_from,
            state_bytes, terms_bytes, rows, body_bytes, body_crc,
        )  # fmt: skip

    def frame_at(self, at: int) -> tuple[Head, bytes] | None:
        """The frame that begins there, if it is whole."""
        head = self.parse_head(self.read(at, HEAD_BYTES))
        if head is None:
            return None
        body = self.read(at + HEAD_BYTES, head.body_bytes)
        whole = len(body) == head.body_bytes and google_crc32c.extend(self._seed, body) == head.body_crc
        return (head, body) if whole else None

    def has_head_after(self, at: int) -> bool:
        """Whether a whole head begins anywhere after `at`."""
        while data := self.read(at + 1, _SEARCH_BYTES + HEAD_BYTES):
            found = data.find(self._mark)
            while found >= 0:
                if self.parse_head(data, found) is not None:
                    return True
                found = data.find(self._mark, found + 1)
            at += _SEARCH_BYTES
        return False

    def read(self, at: int, size: int) -> bytes:
        """Up to `size` bytes: fewer only where the file ends."""
        with disk_errors(f"read {self.path.name}"):
            data = more = os.pread(self._file(), size, at)
            while more and len(data) < size:
                more = os.pread(self._file(), size - len(data), at + len(data))
                data += more
        return data

    @property
    def size(self) -> int:
        """Of the file, with the zeros at its end."""
        with disk_errors(f"read {self.path.name}"):
            return os.fstat(self._file()).st_size

    def zero(self, at: int, size: int) -> None:
        """Write zeros, durably: to write over them needs no change of the file's own record.

        As many as there is room for: a commit that finds none will say so.
        """
        with disk_errors(f"extend {self.path.name}"):
            try:
                self._write(bytes(size), at)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
            os.fdatasync(self._file())

    def settle(self, last_at: int) -> None:
        """Make what is there durable, and cut off what follows the last whole frame, which is at `last_at`.

        That one is written again: where its sync has failed, the system holds its bytes and calls them clean.
        """
        with disk_errors(f"sync {self.path.name}"):
            self._write(self.read(last_at, self.end - last_at), last_at)
            os.ftruncate(self._file(), self.end)
            os.fsync(self._file())

    def close(self) -> None:
        """Until it is used again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _file(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self._descriptor

    def _write(self, data: bytes, at: int) -> None:
        while data:
            written = os.pwrite(self._file(), data, at)
            data, at = data[written:], at + written


def create_segment(directory: Path, number: int, head: Head, body: bytes) -> SegmentFile:
    """A new file with its first frame: it has its name once both are durable."""
    path = directory / name_of(number)
    new = path.with_name(path.name + ".new")
    salt = int.from_bytes(os.urandom(8), "big") | 1 << 63  # zeros are not the mark of a frame
    with disk_errors(f"create {path.name}"), ExitStack() as undo:
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, descriptor)
        begin = _FILE_HEAD.pack(MAGIC, number, salt, 0)[:-_CRC_BYTES]
        os.pwrite(descriptor, begin + google_crc32c.value(begin).to_bytes(_CRC_BYTES, "big"), 0)
        segment = SegmentFile(path, descriptor, number, salt)
        segment.append(segment.frame(head, body))
        os.fsync(descriptor)
        new.rename(path)
        sync_directory(directory)
        undo.pop_all()
    return segment


def open_segment(path: Path, access: int = os.O_RDWR) -> SegmentFile:
    """Open a file by its name; raises `DamagedRecord` where its head is not what was written.

    Raises `NewerFormat` where a newer version wrote it.
    """
    with disk_errors(f"open {path.name}"), ExitStack() as undo:
        descriptor = os.open(path, access | os.O_CLOEXEC)
        undo.callback(os.close, descriptor)
        head = os.pread(descriptor, FILE_HEAD_BYTES, 0)
        crc = google_crc32c.value(head[:-_CRC_BYTES]).to_bytes(_CRC_BYTES, "big")
        whole = len(head) == FILE_HEAD_BYTES and head.endswith(crc)
        magic, number, salt, _ = _FILE_HEAD.unpack(head) if whole else (b"", 0, 0, 0)
        if magic.startswith(_NAME):
            refuse_newer(f"the file {path.name}", magic[-1], FORMAT)
        if magic != MAGIC or name_of(number) != path.name:
            raise DamagedRecord(f"the head of {path.name} is not what was written")
        undo.pop_all()
    return SegmentFile(path, descriptor, number, salt)


def name_of(number: int) -> str:
    """The file's name: names sort as numbers do."""
    return f"{number:016d}.log"
