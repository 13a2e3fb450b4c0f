"""Where keys that are known may be: 16 bits of each key's hash in memory, and from them a range of offsets.

A row is a ring of 128 fingerprints that is filled in the order of the offsets, so what expires first is
written over first. A few times in each window the cursors of all rows are kept: from them follows, for any
fingerprint, between which two of these times it was written, and whether it has expired. So there is no need
for its position. What finds its row full waits in a dict, so no choice of keys makes it fail.

The table is cut into shards by the highest bits of the hash. To grow, one shard after the other is written
anew in another thread, so there are never two tables. Decides nothing about what is known. Called by the
key table.
"""

import contextlib
import mmap
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esnode.dedup.keyhash import Hashes

POSITION_BITS: Final = 20
"""The lowest bits of a hash are not looked at: in an entry they are the key's place in its run."""
POSITION_MASK: Final = (1 << POSITION_BITS) - 1
SLOTS: Final = 128
"""Fingerprints in a row. Half as many of them that count up to 256 tell apart what is live."""
SHARD_BITS: Final = 4
SHARDS: Final = 1 << SHARD_BITS
EPOCHS: Final = 23
"""Times at which the cursors are kept."""
FIRST_FINGERPRINTS: Final = 2**20
"""Keys that the fingerprints have room for at first: 3 MB, untouched for as long as no chunk is full. A table
that grows later than its keys come would be too late."""
FULL_LOAD: Final = 0.8
"""How full a shard may be. Then one key in 560 finds its row full (Erlang's B formula)."""
_TOO_FULL: Final = 0.95
_BUILT_LOAD: Final = 0.74
"""How full a table is that is built for the keys that there are. Then it is one in 5,500."""
_EPOCHS_A_WINDOW: Final = 20
_SPARSE_LOAD: Final = 0.2
"""Below this, of the whole table, a shard shrinks."""
_SMALL_ROWS: Final = 2**15
"""Below this a table is doubled, and sooner: it is small, and keys may come faster than it grows."""
_SMALL_FULL_LOAD: Final = 0.6
_GROWTH: Final = 1.2
"""Of one shard. Their loads differ by as much."""
_REGION_ROWS: Final = 2**18
"""Addresses, not memory: each shard has two regions of so many rows, one of them in use. Room for 390 million
keys."""
_PIECE: Final = 2**15
"""Keys written in one step, so that what is worked on stays in the processor's cache."""
_EXPIRE_A_TIME: Final = 256
"""Loose keys looked at in one insertion, so that many of them at once make no pause."""
_FEW_HITS: Final = 8
"""These are sooner looked at one by one."""
_WITHIN_BITS: Final = 32 - SHARD_BITS
_HIGH: Final = 1 if sys.byteorder == "little" else 0
_SHIFT: Final = np.uint64(POSITION_BITS)
_NO_RESERVE: Final = 0x4000 if sys.platform == "linux" else 0
"""`MAP_NORESERVE`, which the module `mmap` does not name."""

Entries = NDArray[np.uint64]
"""Keys in the order of their hashes: the hash, with the key's place in its run in the lowest bits."""


class Epoch(NamedTuple):
    """From here on keys were added after the cursors of all rows had been kept in this column."""

    first_offset: int
    column: int


class Run(NamedTuple):
    """Keys that lie together in the log; a place in `entries` counts from `first_offset`."""

    entries: Entries
    first_offset: int


class Hit(NamedTuple):
    """The key at `place` may be among the offsets from `start` to `end`."""

    place: int
    start: int
    end: int


Runs = Callable[[int, int, int], Iterator[Run]]
"""The keys of one shard (its number) from one offset to another, in the order of the log."""


def entries_of(hashes: Hashes) -> Entries:
    """Keys that follow each other in the log, in the order of their hashes."""
    entries = unsorted_entries(hashes, 0)
    entries.sort()
    return entries


