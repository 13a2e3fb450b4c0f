"""The shape of a stored log without its records, and what a group of writes changes in it.

Decides what may follow what is stored: gaps, conflicts with committed entries, falling terms and
second votes are a `Bug`. Pure: no file is opened here; `fold` turns an outline and some writes into
the next outline and the one `Change` that an engine must make durable, all or nothing.
Called by `StoredLog` for every engine.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import google_crc32c

from esnode.dataclass import dataclass
from esnode.errors import Bug, DamagedRecord
from esnode.raft.entry import Entry, parse
from esnode.raft.log import TermRun
from esnode.raft.messages import HardState, Snapshot, Write

_STATE: Final = struct.Struct(">QQQQQQQQ")
_RUN: Final = struct.Struct(">QQ")
_STAMP: Final = struct.Struct(">QQQQ")
_CRC_BYTES: Final = 4
_NO_VOTE: Final = HardState(0, None)


@dataclass(frozen=True, slots=True)
class Prefix:
    """Where the log begins: the place of its snapshot, all zero without one."""

    index: int = 0
    term: int = 0
    next_offset: int = 0
    log_time_ms: int = 0


_NO_PREFIX: Final = Prefix()


class Stamp(NamedTuple):
    """What is stored beside a record.

    `number` is that of the write call that brought it, `commit` the hint at that time, `position` the
    bytes of all records before it. A row's `crc` covers these and the index.
    """

    number: int
    commit: int
    position: int


@dataclass(frozen=True, slots=True)
class Row:
    """A record and its stamp, as an engine stores them; `base_offset` is the record's, for searching."""

    index: int
    base_offset: int
    stamp: Stamp
    crc: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an entry stands: bytes and events before it."""

    position: int
    base_offset: int


class Outline(NamedTuple):
    """The log as it is stored.

    `number` counts the write calls that changed it. `next_offset` is None right after entries were
    cut away: the next entry tells it. Invariant: prefix.index <= last_index.
    """

    number: int = 0
    hard_state: HardState = _NO_VOTE
    commit: int = 0
    prefix: Prefix = _NO_PREFIX
    last_index: int = 0
    terms: tuple[TermRun, ...] = ()
    first_position: int = 0
    next_position: int = 0
    next_offset: int | None = 0
    log_time_ms: int = 0

    @property
    def last_term(self) -> int:
        """The term of the last entry, or of the prefix."""
        return self.terms[-1].term if self.terms else self.prefix.term

    def term_at(self, index: int) -> int:
        """The term of an entry that is in the log."""
        assert self.prefix.index < index <= self.last_index
        return self.terms[bisect_right(self.terms, index, key=_first_index) - 1].term


@dataclass(frozen=True, slots=True)
class Change:
    """What an engine makes durable in one piece, in this order.

    `state` and `terms`: new values, None where the old ones stay. Records at or after `cut_from` go
    (None: none do), those up to `prefix_index` are no longer part of the log and may go any time,
    `rows` are added.
    """

    number: int
    state: bytes | None
    terms: bytes | None
    cut_from: int | None
    prefix_index: int
    rows: tuple[Row, ...]
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What an engine finds when it opens: the records of `Change.state` and `terms`, and the last row."""

    state: bytes | None
    terms: bytes | None
    last: Row | None


def outline_of(contents: Contents, row_of: Callable[[int], Row | None]) -> Outline:
    """What is stored, checked as far as that costs the same for any log; raises `DamagedRecord`."""
    outline = Outline()
    if contents.state is not None:
        number, hard_state, commit, prefix = unpack_state(contents.state)
        outline = Outline(
            number=number,
            hard_state=hard_state,
            commit=commit,
            prefix=prefix,
            last_index=prefix.index,
            next_offset=prefix.next_offset,
            log_time_ms=prefix.log_time_ms,
        )
    if contents.last is None or contents.last.index <= outline.prefix.index:
        return outline
    first, last = row_of(outline.prefix.index + 1), contents.last
    if first is None:
        raise DamagedRecord(f"entry {outline.prefix.index + 1} is missing at the beginning of the log")
    check_row(first)
    check_row(last)
    entry = check_entry(last.index, last.index, last.record)
    terms = unpack_terms(contents.terms) if contents.terms is not None else ()
    if not terms or (terms[0].first_index, terms[-1].term) != (first.index, entry.term):
        raise DamagedRecord("the record of the terms does not belong to this log")
    return outline._replace(
        number=max(outline.number, last.stamp.number),
        commit=max(outline.commit, last.stamp.commit),
        last_index=last.index,
        terms=terms,
        first_position=first.stamp.position,
        next_position=last.stamp.position + len(last.record),
        next_offset=entry.next_offset,
        log_time_ms=entry.log_time_ms,
    )


def check_row(row: Row) -> None:
    """Raise `DamagedRecord` when what stands beside a record is not what was written."""
    if stamp_crc(row.index, row.stamp) != row.crc:
        raise DamagedRecord(f"the checksum beside the record of index {row.index} does not match")


