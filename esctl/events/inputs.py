"""Where events come from: a file, a pipe, or standard input, read as it comes.

Decides nothing about the content. A read returns what is there, so that a slow pipe is passed on at once;
it runs in a thread that may be left behind, since nothing can interrupt a read. Called by the commands
that take a FILE.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from esctl.errors import InputUnreadable
from esctl.events.ndjson import LineCounter
from esctl.ui import streams

STANDARD_INPUT: Final = "-"
CHUNK_BYTES: Final = 64 * 1024
SAMPLE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EventInput:
    """An open input. `size_bytes` is None where nobody knows it before the end."""

    name: str
    descriptor: int
    size_bytes: int | None

    async def read(self) -> bytes:
        """What is there, at least a byte; empty at the end. Raises `InputUnreadable`."""
        return await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)

    async def again(self) -> "EventInput":
        """The same input from its start: kept in an unnamed file where it can be read only once.

        To be called before anything is read. The file goes with the process.
        """
        if self.size_bytes is not None:
            return self
        kept = await trio.to_thread.run_sync(self._keep, abandon_on_cancel=True)
        return EventInput(self.name, kept, os.fstat(kept).st_size)

    def rewind(self) -> None:
        """Start over; for an input of a known size."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)

    def estimated_lines(self) -> int | None:
        """How many lines there are, exactly for a small file and about for a large one; None for a pipe.

        Looks at the first `SAMPLE_BYTES` and leaves the input at its start.
        """
        if not self.size_bytes:
            return None
        reader, sample_bytes, lines = LineCounter(), 0, 0
        while sample_bytes < SAMPLE_BYTES and (data := self._read()):
            sample_bytes += len(data)
            lines += reader.feed(data)
        self.rewind()
        return round(lines * max(1.0, self.size_bytes / sample_bytes)) or None

    def _read(self) -> bytes:
        try:
            return streams.read(self.descriptor, CHUNK_BYTES)
        except OSError as error:
            raise InputUnreadable(f"{self.name} cannot be read: {error.strerror}") from error

    def _keep(self) -> int:
        with tempfile.TemporaryFile() as file:
            while data := self._read():
                file.write(data)
            file.flush()
            file.seek(0)
            return os.dup(file.fileno())


@contextmanager
def open_input(path: str) -> Iterator[EventInput]:
    """The file `path`, or standard input for `-`; raises `InputUnreadable`."""
    if path == STANDARD_INPUT:
        yield _input("standard input", streams.standard_input())
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise InputUnreadable(f"{path} is a directory, not a file of events")
        yield _input(path, descriptor)
    finally:
        os.close(descriptor)


def _input(name: str, descriptor: int) -> EventInput:
    facts = os.fstat(descriptor)
    return EventInput(name, descriptor, facts.st_size if stat.S_ISREG(facts.st_mode) else None)
