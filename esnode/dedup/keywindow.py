"""The deduplication window: which offsets still count, and the keys of those offsets.

Decides when a key is forgotten: `ttl_ms` of log time after its generation closes (never, if that is 0), or
earlier when there are more than `max_keys` and the setting is to shrink. Where the log of a node begins
decides nothing, since each node cuts its own. All of it follows from the entries applied, so nodes that
applied the same entries, by replay or from a snapshot, know the same keys. Reads no clock; does not search
(that is `keyindex.py`). Called by the key table and the machine.
"""

import hashlib
import mmap
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Final, NamedTuple

from esnode.dedup.keychunk import DIGEST_BYTES, PAGE_BYTES, ChunkSource, StoredChunk, StoredKeys, chunk_digest
from esnode.errors import Bug, DamagedRecord
from esnode.limits import KEY_BYTES
from esnode.ring import TOKEN_BYTES

CHUNK_KEYS: Final = 4096
"""Keys are kept in chunks that begin at multiples of this."""
CHUNK_BYTES: Final = CHUNK_KEYS * KEY_BYTES
GENERATIONS: Final = 64
"""Generations in a time-to-live: a key is known for `ttl_ms` to `ttl_ms * (1 + 1/64)`."""
UNTIMED_GENERATION_MS: Final = 3_600_000
"""How wide a generation is where none expires: few enough of them in years, yet they tell an age."""
_FOREVER_MS: Final = 2**63
WHEN_FULL: Final = ("shrink", "refuse")
_PAGE_KEYS: Final = PAGE_BYTES // KEY_BYTES
_CHUNK_PAGES: Final = CHUNK_BYTES // PAGE_BYTES
_REMEMBERED_PAGES: Final = 64
"""Pages of stored chunks that stay in memory: duplicates come in the order of the events that they repeat."""
_FREED_A_TIME: Final = 32
"""Chunks given back in one call: 2 MiB, so that a mass expiry makes no pause."""

# floor | next_offset | shrunk | generations
_HEAD: Final = struct.Struct(">QQQI")
# closes_at_ms | first_offset
_GENERATION: Final = struct.Struct(">QQ")


SourceOf = Callable[[int], ChunkSource]
"""Where the chunk of this number is on disk."""


class Generation(NamedTuple):
    """Keys that expire together: those from `first_offset` up to the next generation's."""

    closes_at_ms: int
    first_offset: int


class SealedChunks(NamedTuple):
    """Which sealed chunks belong to an outline: numbered from `first_chunk` on, one digest each."""

    first_chunk: int
    digests: Sequence[bytes]

    @property
    def end_chunk(self) -> int:
        """The number after the last one's."""
        return self.first_chunk + len(self.digests)


NO_CHUNKS: Final = SealedChunks(0, ())


