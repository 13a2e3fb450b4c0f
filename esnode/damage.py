"""`python -m esnode.damage --config FILE flip|torn`: damage a stopped node's files on purpose, for a drill.

Decides where: one bit of one stored entry that was acked, confirmed by the storage, which must refuse to read
it; or half a record after the last one, as a power cut during a write leaves it. Never touches files that a
process has open, or of a node that allows no faults. Prints one JSON object. Started by `esctl fault disk`;
what it is made of is used by the torture tests.
"""

import argparse
import json
import mmap
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from esnode import config as configuration
from esnode import limits
from esnode.config import Config
from esnode.errors import DamagedRecord, EventStreamError, FaultsNotAllowed, NothingToDamage
from esnode.raft.entry import Entry
from esnode.storage.directory import nobody_else
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage, check_snapshot, pages
from esnode.storage.segmentfile import FILE_HEAD_BYTES, HEAD_BYTES, open_segment

MAX_DRAWS: Final = 40
"""Bits that are tried where the entry's own bytes cannot be found in the files, as in compressed ones."""
_WAL_HEAD: Final = 32
_WAL_FRAME_HEAD: Final = 24
_FIRST_BYTES: Final = 16
"""Of a record: its checksum, kind and index tell it from every other."""


class Flip:
    """One bit of one file."""

    def __init__(self, path: Path, place: int, bit: int) -> None:
        self.path, self.place, self.bit = path, place, bit

    @classmethod
    def drawn(cls, files: Sequence[Path], source: random.Random) -> "Flip":
        """Any bit of these files."""
        path = source.choice(files)
        return cls(path, source.randrange(path.stat().st_size), source.randrange(8))

    def __str__(self) -> str:
        return f"bit {self.bit} of byte {self.place:,} of {self.path.name} flipped"

    def carry_out(self) -> bool:
        """Flip it, or flip it back, and sync it; does the file read otherwise now?"""
        with self.path.open("r+b", buffering=0) as file:
            file.seek(self.place)
            wanted = bytes([file.read(1)[0] ^ (1 << self.bit)])
            file.seek(self.place)
            file.write(wanted)
            os.fsync(file.fileno())
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.place)
            return file.read(1) == wanted


def data_files(engine: str, data_dir: Path, *, at_rest: bool = True) -> list[Path]:
    """The files of the log that hold something: the database, its journal, the snapshot.

    Not `at_rest`: only what a running node does not write any more, or reads before it does.
    """
    if engine == "sqlite":
        database, journals = [data_dir / "log.sqlite"], [data_dir / "log.sqlite-wal"]
    elif engine == "segments":
        *database, last = sorted((data_dir / "segments").glob("*.log"))
        journals = [last]
    else:
        place = data_dir / "rocksdb"
        database, journals = list(place.glob("*.sst")), list(place.glob("*.log"))
    found = [*database, *data_dir.glob("snapshot-*")]
    if at_rest or not database:
        found += journals
    return sorted(path for path in found if path.exists() and path.stat().st_size)


# --- one bit --------------------------------------------------------------------------------------


def flip(config: Config, source: random.Random) -> dict[str, Any]:
    """Flip one bit of one acked entry. Raises `NothingToDamage`, and what `open_storage` does."""
    entry = _an_acked_entry(config, source)
    files = data_files(config.storage, config.data_dir)
    for path, begin, size in _places(files, entry.record):
        chosen = Flip(path, begin + source.randrange(size), source.randrange(8))
        if found := _carried_out(config, chosen, entry.index, entry.index):
            return _flipped(chosen, found, entry)
    for _ in range(MAX_DRAWS):
        chosen = Flip.drawn(files, source)
        if found := _carried_out(config, chosen, 1, limits.MAX_INDEX):
            return _flipped(chosen, found, None)
    raise NothingToDamage(f"{MAX_DRAWS} flipped bits of {config.data_dir} changed nothing that is read")


def _an_acked_entry(config: Config, source: random.Random) -> Entry:
    with closing(_opened(config)) as storage:
        if storage.distrust is not None:
            raise NothingToDamage("the node does not trust this disk already: it fetches its log again")
        found = storage.recover()
        if found.commit <= found.prefix_index:
            raise NothingToDamage("the node has stored nothing that was acked")
        index = source.randint(found.prefix_index + 1, found.commit)
        return storage.read(index, index, 1)[0]


def _places(files: Sequence[Path], record: bytes) -> Iterator[tuple[Path, int, int]]:
    """Where the record lies, and how much of it in one piece; it may lie in a file more than once."""
    for path in files:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = data.find(record[:_FIRST_BYTES])
            while found >= 0:
                yield path, found, _same(record, data[found : found + len(record)])
                found = data.find(record[:_FIRST_BYTES], found + 1)


