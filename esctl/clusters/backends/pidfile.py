"""Notes of processes that were started, and what the operating system says of a process.

A note holds the pid, when that process started, and in which boot; a process that does not match all three
is not touched: a pid alone may meanwhile be somebody else's. A load is found by its note. A node is not (see
`nodeprocess.py`): its note only remembers whether somebody has told it to end. Called by the backends, the
doctor, `why` and the background loads.
"""

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from esctl.clusters.state import write_atomically
from esnode.dataclass import dataclass

_PROC: Final = Path("/proc")
_ENDING: Final = "ending\n"
"""The second line of a note, once its process was told to end."""


@dataclass(frozen=True, slots=True)
class ProcessNote:
    """What is known of a started process. `start_ticks` and `boot` are empty where there is no /proc."""

    pid: int
    start_ticks: int
    boot: str
    marker: str
    """A text that the process's command line holds: the path of its configuration."""
    ending: bool = False
    """It was told to end, and may take its time."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What the operating system says of a live process."""

    state: str
    """The letter of /proc/PID/stat: T is stopped, Z has ended."""
    start_ticks: int


def take_note(path: Path, pid: int, marker: str) -> ProcessNote:
    """Remember the process `pid`, which has just been started."""
    facts = facts_of(pid)
    note = ProcessNote(pid, facts.start_ticks if facts else 0, boot_id(), marker)
    write_atomically(path, json.dumps(asdict(note)) + "\n")
    return note


def read_note(path: Path) -> ProcessNote | None:
    """The note at `path`; None when there is none or it is not one."""
    try:
        text, _, mark = path.read_text(encoding="utf-8").partition("\n")
        return replace(ProcessNote(**json.loads(text)), ending=mark == _ENDING)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def mark_ending(path: Path, pid: int, ending: bool) -> None:
    """Remember that the noted process `pid` is about to be told to end, or that it could not be told."""
    note = read_note(path)
    if note is None or note.pid != pid or note.ending is ending:
        return
    # Not synced: the signal must not wait for a disk that the nodes are waiting for, too.
    with suppress(OSError), path.open("r+", encoding="utf-8") as file:
        file.readline()
        file.seek(file.tell())
        file.write(_ENDING * ending)
        file.truncate()


def live(note: ProcessNote | None) -> ProcessFacts | None:
    """The facts of the noted process if it is alive and still the same one."""
    if note is None:
        return None
    reap(note.pid)
    if not (_PROC / "self" / "stat").exists():
        return _live_without_proc(note)
    facts = facts_of(note.pid)
    if facts is None or facts.state in "ZX":
        return None
    if note.boot != boot_id() or note.start_ticks != facts.start_ticks:
        return None
    return facts if note.marker in command_line(note.pid) else None


def is_dying(note: ProcessNote) -> bool:
    """Whether the noted process has been killed or has ended, and may still hold a port: its memory and with
    it its command line go first, its files and sockets after that."""
    facts = facts_of(note.pid)
    if facts is None or note.boot != boot_id() or note.start_ticks != facts.start_ticks:
        return False
    return facts.state in "ZX" or not command_line(note.pid)


def send(note: ProcessNote, number: signal.Signals) -> bool:
    """Send a signal to the noted process; False when it is gone."""
    try:
        descriptor = os.pidfd_open(note.pid)
    except ProcessLookupError:
        return False
    try:
        if live(note) is None:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def reap(pid: int) -> int | None:
    """Collect the exit code if the process is a child of ours and has ended: it must not stay a zombie.

    Minus the signal's number if one ended it; None when it lives or an earlier esctl started it.
    """
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def facts_of(pid: int) -> ProcessFacts | None:
    """Read /proc/PID/stat; None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = text.rpartition(")")[2].split()  # the name may hold anything, blanks and brackets too
    return ProcessFacts(after_name[0], int(after_name[19]))


def words_of(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone, and for a moment while it is being started."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")] if raw else []


def command_line(pid: int) -> str:
    """The same, its words joined by blanks."""
    return " ".join(words_of(pid))


def rss_bytes(pid: int) -> int | None:
    """Resident memory of a process; None when it is gone or there is no /proc."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def uptime_s(facts: ProcessFacts) -> float | None:
    """For how long the process has lived."""
    try:
        machine_s = float((_PROC / "uptime").read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return None
    return max(0.0, machine_s - facts.start_ticks / os.sysconf("SC_CLK_TCK"))


def boot_id() -> str:
    """Start times count from the boot, so they tell processes apart only within one."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _live_without_proc(note: ProcessNote) -> ProcessFacts | None:
    listing = subprocess.run(  # noqa: S603  # no shell, and the pid is a number
        ["ps", "-o", "state=,command=", "-p", str(note.pid)],  # noqa: S607  # found by PATH
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, words = listing.stdout.strip().partition(" ")
    if listing.returncode != 0 or state.startswith("Z") or note.marker not in words:
        return None
    return ProcessFacts(state[:1], 0)
