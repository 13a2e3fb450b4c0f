"""Where each event was seen: packed rows, looked at one bucket at a time.

A row is 38 bytes: key, digest of the content, the record that held it, the place in the record. A record
that several nodes hold byte for byte is kept once, with a mask of its holders: so a log of a million
events on nodes that agree takes about 50 MB, and at worst that times the nodes. Never judges.
Called by `history.py`.
"""

import struct
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from esnode import limits

DIGEST_BYTES: Final = 16
BUCKETS: Final = 256
_SEEN: Final = struct.Struct(f">{limits.KEY_BYTES}s{DIGEST_BYTES}sIH")
_EXPECTED: Final = struct.Struct(f">{limits.KEY_BYTES}s{DIGEST_BYTES}sHI")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One place of an event: its offset, the digest of its content, and a mask of the nodes that agree."""

    offset: int
    digest: bytes
    holders: int
    log_time_ms: int
    """Of its record."""
    base_offset: int
    """Of its record: where the log ended when it was appended."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One event that should be there: the digest of its content, and where it was read."""

    digest: bytes
    file: int
    line: int


class Sightings:
    """What was seen and what was expected, by key."""

    def __init__(self) -> None:
        self._seen = [bytearray() for _ in range(BUCKETS)]
        self._expected = [bytearray() for _ in range(BUCKETS)]
        self._base_offsets = array("q")
        self._log_times_ms = array("Q")
        self._holders = array("I")

    @property
    def size_bytes(self) -> int:
        """Memory of the rows."""
        rows = sum(map(len, self._seen)) + sum(map(len, self._expected))
        columns = (self._base_offsets, self._log_times_ms, self._holders)
        return rows + sum(len(column) * column.itemsize for column in columns)

    def add_record(self, base_offset: int, log_time_ms: int, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Keep the (key, digest) of each event of a record that nobody held before; its number."""
        record = len(self._base_offsets)
        self._base_offsets.append(base_offset)
        self._log_times_ms.append(log_time_ms)
        self._holders.append(0)
        for place, (key, digest) in enumerate(rows):
            self._seen[key[-1]] += _SEEN.pack(key, digest, record, place)
        return record

    def hold(self, record: int, node_bit: int) -> int:
        """A node holds the record; the mask of all that do now."""
        self._holders[record] |= node_bit
        return self._holders[record]

    def expect(self, key: bytes, digest: bytes, file: int, line: int) -> None:
        """The event should be there."""
        self._expected[key[-1]] += _EXPECTED.pack(key, digest, file, line)

    def find(self, keys: Collection[bytes]) -> dict[bytes, int]:
        """An offset of each of these keys that was seen."""
        base_offsets, found = self._base_offsets, dict[bytes, int]()
        for bucket in {key[-1] for key in keys}:
            for key, _, record, place in _SEEN.iter_unpack(self._seen[bucket]):
                if key in keys:
                    found.setdefault(key, base_offsets[record] + place)
        return found

    def keys(self, node_bit: int, first_offset: int, next_offset: int) -> bytes:
        """The packed keys of one node's log, by offset; zeros where nothing was seen."""
        base_offsets, holders, size = self._base_offsets, self._holders, limits.KEY_BYTES
        packed = bytearray((next_offset - first_offset) * size)
        for seen in self._seen:
            for key, _, record, place in _SEEN.iter_unpack(seen):
                at = (base_offsets[record] + place - first_offset) * size
                if at >= 0 and holders[record] & node_bit:
                    packed[at : at + size] = key
        return bytes(packed)

    def records(self, node_bit: int) -> tuple["array[int]", "array[int]"]:
        """Base offset and log time of each record that one node has shown, in two columns, by offset."""
        numbers = [number for number, holders in enumerate(self._holders) if holders & node_bit]
        numbers.sort(key=self._base_offsets.__getitem__)
        return (
            array("q", (self._base_offsets[number] for number in numbers)),
            array("Q", (self._log_times_ms[number] for number in numbers)),
        )

    def by_key(self) -> Iterator[tuple[bytes, list[Sighting], list[Expectation]]]:
        """Every key that was seen or expected, with all that is known of it."""
        base_offsets, times_ms, holders = self._base_offsets, self._log_times_ms, self._holders
        for seen, expected in zip(self._seen, self._expected, strict=True):
            known: dict[bytes, tuple[list[Sighting], list[Expectation]]] = {}
            for key, digest, record, place in _SEEN.iter_unpack(seen):
                base = base_offsets[record]
                sighting = Sighting(base + place, digest, holders[record], times_ms[record], base)
                known.setdefault(key, ([], []))[0].append(sighting)
            for key, digest, file, line in _EXPECTED.iter_unpack(expected):
                known.setdefault(key, ([], []))[1].append(Expectation(digest, file, line))
            for key, (sightings, expectations) in known.items():
                yield key, sightings, expectations