def _same(record: bytes, stored: bytes) -> int:
    """How many bytes are the same at the beginning of both."""
    pairs = enumerate(zip(record, stored, strict=False))
    return next((at for at, (one, other) in pairs if one != other), len(stored))


def _carried_out(config: Config, chosen: Flip, first_index: int, last_index: int) -> str:
    """Flip it; what the storage says of these entries then. Empty: nothing, and it is flipped back."""
    if chosen.carry_out():
        try:
            with closing(_opened(config)) as storage:
                _read_all(storage, first_index, last_index)
        except DamagedRecord as error:
            return str(error)
    chosen.carry_out()
    return ""


def _read_all(storage: Storage, first_index: int, last_index: int) -> None:
    found = storage.recover()
    first_index = max(first_index, found.prefix_index + 1)
    for _ in pages(storage, first_index, min(last_index, found.last_index), limits.MAX_FETCH_BYTES):
        pass
    check_snapshot(storage)


def _flipped(chosen: Flip, found: str, entry: Entry | None) -> dict[str, Any]:
    whose = ""
    if entry is not None:
        last = entry.base_offset + entry.count - 1
        events = f"events {entry.base_offset:,} to {last:,}" if entry.count else "no events"
        whose = f", in entry {entry.index:,} ({events})"
    return {
        "file": chosen.path.name,
        "byte": chosen.place,
        "bit": chosen.bit,
        "entry": None if entry is None else entry.index,
        "first_offset": None if entry is None else entry.base_offset,
        "events": None if entry is None else entry.count,
        "text": f"{chosen}{whose}",
        "found": found,
    }


def _opened(config: Config) -> Storage:
    identity = Identity(config.cluster, config.node_id, partition=config.partition)
    return open_storage(config.storage, config.data_dir, identity)


# --- half a record --------------------------------------------------------------------------------


def torn(config: Config) -> dict[str, Any]:
    """Leave half a record behind the last one. Raises `NothingToDamage`, and what `nobody_else` does."""
    with nobody_else(config.data_dir):
        return _torn(config)


def _torn(config: Config) -> dict[str, Any]:
    if config.storage == "sqlite":
        path = config.data_dir / "log.sqlite-wal"
        end, half = _torn_frame(path)
    elif config.storage == "segments":
        path = _newest(config.data_dir / "segments")
        end, half = _torn_segment(path)
    else:
        path = _newest(config.data_dir / "rocksdb")
        end, half = path.stat().st_size, path.read_bytes()[:4]  # of the seven of a record's head
    with path.open("r+b" if path.exists() else "w+b", buffering=0) as file:
        file.truncate(end)
        file.seek(end)
        file.write(half)
        os.fsync(file.fileno())
    text = f"{path.name} ends with the first {len(half):,} bytes of a record, at byte {end:,}"
    return {"file": path.name, "byte": end, "bytes": len(half), "text": text}


def _newest(directory: Path) -> Path:
    found = sorted(path for path in directory.glob("*.log") if path.stat().st_size)
    if not found:
        raise NothingToDamage(f"{directory} has no journal")
    return found[-1]


def _torn_frame(path: Path) -> tuple[int, bytes]:
    """Where the frames of SQLite's journal end that belong to it, and half of the last of them."""
    data = path.read_bytes() if path.exists() else b""
    if len(data) < _WAL_HEAD:
        return 0, bytes.fromhex("377f0682002de21800002000")  # the journal's own head, not all of it
    size = _WAL_FRAME_HEAD + int.from_bytes(data[8:12], "big")
    end, half = _WAL_HEAD, data[:_WAL_FRAME_HEAD]
    while end + size <= len(data) and data[end + 8 : end + 16] == data[16:24]:
        half = data[end : end + size // 2]
        end += size
    return end, half


def _torn_segment(path: Path) -> tuple[int, bytes]:
    with closing(open_segment(path)) as segment:
        at, half = FILE_HEAD_BYTES, b""
        while (frame := segment.frame_at(at)) is not None:
            size = HEAD_BYTES + len(frame[1])
            half = segment.read(at, size)[: HEAD_BYTES + len(frame[1]) // 2]
            at += size
    return at, half[: max(1, len(half) - 1)]


# --- the program ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 not, with the error as the JSON object."""
    parser = argparse.ArgumentParser(prog="esnode.damage", description="Damage a stopped node's files")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--partition", type=int, default=None, help="the one of several whose files are meant"
    )
    parser.add_argument("--seed", default=None)
    parser.add_argument("what", choices=("flip", "torn"))
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
        if not config.faults.allowed:
            raise FaultsNotAllowed("this node breaks nothing on purpose: its file has no `allowed = true`")
        if options.partition is not None:
            config = config.of_partition(options.partition)
        done = flip(config, random.Random(options.seed)) if options.what == "flip" else torn(config)
    except EventStreamError as error:
        sys.stdout.write(json.dumps({"code": error.code, "error": str(error)}) + "\n")
        return 1
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
