"""The engine on plain files: each commit is one frame at the end of the last file, written and synced.

Decides what a log of frames means: which rows live, when a file is full, when one may go. Nothing is ever
changed in place: a tail that is replaced stays as a dead range, a prefix that is cut goes with its files. A
torn frame can only be the very last; anything else that is not whole is damage. Called by `StoredLog`.
"""

import os
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from esnode.errors import DamagedRecord
from esnode.formats import newer
from esnode.fsync import sync_directory
from esnode.limits import MIB
from esnode.raft.entry import FRONT, KNOWN_FRONTS
from esnode.storage.directory import Directory
from esnode.storage.files import check_same, disk_errors, file_id
from esnode.storage.frameindex import FrameIndex, byte_of, place, segment_of
from esnode.storage.interface import Identity
from esnode.storage.logoutline import Change, Contents, Row, Stamp
from esnode.storage.segmentfile import (
    FILE_HEAD_BYTES,
    HEAD_BYTES,
    ROW,
    FrameKind,
    Head,
    SegmentFile,
    create_segment,
    open_segment,
)
from esnode.storage.storedlog import StoredLog, closed_on_error

FOLDER: Final = "segments"
SEGMENT_BYTES: Final = 64 * MIB
ZEROS_BYTES: Final = MIB
"""A file grows by so many zeros at a time: an overwrite syncs in two thirds of the time of an append."""
READ_BYTES: Final = 256 * 1024
OPEN_FILES: Final = 8
"""Full files that are held open, beside the last one."""
_LAST: Final = struct.Struct(">Q")
_TRAILER: Final = struct.Struct(">Q")