def unsorted_entries(hashes: Hashes, first_place: int) -> Entries:
    """The same in the order of the log, the first of them at this place of its run."""
    entries: Entries = hashes >> _SHIFT
    entries <<= _SHIFT
    entries |= np.arange(first_place, first_place + len(hashes), dtype=np.uint64)
    return entries


def places_beyond(hits: Sequence[Hit], offset: int) -> list[int]:
    """The places of keys that may be at `offset` or later; a hit that has only one offset tells by itself."""
    return sorted({hit.place for hit in hits if hit.end > max(offset, hit.start + 1)})


def part_of_shard(entries: Entries, shard: int) -> Entries:
    """Those of one shard."""
    low = shard << 64 - SHARD_BITS
    start = entries.searchsorted(np.uint64(low))
    if shard == SHARDS - 1:
        return entries[start:]
    return entries[start : entries.searchsorted(np.uint64(low + (1 << 64 - SHARD_BITS)))]


class FingerprintTable:
    """Fingerprints of the keys from `first_offset` on; with room for `capacity` of them without growing."""

    def __init__(self, capacity: int, first_offset: int) -> None:
        self._minimum = _buckets_for(capacity)
        self._region_rows = max(_REGION_ROWS, 1 << (2 * self._minimum - 1).bit_length())
        rows = 2 * SHARDS * self._region_rows
        self._memory = _mapped(rows * SLOTS * 2)
        self._flat = np.frombuffer(self._memory, np.uint16, rows * SLOTS)
        self._rows = self._flat.reshape(rows, SLOTS)
        self._columns_memory = _mapped(rows * (EPOCHS + 1))
        self._columns = np.frombuffer(self._columns_memory, np.uint8).reshape(EPOCHS + 1, rows)
        self._cursors = self._columns[EPOCHS]
        """How many keys were ever written to each row, modulo 256."""
        self._buckets = np.full(SHARDS, self._minimum, np.int64)
        self._bases = np.arange(SHARDS, dtype=np.int64) * (2 * self._region_rows)
        self._shifts = _shifts(self._buckets, self._bases)
        for shard in range(SHARDS):
            self._use_large_pages(shard, int(self._bases[shard]), self._minimum)
        self._epochs: list[Epoch] = []
        self.next_offset = first_offset
        """Where the keys end that are here."""
        self._loose: dict[int, list[int]] = {}
        """By what is looked at of the hash, the offsets of keys that found no place."""
        self._loose_order: list[deque[tuple[int, int]]] = [deque() for _ in range(SHARDS)]

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return int(self._buckets.sum())

    @property
    def size_bytes(self) -> int:
        """The table, without the loose keys."""
        return self.rows * (SLOTS * 2 + EPOCHS + 1)

    @property
    def loose(self) -> int:
        """Keys that found no place in the table."""
        return sum(map(len, self._loose_order))

    @property
    def kept(self) -> int:
        """Keys whose slots are not free."""
        return self.next_offset - self._epochs[0].first_offset if self._epochs else 0

    @property
    def load(self) -> float:
        """How full the fullest shard is."""
        return self.kept / (int(self._buckets.min()) * SHARDS * SLOTS)

    @property
    def is_too_full(self) -> bool:
        """Whether nobody lets it grow in a thread, as it seems: then it is to be done at once."""
        return self.load > _TOO_FULL

    # === change ================================================================================

    def insert(self, run: Run) -> None:
        """Add the keys that come next in the log."""
        entries, first_offset = run
        if not self._epochs or self._epoch_is_over(len(entries)):
            self._begin_epoch(first_offset)
        self._expire_loose()
        for start in range(0, len(entries), _PIECE):
            piece = entries[start : start + _PIECE]
            rows = self._rows_of(piece, self._buckets, self._shifts)
            full = self._write(piece, rows, self._columns[self._epochs[0].column])
            if len(full):
                self._set_loose(full, first_offset)
        self.next_offset = first_offset + len(entries)

    def expire(self, floor: int) -> None:
        """What was before `floor` may be written over, as far as whole epochs are."""
        epochs = self._epochs
        while len(epochs) > 1 and epochs[1].first_offset <= floor:
            del epochs[0]
        if epochs and self.next_offset <= floor:
            epochs.clear()

    def _epoch_is_over(self, coming: int) -> bool:
        length = self.next_offset - self._epochs[-1].first_offset
        return length > 0 and (length + coming // 2) * _EPOCHS_A_WINDOW >= self.kept

    def _begin_epoch(self, first_offset: int) -> None:
        epochs = self._epochs
        if len(epochs) == EPOCHS:
            # Two that follow each other become one: those that are shortest together, but not the last.
            firsts = [epoch.first_offset for epoch in epochs]
            lengths = [after - before for before, after in zip(firsts, firsts[2:], strict=False)]
            del epochs[lengths.index(min(lengths)) + 1]
        free = set(range(EPOCHS)) - {epoch.column for epoch in epochs}
        column = free.pop()
        for shard in range(SHARDS):
            part = self._part(shard)
            self._columns[column, part] = self._cursors[part]
        epochs.append(Epoch(first_offset, column))

    def _write(self, entries: Entries, rows: NDArray[np.int64], oldest: NDArray[np.uint8]) -> Entries:
        """Write fingerprints into rows, equal ones of which are neighbours; returns what found them full.

        `oldest` has the cursors from before the first key that is live.
        """
        starts = np.concatenate((_ZERO, (rows[1:] != rows[:-1]).nonzero()[0] + 1))
        counts = np.diff(starts, append=len(rows))
        own = rows[starts]
        cursors = self._cursors[own]
        fitting = np.minimum(counts, SLOTS - (cursors - oldest[own]).astype(np.int64))
        places = np.arange(len(rows)) - starts.repeat(counts)
        slots = places + cursors.repeat(counts)
        slots &= SLOTS - 1
        slots += rows * SLOTS
        self._cursors[own] = cursors + fitting.astype(np.uint8)
        fingerprints = (entries >> _SHIFT).astype(np.uint16)
        if (fitting == counts).all():
            self._flat[slots] = fingerprints
            return entries[:0]
        fits = places < fitting.repeat(counts)
        self._flat[slots[fits]] = fingerprints[fits]
        full: Entries = entries[~fits]
        return full

    def _set_loose(self, entries: Entries, first_offset: int) -> None:
        for entry in entries.tolist():
            one, offset = entry >> POSITION_BITS, first_offset + (entry & POSITION_MASK)
            self._loose.setdefault(one, []).append(offset)
            self._loose_order[entry >> 64 - SHARD_BITS].append((offset, one))

    def _expire_loose(self) -> None:
        floor = self._epochs[0].first_offset
        for order in self._loose_order:
            for _ in range(min(len(order), _EXPIRE_A_TIME)):
                if order[0][0] >= floor:
                    break
                self._forget_loose(order)

    def _forget_loose(self, order: deque[tuple[int, int]]) -> None:
        offset, one = order.popleft()
        self._loose[one].remove(offset)
        if not self._loose[one]:
            del self._loose[one]

    # === look-up ===============================================================================

    def find(self, hashes: Hashes) -> list[Hit]:
        """Where these keys may be. Nothing for most keys that are not known: of these, one in 500 meets a
        stranger's fingerprint in its row."""
        found: list[Hit] = []
        if not self._epochs:
            return found
        loose = self._loose
        if loose:
            each = (hashes >> _SHIFT).tolist()
            if not loose.keys().isdisjoint(each):
                found += [
                    Hit(place, offset, offset + 1)
                    for place, one in enumerate(each)
                    for offset in loose.get(one, ())
                ]
        rows = self._rows_of(hashes, self._buckets, self._shifts)
        fingerprints = (hashes >> _SHIFT).astype(np.uint16)
        same = self._rows.take(rows, axis=0) == fingerprints[:, None]
        eights = same.view(np.uint64).ravel().nonzero()[0]
        if len(eights):
            found += self._hits(rows, same, eights)
        return found

    def _hits(self, rows: NDArray[np.int64], same: NDArray[np.bool_], eights: NDArray[np.int64]) -> list[Hit]:
        """Where those are that are the same, `eights` saying in which eight slots."""
        which, slots = same.reshape(-1, 8)[eights].nonzero()
        eights = eights[which]
        places = eights // (SLOTS // 8)
        slots += eights % (SLOTS // 8) * 8
        rows = rows[places]
        if len(rows) <= _FEW_HITS:
            found = map(self._epoch_of, rows.tolist(), slots.tolist())
            return [
                Hit(place, *epoch)
                for place, epoch in dict.fromkeys(zip(places.tolist(), found, strict=True))
                if epoch is not None
            ]
        cursors = self._cursors[rows]
        ages = (cursors - np.uint8(1) - slots.astype(np.uint8)) & np.uint8(SLOTS - 1)
        columns = np.array([epoch.column for epoch in self._epochs])
        written_since = cursors - self._columns[columns[:, None], rows]
        # How many of the epochs began before it was written.
        epochs = (written_since > ages).sum(axis=0)
        firsts = [epoch.first_offset for epoch in self._epochs]
        ends = [*firsts[1:], self.next_offset]
        return [
            Hit(place, firsts[number - 1], ends[number - 1])
            for place, number in set(zip(places.tolist(), epochs.tolist(), strict=True))
            if number
        ]

    def _epoch_of(self, row: int, slot: int) -> tuple[int, int] | None:
        """The offsets between which a fingerprint was written; None: it has expired, or never was there."""
        cursors = self._columns[:, row].tolist()
        cursor, end = cursors[EPOCHS], self.next_offset
        age = (cursor - 1 - slot) % SLOTS
        for first_offset, column in reversed(self._epochs):
            if (cursor - cursors[column]) % 256 > age:
                return first_offset, end
            end = first_offset
        return None

    # === growth ================================================================================

    def resize(self) -> "Resize | None":
        """The next shard that should have another size; None if all are right."""
        load, is_small = self.load, self.rows < _SMALL_ROWS
        if load > (_SMALL_FULL_LOAD if is_small else FULL_LOAD):
            shard = int(self._buckets.argmin())
            buckets = int(self._buckets[shard])
            wanted = 2 * buckets if is_small else int(buckets * _GROWTH) + 1
            wanted = min(wanted, self._region_rows)
        elif self.kept < _SPARSE_LOAD * self.rows * SLOTS and self._buckets.max() > self._minimum:
            shard = int(self._buckets.argmax())
            buckets = int(self._buckets[shard])
            wanted = max(self._minimum, _buckets_for(2 * self.kept))
        else:
            return None
        return Resize(self, shard, wanted) if wanted != buckets else None

    def adopt(self, resized: "Resize", runs: Runs) -> None:
        """Let a shard that is written anew take the place of the old one; `runs` has what came meanwhile."""
        resized.advance(list(self._epochs), self.next_offset, runs)
        shard, base = resized.shard, resized.base
        for epoch in self._epochs:
            self._columns[epoch.column, resized.part] = resized.kept[epoch.first_offset]
        self.release(int(self._bases[shard]))
        order = self._loose_order[shard]
        while order:
            self._forget_loose(order)
        self._buckets[shard], self._bases[shard] = resized.buckets, base
        self._shifts = _shifts(self._buckets, self._bases)
        for entries, first_offset in resized.loose:
            self._set_loose(entries, first_offset)

    def release(self, base: int) -> None:
        """Give the memory of a region back; it is zeros afterwards."""
        size, rows = self._region_rows, self._columns.shape[1]
        self._memory.madvise(mmap.MADV_DONTNEED, base * SLOTS * 2, size * SLOTS * 2)
        for column in range(EPOCHS + 1):
            self._columns_memory.madvise(mmap.MADV_DONTNEED, column * rows + base, size)

    def _part(self, shard: int) -> slice:
        base = int(self._bases[shard])
        return slice(base, base + int(self._buckets[shard]))

    def _rows_of(
        self, hashes: Hashes, buckets: NDArray[np.int64], shifts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        # The bits below those of the shard, scaled to the number of its rows.
        high = hashes.view(np.uint32)[_HIGH::2]
        shards = high >> _WITHIN_BITS
        rows: NDArray[np.int64] = high * buckets.take(shards)
        rows >>= _WITHIN_BITS
        rows += shifts.take(shards)
        return rows

    def _use_large_pages(self, shard: int, base: int, buckets: int) -> None:
        """Where the kernel has them, for every key is in another row. Only whole ones: see `madvise(2)`."""
        size = buckets * SLOTS * 2 // mmap.PAGESIZE * mmap.PAGESIZE
        if size:
            with contextlib.suppress(OSError):  # a kernel without large pages
                self._memory.madvise(mmap.MADV_HUGEPAGE, base * SLOTS * 2, size)


class Resize:
    """One shard that is written anew, with another number of rows, in a region that is not in use.

    `advance` may run in another thread while the table changes: what it needs of it is given, or fixed.
    """

    def __init__(self, table: FingerprintTable, shard: int, buckets: int) -> None:
        self.shard = shard
        self.buckets = buckets
        in_use, first = int(table._bases[shard]), 2 * shard * table._region_rows
        self.base = first if in_use != first else first + table._region_rows
        self.part = slice(self.base, self.base + buckets)
        self.kept: dict[int, NDArray[np.uint8]] = {}
        """The cursors from before each epoch, by its first offset."""
        self.loose: list[Run] = []
        self.epochs = list(table._epochs)
        """As they are now, with `end` for `advance`."""
        self.end = table.next_offset
        self._done_to = self.epochs[0].first_offset if self.epochs else self.end
        self._table = table
        self._oldest = np.broadcast_to(np.uint8(0), len(table._cursors))  # the region is empty as yet
        self._sizes, self._shifts = table._buckets.copy(), table._bases.copy()
        self._sizes[shard] = buckets
        self._shifts[shard] = self.base
        self._shifts = _shifts(self._sizes, self._shifts)
        table.release(self.base)
        table._use_large_pages(shard, self.base, buckets)

    def advance(self, epochs: Sequence[Epoch], end: int, runs: Runs) -> None:
        """Write the keys up to offset `end`."""
        table = self._table
        bounds = [epoch.first_offset for epoch in epochs]
        for first, after in pairwise([*bounds, end]):
            if first >= self._done_to:
                self.kept[first] = table._cursors[self.part].copy()
            start = max(first, self._done_to)
            if start < after:
                for run in runs(self.shard, start, after):
                    self._write(run)
        self._done_to = max(self._done_to, end)

    def _write(self, run: Run) -> None:
        table = self._table
        for at in range(0, len(run.entries), _PIECE):
            piece = run.entries[at : at + _PIECE]
            full = table._write(piece, table._rows_of(piece, self._sizes, self._shifts), self._oldest)
            if len(full):
                self.loose.append(Run(full, run.first_offset))


_ZERO: Final = np.zeros(1, np.int64)


def _buckets_for(keys: int) -> int:
    """The rows of each shard."""
    return int(keys / (SHARDS * SLOTS * _BUILT_LOAD)) + 1


def _shifts(buckets: NDArray[np.int64], bases: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is to be added to the scaled hash, which begins with the number of the shard."""
    return bases - np.arange(SHARDS) * buckets


def _mapped(size_bytes: int) -> mmap.mmap:
    """Zeros, which take no memory before they are written."""
    return mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
