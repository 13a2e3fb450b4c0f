"""The youngest keys of a leader's log: those that the index of the key table does not hold yet.

That is the table's open chunk and the entries that are not applied. Keys of large entries go into a small
index of their own, so that no large batch is taken apart. Those of small entries go into dicts, where one
of a few dozen keys costs a tenth of a step of the index; a dict goes as a whole once its keys are sealed.
Decides nothing. Called by the admission.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from esnode import limits
from esnode.dedup.batch import split_identities
from esnode.dedup.keyhash import Hashes
from esnode.dedup.keyindex import KeyIndex
from esnode.dedup.keytable import WORN_AFTER, KeyTable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.ring import TOKEN_BYTES

BULK_KEYS: Final = 256
"""From here on a step of the index costs less than as many keys one by one."""
FIRST_CAPACITY: Final = 4 * CHUNK_KEYS


@dataclass(slots=True)
class _Held:
    """Keys in a row; `index` is their entry's, 0 when it was applied before this leader began."""

    index: int
    base_offset: int
    packed: bytes

    @property
    def next_offset(self) -> int:
        return self.base_offset + len(self.packed) // limits.KEY_BYTES


_base_offset = attrgetter("base_offset")


class RecentKeys:
    """Keys and offsets from `table.sealed_to` (or a little below) to the end of the leader's log."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._loaded = False
        self._held: deque[_Held] = deque()
        self._index = KeyIndex(FIRST_CAPACITY, 0)
        self._indexed_to = 0
        """The end of the last entry that is in the index."""
        self._few: dict[bytes, int] = {}
        """Each identity that is not in the index, with its latest offset; the older generation of them."""
        self._older_few: dict[bytes, int] = {}
        self._few_from = self._older_few_from = 0
        """Where their entries begin."""

    def __len__(self) -> int:
        """How many keys are held."""
        return self._held[-1].next_offset - self._held[0].base_offset if self._held else 0

    def load(self) -> None:
        """Begin with the committed keys that the table has not sealed; once, until `clear`."""
        if not self._loaded:
            self._loaded = True
            sealed_to = self._table.sealed_to
            self._index = KeyIndex(FIRST_CAPACITY, sealed_to)
            self._indexed_to = self._few_from = self._older_few_from = sealed_to
            if committed := self._table.unsealed():
                self._hold(_Held(0, sealed_to, committed), None)

    def add(self, index: int, base_offset: int, packed: bytes, hashes: Hashes | None = None) -> None:
        """Entry `index` of the log holds these keys, the first at `base_offset`."""
        self.load()
        self._hold(_Held(index, base_offset, packed), hashes)

    def find(self, packed: bytes, hashes: Hashes) -> dict[int, int]:
        """By their place in `packed`, the latest offsets of those that are held.

        Below `table.first_offset` a key has expired.
        """
        self.load()
        if len(hashes) >= BULK_KEYS:
            self._index_few()
        found: dict[int, int] = {}
        if self._indexed_to > self._table.sealed_to:
            for place, offset in self._index.find(hashes):
                identity = packed[place * limits.KEY_BYTES + TOKEN_BYTES : (place + 1) * limits.KEY_BYTES]
                if found.get(place, -1) < offset and self._identity_at(offset) == identity:
                    found[place] = offset
        if self._few or self._older_few:
            identities = split_identities(packed)
            for few in (self._older_few, self._few):
                if not few.keys().isdisjoint(identities):
                    found.update((place, few[one]) for place, one in enumerate(identities) if one in few)
        return found

    def trim(self) -> None:
        """Forget what the table has sealed meanwhile."""
        sealed_to = self._table.sealed_to
        while self._held and self._held[0].next_offset <= sealed_to:
            self._held.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._loaded = False
        self._held.clear()
        self._index = KeyIndex(FIRST_CAPACITY, 0)
        self._few, self._older_few = {}, {}

    def index_of_last(self, offsets: Iterable[int]) -> int:
        """The highest index of an entry that is not applied and holds one of `offsets`; 0: there is none."""
        last = max(offsets, default=-1)
        if last < self._table.next_offset:
            return 0
        return self._at(last).index

    def _hold(self, held: _Held, hashes: Hashes | None) -> None:
        if len(held.packed) >= BULK_KEYS * limits.KEY_BYTES:
            self._index_few()
            self._held.append(held)
            self._put_in_index(held, self._table.hash(held.packed) if hashes is None else hashes)
            self._few_from = self._older_few_from = held.next_offset
            return
        self._held.append(held)
        offsets = range(held.base_offset, held.next_offset)
        new = zip(split_identities(held.packed), offsets, strict=False)  # strict costs a microsecond
        self._few.update(new)
        if len(self._few) >= CHUNK_KEYS:
            self._index_from(self._older_few_from, self._few_from)
            self._older_few, self._few = self._few, {}
            self._older_few_from, self._few_from = self._few_from, held.next_offset

    def _index_few(self) -> None:
        """Move what is in the dicts to the index."""
        if self._few or self._older_few:
            end = self._held[-1].next_offset if self._held else self._few_from
            self._index_from(self._older_few_from, end)
            self._few, self._older_few = {}, {}
            self._few_from = self._older_few_from = end

    def _index_from(self, start: int, end: int) -> None:
        """Index the entries that begin from `start` on and before `end`, but what the table has sealed."""
        packed = b"".join([held.packed for held in self._held if start <= held.base_offset < end])
        if packed:
            self._put_in_index(
                _Held(0, end - len(packed) // limits.KEY_BYTES, packed), self._table.hash(packed)
            )

    def _put_in_index(self, new: _Held, hashes: Hashes) -> None:
        self._indexed_to = new.next_offset
        if len(self) > self._index.capacity or self._indexed_to - self._index.base_offset >= WORN_AFTER:
            # All at once: the entries may be thousands, of one key each.
            start = self._held[0].base_offset
            packed = b"".join([held.packed for held in self._held if held.base_offset < self._indexed_to])
            self._index = KeyIndex(max(FIRST_CAPACITY, 2 * len(self)), start)
            self._index.insert(self._table.hash(packed), start, 0)
            return
        self._index.insert(hashes, new.base_offset, self._held[0].base_offset)

    def _identity_at(self, offset: int) -> bytes:
        """Empty where it is not held any more."""
        if offset < self._held[0].base_offset:
            return b""
        held = self._at(offset)
        end = (offset - held.base_offset + 1) * limits.KEY_BYTES
        return held.packed[end - limits.KEY_BYTES + TOKEN_BYTES : end]

    def _at(self, offset: int) -> _Held:
        return self._held[bisect_right(self._held, offset, key=_base_offset) - 1]
