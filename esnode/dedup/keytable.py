"""Committed keys and their offsets: the memory of what the log holds.

Joins the window (what is known, the same on every node) with an index (how it is found, this node's own
affair). A chunk of keys enters the index when it is full; the admission remembers the younger ones. When
the index is too small, too large or worn out, another is built beside it, a little with each addition,
and takes its place. Never sees an uncommitted key. Called by the machine and the admission.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from esnode import limits
from esnode.dedup.batch import identity_of, split_identities
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keyhash import Hashes, KeyHash
from esnode.dedup.keyindex import KeyIndex
from esnode.dedup.keywindow import CHUNK_KEYS, KeyWindow, SourceOf
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
    index: KeyIndex | None


class KeyTable:
    """Keys of one partition, known for `ttl_ms` of log time (0: for good), about `max_keys` of them at most.

    `when_full`: `shrink` forgets the oldest at the bound, `refuse` leaves it to the admission to keep
    new ones out. `seed`: see `KeyHash`; it changes nothing that can be seen from outside. Without
    `searchable` there is no index: a table that only follows the log.
    """

    def __init__(
        self, ttl_ms: int, max_keys: int, when_full: str, *, seed: int = 0, searchable: bool = True
    ) -> None:
        self._window = KeyWindow(ttl_ms, max_keys, when_full)
        self.hash = KeyHash(seed)
        self._searchable = searchable
        self._index = KeyIndex(MIN_CAPACITY, 0)
        self._next_index: KeyIndex | None = None
        self._old_index: KeyIndex | None = None
        self._copied_to = 0
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
    def open_chunk(self) -> int:
        """`KeyWindow.open_chunk`."""
        return self._window.open_chunk

    @property
    def size_bytes(self) -> int:
        """Memory of the packed keys and the index; the few loose keys come on top."""
        indexes = (self._index, self._next_index, self._old_index)
        return self._window.size_bytes + sum(index.size_bytes for index in indexes if index is not None)

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

    def resume(self, outline: bytes | memoryview, sealed: Iterable[bytes], source_of: SourceOf) -> LoadedKeys:
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
        self._next_index = None
        if loaded.index is not None:
            self._old_index, self._index = self._index, loaded.index

    @contextmanager
    def unindexed(self) -> Iterator[None]:
        """Only follow the log meanwhile; then index all of it, in a quarter of the time."""
        searchable, self._searchable = self._searchable, False
        yield
        self._searchable = searchable
        self.adopt(self._loaded(self._window))

    def _loaded(self, window: KeyWindow) -> LoadedKeys:
        if not self._searchable:
            return LoadedKeys(window, None)
        index = KeyIndex(self._wanted_capacity(window), window.floor)
        self._copy(window, index, window.floor, window.sealed_to)
        return LoadedKeys(window, index)

    # === look-up ===============================================================================

    def find_sealed(self, packed: bytes, hashes: Hashes) -> dict[int, int]:
        """By their place in `packed`, the offsets of those keys that are known and below `sealed_to`.

        A key that was added twice, the first one forgotten meanwhile, is at its later offset. `hashes` are
        what `hash` says of `packed`.
        """
        window = self._window
        known: dict[int, int] = {}
        for place, offset in self._index.find(hashes):
            identity = packed[place * limits.KEY_BYTES + TOKEN_BYTES : (place + 1) * limits.KEY_BYTES]
            if (
                offset >= window.floor
                and known.get(place, -1) < offset
                and window.identity_at(offset) == identity
            ):
                known[place] = offset
        return known

    def cold(self, packed: bytes) -> list[Callable[[], bytes]]:
        """What to call in a thread before `find_sealed` is asked for these keys, so that it need not wait for
        the disk. Empty while it has not waited lately: nearly all keys are found in memory to be fresh.
        """
        window = self._window
        if window.waits != self._waits:
            self._waits, self._wary = window.waits, _WARY_BATCHES
        if not self._wary:
            return []
        self._wary -= 1
        hits = self._index.find(self.hash(packed))
        cold = [window.fetch(offset) for _, offset in hits if offset >= window.floor]
        found = [fetch for fetch in cold if fetch is not None]
        if found:
            self._wary = _WARY_BATCHES
        return found

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
            self._copy(window, self._index, base_offset - base_offset % CHUNK_KEYS, window.sealed_to)
            if self._next_index is None and self._index_is_wrong():
                self._next_index = KeyIndex(self._wanted_capacity(window), window.floor)
                self._copied_to = window.floor
        if self._next_index is not None:
            self._build(self._next_index, window.next_offset - base_offset)
        elif self._old_index is not None and self._old_index.release(_MAPPED_A_TIME):
            self._old_index = None

    def expire(self, log_time_ms: int) -> None:
        """Forget what is over at `log_time_ms`."""
        self._window.expire(log_time_ms)

    # === the index =============================================================================

    def _index_is_wrong(self) -> bool:
        window, index = self._window, self._index
        if window.next_offset - index.base_offset >= WORN_AFTER:
            return True
        if window.live * 8 < index.capacity:
            return index.capacity > MIN_CAPACITY
        if index.capacity >= window.max_keys:
            return window.live > index.capacity
        return window.live * 8 > index.capacity * 7

    def _wanted_capacity(self, window: KeyWindow) -> int:
        """Room to grow fourfold, for each growth copies all keys; not beyond the bound while that holds."""
        live = window.live
        bound = max(window.max_keys, live * 9 // 8)
        return max(MIN_CAPACITY, min(live * 4, bound))

    def _build(self, index: KeyIndex, keys_added: int) -> None:
        """One step of the next index: fetch its memory, then copy, then let it take over."""
        if not index.touch(_MAPPED_A_TIME):
            return
        window = self._window
        start = max(self._copied_to, window.floor)
        step = max(_COPIED_A_TIME, keys_added * _COPIED_A_KEY)
        self._copied_to = max(start, min(start + step, window.sealed_to))
        self._copy(window, index, start, self._copied_to)
        if self._copied_to >= window.sealed_to:
            self._old_index, self._index, self._next_index = self._index, index, None

    def _copy(self, window: KeyWindow, index: KeyIndex, start: int, end: int) -> None:
        """Index the keys of these offsets, as far as they are still known."""
        start = max(start, window.floor)
        while start < end:
            packed = window.packed(start, end)
            index.insert(self.hash(packed), start, window.floor)
            start += len(packed) // limits.KEY_BYTES
