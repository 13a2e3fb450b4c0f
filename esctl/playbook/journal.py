"""A run of a playbook on the disk: its directory, and the journal that says what happened, line by line.

`$XDG_STATE_HOME/esctl/runs/ID/` holds `playbook.toml` (the text), `playbook.json` (as it was read),
`journal.jsonl` and `loads/`. A line of the journal is one JSON object: `n` counts from 0, `at` is seconds
since 1970, `event` names one of those in `progress.py`. It is on the disk before `write` returns, so that an
intent is there before its step acts. A last line without its end was never promised and is ignored.
Decides nothing about steps. Called by the run, `resume`, `abort` and `report`.
"""

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from esctl.clusters import jsonlines, state
from esctl.errors import MachineRefused
from esctl.playbookerrors import RunNotFound, RunUnderWay, RunUnreadable
from esnode.fsync import sync_directory

JOURNAL: Final = "journal.jsonl"
FORMAT: Final = 1
"""Of a run's directory: the first line of its journal says it, as `format`, once it is another."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
Event = Mapping[str, Any]
LOOK_S: Final = 0.2
"""Longer than `is_driven` holds the lock."""


def runs_root() -> Path:
    """The directory of all runs of this user."""
    return state.clusters_root().parent / "runs"


def new_id(playbook: str) -> str:
    """Sorts by time within a playbook, and is never given twice."""
    return f"{playbook}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_ids() -> list[str]:
    """Every run there is, the newest first; one that was cut off before its first line never began."""
    journals = runs_root().glob(f"*/{JOURNAL}")
    found = [path for path in journals if not path.parent.is_symlink() and path.stat().st_size]
    return [path.parent.name for path in sorted(found, key=_begun, reverse=True)]


def find(run: str | None) -> Path:
    """The directory of the run `run`, or of the newest one; raises `RunNotFound`."""
    known = run_ids()
    if run is None and known:
        return runs_root() / known[0]
    if run is None:
        raise RunNotFound("no playbook was run yet", next_step="esctl playbook ls")
    if not _ID.fullmatch(run) or run not in known:
        raise RunNotFound(f"there is no run {run}")
    return runs_root() / run


class Journal:
    """Appends to the journal of one run, and holds its lock until it is closed: one process drives a run.

    Raises `RunUnderWay` when another one does, `NewerState` (nothing is changed then), `MachineRefused`.
    """

    def __init__(self, directory: Path) -> None:
        state.make_directory(directory)
        self.directory = directory
        self._path = directory / JOURNAL
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(self._path, flags, 0o600)
            _lock(self._file, directory)
            kept = jsonlines.read(self._path)
            _refuse_newer(self._path, kept)
            self._next = kept.count(b"\n")
            os.ftruncate(self._file, len(kept))  # what follows a torn line would be torn with it
            sync_directory(directory)
        except OSError as error:
            raise MachineRefused(f"{self._path} cannot be written: {error.strerror}") from error

    def write(self, event: str, **facts: Any) -> Event:
        """Append one line; it is on the disk when this returns. Raises `MachineRefused`."""
        line = {"n": self._next, "at": round(time.time(), 3), "event": event, **facts}
        try:
            jsonlines.append(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            raise MachineRefused(f"{self._path} cannot be written: {error.strerror}") from error
        self._next += 1
        return line

    def close(self) -> None:
        """Nothing more is written."""
        os.close(self._file)


def read(directory: Path) -> list[Event]:
    """Every whole line of a run's journal; raises `RunUnreadable`, `NewerState`."""
    path = directory / JOURNAL
    events: list[Event] = []
    try:
        kept = jsonlines.read(path)
        _refuse_newer(path, kept)
        for number, line in enumerate(kept.splitlines()):
            event = json.loads(line)
            if event["n"] != number or not isinstance(event["event"], str):
                raise ValueError(f"line {number + 1} is not the event {number}")
            events.append(event)
    except OSError as error:
        raise RunUnreadable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RunUnreadable(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    if not events:
        raise RunUnreadable(f"{path} says nothing: the run was cut off before it began")
    return events


def _refuse_newer(path: Path, lines: bytes) -> None:
    with suppress(ValueError, AttributeError):  # what is no event is for whoever reads it
        first = json.loads(lines.partition(b"\n")[0]) if lines else {}
        state.refuse_newer(path, first.get("format", 1), FORMAT)


@contextmanager
def holding(cluster: str, what: str) -> Iterator[None]:
    """Hold the lock "one playbook at a time on this cluster"; raises `RunUnderWay` at once when it is held.

    It is not the lock of those who start and stop nodes: the commands of the steps take that one. It goes
    with the process that holds it, whatever ends it.
    """
    state.check_name(cluster)
    directory = runs_root() / ".locks"
    state.make_directory(directory)
    with (directory / cluster).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunUnderWay(f"a playbook is under way on {cluster}: {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"{what}, process {os.getpid()}\n")
        file.flush()
        yield


def is_driven(directory: Path) -> bool:
    """Is there a process that drives this run?"""
    try:
        file = os.open(directory / JOURNAL, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two who look on do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock(file: int, directory: Path) -> None:
    """Hold it alone; one who only looks whether the run is driven is waited for."""
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RunUnderWay(f"the run {directory.name} is under way in another process") from None
        else:
            return
        time.sleep(LOOK_S / 20)  # nothing tells when a lock is free, but to wait without end


def _begun(path: Path) -> float:
    """When the run of this journal began, as far as its first line tells."""
    with path.open("rb") as file:
        try:
            return float(json.loads(file.readline())["at"])
        except (ValueError, TypeError, KeyError):
            return 0.0