class SegmentStorage(StoredLog):
    """A `Storage` in `data_dir`, on plain files."""

    def __init__(self, data_dir: Path, identity: Identity, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Create or open it; raises what `open_storage` says."""
        home = Directory(data_dir, "segments", identity)
        with closed_on_error(home):
            engine = SegmentEngine(data_dir / FOLDER, segment_bytes)
            with closed_on_error(engine):
                super().__init__(identity, home, engine)


def unknown_records(data_dir: Path, after_index: int) -> Iterator[bytes]:
    """Those after an index that are not of a known kind, of a log that nobody has open; changes nothing.

    Raises `NewerFormat` for a file or a frame of a newer version. What is not whole ends the look: that is
    for the open to judge.
    """
    for path in sorted((data_dir / FOLDER).glob("*.log"), reverse=True):
        try:
            segment = open_segment(path, os.O_RDONLY)
        except DamagedRecord:
            return
        with closing(segment):
            first = segment.frame_at(FILE_HEAD_BYTES)
            yield from _unknown_in(segment)
        if first is None or first[0].kind != FrameKind.BEGINNING or _last_before(*first) <= after_index:
            return


def _unknown_in(segment: SegmentFile) -> Iterator[bytes]:
    at = FILE_HEAD_BYTES
    while (frame := segment.frame_at(at)) is not None:
        head, body = frame
        _check_kind(segment, head)
        for row in _rows(head, body, -HEAD_BYTES, 0):
            if row.record[FRONT] not in KNOWN_FRONTS:
                yield row.record
        at += HEAD_BYTES + len(body)


def _check_kind(segment: SegmentFile, head: Head) -> None:
    if head.kind > max(FrameKind):
        raise newer(f"a frame in {segment.path.name} is of the kind {head.kind}, which is not known here")


def _last_before(head: Head, body: bytes) -> int:
    """The last index before the file, as its first frame has it."""
    (last_index,) = _LAST.unpack_from(body, head.state_bytes + head.terms_bytes)
    return int(last_index)


class _Found(NamedTuple):
    """A row and where it is: at `where`, which is its frame's place if it is the first in there."""

    where: int
    entry: int
    base_offset: int
    position: int
    crc: int
    record: bytes
    head: Head


class SegmentEngine:
    """The files of one log. Frames are numbered as the write calls are, without gaps."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments: dict[int, SegmentFile] = {}
        self._frames = FrameIndex()
        self._number = 0
        self._state = b""
        self._terms = b""
        self._prefix_index = 0
        self._last_index = 0
        self._zeros_to = 0
        self._open_files: deque[SegmentFile] = deque()
        self._checked = 0
        self._reading: tuple[int, _Found | None, Iterator[_Found]] | None = None
        """Where the last `records` stopped: the index that follows, and its row if it is read already."""
        with closed_on_error(self):
            self._open()

    # --- the Protocol of an engine ---------------------------------------------------------------

    def contents(self) -> Contents:
        """What is there."""
        last = self.row(self._last_index)
        if last is None and self._last_index > self._prefix_index:
            raise DamagedRecord(f"entry {self._last_index} is missing at the end of the log")
        return Contents(self._state or None, self._terms or None, last)

    def commit(self, change: Change) -> None:
        """One frame, one sync."""
        last = self._last
        where = place(last.number, last.end)
        dead_from = self._where_of(change.cut_from) if change.cut_from is not None else 0
        last.append(last.frame(*_change_frame(change, dead_from)))
        self._enter(change.number, change.state or b"", change.terms or b"", change.prefix_index)
        if change.cut_from is not None:
            self._cut(change.cut_from, dead_from, where)
        if change.rows:
            self._frames.add(change.rows[0].index, change.rows[0].base_offset, where)
            self._last_index = change.rows[-1].index
        if last.end >= 2 * self._segment_bytes:
            self._begin_next()

    def row(self, index: int) -> Row | None:
        """One row."""
        found = self._find(index)
        if found is None:
            return None
        stamp = Stamp(found.head.number, found.head.commit, found.position)
        return Row(index, found.base_offset, stamp, found.crc, found.record)

    def records(self, first_index: int, last_index: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Index and record, in order."""
        row, rows = self._resume(first_index)
        found: list[tuple[int, bytes]] = []
        while row is not None and row.entry <= last_index:
            max_bytes -= len(row.record)
            if max_bytes < 0 and found:
                break
            found.append((row.entry, row.record))
            row = next(rows, None) if row.entry < last_index else None
        following = found[-1][0] + 1 if found else first_index
        self._reading = (following, row, rows) if row is not None or following <= self._last_index else None
        return found

    def last_at_offset(self, offset: int, first_index: int, last_index: int) -> int:
        """A walk from the last place before it: base offsets never fall."""
        where = self._frames.before_offset(offset, first_index)
        found = first_index - 1
        for row in self._walk(where) if where is not None else ():
            if row.entry < first_index:
                continue
            if row.base_offset > offset or row.entry > last_index:
                break
            found = row.entry
        return found

    def tend(self) -> bool:
        """Begin the next file when the last is full, write zeros ahead, remove a file that is cut away."""
        last = self._last
        if last.end >= self._segment_bytes:
            self._begin_next()
        elif self._zeros_to - last.end < ZEROS_BYTES // 2:
            begin = max(self._zeros_to, last.end)
            last.zero(begin, ZEROS_BYTES)
            self._zeros_to = begin + ZEROS_BYTES
        if not self._first_is_cut_away():
            return False
        first = self._segments.pop(next(iter(self._segments)))
        first.close()
        with disk_errors(f"remove {first.path.name}"):
            first.path.unlink()
            sync_directory(self._directory)  # files go in order, also where the power fails
        self._frames.forget_before(first.number + 1)
        self._reading = None
        return self._first_is_cut_away()

    def check_files(self) -> None:
        """The folder, the last file, and of the full ones the next with each call: there may be thousands."""
        check_same(self._directory, self._folder_id)
        numbers = list(self._segments)
        self._checked = (self._checked + 1) % len(numbers)
        for number in (numbers[-1], numbers[self._checked]):
            check_same(self._segments[number].path, self._segments[number].file_id)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._reading = None
        while self._segments:
            self._segments.popitem()[1].close()

    # --- what is stored --------------------------------------------------------------------------

    def _enter(self, number: int, state: bytes, terms: bytes, prefix_index: int) -> None:
        self._number = number
        self._state = state or self._state
        self._terms = terms or self._terms
        self._prefix_index = prefix_index

    def _cut(self, index: int, dead_from: int, where: int) -> None:
        self._frames.kill(dead_from, where)
        self._last_index = min(self._last_index, index - 1)
        self._reading = None

    def _where_of(self, index: int) -> int:
        found = self._find(index)
        if found is None:
            raise DamagedRecord(f"entry {index} is missing in the middle of the log")
        return found.where

    def _find(self, index: int) -> _Found | None:
        where = self._frames.before_index(index)
        for row in self._walk(where) if where is not None else ():
            if row.entry >= index:
                return row if row.entry == index else None
        return None

    def _resume(self, index: int) -> tuple[_Found | None, Iterator[_Found]]:
        """The row of this index, and those that follow it."""
        if self._reading is not None and self._reading[0] == index:
            _, row, rows = self._reading
        else:
            where = self._frames.before_index(index)
            row, rows = None, self._walk(where) if where is not None else iter(())
        while row is None or row.entry < index:
            row = next(rows, None)
            if row is None:
                break
        return (row if row is not None and row.entry == index else None), rows

    def _walk(self, where: int) -> Iterator[_Found]:
        """The living rows from the frame at `where` on, in the order in which they were written."""
        ranges = self._frames.dead
        dead = iter([*ranges[bisect_left(ranges, (where, 0)) :], (1 << 64, 0)])
        dead_from, dead_to = next(dead)
        while (segment := self._segments.get(segment_of(where))) is not None:
            data, data_at = b"", 0
            while (at := byte_of(where)) < segment.end:
                if where >= dead_from:
                    if where > dead_from:
                        raise DamagedRecord(f"the frame before byte {at} of {segment.path.name} is damaged")
                    where = dead_to
                    dead_from, dead_to = next(dead)
                    if segment_of(where) != segment.number:
                        break
                    continue
                if not data_at <= at <= data_at + len(data) - HEAD_BYTES:
                    data, data_at = self._read(segment, at, READ_BYTES), at
                head = segment.parse_head(data, at - data_at)
                if head is None:
                    raise DamagedRecord(f"the frame at byte {at} of {segment.path.name} is damaged")
                after = at + HEAD_BYTES + head.body_bytes
                if head.rows and after > data_at + len(data):
                    data, data_at = self._read(segment, at, max(READ_BYTES, after - at)), at
                where = place(segment.number, after)
                for row in _rows(head, data, at - data_at, place(segment.number, data_at)):
                    if row.where == dead_from:
                        where = dead_from
                        break
                    yield row
            else:
                where = place(segment.number + 1, FILE_HEAD_BYTES)

    # --- files -----------------------------------------------------------------------------------

    def _read(self, segment: SegmentFile, at: int, size: int) -> bytes:
        """Frames from `at` on: never the zeros after them, which may be frames when they are looked at."""
        if segment is not self._last and segment not in self._open_files:
            self._open_files.append(segment)
            if len(self._open_files) > OPEN_FILES:
                self._open_files.popleft().close()
        return segment.read(at, min(size, segment.end - at))

    def _first_is_cut_away(self) -> bool:
        """Whether all entries of the first file are before the log, and it is not the last."""
        if len(self._segments) == 1:
            return False
        following = self._frames.first_index_after(next(iter(self._segments)))
        return (self._last_index + 1 if following is None else following) <= self._prefix_index + 1

    def _begin_next(self) -> None:
        """Close the last file with its index, and begin another."""
        last = self._last
        self._seal(last)
        self._create(last.number + 1)

    def _seal(self, last: SegmentFile) -> None:
        at = last.end
        packed = self._frames.pack(last.number)
        head = Head(FrameKind.INDEX, self._number, self._prefix_index)
        last.append((*last.frame(head, packed), _TRAILER.pack(at)))
        last.settle(at)
        last.end = at
        last.close()

    def _create(self, number: int) -> None:
        state, terms = self._state, self._terms
        body = b"".join((state, terms, _LAST.pack(self._last_index), self._frames.pack_dead()))
        head = Head(
            FrameKind.BEGINNING,
            self._number,
            self._prefix_index,
            state_bytes=len(state),
            terms_bytes=len(terms),
        )
        self._last = self._segments[number] = create_segment(self._directory, number, head, body)
        self._zeros_to = 0

    def _open(self) -> None:
        with disk_errors(f"open {self._directory.name}"):
            if not self._directory.is_dir():
                self._directory.mkdir(mode=0o700)
                sync_directory(self._directory.parent)
            for unfinished in self._directory.glob("*.log.new"):
                unfinished.unlink()
            sync_directory(self._directory)  # a killed process may not have come to it
            self._folder_id = file_id(self._directory.stat())
            paths = sorted(self._directory.glob("*.log"))
        for path in paths:
            segment = open_segment(path)
            self._segments[segment.number] = segment
        numbers = list(self._segments)
        if not numbers:
            self._create(1)
            return
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise DamagedRecord(f"a file is missing between those from {paths[0].name} to {paths[-1].name}")
        self._last = self._segments[numbers[-1]]
        for segment in self._segments.values():
            if segment is self._last or not self._load_index(segment):
                self._replay(segment)
            if segment is not self._last:
                segment.close()

    def _load_index(self, segment: SegmentFile) -> bool:
        """Take the places of a full file from its index; False when that is not whole."""
        size = segment.size
        trailer = segment.read(size - _TRAILER.size, _TRAILER.size)
        at = _TRAILER.unpack(trailer)[0] if len(trailer) == _TRAILER.size else size
        frame = segment.frame_at(at) if at < size else None
        if frame is None or frame[0].kind != FrameKind.INDEX:
            return False
        segment.end = at
        self._number = frame[0].number
        self._frames.load(frame[1])
        return True

    def _replay(self, segment: SegmentFile) -> None:
        """Read a file from its beginning: what is whole in the last one is what was committed."""
        sealed, last_at = False, FILE_HEAD_BYTES
        while not sealed and (frame := segment.frame_at(segment.end)) is not None:
            self._check_turn(segment, frame[0])
            sealed = frame[0].kind == FrameKind.INDEX
            if not sealed:
                self._replay_frame(segment, *frame)
                last_at = segment.end
                segment.end += HEAD_BYTES + len(frame[1])
        if segment is not self._last:
            return  # whether it ends too early is seen at the beginning of the next one
        if segment.end == FILE_HEAD_BYTES or (not sealed and segment.has_head_after(segment.end)):
            raise DamagedRecord(f"the frame at byte {segment.end} of {segment.path.name} is damaged")
        segment.settle(
            last_at
        )  # what a killed process has left in the cache is durable before it is believed

    def _check_turn(self, segment: SegmentFile, head: Head) -> None:
        """Frames follow each other without gaps, from file to file."""
        _check_kind(segment, head)
        is_first_of_all = segment is next(iter(self._segments.values())) and segment.end == FILE_HEAD_BYTES
        begins = head.kind == FrameKind.BEGINNING
        expected = self._number + (head.kind == FrameKind.CHANGE)
        if begins != (segment.end == FILE_HEAD_BYTES) or (head.number != expected and not is_first_of_all):
            place_in_file = f"byte {segment.end} of {segment.path.name}"
            raise DamagedRecord(f"the frame at {place_in_file} is of write {head.number}, not {expected}")

    def _replay_frame(self, segment: SegmentFile, head: Head, body: bytes) -> None:
        state, rest = body[: head.state_bytes], body[head.state_bytes :]
        terms, rest = rest[: head.terms_bytes], rest[head.terms_bytes :]
        where = place(segment.number, segment.end)
        if head.kind == FrameKind.BEGINNING:
            (self._last_index,) = _LAST.unpack_from(rest)
            self._frames.load_dead(rest[_LAST.size :])
        self._enter(head.number, state, terms, head.prefix_index)
        if head.cut_from:
            self._cut(head.cut_from, head.dead_from, where)
        if head.rows:
            index, base_offset, *_ = ROW.unpack_from(rest)
            self._frames.add(index, base_offset, where)
            self._last_index = index + head.rows - 1


def _change_frame(change: Change, dead_from: int) -> tuple[Head, bytes]:
    state, terms = change.state or b"", change.terms or b""
    parts = [state, terms]
    for row in change.rows:
        parts.append(ROW.pack(row.index, row.base_offset, row.stamp.position, row.crc, len(row.record)))
        parts.append(row.record)
    commit = change.rows[0].stamp.commit if change.rows else 0
    head = Head(
        FrameKind.CHANGE, change.number, change.prefix_index, commit, dead_from, change.cut_from or 0,
        len(state), len(terms), len(change.rows),
    )  # fmt: skip
    return head, b"".join(parts)


def _rows(head: Head, data: bytes, at: int, data_place: int) -> Iterator[_Found]:
    """The rows of the frame that begins at `at` in `data`."""
    end = at + HEAD_BYTES + head.body_bytes
    where = data_place + at
    at += HEAD_BYTES + head.state_bytes + head.terms_bytes
    for _ in range(head.rows):
        if at + ROW.size > end:
            raise DamagedRecord(f"the rows of write {head.number} do not fill their frame")
        index, base_offset, position, crc, size = ROW.unpack_from(data, at)
        begin = at + ROW.size
        if begin + size > end:
            raise DamagedRecord(f"a row of write {head.number} passes the end of its frame")
        yield _Found(where, index, base_offset, position, crc, data[begin : begin + size], head)
        at = begin + size
        where = data_place + at
