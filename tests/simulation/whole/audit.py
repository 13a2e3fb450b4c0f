"""What every node has applied, held against every other node's, at the moment it happens.

Keeps the one history that the cluster may have: the record of each index, the key of each offset, the
machine's digest after each entry, the leader of each term. Raises `Violation` inside the node that broke
it. Called by `world.py`, and by each node's machine.
"""

from bisect import bisect_right
from typing import Final

from esnode.apply import Loaded, Machine
from esnode.dedup.batch import split_keys
from esnode.raft.entry import Entry

from ..outcome import Violation

DIGEST_EVERY: Final = 16
"""A digest costs about as much as fifty entries: it is taken after one in so many."""


class Audit:
    """The history of one world."""

    def __init__(self) -> None:
        self.keys = bytearray()
        """The packed keys of all events, from offset 0."""
        self.last_index = 0
        self._records: list[bytes] = []
        self._floors: list[int] = []
        """The first offset whose key was known, when the entry was applied."""
        self._bases: list[int] = []
        self._newest: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._leaders: dict[int, str] = {}

    def observe(self, host: str, machine: Machine) -> None:
        """From now on look at all that `machine` applies."""
        apply, adopt = machine.apply, machine.adopt
        self._compare_digest(host, machine)

        def audited_apply(entry: Entry) -> None:
            machine.keys.expire(entry.log_time_ms)  # as `apply` is about to do
            floor = machine.keys.first_offset
            apply(entry)
            self._applied(host, entry, floor)
            if entry.index % DIGEST_EVERY == 0:
                self._compare_digest(host, machine)

        def audited_adopt(loaded: Loaded) -> None:
            adopt(loaded)
            self._compare_digest(host, machine)

        machine.apply = audited_apply  # type: ignore[method-assign]
        machine.adopt = audited_adopt  # type: ignore[method-assign]

    def leads(self, host: str, term: int) -> None:
        """A node says that it leads in `term`."""
        other = self._leaders.setdefault(term, host)
        if other != host:
            raise Violation("one leader a term", f"{other} and {host} both lead in term {term}")

    def may_repeat(self, earlier: int, later: int) -> bool:
        """Whether the key at offset `earlier` was forgotten when `later` was appended."""
        return self._floors[bisect_right(self._bases, later) - 1] > earlier

    @property
    def next_offset(self) -> int:
        """The end of all that was ever applied."""
        return len(self.keys) // 16

    def same_state(self, host: str, machine: Machine) -> None:
        """Whether `machine` is as others were at its place."""
        self._compare_digest(host, machine)

    def same_entry(self, host: str, entry: Entry) -> None:
        """Whether a stored entry is what was applied."""
        if self._records[entry.index - 1] != entry.record:
            raise Violation("one log", f"{host} has stored another entry {entry.index} than was applied")

    def _applied(self, host: str, entry: Entry, floor: int) -> None:
        at = entry.index - 1
        if at < self.last_index:
            if self._records[at] != entry.record:
                raise Violation("one log", f"{host} applied another entry {entry.index} than others did")
            return
        if at > self.last_index:
            raise Violation("one log", f"{host} applied entry {entry.index}, the one before was never seen")
        self.last_index = entry.index
        self._records.append(entry.record)
        self._floors.append(floor)
        self._bases.append(entry.base_offset)
        if entry.base_offset != self.next_offset:
            raise Violation("dense offsets", f"entry {entry.index} begins at {entry.base_offset}")
        for offset, key in enumerate(split_keys(entry.keys), start=entry.base_offset):
            before = self._newest.get(key, -1)
            if before >= floor:
                raise Violation("no event twice", f"the event at offset {before} is also at {offset}")
            self._newest[key] = offset
        self.keys += entry.keys

    def _compare_digest(self, host: str, machine: Machine) -> None:
        digest = machine.digest()
        known = self._digests.setdefault(machine.applied_index, digest)
        if known != digest:
            raise Violation(
                "equal machines", f"{host} has another state after entry {machine.applied_index} than others"
            )
