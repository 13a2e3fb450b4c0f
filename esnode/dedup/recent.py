"""The youngest keys of a leader's log: those that the index of the key table does not hold yet.

That is the table's open chunk and the entries that are not applied. One dict, filled when an entry is
appended and emptied when a chunk of the table is sealed, so each key is put in and taken out once.
Decides nothing. Called by the admission.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from esnode.dedup.keytable import KeyTable


@dataclass(slots=True)
class _Held:
    """Keys in a row; `index` is their entry's, 0 when it was applied before this leader began."""

    index: int
    base_offset: int
    keys: tuple[bytes, ...]


_base_offset = attrgetter("base_offset")


class RecentKeys:
    """Keys and offsets from `table.sealed_to` (or a little below) to the end of the leader's log."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._loaded = False
        self._held: deque[_Held] = deque()
        self._count = 0
        """Of the keys held. More than in `offsets` where a key is there twice, its first time expired."""
        self.offsets: dict[bytes, int] = {}
        """Each key's offset, the latest. Below `table.first_offset` it has expired."""

    def load(self) -> None:
        """Begin with the committed keys that the table has not sealed; once, until `clear`."""
        if not self._loaded:
            self._loaded = True
            self._hold(_Held(0, self._table.sealed_to, self._table.unsealed()))

    def add(self, index: int, base_offset: int, keys: tuple[bytes, ...]) -> None:
        """Entry `index` of the log holds `keys`, the first at `base_offset`."""
        self.load()
        self._hold(_Held(index, base_offset, keys))

    def trim(self) -> None:
        """Forget what the table has sealed meanwhile."""
        sealed_to = self._table.sealed_to
        while self._held and self._held[0].base_offset + len(self._held[0].keys) <= sealed_to:
            self._release(self._held.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._loaded = False
        self._held.clear()
        self._count = 0
        self.offsets.clear()

    def index_of_last(self, offsets: Iterable[int]) -> int:
        """The highest index of an entry that is not applied and holds one of `offsets`; 0: there is none."""
        last = max(offsets, default=-1)
        if last < self._table.next_offset:
            return 0
        return self._held[bisect_right(self._held, last, key=_base_offset) - 1].index

    def _hold(self, held: _Held) -> None:
        keys = held.keys
        offsets = range(held.base_offset, held.base_offset + len(keys))
        self.offsets.update(zip(keys, offsets, strict=False))  # strict costs a microsecond
        self._count += len(keys)
        self._held.append(held)

    def _release(self, held: _Held) -> None:
        offsets = self.offsets
        if len(offsets) == self._count:
            for key in held.keys:
                del offsets[key]
        else:
            for offset, key in enumerate(held.keys, held.base_offset):
                if offsets[key] == offset:
                    del offsets[key]
        self._count -= len(held.keys)
