"""The logs of nodes: JSON lines, one file a node, merged by time.

Reads what `esnode` writes: `time` (RFC 3339, UTC), `level`, `node`, `event`, then anything. A line that is
no JSON, such as a traceback, belongs to the line before it. Called by `esctl logs` and the backends.
"""

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from esnode.config import LOG_LEVELS

RAW: Final = "raw"
"""The event of a line that was no JSON object."""
MAX_TAIL_BYTES: Final = 64 * 1024
NEAR_BYTES: Final = 64 * 1024
"""A line that is known to be within so much is looked for line by line."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one node's log."""

    time: str
    node: int
    level: str
    event: str
    fields: dict[str, Any]
    """Everything, as it was written."""

    @property
    def details(self) -> str:
        """The fields that have no column of their own, as `name=value`."""
        hidden = ("time", "level", "node", "event")
        return " ".join(f"{name}={_word(value)}" for name, value in self.fields.items() if name not in hidden)

    @property
    def text(self) -> str:
        """What happened, in the words that people see: the event and its details, or the raw text."""
        return str(self.fields["text"]) if self.event == RAW else f"{self.event} {self.details}".rstrip()


def parse(line: str, node: int, time_before: str = "") -> LogLine:
    """One line; `time_before` is that of the line before it, which a line without a time takes."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        text = line.rstrip("\n")
        raw = {"time": time_before, "level": "error", "node": node, "event": RAW, "text": text}
        return LogLine(time_before, node, "error", RAW, raw)
    return LogLine(
        time=str(fields.get("time", time_before)),
        node=node,
        level=str(fields.get("level", "info")),
        event=str(fields.get("event", "")),
        fields=fields,
    )


def whole(value: object) -> int | None:
    """`value` if it is a whole number of a size that such numbers have."""
    return value if type(value) is int and abs(value) < 2**63 else None


def read(
    path: Path, node: int, start: int = 0, end: int | None = None, without: str = ""
) -> Iterator[LogLine]:
    """The lines of a file from byte `start` to `end`; nothing when there is no file yet.

    Lines of the event `without`, as nodes write them, are passed over before they are taken apart. A file
    that is cut or moved away meanwhile only ends early.
    """
    time = ""
    passed_over = f'"event": "{without}"'.encode() if without else None
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        while (end is None or file.tell() < end) and (raw := file.readline()):
            if passed_over is not None and passed_over in raw:
                continue
            line = parse(raw.decode(errors="replace"), node, time)
            time = line.time
            yield line


def find(path: Path, time: str, end: int | None = None) -> int:
    """The byte where the first line begins that is of `time` or later, before `end`; `end` when none is.

    Reads a few pages however long the file is: its lines are taken to be in the order of time. Where a clock
    was set back they are not, and what was written then may be missed. Lines without a time go with the line
    before them.
    """
    limit = size(path) if end is None else min(end, size(path))
    with suppress(FileNotFoundError), path.open("rb") as file:
        low, high = 0, limit
        # What begins before `low` is earlier, and `low` begins a line; from `high` on, nothing is earlier.
        while high - low > NEAR_BYTES:
            middle = (low + high) // 2
            begin, known = next(_timed(file, middle, high), (0, ""))
            if known and known < time:
                low = begin
            else:
                high = middle
        return next((begin for begin, known in _timed(file, low, limit) if known >= time), limit)
    return 0


def between(path: Path, node: int, since: str, until: str, end: int | None = None) -> Iterator[LogLine]:
    """The lines from one time to another, as far as they are before byte `end`; an empty time is no bound."""
    start = find(path, since, end) if since else 0
    return read(path, node, start, find(path, until, end) if until else end)


def backwards(path: Path, node: int, end: int, containing: bytes = b"") -> Iterator[LogLine]:
    """The whole lines before byte `end` with these bytes in them, the last one first.

    A line without a time has none here. A last line without its end is one that is being written.
    """
    rest = b""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while end > 0:
            begin = max(0, end - NEAR_BYTES)
            file.seek(begin)
            first, *lines = (file.read(end - begin) + rest).split(b"\n")
            for raw in reversed(lines):
                if raw and containing in raw:
                    yield parse(raw.decode(errors="replace"), node)
            rest, end = first, begin
        if rest and containing in rest:
            yield parse(rest.decode(errors="replace"), node)


def merge(logs: Iterable[Iterator[LogLine]]) -> Iterator[LogLine]:
    """All lines of several logs, by time; lines of one node keep their order."""
    return heapq.merge(*logs, key=lambda line: line.time)


def at_least(level: str, line: LogLine) -> bool:
    """Is the line of this level or a graver one? Unknown levels always are."""
    return line.level not in LOG_LEVELS or LOG_LEVELS.index(line.level) >= LOG_LEVELS.index(level)


class Follower:
    """Reads what is appended to one node's log, whole lines only.

    A log that was cut, or put aside for a new one, is read from its beginning.
    """

    def __init__(self, path: Path, node: int, start: int) -> None:
        self._path, self._node, self._position = path, node, start
        self._time = ""
        self._file_number = _file_number(path)

    def new_lines(self) -> list[LogLine]:
        """What has come since the last call."""
        number = _file_number(self._path)
        if number is None:
            return []
        if number != self._file_number or size(self._path) < self._position:
            self._file_number, self._position = number, 0
        if size(self._path) <= self._position:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        lines: list[LogLine] = []
        for text in whole.decode(errors="replace").splitlines():
            lines.append(parse(text, self._node, self._time))
            self._time = lines[-1].time
        return lines


def size(path: Path) -> int:
    """The length of a log in bytes; 0 when there is none yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, count: int, start: int = 0) -> str:
    """The last `count` lines after byte `start`, for people, indented."""
    lines = list(read(path, 0, max(start, size(path) - MAX_TAIL_BYTES)))[-count:]
    shown = [
        line.fields["text"] if line.event == RAW else f"{line.level} {line.event} {line.details}"
        for line in lines
    ]
    return "\n".join(f"    {text}" for text in shown) or "    (the log is empty)"


def next_step(path: Path, start: int) -> str:
    """What the node itself said should be done next, in its last words; empty when it said nothing."""
    for line in reversed(list(read(path, 0, max(start, size(path) - MAX_TAIL_BYTES)))):
        if line.fields.get("next"):
            return str(line.fields["next"])
    return ""


def last_line(path: Path, node: int, max_bytes: int, partition: int | None = None) -> LogLine | None:
    """The last line of a node's log, or of its process for `partition`, if it is in the last `max_bytes`."""
    lines = read(path, node, max(0, size(path) - max_bytes))
    theirs = [line for line in lines if partition is None or line.fields.get("partition") == partition]
    # That such a process has ended is said by its supervisor, with the number of the partition.
    said = [line for line in theirs if line.event not in ("partition_ended", "partition_started")]
    return said[-1] if said else None


def last_error(path: Path, partition: int | None = None) -> str:
    """Code and reason, where a node's last line is that it ended with an error; empty where it is not.

    With a `partition`, the last line of its process.
    """
    last = last_line(path, 0, MAX_TAIL_BYTES, partition)
    if last is None or last.event != "node_failed":
        return ""
    return f"{last.fields.get('code', '')}: {last.fields.get('reason', '')}"


def _timed(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, str]]:
    """Where lines begin that say their time, and what they say, from byte `start` to `end`."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()  # the line that `start` is in, or the end of the line before it
    while (begin := file.tell()) < end and (raw := file.readline()):
        time = parse(raw.decode(errors="replace"), 0).time
        if time:
            yield begin, time


def _file_number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if " " in text or not text else text
