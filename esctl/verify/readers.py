"""What readers saw, page by page, against the log.

Each reader begins at an offset, and each of its pages must begin where the one before ended. What it saw
that retention has cut since is not judged. Decides nothing about times. Called by `operations.py`.
"""

from array import array
from dataclasses import dataclass

from esctl.verify.placement import NO_KEY
from esctl.verify.verdict import Flaw, LogFinding, LogFindings
from esnode import limits

_SIZE = limits.KEY_BYTES


@dataclass(frozen=True, slots=True)
class _Page:
    """Packed keys that a reader saw in a row."""

    reader: int
    offset: int
    keys: bytes


class Readers:
    """Reads and subscriptions; each has a number."""

    def __init__(self) -> None:
        self._positions = array("q")
        """What each must see next."""
        self._pages: list[_Page] = []
        self._gaps: list[LogFinding] = []

    def begin(self, from_offset: int) -> int:
        """One more, from there on."""
        self._positions.append(from_offset)
        return len(self._positions) - 1

    def saw(self, reader: int, offset: int, keys: bytes) -> None:
        """It saw the events of these packed keys from `offset` on."""
        position = self._positions[reader]
        if offset != position:
            what = "skipped" if offset > position else "repeated"
            first, last = min(offset, position), max(offset, position) - 1
            text = f"a subscription {what} the events from offset {first} to {last}"
            self._gaps.append(LogFinding(Flaw.READ_CHANGED, 0, first, text))
        self._positions[reader] = offset + len(keys) // _SIZE
        self._pages.append(_Page(reader, offset, keys))

    def judge(self, log: bytes, first_offset: int, findings: LogFindings) -> None:
        """Compare with the packed keys of the log from `first_offset` on."""
        for gap in self._gaps:
            findings.add(gap)
        whole = memoryview(log)
        for page in self._pages:
            start = max(page.offset, first_offset)
            seen = memoryview(page.keys)[(start - page.offset) * _SIZE :]
            there = whole[(start - first_offset) * _SIZE :][: len(seen)]
            difference = None if there == seen else _first_difference(seen, there)
            if difference is not None:
                place = start + difference
                text = f"a reader saw another event at offset {place} than the log has there"
                findings.add(LogFinding(Flaw.READ_CHANGED, 0, place, text))


def _first_difference(seen: memoryview, there: memoryview) -> int | None:
    """How many keys come before the first that is another one than the log has; a hole is none."""
    for at in range(0, len(seen), _SIZE):
        key = there[at : at + _SIZE]
        if key != seen[at : at + _SIZE] and key != NO_KEY:
            return at // _SIZE
    return None
