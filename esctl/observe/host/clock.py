"""The clocks: the monotonic one, which nodes count by, and the wall clock, which only logs show.

No promise depends on the wall clock; but log lines of several machines are put in order by it, and an
operator reads it. Called by `examination.py`.
"""

import ctypes
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from esctl.clusters import state
from esctl.observe.host.checkresult import CheckResult
from esctl.ui.formatting import duration
from esnode import limits

FAR_OFF_MS: Final = 100.0
"""Log lines of two machines that are this far apart tell a wrong story of an election."""
OLDEST_S: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""No clock that is right shows a time before this program was written."""
_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of adjtimex(2)."""
_SET_CLOCK: Final = "timedatectl set-ntp true"


@dataclass(frozen=True, slots=True)
class Discipline:
    """What the kernel says of its wall clock."""

    synchronised: bool
    error_ms: float
    """It may be off by so much."""


def findings() -> Iterator[CheckResult]:
    """Both clocks."""
    yield monotonic()
    yield wall(time.time(), discipline(), _newest_notes())


def monotonic() -> CheckResult:
    """Fine enough for the timers?"""
    clock = time.get_clock_info("monotonic")
    found = f"{clock.implementation}, resolution {clock.resolution:g} s"
    if clock.monotonic and clock.resolution <= limits.TICK_MS / 1000:
        return CheckResult("monotonic clock", "ok", found)
    return CheckResult("monotonic clock", "bad", found, "the timers need a finer clock")


def wall(now_s: float, kernel: Discipline | None, written_s: Iterable[float]) -> CheckResult:
    """Does the wall clock make sense? `written_s` are times at which files here were written."""
    shown = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    ahead_s = max(written_s, default=0.0) - now_s
    if now_s < OLDEST_S:
        return CheckResult("wall clock", "bad", f"{shown}: that was before this program", _SET_CLOCK)
    if ahead_s > 1.0:
        what = f"{shown}: files here were written {duration(ahead_s)} after that; it has gone back"
        return CheckResult("wall clock", "warning", what, _SET_CLOCK)
    if kernel is None:
        return CheckResult(
            "wall clock", "ok", f"{shown}; this system does not tell whether it is synchronised"
        )
    if not kernel.synchronised:
        what = f"{shown}, not synchronised: logs of several machines may be in a wrong order"
        return CheckResult("wall clock", "warning", what, _SET_CLOCK)
    what = f"{shown}, synchronised, off by {kernel.error_ms:.1f} ms at most"
    if kernel.error_ms > FAR_OFF_MS:
        return CheckResult("wall clock", "warning", what, "chronyc tracking, or: timedatectl timesync-status")
    return CheckResult("wall clock", "ok", what)


def discipline() -> Discipline | None:
    """Ask the kernel, changing nothing (adjtimex(2)); None where there is no such call."""
    if not sys.platform.startswith("linux") or struct.calcsize("l") != 8:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(256)  # larger than the structure; its `modes` are 0: only ask
    if not hasattr(libc, "adjtimex") or libc.adjtimex(timex) < 0:
        return None
    max_error_us, status = struct.unpack_from("l", timex, 24)[0], struct.unpack_from("i", timex, 40)[0]
    return Discipline(not status & _UNSYNCHRONISED, max_error_us / 1000)


def _newest_notes() -> Iterator[float]:
    root = state.clusters_root()
    for path in root.glob("*/*.json") if root.is_dir() else ():
        yield _written(path)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it has just been replaced
        return 0.0
