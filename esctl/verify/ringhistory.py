"""The histories of all partitions, and what only all of them together show.

An event belongs to the partition that owns its source: what was expected is looked for there. What is
found elsewhere is misplaced, unless it is from before that partition went by this ring. An event that two
partitions have is a duplicate, whatever the window: their logs have no common time. Of one partition it is
the one history. Never reads a network or a file and never prints. Called by `reading.py`, which feeds it, and
`esctl verify`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from esctl.verify.history import History
from esctl.verify.verdict import LogVerdict
from esnode.ring import TOKEN_BYTES, Ring


class RingHistory:
    """Collects; `expect` first, then feed the history of each partition, then ask for the verdicts."""

    def __init__(self, ring: Ring, voters: Iterable[int], since: Mapping[int, int] | None = None) -> None:
        """`since`: for each log, where it stood when its partition took up this ring; else 0.

        There may be more logs than the ring has partitions, after a shrink.
        """
        since = since or {}
        self._ring = ring
        logs = sorted({*ring.partitions, *since})
        self._several = len(logs) > 1
        numbers = list(voters)
        self.partitions: Mapping[int, History] = {
            partition: History(
                numbers, self._owned_by(partition) if self._several else None, since.get(partition, 0)
            )
            for partition in logs
        }

    def expect(self, key: bytes, encoded: bytes, file: int, line: int) -> None:
        """This event should be in the partition that owns its source; see `History.expect`."""
        for history in self.partitions.values():
            history.expecting = True
        self.partitions[self._owner(key)].expect(key, encoded, file, line)

    def verdicts(self, *, exact: bool = False, strict: bool = False) -> Sequence[LogVerdict]:
        """That of each partition, by number; see `History.verdict`."""
        strays = frozenset[bytes]().union(*(history.strays for history in self.partitions.values()))
        if strays:
            self._find_twice(strays)
        return [
            history.verdict(exact=exact, strict=strict, strays=strays)
            for _, history in sorted(self.partitions.items())
        ]

    # --- inside ------------------------------------------------------------------------------------

    def _owner(self, key: bytes) -> int:
        return self._ring.owner(int.from_bytes(key[:TOKEN_BYTES]))

    def _owned_by(self, partition: int) -> Callable[[bytes], bool]:
        return lambda key: self._owner(key) == partition

    def _find_twice(self, strays: frozenset[bytes]) -> None:
        """Tell a partition of each event that it has and should not, and that another one has as well.

        The one that owns the source is never the one that has it too many.
        """
        first = {partition: history.find(strays) for partition, history in self.partitions.items()}
        for key in strays:
            places = [(partition, found[key]) for partition, found in first.items() if key in found]
            home = next((place for place in places if place[0] == self._owner(key)), places[0])
            for partition, offset in places:
                if partition == home[0]:
                    continue
                also = f"offset {home[1]} of partition {home[0]}"
                self.partitions[partition].also_elsewhere(
                    offset, f"the event at offset {offset} is also at {also}"
                )
