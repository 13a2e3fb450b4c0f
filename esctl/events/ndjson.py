"""Events in a file: one JSON object a line (NDJSON), plain or gzip, whatever the file is called.

Decides what is a line, which lines are events, and why the others are not. Sans-IO: bytes go in as they
come, events and bad lines come out, in order; memory is bounded by the longest line allowed. Never reads
a file and never stops at a bad line. Called by `esctl produce`, the demo and the verifier.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from esctl.events.decoding import MAX_LINE_BYTES, decode
from esctl.events.shape import InputShape
from esnode import limits
from esnode.dedup.batch import Batch
from esnode.errors import EventStreamError, InvalidEvent
from esnode.events import encode_event, key_of, pack

PIECE_BYTES: Final = 1 * limits.MIB
"""Most that is unpacked at once: a small file may hold a large one."""
MAX_BATCH_BYTES: Final = limits.MAX_APPEND_BYTES
"""A batch is closed before its events reach this, as long as there is more than one."""
_GZIP: Final = b"\x1f\x8b"
_PADDING: Final = b"\0 \t\r\n"
"""What may stand between members of gzip and after the last, as tapes and editors leave it."""
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class GoodLine:
    """An event that can be sent. `encoded` and `key` are what goes into a batch."""

    number: int
    encoded: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event, or an input that ends too early, and why. `code` is that of the error."""

    number: int
    code: str
    reason: str
    again: bool = False
    """Another line of a value that has been told of: it counts, and is not told."""
    of_the_end: bool = False
    """It stands for what is not there, or could not be read, after the line."""

    def __str__(self) -> str:
        return f"line {self.number}: {self.code} {self.reason}"


Line = GoodLine | BadLine


class EventReader:
    """Bytes of an input -> its lines, numbered from 1. Blank lines are passed over, and counted."""

    def __init__(self) -> None:
        self._unpacker = _Unpacker()
        self._number = 1
        self._parts: list[bytes] = []
        self._length = 0
        self._shape = InputShape()
        self._told: set[str] = set()

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that end within `data`. To be used up before the next call."""
        for piece in self._unpacker.feed(data):
            yield from self._lines(piece)

    def end(self) -> Iterator[Line]:
        """The last line, when nothing ends it; and what is wrong with the end of the input."""
        yield from self._lines(self._unpacker.rest())
        trouble = self._unpacker.trouble()
        # A line that was torn is never a whole object, so a good one can be taken even then.
        last = [*self._line(self._take()), *map(self._judged, self._shape.end())]
        yield from (line for line in last if not trouble or isinstance(line, GoodLine))
        if trouble:
            yield BadLine(self._number, InvalidEvent.code, trouble, of_the_end=True)

    def _lines(self, data: bytes) -> Iterator[Line]:
        first, *rest = data.split(b"\n")
        self._keep(first)
        for following in rest:
            yield from self._line(self._take())
            self._number += 1
            self._keep(following)

    def _keep(self, part: bytes) -> None:
        """Add to the line that is not whole yet, up to one byte over the limit."""
        room = MAX_LINE_BYTES + 1 - self._length
        if part and room > 0:
            self._parts.append(part[:room])
            self._length += len(self._parts[-1])

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts, self._length = [], 0
        return line

    def _line(self, line: bytes) -> Iterator[Line]:
        if self._number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            return
        if not self._shape.foreign and isinstance(good := parse(self._number, line), GoodLine):
            yield from map(self._judged, self._shape.pass_over())
            yield good
        else:
            yield from map(self._judged, self._shape.lines(self._number, line))

    def _judged(self, found: tuple[int, bytes, str]) -> Line:
        number, line, part_of = found
        if not part_of:
            return parse(number, line)
        again = part_of in self._told
        self._told.add(part_of)
        return BadLine(number, InvalidEvent.code, part_of, again)


class LineCounter:
    """Counts lines without a look at what is in them."""

    def __init__(self) -> None:
        self._unpacker = _Unpacker()

    def feed(self, data: bytes) -> int:
        """How many lines end within `data`."""
        return sum(piece.count(b"\n") for piece in self._unpacker.feed(data))


def parse(number: int, line: bytes) -> Line:
    """One line of an input, not blank."""
    try:
        event = decode(line)
        return GoodLine(number, encode_event(event), key_of(event))
    except EventStreamError as error:
        return BadLine(number, error.code, str(error))


class BatchMaker:
    """Good lines -> batches of so many events, or fewer when they are large."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._keys: list[bytes] = []
        self._encoded: list[bytes] = []
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """Events that are not in a batch yet."""
        return len(self._keys)

    def add(self, line: GoodLine) -> Iterator[Batch]:
        """Take an event in; the batches that are full now."""
        if self._keys and self._bytes + len(line.encoded) > MAX_BATCH_BYTES:
            yield self.take()
        self._keys.append(line.key)
        self._encoded.append(line.encoded)
        self._bytes += len(line.encoded)
        if len(self._keys) == self._events:
            yield self.take()

    def take(self) -> Batch:
        """The events that wait, as a batch. There must be one."""
        batch = pack(self._keys, self._encoded)
        self._keys, self._encoded, self._bytes = [], [], 0
        return batch


class _Unpacker:
    """Bytes as they are stored -> bytes of text: its first two bytes tell gzip from plain text."""

    def __init__(self) -> None:
        self._gunzip: _Gunzip | None = None
        self._head = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._begun:
            self._head += data
            if len(self._head) < len(_GZIP):
                return
            data, self._head, self._begun = self._head, b"", True
            if data.startswith(_GZIP):
                self._gunzip = _Gunzip()
        if self._gunzip is None:
            yield data
        else:
            yield from self._gunzip.feed(data)

    def rest(self) -> bytes:
        """What was too short to tell."""
        return self._head

    def trouble(self) -> str:
        """What is wrong with the whole; empty when nothing is."""
        return self._gunzip.trouble() if self._gunzip is not None else ""


class _Gunzip:
    """Unpacks gzip, of several members too, a bounded piece at a time. Stops at the first damage."""

    def __init__(self) -> None:
        self._member = _new_member()
        self._after_a_member = False
        self._trouble = ""

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more and not self._trouble:
            if self._member.eof:
                data = data.lstrip(_PADDING)
                if not data:
                    return
                self._member, self._after_a_member = _new_member(), True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                self._trouble = f"the gzip data are damaged from here on: {error}"
                if self._after_a_member:
                    self._trouble = "what follows the end of the gzip data is no gzip, and was not read"
                return
            self._after_a_member &= not piece
            yield piece
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            more = bool(data) or len(piece) == PIECE_BYTES  # a full piece may have more behind it

    def trouble(self) -> str:
        """What is wrong with the whole; empty when nothing is."""
        if self._trouble or self._member.eof:
            return self._trouble
        return "the gzip data end too early: the rest of the input is missing"


def _new_member() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
