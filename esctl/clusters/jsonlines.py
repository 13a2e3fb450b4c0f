"""Files of JSON lines: one object a line, written whole or not at all, read up to the last line's end.

A line that a crash or a full disk cut short was never promised: a reader leaves it out, and the next line
does not join it. Never looks at what a line says. Called by the audit log, the ledgers, the journal of runs.
"""

import json
import os
from pathlib import Path
from typing import Any


def line_of(record: Any) -> bytes:
    """The line of `record`, with its end."""
    return json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"


def append(descriptor: int, record: Any) -> None:
    """Add a line to a file that is open for reading and appending, or leave the file as it is.

    Raises `OSError`.
    """
    end, data = os.lseek(descriptor, 0, os.SEEK_END), line_of(record)
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        data = b"\n" + data  # the line before was cut short, and stays as it is
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def read(path: Path) -> bytes:
    """All lines that have their end; nothing where there is no file. Raises `OSError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]
