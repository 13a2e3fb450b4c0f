"""Committed keys and their offsets: the memory of what the log holds.

Joins the window (what is known, the same on every node) with an index (how it is found, this node's own
affair). A chunk of keys enters it when it is full; the admission remembers the younger ones. Fingerprints of
all keys are in memory, and tell nearly always that a key is new. Where a key may be is said by the segments'
indexes on disk, and for the youngest keys, which are in no segment yet, by an index in memory: when that one
is too small, too large or worn out, another is built beside it, a little with each addition. Never sees an
uncommitted key. Called by the machine and the admission; what takes long, by `esnode/upkeep/keyindexes.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from esnode import limits
from esnode.dedup.batch import identity_of, split_identities
from esnode.dedup.fingerprints import (
    FIRST_FINGERPRINTS,
    FingerprintTable,
    Hit,
    Run,
    entries_of,
    places_beyond,
)
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keyhash import Hashes, KeyHash
from esnode.dedup.keyindex import KeyIndex
from esnode.dedup.keyruns import Growth, KeyRuns, YoungEntries
from esnode.dedup.keysegment import SEGMENT_CHUNKS, KeySegment, NewSegment, youngest_first
from esnode.dedup.keywindow import CHUNK_KEYS, KeyWindow, SourceOf
from esnode.errors import DamagedRecord
from esnode.ring import TOKEN_BYTES

MIN_CAPACITY: Final = 4 * CHUNK_KEYS
WORN_AFTER: Final = 2**31
"""Offsets that one index may span; its 32-bit positions could span twice as many."""
_MAPPED_A_TIME: Final = 256 * limits.KIB
"""Memory fetched from the kernel, or given back, with each addition; a multiple of any page size."""
_COPIED_A_KEY: Final = 8
"""Keys copied to the next index for each key added: once its memory is fetched, it catches up within a
seventh of what is live."""
_WARY_BATCHES: Final = 4096
"""How many batches are looked at beforehand after one has waited for the disk."""
_COPIED_A_TIME: Final = 256
"""Keys copied at least: fewer cost as much."""


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """What a table may become at once: all that takes time is done. Without an index it only follows."""

    window: KeyWindow
    index: KeyIndex | None = None
    fingerprints: FingerprintTable | None = None
    segments: tuple[KeySegment, ...] = ()


class KeyTable:
    """Keys of one partition, known for `ttl_ms` of log time (0: for good), about `max_keys` of them at most.

    `when_full`: `shrink` forgets the oldest at the bound, `refuse` leaves it to the admission to keep
    new ones out. `seed`: see `KeyHash`; it changes nothing that can be seen from outside. Without
    `searchable` there is no index: a table that only follows the log. `segment_chunks`: how many chunks
    have one index on disk.
    """

    def __init__(
        self,
        ttl_ms: int,
        max_keys: int,
        when_full: str,
        *,
        seed: int = 0,
        searchable: bool = True,
        segment_chunks: int | None = None,
    ) -> None:
        self._window = KeyWindow(ttl_ms, max_keys, when_full)
        self.segment_chunks = segment_chunks or SEGMENT_CHUNKS
        self.use_seed(seed)
        self._searchable = searchable
        self._fingerprints = FingerprintTable(FIRST_FINGERPRINTS, 0)
        self._segments: list[KeySegment] = []
        """One after the other; the young keys begin where the last one ends."""
        self._entries = YoungEntries(2 * self.segment_chunks)
        self._growing = False
        self._index = KeyIndex(MIN_CAPACITY, 0)
        """Of the young keys."""
        self._next_index: KeyIndex | None = None
        self._old_index: KeyIndex | None = None
        self._copied_to = 0
        self._own_waits = 0
        """How often a look-up in a segment had to wait for the disk."""
        self._waits = 0
        self._wary = 0
        """Batches that are still looked at beforehand; see `cold`."""

    # === the window ============================================================================

    @property
    def live(self) -> int:
        """How many keys are known."""
        return self._window.live

    @property
    def shrunk(self) -> int:
        """How many keys were ever forgotten before their time."""
        return self._window.shrunk

    @property
    def max_keys(self) -> int:
        """The bound."""
        return self._window.max_keys

    @property
    def first_offset(self) -> int:
        """The first offset whose key is known."""
        return self._window.floor

    @property
    def next_offset(self) -> int:
        """The offset that the next key will get."""
        return self._window.next_offset

    @property
    def sealed_to(self) -> int:
        """Where the open chunk begins: its keys are not in the index."""
        return self._window.sealed_to

    @property
    def first_chunk(self) -> int:
        """`KeyWindow.first_chunk`."""
        return self._window.first_chunk

    @property
    def window(self) -> KeyWindow:
        """Which keys are known."""
        return self._window

    @property
    def open_chunk(self) -> int:
        """`KeyWindow.open_chunk`."""
        return self._window.open_chunk

    @property
    def size_bytes(self) -> int:
        """Memory of the packed keys and what finds them; the few loose keys come on top."""
        indexes = (self._index, self._next_index, self._old_index)
        parts = (
            (self._fingerprints, self._entries, *indexes, *self._segments) if self._searchable else indexes
        )
        return self._window.size_bytes + sum(part.size_bytes for part in parts if part is not None)

    @property
    def stored_bytes(self) -> int:
        """`KeyWindow.stored_bytes`."""
        return self._window.stored_bytes

    def expires_at(self, offset: int) -> int | None:
        """`KeyWindow.expires_at`."""
        return self._window.expires_at(offset)

    def reach_ms(self, log_time_ms: int) -> int:
        """`KeyWindow.reach_ms`."""
        return self._window.reach_ms(log_time_ms)

    def has_room(self, end_offset: int, log_time_ms: int) -> bool:
        """Whether an entry of `log_time_ms` may end at `end_offset`; False only with `refuse`."""
        return self._window.has_room(end_offset, log_time_ms)

    def digest(self) -> bytes:
        """16 bytes, equal on all nodes that applied the same entries under the same settings."""
        return self._window.digest()

    def dump(self) -> list[bytes | memoryview]:
        """The state in parts, to be joined before the next change."""
        return self._window.dump()

    def load(self, data: bytes | memoryview) -> LoadedKeys:
        """What `dump` gave, checked, for `adopt`; raises `DamagedRecord`. May run in any thread."""
        window = self._window
        return self._loaded(KeyWindow.load(data, window.ttl_ms, window.max_keys, window.when_full))

    def dump_outline(self) -> bytes:
        """`KeyWindow.dump_outline`."""
        return self._window.dump_outline()

    def sealed_chunk(self, number: int) -> memoryview:
        """`KeyWindow.sealed_chunk`."""
        return self._window.sealed_chunk(number)

    def sealed_chunks(self, first_chunk: int) -> list[memoryview]:
        """`KeyWindow.sealed_chunks`."""
        return self._window.sealed_chunks(first_chunk)

    def resume(
        self, outline: bytes | memoryview, sealed: Iterable[bytes | StoredChunk], source_of: SourceOf
    ) -> LoadedKeys:
        """The same as `load` for `dump_outline` and the sealed chunks that belong to it, and stay on disk."""
        window = self._window
        return self._loaded(
            KeyWindow.resume(outline, sealed, window.ttl_ms, window.max_keys, window.when_full, source_of)
        )

    def store(self, first_chunk: int, chunks: Sequence[memoryview], stored: Sequence[StoredChunk]) -> None:
        """`KeyWindow.store`."""
        self._window.store(first_chunk, chunks, stored)

    def adopt(self, loaded: LoadedKeys) -> None:
        """Replace all that is known."""
        self._window = loaded.window
        self._segments = list(loaded.segments)
        self._next_index = None
        self._growing = False
        self._entries = YoungEntries(2 * self.segment_chunks)
        if loaded.fingerprints is not None:
            self._fingerprints = loaded.fingerprints
        if loaded.index is not None:
            self._old_index, self._index = self._index, loaded.index

    def use_seed(self, seed: int) -> None:
        """Hash with another seed from now on: that of segments that are on disk. Only before there is an
        index."""
        self.seed = seed
        self.hash = KeyHash(seed)

    def use_segments(self, segments: Iterable[KeySegment]) -> None:
        """The indexes of the first chunks of the window, made with this seed: `unindexed` then uses them."""
        self._segments = list(segments)

    @contextmanager
    def unindexed(self) -> Iterator[None]:
        """Only follow the log meanwhile; then index all of it, in a quarter of the time."""
        searchable, self._searchable = self._searchable, False
        yield
        self._searchable = searchable
        live = tuple(one for one in self._segments if one.end_offset > self._window.floor)
        self.adopt(self._loaded(self._window, live))

    def _loaded(self, window: KeyWindow, segments: tuple[KeySegment, ...] = ()) -> LoadedKeys:
        if not self._searchable:
            return LoadedKeys(window)
        start = segments[0].first_offset if segments else window.floor
        fingerprints = FingerprintTable(max(FIRST_FINGERPRINTS, window.next_offset - start), start)
        for segment in segments:
            fingerprints.insert(Run(segment.entries(), segment.first_offset))
        young_from = max(window.floor, segments[-1].end_offset) if segments else window.floor
        young = window.next_offset - young_from
        index = KeyIndex(self._wanted_capacity(window, young), young_from)
        self._enter(window, fingerprints, index, young_from, young_from)
        return LoadedKeys(window, index, fingerprints, segments)

    # === look-up ===============================================================================

    def find_sealed(self, packed: bytes, hashes: Hashes) -> dict[int, int]:
        """By their place in `packed`, the offsets of those keys that are known and below `sealed_to`.

        A key that was added twice, the first one forgotten meanwhile, is at its later offset. `hashes` are
        what `hash` says of `packed`.
        """
        known: dict[int, int] = {}
        hits = self._fingerprints.find(hashes)
        if not hits:
            return known
        young_from = self._young_from
        if young := places_beyond(hits, young_from):
            for which, offset in self._index.find(hashes[young]):
                self._note(known, packed, young[which], offset)
        for hit in hits:
            if hit.end == hit.start + 1:
                self._note(known, packed, hit.place, hit.start)
            elif hit.start < young_from:
                self._find_old(known, packed, int(hashes[hit.place]), hit)
        return known

    def _find_old(self, known: dict[int, int], packed: bytes, one: int, hit: Hit) -> None:
        """Look a key up in the segments where it may be, the youngest first."""
        for segment in self._segments_of(hit):
            positions = segment.cached_positions(one)
            if positions is None:
                self._own_waits += 1
                positions = segment.positions(one)
            for position in reversed(positions):
                if self._note(known, packed, hit.place, segment.first_offset + position):
                    return

    def _note(self, known: dict[int, int], packed: bytes, place: int, offset: int) -> bool:
        """Whether a key is live at `offset`; if so, and no later one is known, write it down."""
        window = self._window
        if offset < window.floor or offset >= window.sealed_to:
            return False
        if known.get(place, -1) >= offset:
            return True
        identity = packed[place * limits.KEY_BYTES + TOKEN_BYTES : (place + 1) * limits.KEY_BYTES]
        if window.identity_at(offset) != identity:
            return False
        known[place] = offset
        return True

    def _segments_of(self, hit: Hit) -> Iterator[KeySegment]:
        """Those that have live offsets of `hit`, the youngest first."""
        return youngest_first(self._segments, max(hit.start, self._window.floor), hit.end)

    @property
    def _young_from(self) -> int:
        """Where the keys begin that are in no segment."""
        floor = self._window.floor
        return max(floor, self._segments[-1].end_offset) if self._segments else floor

    def cold(self, packed: bytes) -> list[Callable[[], object]]:
        """What to call in a thread before `find_sealed` is asked for these keys, so that it need not wait for
        the disk. Empty while it has not waited lately: nearly all keys are found in memory to be fresh.
        """
        waits = self._window.waits + self._own_waits
        if waits != self._waits:
            self._waits, self._wary = waits, _WARY_BATCHES
        if not self._wary:
            return []
        self._wary -= 1
        cold = self._cold(self.hash(packed))
        if cold:
            self._wary = _WARY_BATCHES
        return cold

    def _cold(self, hashes: Hashes) -> list[Callable[[], object]]:
        window, young_from = self._window, self._young_from
        hits = self._fingerprints.find(hashes)
        cold: list[Callable[[], object]] = []
        young = places_beyond(hits, young_from)
        offsets = [offset for _, offset in self._index.find(hashes[young])] if young else []
        for hit in hits:
            if hit.end == hit.start + 1:
                offsets.append(hit.start)
                continue
            one = int(hashes[hit.place])
            for segment in self._segments_of(hit):
                try:
                    positions = segment.cached_positions(one)
                except DamagedRecord:
                    continue  # `find_sealed` says so, where it ends the node
                if positions is None:
                    cold.append(partial(segment.warm, one))
                else:
                    offsets += [segment.first_offset + position for position in positions]
        fetches = [window.fetch(offset) for offset in offsets if window.floor <= offset < window.sealed_to]
        return cold + [fetch for fetch in fetches if fetch is not None]

    def unsealed(self) -> bytes:
        """The packed keys from `sealed_to` on, whether still known or not."""
        window = self._window
        return bytes(window.packed(window.sealed_to, window.next_offset))

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The offsets of those of `keys` that are known. Splits the open chunk: for single questions."""
        assert self._searchable
        packed = b"".join(keys)
        sealed = self.find_sealed(packed, self.hash(packed))
        known = {keys[place]: offset for place, offset in sealed.items()}
        unsealed = split_identities(self.unsealed())
        young = dict(zip(unsealed, range(self.sealed_to, self.next_offset), strict=True))
        offsets = ((key, young.get(identity_of(key), -1)) for key in keys)
        known.update((key, offset) for key, offset in offsets if offset >= self.first_offset)
        return known

    # === change ================================================================================

    def add(self, keys: bytes, base_offset: int, log_time_ms: int) -> None:
        """Add packed keys at `base_offset`, which must be `next_offset`; log time must not have fallen."""
        window = self._window
        if window.add(keys, base_offset, log_time_ms) and self._searchable:
            while self._segments and self._segments[0].end_offset <= window.floor:
                del self._segments[0]
            self._fingerprints.expire(window.floor)
            self._entries.forget_before(self._young_from)
            start = base_offset - base_offset % CHUNK_KEYS
            self._enter(window, self._fingerprints, self._index, start, self._young_from)
            if self._next_index is None and self._index_is_wrong():
                young = window.next_offset - self._young_from
                self._next_index = KeyIndex(self._wanted_capacity(window, young), self._young_from)
                self._copied_to = self._young_from
            if self._fingerprints.is_too_full:
                self._grow_at_once()
        if self._next_index is not None:
            self._build(self._next_index, window.next_offset - base_offset)
        elif self._old_index is not None and self._old_index.release(_MAPPED_A_TIME):
            self._old_index = None

    def expire(self, log_time_ms: int) -> None:
        """Forget what is over at `log_time_ms`."""
        self._window.expire(log_time_ms)

    # === work for a thread =====================================================================

    @property
    def has_full_segment(self) -> bool:
        """Whether there are as many young keys as one segment has, stored or not."""
        return self._searchable and self._end_of_next() <= self._window.open_chunk

    def next_segment(self) -> NewSegment | None:
        """The young keys whose index may be written now, since they are stored; None: there are none."""
        if not self.has_full_segment:
            return None
        first, end = self._young_from // CHUNK_KEYS, self._end_of_next()
        chunks = [chunk for chunk in self._window.sealed(first, end) if isinstance(chunk, StoredChunk)]
        return NewSegment(self.seed, first, chunks) if len(chunks) == end - first else None

    def publish(self, new: NewSegment, segment: KeySegment) -> None:
        """Find the keys of `new` in `segment` from now on; not if they expired, or the window is another."""
        window, first = self._window, self._young_from // CHUNK_KEYS
        if first < segment.end_chunk and window.sealed(first, segment.end_chunk)[-1:] == [*new.chunks[-1:]]:
            segment.watch(new.chunks)
            self._segments.append(segment)
            self._entries.forget_before(segment.end_offset)

    def next_growth(self) -> Growth | None:
        """What gives the fingerprints the right size, in a thread; None if they have. Then call `grown`."""
        resize = self._fingerprints.resize() if self._searchable and not self._growing else None
        if resize is None:
            return None
        self._growing = True
        return Growth(self._fingerprints, resize, self._runs())

    def grown(self, growth: Growth) -> None:
        """It was run: look keys up in what came of it."""
        if growth.table is self._fingerprints:
            self._growing = False
            growth.table.adopt(growth.resize, self._runs().of_shard)

    def _end_of_next(self) -> int:
        chunk = self._young_from // CHUNK_KEYS
        return chunk - chunk % self.segment_chunks + self.segment_chunks

    def _runs(self) -> KeyRuns:
        first = self._young_from // CHUNK_KEYS
        chunks = self._window.sealed(first, self.open_chunk)
        return KeyRuns(tuple(self._segments), first, chunks, self.hash, self._entries.copy())

    def _grow_at_once(self) -> None:
        """What `next_growth` is for, where nobody asks for it and all keys are in memory."""
        while not self.stored_bytes and (growth := self.next_growth()) is not None:
            growth.run()
            self.grown(growth)

    # === the index =============================================================================

    def _enter(
        self,
        window: KeyWindow,
        fingerprints: FingerprintTable,
        index: KeyIndex,
        start: int,
        young_from: int,
    ) -> None:
        """Make the sealed keys from `start` on known to both."""
        start = max(start, window.floor)
        while start < window.sealed_to:
            packed = window.packed(start, window.sealed_to)
            hashes = self.hash(packed)
            entries = entries_of(hashes)
            fingerprints.insert(Run(entries, start))
            index.insert(hashes, start, young_from)
            if fingerprints is self._fingerprints and len(entries) == CHUNK_KEYS:
                self._entries.add(start, entries)
            start += len(packed) // limits.KEY_BYTES

    def _index_is_wrong(self) -> bool:
        window, index = self._window, self._index
        young = window.next_offset - self._young_from
        if window.next_offset - index.base_offset >= WORN_AFTER:
            return True
        if young * 8 < index.capacity:
            return index.capacity > MIN_CAPACITY
        if index.capacity >= window.max_keys:
            return young > index.capacity
        return young * 8 > index.capacity * 7

    def _wanted_capacity(self, window: KeyWindow, young: int) -> int:
        """Room to grow twofold: each growth copies all young keys. Not beyond the bound while that holds."""
        bound = max(window.max_keys, young * 9 // 8)
        return max(MIN_CAPACITY, min(young * 2, bound))

    def _build(self, index: KeyIndex, keys_added: int) -> None:
        """One step of the next index: fetch its memory, then copy, then let it take over."""
        if not index.touch(_MAPPED_A_TIME):
            return
        window = self._window
        start = max(self._copied_to, self._young_from)
        step = max(_COPIED_A_TIME, keys_added * _COPIED_A_KEY)
        self._copied_to = max(start, min(start + step, window.sealed_to))
        self._copy(window, index, start, self._copied_to)
        if self._copied_to >= window.sealed_to:
            self._old_index, self._index, self._next_index = self._index, index, None

    def _copy(self, window: KeyWindow, index: KeyIndex, start: int, end: int) -> None:
        """Index the keys of these offsets."""
        while start < end:
            packed = window.packed(start, end)
            index.insert(self.hash(packed), start, self._young_from)
            start += len(packed) // limits.KEY_BYTES