class KeyWindow:
    """The keys of the offsets from `floor` to `next_offset`, and when they will be forgotten."""

    def __init__(self, ttl_ms: int, max_keys: int, when_full: str) -> None:
        assert ttl_ms >= 0
        assert max_keys > 0
        assert when_full in WHEN_FULL
        self.ttl_ms = ttl_ms
        self.max_keys = max_keys
        self.when_full = when_full
        self._shrinks = when_full == "shrink"
        self.floor = 0
        """The first offset whose key is known."""
        self.next_offset = 0
        self.shrunk = 0
        """Keys that were forgotten before their time, ever."""
        self._generations: deque[Generation] = deque()
        """The first ones may be over already: `_trim` removes them."""
        self._closes_at_ms = 0
        """When the last generation closes."""
        self._width_ms = generation_ms(ttl_ms)
        self._kept_ms = ttl_ms or _FOREVER_MS
        self._expires_at_ms = 0
        """Nothing expires before this."""
        self._chunks: deque[mmap.mmap | StoredChunk] = deque()
        """The sealed ones."""
        self._open = _new_chunk()
        """The last chunk: it holds, or will hold, the key of `next_offset`."""
        self._pages: dict[int, bytes] = {}
        """The pages of stored chunks that were read last, by number; page 0 begins with offset 0."""
        self.waits = 0
        """How often `identity_at` had to wait for the disk."""
        self._digests: deque[bytes] = deque()
        """One for each sealed chunk."""
        self._first_chunk = 0

    @property
    def live(self) -> int:
        """How many keys are known."""
        return self.next_offset - self.floor

    @property
    def sealed_to(self) -> int:
        """Where the open chunk begins."""
        return self.next_offset - self.next_offset % CHUNK_KEYS

    @property
    def first_chunk(self) -> int:
        """The number of the chunk that `floor` is in."""
        return self.floor // CHUNK_KEYS

    @property
    def open_chunk(self) -> int:
        """The number of the chunk that `next_offset` is in, or will be: all before it are sealed."""
        return self.next_offset // CHUNK_KEYS

    @property
    def size_bytes(self) -> int:
        """The memory of the keys."""
        in_memory = sum(isinstance(chunk, mmap.mmap) for chunk in self._chunks)
        return (in_memory + 1) * CHUNK_BYTES + len(self._pages) * PAGE_BYTES

    @property
    def stored_bytes(self) -> int:
        """The keys that are on disk and not in memory."""
        return sum(isinstance(chunk, StoredChunk) for chunk in self._chunks) * CHUNK_BYTES

    # === what changes it =======================================================================

    def add(self, keys: bytes, base_offset: int, log_time_ms: int) -> bool:
        """Append packed keys; `base_offset` must be `next_offset`, and log time must not have fallen.

        True when a chunk was sealed.
        """
        if base_offset != self.next_offset:
            raise Bug(f"keys of offset {base_offset} come where {self.next_offset} is next")
        if not keys:
            return False
        if log_time_ms >= self._closes_at_ms:
            self._closes_at_ms = (log_time_ms // self._width_ms + 1) * self._width_ms
            self._generations.append(Generation(self._closes_at_ms, base_offset))
        position = base_offset % CHUNK_KEYS * KEY_BYTES
        size = len(keys)
        fits = position + size < CHUNK_BYTES
        if fits:
            self._open[position : position + size] = keys
            self.next_offset = base_offset + size // KEY_BYTES
        else:
            self._fill_chunks(position, keys)
        if self._shrinks and self.next_offset - self.floor > self.max_keys:
            floor = self.next_offset - self.max_keys
            self.shrunk += floor - self.floor
            self.floor = floor
        return not fits

    def expire(self, log_time_ms: int) -> None:
        """Forget the generations whose time is over at `log_time_ms`."""
        if log_time_ms >= self._expires_at_ms:
            self.floor = self._floor_at(log_time_ms)
            self._trim()

    def _fill_chunks(self, position: int, keys: bytes) -> None:
        """Add keys that reach the end of the open chunk, or go beyond it."""
        start = 0
        while len(keys) - start >= CHUNK_BYTES - position:
            end = start + CHUNK_BYTES - position
            self._open[position:] = keys[start:end]
            self._seal()
            start, position = end, 0
        self._open[: len(keys) - start] = keys[start:]
        self.next_offset += len(keys) // KEY_BYTES
        self._trim()

    def _seal(self) -> None:
        self._digests.append(chunk_digest(self._open))
        self._chunks.append(self._open)
        self._open = _new_chunk()

    def _trim(self) -> None:
        """Let go of what is below the floor."""
        generations = self._generations
        while len(generations) > 1 and generations[1].first_offset <= self.floor:
            generations.popleft()
        self._expires_at_ms = generations[0].closes_at_ms + self._kept_ms if generations else 0
        gone = min(self.floor // CHUNK_KEYS - self._first_chunk, _FREED_A_TIME)
        for _ in range(gone):
            self._chunks.popleft()
            self._digests.popleft()
        self._first_chunk += gone

    def store(self, first_chunk: int, chunks: Sequence[memoryview], stored: Sequence[StoredChunk]) -> None:
        """Let go of the memory of sealed chunks, the first of this number: they are on disk now.

        `chunks` are those that `sealed_chunks` gave for writing. What is not in this window any more stays.
        """
        for place, (written, chunk) in enumerate(
            zip(chunks, stored, strict=True), first_chunk - self._first_chunk
        ):
            if 0 <= place < len(self._chunks) and self._chunks[place] is written.obj:
                self._chunks[place] = chunk

    # === what it tells =========================================================================

    def identity_at(self, offset: int) -> bytes:
        """The identity of the event at `offset`, which must be live."""
        chunk = self._chunk_of(offset)
        if isinstance(chunk, StoredChunk):
            keys, place = self._page(chunk, offset // _PAGE_KEYS), offset % _PAGE_KEYS
            return keys[place * KEY_BYTES + TOKEN_BYTES : (place + 1) * KEY_BYTES]
        end = (offset % CHUNK_KEYS + 1) * KEY_BYTES
        return chunk[end - KEY_BYTES + TOKEN_BYTES : end]

    def packed(self, start: int, end: int) -> memoryview:
        """The packed keys from offset `start` to `end`, or to the end of the chunk that `start` is in.

        Of a stored chunk, to the end of the page.
        """
        chunk, size = self._chunk_of(start), CHUNK_KEYS
        if isinstance(chunk, StoredChunk):
            keys, size = memoryview(chunk.page(start // _PAGE_KEYS % _CHUNK_PAGES)), _PAGE_KEYS
        else:
            keys = memoryview(chunk).toreadonly()
        place = start % size
        return keys[place * KEY_BYTES : min(size, place + end - start) * KEY_BYTES]

    @property
    def first_chunk_in_memory(self) -> int:
        """The number of the first live chunk that is not stored; all after it are not, either."""
        live = enumerate(self.sealed(self.first_chunk, self.open_chunk), self.first_chunk)
        in_memory = (number for number, chunk in live if not isinstance(chunk, StoredChunk))
        return next(in_memory, self.open_chunk)

    def sealed(self, first_chunk: int, end_chunk: int) -> "list[mmap.mmap | StoredChunk]":
        """The chunks of these numbers, which must be sealed and live. They never change."""
        start = first_chunk - self._first_chunk
        return list(islice(self._chunks, start, end_chunk - self._first_chunk))

    def fetch(self, offset: int) -> Callable[[], bytes] | None:
        """What is to be called in a thread, so that `identity_at` need not wait for the disk; None if it need
        not anyway."""
        chunk, number = self._chunk_of(offset), offset // _PAGE_KEYS
        if not isinstance(chunk, StoredChunk) or number in self._pages:
            return None
        try:
            page = chunk.cached_page(number % _CHUNK_PAGES)
        except DamagedRecord:
            return None  # `identity_at` says so, where it ends the node
        if page is None:
            return partial(chunk.page, number % _CHUNK_PAGES)
        self._remember(number, page)
        return None

    def _chunk_of(self, offset: int) -> mmap.mmap | StoredChunk:
        place = offset // CHUNK_KEYS - self._first_chunk
        return self._chunks[place] if place < len(self._chunks) else self._open

    def _page(self, chunk: StoredChunk, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            page = chunk.cached_page(number % _CHUNK_PAGES)
            if page is None:
                self.waits += 1
                page = chunk.page(number % _CHUNK_PAGES)
            self._remember(number, page)
        return page

    def _remember(self, number: int, page: bytes) -> None:
        if len(self._pages) == _REMEMBERED_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[number] = page

    def expires_at(self, offset: int) -> int | None:
        """The log time at which the key of `offset` is forgotten at the latest; None if it is not live.

        None, too, where no key expires.
        """
        if not self.floor <= offset < self.next_offset or not self.ttl_ms:
            return None
        return self._closing(offset) + self.ttl_ms

    def reach_ms(self, log_time_ms: int) -> int:
        """How far back in log time all keys are known, to the generation: `ttl_ms`, if not that full.

        Without a time-to-live, all of the log's time.
        """
        kept_ms = self.ttl_ms or log_time_ms
        if not self._shrinks or not self.shrunk or self.live < self.max_keys:
            return kept_ms
        return max(0, min(kept_ms, log_time_ms - self._closing(self.floor)))

    def _closing(self, offset: int) -> int:
        """When the generation of `offset`, which is live, closes."""
        return next(one for one in reversed(self._generations) if one.first_offset <= offset).closes_at_ms

    def has_room(self, end_offset: int, log_time_ms: int) -> bool:
        """Whether the log may go on to `end_offset` with an entry of `log_time_ms`; always, if it shrinks.

        That entry will expire keys before it adds its own, so what is over by then counts as gone:
        otherwise a full window would refuse the very entries that make log time go on.
        """
        if self._shrinks or end_offset - self.floor <= self.max_keys:
            return True
        return end_offset - self._floor_at(log_time_ms) <= self.max_keys

    def _floor_at(self, log_time_ms: int) -> int:
        for generation in self._generations:
            if generation.closes_at_ms + self._kept_ms > log_time_ms:
                return max(self.floor, generation.first_offset)
        return self.next_offset

    # === its bytes =============================================================================

    def digest(self) -> bytes:
        """16 bytes that are equal where the same keys are known until the same times."""
        whole = hashlib.blake2b(self._dump_head(), digest_size=DIGEST_BYTES)
        for digest in self._live_digests():
            whole.update(digest)
        whole.update(self._open_part())
        return whole.digest()

    def dump(self) -> list[bytes | memoryview]:
        """The state in parts, to be joined; good until the next change."""
        return [self._dump_head(), *self.sealed_chunks(self.first_chunk), self._open_part()]

    def dump_outline(self) -> bytes:
        """The state without the sealed chunks: of these their digests."""
        return b"".join((self._dump_head(), *self._live_digests(), self._open_part()))

    def sealed_chunk(self, number: int) -> memoryview:
        """One sealed chunk."""
        chunk = self._chunks[number - self._first_chunk]
        return memoryview(chunk.whole() if isinstance(chunk, StoredChunk) else chunk).toreadonly()

    def sealed_chunks(self, first_chunk: int) -> list[memoryview]:
        """The sealed chunks from number `first_chunk` on, `self.first_chunk` or later. They never change.

        Reads those that are stored, one after the other.
        """
        return [
            self.sealed_chunk(number) for number in range(first_chunk, self._first_chunk + len(self._chunks))
        ]

    @classmethod
    def load(cls, data: bytes | memoryview, ttl_ms: int, max_keys: int, when_full: str) -> "KeyWindow":
        """The window that was dumped as `data`; raises `DamagedRecord`."""
        window = cls(ttl_ms, max_keys, when_full)
        view = memoryview(data)
        keys_start = window._load_head(view)
        keys = window.next_offset - window._first_chunk * CHUNK_KEYS
        if len(view) != keys_start + keys * KEY_BYTES:
            raise DamagedRecord(f"a key window of {len(view)} bytes is not as long as its head says")
        for start in range(keys_start, len(view) - CHUNK_BYTES + 1, CHUNK_BYTES):
            window._open[:] = view[start : start + CHUNK_BYTES]
            window._seal()
        rest = view[len(view) - keys % CHUNK_KEYS * KEY_BYTES :]
        window._open[: len(rest)] = rest
        return window

    @classmethod
    def resume(
        cls,
        outline: bytes | memoryview,
        sealed: Iterable[bytes | StoredChunk],
        ttl_ms: int,
        max_keys: int,
        when_full: str,
        source_of: SourceOf,
    ) -> "KeyWindow":
        """The window that gave `outline` and these chunks, which stay on disk; raises `DamagedRecord`.

        Of those that come as they are stored, their digests are believed.
        """
        window = cls(ttl_ms, max_keys, when_full)
        view = memoryview(outline)
        digests_start = window._load_head(view)
        rest_start = window._end_of_digests(view, digests_start)
        for number, chunk in enumerate(sealed, window._first_chunk):
            if not isinstance(chunk, StoredChunk):
                chunk = StoredChunk.of(source_of(number), chunk)
            window._digests.append(chunk.digest)
            window._chunks.append(chunk)
        if b"".join(window._digests) != view[digests_start:rest_start]:
            raise DamagedRecord("the chunks of the key window are not those of its outline")
        window._open[: len(view) - rest_start] = view[rest_start:]
        return window

    def _end_of_digests(self, outline: memoryview, start: int) -> int:
        """Where the open chunk begins in `outline`, whose head is loaded and ends at `start`."""
        end = start + (self.open_chunk - self._first_chunk) * DIGEST_BYTES
        if len(outline) != end + self.next_offset % CHUNK_KEYS * KEY_BYTES:
            raise DamagedRecord(
                f"the outline of a key window has {len(outline)} bytes, not what its head says"
            )
        return end

    def _load_head(self, view: memoryview) -> int:
        """Take over what `_dump_head` gave, which `view` begins with; returns where that ends."""
        if len(view) < _HEAD.size:
            raise DamagedRecord("the key window ends within its head")
        self.floor, self.next_offset, self.shrunk, count = _HEAD.unpack_from(view)
        end: int = _HEAD.size + count * _GENERATION.size
        if self.floor > self.next_offset or len(view) < end:
            raise DamagedRecord(f"a key window of {len(view)} bytes is not as long as its head says")
        self._first_chunk = self.first_chunk
        self._generations.extend(
            Generation._make(fields) for fields in _GENERATION.iter_unpack(view[_HEAD.size : end])
        )
        self._check_generations()
        if self._generations:
            self._closes_at_ms = self._generations[-1].closes_at_ms
        return end

    def _check_generations(self) -> None:
        firsts = [generation.first_offset for generation in self._generations]
        closings = [generation.closes_at_ms for generation in self._generations]
        # An empty window has no generations; a window has one from its floor on.
        if [*firsts, self.next_offset][0] != self.floor:
            raise DamagedRecord("the generations of the key window do not cover it")
        if not _ascends([*firsts, self.next_offset]) or not _ascends(closings):
            raise DamagedRecord("the generations of the key window are not in order")

    def _dump_head(self) -> bytes:
        live = []
        end = self.next_offset
        for generation in reversed(self._generations):
            if end > self.floor:
                first_offset = max(generation.first_offset, self.floor)
                live.append(_GENERATION.pack(generation.closes_at_ms, first_offset))
            end = generation.first_offset
        live.reverse()
        return _HEAD.pack(self.floor, self.next_offset, self.shrunk, len(live)) + b"".join(live)

    def _live_digests(self) -> Iterable[bytes]:
        return islice(self._digests, self.first_chunk - self._first_chunk, None)

    def _open_part(self) -> memoryview:
        end = self.next_offset % CHUNK_KEYS * KEY_BYTES
        return memoryview(self._open)[:end].toreadonly()


def split_outline(outline: memoryview) -> tuple[memoryview, SealedChunks, memoryview]:
    """The head, the digests and the open part of what `dump_outline` gave; raises `DamagedRecord`.

    With the chunks in place of their digests, the same is what `dump` gives.
    """
    window = KeyWindow(1, 1, "shrink")
    start = window._load_head(outline)
    end = window._end_of_digests(outline, start)
    digests = [bytes(outline[at : at + DIGEST_BYTES]) for at in range(start, end, DIGEST_BYTES)]
    return outline[:start], SealedChunks(window.first_chunk, digests), outline[end:]


def missing_chunks(sealed: SealedChunks, stored: StoredKeys) -> list[int]:
    """The numbers of those that are not on disk as their digests say. Reads all that are there."""
    return [
        number
        for number, digest in enumerate(sealed.digests, sealed.first_chunk)
        if not _is_stored(number, digest, stored)
    ]


def is_chunk(chunk: bytes | memoryview, digest: bytes) -> bool:
    """Whether these keys are the chunk of this digest."""
    return len(chunk) == CHUNK_BYTES and chunk_digest(chunk) == digest


def _is_stored(number: int, digest: bytes, stored: StoredKeys) -> bool:
    try:
        return is_chunk(next(iter(stored.kept_keys(number, number + 1))), digest)
    except DamagedRecord:
        return False


def generation_ms(ttl_ms: int) -> int:
    """For how much log time a generation takes keys."""
    return max(1, ttl_ms // GENERATIONS) if ttl_ms else UNTIMED_GENERATION_MS


def _new_chunk() -> mmap.mmap:
    """A chunk of zeros, mapped and not allocated.

    An allocator keeps what one thread has freed for the same thread: the keys of a start, which a worker
    reads, would be there twice once they had all expired.
    """
    return mmap.mmap(-1, CHUNK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _ascends(numbers: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(numbers))
