"""The bytes of a stored snapshot: a head with its place and checksum, then the state as it came.

Decides the format and notices damage. Written in pieces that are synced one by one, so that a large
snapshot does not hold up the syncs of the log beside it. Never decides which snapshot counts: the
engine's state record names it. Called by the homes of the engines.
"""

import os
import struct
from pathlib import Path
from typing import Final

import google_crc32c

from esnode import limits
from esnode.errors import DamagedRecord
from esnode.formats import refuse_newer
from esnode.raft.messages import Snapshot
from esnode.storage.files import write_all

_MAGIC: Final = b"ESNS"
SNAPSHOT_FILE_VERSION: Final = 1
# magic | version u8 | crc u32; the crc covers the rest of the head and the data
_FRONT: Final = struct.Struct(">4sBI")
# index u64 | term u64 | next_offset u64 | log_time_ms u64 | length of the data u64
_HEAD: Final = struct.Struct(">QQQQQ")
HEAD_BYTES: Final = _FRONT.size + _HEAD.size


def head_of(snapshot: Snapshot) -> bytes:
    """What stands before the data."""
    place = (snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
    head = _HEAD.pack(*place, len(snapshot.data))
    return _FRONT.pack(_MAGIC, SNAPSHOT_FILE_VERSION, _crc(head, snapshot.data)) + head


def is_known(front: bytes) -> bool:
    """Whether a file that begins so is of the format that is written here."""
    return front.startswith(_MAGIC + bytes([SNAPSHOT_FILE_VERSION]))


def parse_snapshot(head: bytes, data: bytes, index: int, term: int) -> Snapshot:
    """The snapshot of (`index`, `term`); raises `DamagedRecord` when these bytes are not it, whole.

    Raises `NewerFormat` when they are one of a newer version.
    """
    name = f"the snapshot of index {index}"
    if len(head) != HEAD_BYTES:
        raise DamagedRecord(f"{name} ends within its head")
    magic, version, crc = _FRONT.unpack_from(head)
    if magic == _MAGIC and version > SNAPSHOT_FILE_VERSION:
        refuse_newer_file(name, version, SNAPSHOT_FILE_VERSION, crc, head[_FRONT.size :], data)
    if (magic, version) != (_MAGIC, SNAPSHOT_FILE_VERSION):
        raise DamagedRecord(f"{name} is not a snapshot of version {SNAPSHOT_FILE_VERSION}")
    found_index, found_term, next_offset, log_time_ms, length = _HEAD.unpack_from(head, _FRONT.size)
    if length != len(data) or crc != _crc(head[_FRONT.size :], data):
        raise DamagedRecord(f"the checksum of {name} does not match")
    if (found_index, found_term) != (index, term):
        raise DamagedRecord(f"{name} is one of index {found_index}")
    return Snapshot(index, term, next_offset, log_time_ms, data)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write and sync the file at `path`; its name is not durable before the directory is synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        write_all(file.fileno(), head_of(snapshot))
        view = memoryview(snapshot.data)
        for begin in range(0, len(view), limits.SNAPSHOT_CHUNK_BYTES):
            write_all(descriptor, view[begin : begin + limits.SNAPSHOT_CHUNK_BYTES])
            os.fdatasync(descriptor)
        os.fsync(descriptor)


def refuse_newer_file(name: str, version: int, known: int, crc: int, head: bytes, data: bytes) -> None:
    """Raise `NewerFormat` where a file of a later `version` is what was written, and not a damaged one.

    The checksum covers `head` and `data` in the first format, and before them the version from then on: so
    that one flipped bit of the version is damage, which a node repairs, and stops none.
    """
    one_bit = (version ^ known).bit_count() == 1
    if _crc(bytes([version]) + head, data) == crc or (_crc(head, data) == crc and not one_bit):
        refuse_newer(name, version, known)


def _crc(head: bytes, data: bytes | bytearray) -> int:
    crc: int = google_crc32c.value(head)
    view = memoryview(data)
    for begin in range(0, len(view), limits.SNAPSHOT_CHUNK_BYTES):
        crc = google_crc32c.extend(crc, bytes(view[begin : begin + limits.SNAPSHOT_CHUNK_BYTES]))
    return crc