def check_entry(expected: int, index: int, record: bytes) -> Entry:
    """The entry of a row found at `index`; raises `DamagedRecord` when it is not the one expected."""
    entry = parse(record)
    if not expected == index == entry.index:
        raise DamagedRecord(f"entry {expected} is missing: the record of index {entry.index} is in its place")
    return entry


def fold(
    outline: Outline, writes: Iterable[Write], place_of: Callable[[int], Standing]
) -> tuple[Outline, Change | None]:
    """What `outline` becomes by `writes`, and the change to store; None when there is nothing to store.

    `place_of` looks up an entry that is stored. Raises `Bug` when a write cannot follow.
    """
    folding = _Folding(outline, place_of)
    for write in writes:
        folding.take(write)
    return folding.result()


def fold_prefix_cut(
    outline: Outline, snapshot: Snapshot, place_of: Callable[[int], Standing]
) -> tuple[Outline, Change | None]:
    """The same for a prefix that is cut: the log begins after `snapshot`, which is one of its entries."""
    folding = _Folding(outline, place_of)
    folding.cut_prefix(snapshot)
    return folding.result()


class _Folding:
    """The outline in between, and the rows that are not stored yet."""

    def __init__(self, outline: Outline, place_of: Callable[[int], Standing]) -> None:
        self._before = outline
        self._now = outline
        self._place_of = place_of
        self._number = outline.number + 1
        self._entries: list[Entry] = []
        self._positions: list[int] = []
        self._cut_from: int | None = None
        self._snapshot: Snapshot | None = None

    def take(self, write: Write) -> None:
        if write.snapshot is not None:
            self._install(write.snapshot)
        if write.hard_state is not None:
            self._vote(write.hard_state)
        if write.entries:
            self._append(write.entries)
        if write.commit > self._now.commit:
            self._now = self._now._replace(commit=write.commit)

    def result(self) -> tuple[Outline, Change | None]:
        before, now = self._before, self._now
        state_changed = now.hard_state != before.hard_state or now.prefix != before.prefix
        stored = state_changed or self._snapshot is not None or self._cut_from is not None or self._entries
        if not stored:
            return now, None
        now = now._replace(number=self._number)
        rows = []
        for entry, position in zip(self._entries, self._positions, strict=True):
            stamp = Stamp(self._number, now.commit, position)
            crc = stamp_crc(entry.index, stamp)
            rows.append(Row(entry.index, entry.base_offset, stamp, crc, entry.record))
        return now, Change(
            number=self._number,
            state=pack_state(now) if state_changed or not rows else None,
            terms=pack_terms(now.terms) if now.terms != before.terms else None,
            cut_from=self._cut_from,
            prefix_index=now.prefix.index,
            rows=tuple(rows),
            snapshot=self._snapshot,
        )

    def cut_prefix(self, snapshot: Snapshot) -> None:
        """Let the log begin after `snapshot`, and keep what follows it."""
        now = self._now
        if not now.prefix.index < snapshot.index <= now.last_index:
            raise Bug(f"entry {snapshot.index} is not in the log")
        if now.term_at(snapshot.index) != snapshot.term:
            ours = now.term_at(snapshot.index)
            raise Bug(f"entry {snapshot.index} is of term {ours}; the snapshot's is of {snapshot.term}")
        first_position = now.next_position
        terms: tuple[TermRun, ...] = ()
        if snapshot.index < now.last_index:
            first_position = self._place_of(snapshot.index + 1).position
            terms = runs_after(now.terms, snapshot.index)
        self._snapshot = snapshot
        self._now = now._replace(prefix=_prefix(snapshot), terms=terms, first_position=first_position)

    def _install(self, snapshot: Snapshot) -> None:
        """Replace the whole log (Raft figure 13, 7)."""
        now = self._now
        if snapshot.index < max(now.prefix.index, now.commit):
            raise Bug(f"a snapshot of index {snapshot.index} would undo commits up to {now.commit}")
        self._entries.clear()
        self._positions.clear()
        self._cut(snapshot.index + 1)
        self._snapshot = snapshot
        self._now = now._replace(
            prefix=_prefix(snapshot),
            last_index=snapshot.index,
            terms=(),
            first_position=now.next_position,
            next_offset=snapshot.next_offset,
            log_time_ms=snapshot.log_time_ms,
        )

    def _vote(self, new: HardState) -> None:
        old = self._now.hard_state
        if new.term < old.term:
            raise Bug(f"the term cannot fall from {old.term} to {new.term}")
        if new.term == old.term and old.vote not in (None, new.vote):
            raise Bug(f"the vote for {old.vote} in term {old.term} cannot become one for {new.vote}")
        self._now = self._now._replace(hard_state=new)

    def _append(self, entries: Sequence[Entry]) -> None:
        first_index = entries[0].index
        if not self._now.prefix.index < first_index <= self._now.last_index + 1:
            raise Bug(f"entry {first_index} does not follow {self._now.last_index}")
        if first_index <= self._now.last_index:
            self._truncate(first_index)
        now = self._now
        index, term, position = now.last_index, now.last_term, now.next_position
        next_offset, log_time_ms = now.next_offset, now.log_time_ms
        runs: list[TermRun] = []
        for entry in entries:
            index += 1
            if entry.index != index or entry.term < term:
                raise Bug(f"entry {entry.index} of term {entry.term} does not follow {index - 1} of {term}")
            if entry.log_time_ms < log_time_ms:
                raise Bug(f"entry {index} has log time {entry.log_time_ms}, before {log_time_ms}")
            if next_offset is not None and entry.base_offset != next_offset:
                raise Bug(f"entry {index} begins at offset {entry.base_offset}, not at {next_offset}")
            if entry.term != term or not (runs or now.terms):
                runs.append(TermRun(index, entry.term))
            self._positions.append(position)
            term, log_time_ms, next_offset = entry.term, entry.log_time_ms, entry.next_offset
            position += entry.size_bytes
        self._entries.extend(entries)
        self._now = now._replace(
            last_index=index,
            terms=(*now.terms, *runs) if runs else now.terms,
            next_position=position,
            next_offset=next_offset,
            log_time_ms=log_time_ms,
        )

    def _truncate(self, first_index: int) -> None:
        """Cut away `first_index` and all after it (Raft figure 2, AppendEntries 3)."""
        now = self._now
        if first_index <= now.commit:
            raise Bug(f"entry {first_index} would replace a committed one; {now.commit} are committed")
        place = self._place(first_index)
        terms = tuple(run for run in now.terms if run.first_index < first_index)
        self._cut(first_index)
        self._now = now._replace(
            last_index=first_index - 1,
            terms=terms,
            next_position=place.position,
            next_offset=place.base_offset,
            log_time_ms=now.prefix.log_time_ms,
        )

    def _cut(self, first_index: int) -> None:
        """Forget the rows from `first_index` on, the stored ones and those that wait."""
        while self._entries and self._entries[-1].index >= first_index:
            self._entries.pop()
            self._positions.pop()
        if first_index <= self._before.last_index and (self._cut_from or first_index) >= first_index:
            self._cut_from = first_index

    def _place(self, index: int) -> Standing:
        if self._entries and self._entries[0].index <= index:
            at = index - self._entries[0].index
            return Standing(self._positions[at], self._entries[at].base_offset)
        return self._place_of(index)


