"""Errors of the operating system, in words: the path, the reason, and what to type next.

The one place that tells such an error (permissions, disk space, limits, a missing directory) from a bug. A
declared error that was raised from an `OSError`, and names no better next step, gets the one from here.
Called by `esctl/cli/invocation.py` and `main.py`, for every command.
"""

import errno
import os
import pwd
import re
from pathlib import Path
from typing import Final

from esctl.errors import InvalidArgument, MachineRefused
from esctl.ui.escape import line, quoted
from esnode.errors import EventStreamError

_DENIED: Final = (errno.EACCES, errno.EPERM)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SPENT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_OF_THE_MACHINE: Final = (*_DENIED, *_FULL, *_SPENT, errno.EROFS, errno.EIO)
"""Never a bug, even where no path is known."""
_ELSEWHERE: Final = "set XDG_STATE_HOME to a directory that can be written, then run it again"


KINDS: Final = (OSError, UnicodeEncodeError)
"""What may be a refusal: of the machine, or of a path or a name that is bytes and no text."""


def declared(error: OSError | UnicodeEncodeError) -> EventStreamError | None:
    """The refusal; None for an error that no machine explains, such as a descriptor that is not open."""
    if isinstance(error, UnicodeEncodeError):
        return _no_text(error)
    path = path_of(error)
    if path is None and error.errno == errno.ENOENT and not _stands_somewhere():
        return MachineRefused("the working directory was removed", next_step="cd; then run it again")
    if path is None and error.errno not in _OF_THE_MACHINE:
        return None
    where = f"{path} cannot be used: " if path is not None else ""
    return MachineRefused(f"{where}{error.strerror}", next_step=next_step(error) or MachineRefused.next_step)


def check_text(path: Path) -> None:
    """Raise `InvalidArgument` for a path that is bytes and no text: no configuration can hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise _no_text(error) or error from None


def with_next_step(error: EventStreamError) -> EventStreamError:
    """The same error; where an `OSError` is behind it, with the step that helps against that."""
    cause = error.__cause__
    if isinstance(cause, OSError) and error.next_step == type(error).next_step:
        error.next_step = next_step(cause) or error.next_step
    return error


def next_step(error: OSError) -> str:
    """What helps; empty when that depends on what was to be done."""
    path = path_of(error)
    nearest = _nearest(path) if path is not None else None
    if error.errno in _DENIED and nearest is not None:
        return _of_denied(nearest)
    if error.errno in _FULL:
        return f"make room: df -h {quoted(nearest or '.')}; then run it again"
    if error.errno == errno.EROFS:
        return _ELSEWHERE
    if error.errno in _SPENT:
        return "see what is used up: ulimit -a; free -m; then run it again"
    return ""


def path_of(error: OSError) -> str | None:
    """The path that the error is about, as text."""
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None


def home() -> Path:
    """The home directory. Raises `MachineRefused` when the machine knows none for this user."""
    named = os.environ.get("HOME")
    if named:
        return Path(named)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise MachineRefused(
            f"user {os.getuid()} has no home directory, and HOME is not set",
            next_step="set HOME, or XDG_STATE_HOME and XDG_CONFIG_HOME, to directories of your own",
        ) from None


def _no_text(error: UnicodeEncodeError) -> EventStreamError | None:
    if not any("\udc80" <= each <= "\udcff" for each in error.object[error.start : error.end]):
        return None
    words = [
        word for word in re.split(r"[\s\"]", error.object) if "\udc80" <= max(word, default="") <= "\udcff"
    ]
    return InvalidArgument(
        f"{line(words[0])} is not UTF-8, which configurations and messages have to be",
        next_step="give it a name in UTF-8",
    )


def _of_denied(nearest: Path) -> str:
    try:
        owner = nearest.stat().st_uid
    except OSError:
        return f"ls -ld {quoted(nearest)}"
    if owner == os.geteuid():
        return f"chmod u+rwX {quoted(nearest)}; then run it again"
    return f"sudo chown -R {os.geteuid()} {quoted(nearest)}, if these files are yours; then run it again"


def _nearest(path: str) -> Path | None:
    """The path, or the nearest directory above it that is there."""
    return next((each for each in (Path(path), *Path(path).parents) if os.path.lexists(each)), None)


def _stands_somewhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
