"""The audit log: who ran which command that changes something, when, and how it ended.

A file of JSON lines for each cluster, beside the clusters so that `destroy` leaves it; each line holds the
SHA-256 of the line before, so that an edit shows. A line is appended and synced before a command acts and
another one after. Holds no event, no path and no secret. Called by `invocation.py` and `esctl audit`.
"""

import fcntl
import json
import os
import pwd
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from esctl.cli.durationoption import METAVAR
from esctl.clusters import jsonlines, state
from esctl.ui.formatting import typed
from esnode.dataclass import dataclass
from esnode.fsync import sync_directory

MACHINE: Final = "_machine"
"""The audit log of what is about no cluster; no cluster can have this name."""
FIRST: Final = "0" * 64
"""What the first line says of the one before it."""
FORMAT: Final = 1
"""Of a line, which says it, as `format`, once it is another."""
_SECRET: Final = re.compile(r"password|secret|token|credential")
PATH_METAVARS: Final = {"FILE", "DIR", "PATH"}
_TAIL_BYTES: Final = 65_536
"""Longer than any line, as `_MOST_LINE` sees to."""
_MOST_LINE: Final = 4_000
"""Characters of what was typed; each may take 12 bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its intent, and its outcome when there is one."""

    run: str
    time: str
    user: str
    host: str
    pid: int
    cluster: str
    command: str
    line: str
    exit_code: int | None = None
    """None when nobody noted how it ended: it was killed, or runs still."""
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """A line that does not follow the one before it."""

    line: int
    """From 1 on."""
    what: str


class AuditLog:
    """The audit log of one cluster."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = root() / f"{name}.jsonl"

    def append(self, record: dict[str, Any]) -> None:
        """Add a line and make it durable. Raises `OSError`, and `NewerState` after one of a newer esctl."""
        fresh = not self.path.exists()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self.path) as descriptor:
            last = _last_line(descriptor)
            state.refuse_newer(self.path, (_parsed(last or b"") or {}).get("format", 1), FORMAT)
            linked = {**record, "prev": _digest(last) if last is not None else FIRST}
            jsonlines.append(descriptor, linked)
            os.fsync(descriptor)
        if fresh:
            sync_directory(self.path.parent)

    def lines(self) -> Iterator[bytes]:
        """Every line, the oldest first, without its end; none when there is no audit log."""
        try:
            with self.path.open("rb") as file:
                for line in file:
                    yield line.removesuffix(b"\n")
        except FileNotFoundError:
            return

    def entries(self) -> list[Entry]:
        """Every command, the oldest first. Lines that are not whole are passed over: `breaks` has them.

        Raises `NewerState`.
        """
        found: dict[str, Entry] = {}
        for line in self.lines():
            record = _parsed(line)
            if record is None:
                continue
            state.refuse_newer(self.path, record.get("format", 1), FORMAT)
            if record.get("what") == "intent":
                found[record["run"]] = _entry(record)
            elif record.get("run") in found:
                found[record["run"]] = _ended(found[record["run"]], record)
        return list(found.values())

    def breaks(self) -> list[Break]:
        """Where a line was changed, added, taken out or not finished; empty when the chain holds.

        Lines taken from the end leave no trace in the file.
        """
        found, before = [], FIRST
        for number, line in enumerate(self.lines(), 1):
            record = _parsed(line)
            if record is None:
                found.append(Break(number, "is not a whole record"))
            elif record.get("prev") != before:
                found.append(Break(number, "does not follow the line before it"))
            before = _digest(line)
        return found


class NotedCommand:
    """A command whose intent is in an audit log, until its outcome is, too."""

    def __init__(self, log: AuditLog, command: str, line: str) -> None:
        """Append the intent. Raises `OSError`."""
        self._log = log
        self._run = os.urandom(4).hex()
        self._begun = time.monotonic()
        intent = {
            "what": "intent",
            "run": self._run,
            "time": now(),
            "user": user(),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "cluster": log.name,
            "command": command,
            "line": line if len(line) <= _MOST_LINE else f"{line[:_MOST_LINE]}...",
        }
        log.append(intent)

    def ended(self, exit_code: int, error: str | None) -> None:
        """Append the outcome. Raises `OSError`."""
        seconds = round(time.monotonic() - self._begun, 3)
        outcome = {"what": "outcome", "run": self._run, "time": now(), "exit_code": exit_code, "error": error}
        self._log.append({**outcome, "seconds": seconds})


def root() -> Path:
    """The directory of all audit logs of this user."""
    return state.clusters_root().parent / "audit"


def names() -> list[str]:
    """The clusters that have an audit log, whether they are there still or not."""
    return sorted(path.stem for path in root().glob("*.jsonl"))


def now() -> str:
    """The wall clock's time, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user() -> str:
    """Who runs this; behind sudo, also who asked for it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    asked = os.environ.get("SUDO_USER")
    return f"{asked} as {name}" if asked and asked != name else name


def spoken(command: str, parameters: Iterable[tuple[Any, Any]], *, paths: bool = False) -> str:
    """The command line in words, from (parameter, value) pairs; secrets are left out, and paths unless asked.

    A parameter is one of click's: it has a name, its spellings (`opts`) and a metavar.
    """
    words = ["esctl", command]
    for parameter, value in parameters:
        option = parameter.param_type_name == "option"
        spelling = [max(parameter.opts, key=len)] if option else []
        if option and parameter.is_flag:
            words += spelling if value is True else [f"--no-{parameter.name.replace('_', '-')}"]
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [*spelling, _shown(parameter, one, paths=paths)]
    return " ".join(words)


def _shown(parameter: Any, value: Any, *, paths: bool) -> str:
    if _SECRET.search(parameter.name):
        return "<secret>"
    if parameter.metavar == METAVAR and isinstance(value, float):
        return typed(value * 1000)
    text = f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))
    is_path = isinstance(value, Path) or parameter.metavar in PATH_METAVARS or os.sep in text
    if is_path and not paths:
        return "<path>"
    name, sign, _ = text.partition("=")
    if sign and _SECRET.search(name.lower()):  # one of several, as --input NAME=VALUE
        return f"{shlex.quote(name)}=<secret>"
    return shlex.quote(text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("run"), str) else None


def _entry(record: dict[str, Any]) -> Entry:
    def text(name: str) -> str:
        return str(record.get(name) or "")

    pid = record.get("pid")
    return Entry(
        text("run"), text("time"), text("user"), text("host"), pid if isinstance(pid, int) else 0,
        text("cluster"), text("command"), text("line"),
    )  # fmt: skip


def _ended(entry: Entry, record: dict[str, Any]) -> Entry:
    code, error, seconds = (record.get(name) for name in ("exit_code", "error", "seconds"))
    return replace(entry, exit_code=code, error=error, seconds=seconds)


def _digest(line: bytes) -> str:
    import hashlib  # loaded late: `--help` must be quick

    return hashlib.sha256(line).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open file, nobody else's meanwhile: two commands never follow the same line."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _last_line(descriptor: int) -> bytes | None:
    """The last line without its end, if it has one; None in an empty file."""
    size = os.fstat(descriptor).st_size
    if not size:
        return None
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return tail.removesuffix(b"\n").rpartition(b"\n")[2]
