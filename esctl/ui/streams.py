"""The three standard streams of `esctl`: what is written arrives whole, or the command ends with an error.

A pipe that is full, blocking or not, is waited for. A reader that leaves ends what is printed and nothing
else; any other failure is kept for the end of the command. A stream that was closed before the start leads
nowhere, so that no file or socket takes its number. Installed by `main.py`; knows no colour and no table.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import IO, TYPE_CHECKING, Final

from esctl.errors import InputUnreadable
from esctl.ui.escape import in_ascii

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_LEFT: Final = (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN)
CLOSED: Final = OSError(errno.EBADF, "it was closed before the command began")
ESCAPED: Final = "esctl.escaped"
"""The handler of characters that a stream's encoding does not have."""


class ReaderLeft(Exception):  # no error: `head` has seen enough
    """Nobody reads standard output any more: a command whose work is what it prints ends here."""


class _Writer(io.RawIOBase):
    """A descriptor that is written to until it cannot be."""

    def __init__(self, descriptor: int, *, closed: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_terminal = not closed and os.isatty(descriptor)  # one that hung up says no
        self._was_closed = closed
        self.failure: OSError | None = None
        """Why nothing arrives any more; None while it does."""

    @property
    def reader_left(self) -> bool:
        """Is the failure that somebody, or a terminal, went away?"""
        if self.failure is None:
            return False
        gone = self.failure.errno == errno.EIO and self._is_terminal
        return gone or self.failure.errno in _LEFT

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, data: "ReadableBuffer", /) -> int:
        """Some of `data`, at least a byte; after a failure all of it, into nothing."""
        if self._was_closed and self.failure is None:
            self.failure = CLOSED
        while self.failure is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                _wait(self._descriptor, select.POLLOUT)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


class OutputStream(io.TextIOWrapper):
    """Text for a descriptor, in an encoding that need not have every character. Writing never raises."""

    def __init__(self, descriptor: int, encoding: str, *, closed: bool = False) -> None:
        self._writer = _Writer(descriptor, closed=closed)
        super().__init__(
            io.BufferedWriter(self._writer), encoding, ESCAPED, line_buffering=self._writer.isatty()
        )

    @property
    def failure(self) -> OSError | None:
        """Why what was written did not arrive, or None; what is still in the buffer is not known yet."""
        return self._writer.failure

    @property
    def reader_left(self) -> bool:
        """Did the reader go away?"""
        return self._writer.reader_left


class _Reader(io.RawIOBase):
    """A descriptor that is read from; one that has nothing yet is waited for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        room = memoryview(buffer).cast("B")
        data = read(self._descriptor, len(room))
        room[: len(data)] = data
        return len(data)


class ClosedInput(io.StringIO):
    """Standard input that was closed before the command began: no terminal, and nothing to read."""


def install() -> None:
    """Take the process's streams over, once, before anything is printed or opened."""
    closed = {number for number in (0, 1, 2) if _take_if_closed(number)}
    encodings = [
        getattr(stream, "encoding", None) or "utf-8" for stream in (sys.stdin, sys.stdout, sys.stderr)
    ]
    sys.stdout = OutputStream(1, encodings[1], closed=1 in closed)
    sys.stderr = OutputStream(2, encodings[2], closed=2 in closed)
    reader = io.TextIOWrapper(io.BufferedReader(_Reader(0)), encodings[0], "surrogateescape")
    sys.stdin = ClosedInput() if 0 in closed else reader


def standard_input() -> int:
    """The descriptor of standard input; raises `InputUnreadable` when there is none."""
    if isinstance(sys.stdin, ClosedInput):
        raise InputUnreadable("standard input is closed: there is nothing to read")
    return sys.stdin.fileno()


def read(descriptor: int, size: int) -> bytes:
    """What is there, at most `size` bytes; waits for the first one; empty at the end. Raises `OSError`."""
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            _wait(descriptor, select.POLLIN)


def failure_of(stream: IO[str]) -> OSError | None:
    """Why not all of what was written to `stream` arrived; None if it did, or its reader left."""
    stream.flush()
    if not isinstance(stream, OutputStream) or stream.reader_left:
        return None
    return stream.failure


def nobody_reads(stream: IO[str]) -> bool:
    """Is it of no use to write more to `stream`?"""
    return isinstance(stream, OutputStream) and stream.failure is not None


def _take_if_closed(number: int) -> bool:
    """Let a closed standard descriptor lead nowhere; was it closed?"""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        return True
    return False


def _wait(descriptor: int, event: int) -> None:
    waiting = select.poll()
    waiting.register(descriptor, event)
    waiting.poll()


def _escaped_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return in_ascii(error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPED, _escaped_characters)