def _prefix(snapshot: Snapshot) -> Prefix:
    return Prefix(snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)


def runs_after(terms: Sequence[TermRun], index: int) -> tuple[TermRun, ...]:
    """The runs of the entries after `index`, of which there is at least one."""
    at = bisect_right(terms, index + 1, key=_first_index) - 1
    return (TermRun(index + 1, terms[at].term), *terms[at + 1 :])


def pack_state(outline: Outline) -> bytes:
    """The record of term, vote, commit hint and prefix: one, with its own CRC-32C."""
    hard_state, prefix = outline.hard_state, outline.prefix
    return _sealed(
        _STATE.pack(
            outline.number,
            hard_state.term,
            hard_state.vote or 0,
            outline.commit,
            prefix.index,
            prefix.term,
            prefix.next_offset,
            prefix.log_time_ms,
        )
    )


def pack_terms(terms: Iterable[TermRun]) -> bytes:
    """The record of the term runs."""
    return _sealed(b"".join(_RUN.pack(run.first_index, run.term) for run in terms))


def unpack_state(record: bytes) -> tuple[int, HardState, int, Prefix]:
    """Number, hard state, commit hint and prefix; raises `DamagedRecord`."""
    body = _unsealed(record, "of term and vote")
    if len(body) != _STATE.size:
        raise DamagedRecord(f"the record of term and vote has {len(body)} bytes, not {_STATE.size}")
    number, term, vote, commit, *prefix = _STATE.unpack(body)
    return number, HardState(term, vote or None), commit, Prefix(*prefix)


def unpack_terms(record: bytes) -> tuple[TermRun, ...]:
    """The term runs; raises `DamagedRecord`."""
    body = _unsealed(record, "of the terms")
    if len(body) % _RUN.size:
        raise DamagedRecord(f"the record of the terms has {len(body)} bytes, no whole number of runs")
    return tuple(TermRun(first_index, term) for first_index, term in _RUN.iter_unpack(body))


def stamp_crc(index: int, stamp: Stamp) -> int:
    """The CRC-32C of a stamp and the index that it belongs to."""
    crc: int = google_crc32c.value(_STAMP.pack(index, stamp.number, stamp.commit, stamp.position))
    return crc


def _sealed(body: bytes) -> bytes:
    crc: int = google_crc32c.value(body)
    return crc.to_bytes(_CRC_BYTES, "big") + body


def _unsealed(record: bytes, what: str) -> bytes:
    body = record[_CRC_BYTES:]
    if int.from_bytes(record[:_CRC_BYTES], "big") != google_crc32c.value(body):
        raise DamagedRecord(f"the checksum of the record {what} does not match")
    return body


def _index(entry: Entry) -> int:
    return entry.index


def _first_index(run: TermRun) -> int:
    return run.first_index
