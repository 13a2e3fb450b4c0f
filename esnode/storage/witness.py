"""A witness of how far a log has been written that a restore over the same files leaves in place.

A copy that is restored over the files of a directory (`cp -a old/. node-2/`) keeps their inodes, and sets
the log and the durable mark back. It does not remove files that it does not have. So the name of an empty
file beside the log holds the number of a durable write. It is renewed with the first write of each process,
every second while there are more, and at the end. Never synced by itself, never ahead of the log.
Called by `directory`.
"""

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"written-(\d{1,20})")
EVERY_S: Final = 1.0
_KEPT: Final = 2
"""Names that are left: whoever copies the directory of a node that runs finds those that it has listed."""


class Witness:
    """The names in one directory."""

    def __init__(self, path: Path) -> None:
        # By the directory that was opened: another one that takes its place has another log.
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._numbers = sorted(
            int(found[1]) for each in path.iterdir() if (found := NAME.fullmatch(each.name))
        )
        self._due = 0.0

    @property
    def number(self) -> int:
        """The greatest write that was durable here, as far as the names tell; 0 without any."""
        return self._numbers[-1] if self._numbers else 0

    def note(self, number: int, *, at_once: bool = False) -> None:
        """Write `number` is durable. A disk without room for a name says so elsewhere."""
        now = time.monotonic()
        if number <= self.number or (now < self._due and not at_once):
            return
        self._due = now + EVERY_S
        with contextlib.suppress(OSError):
            os.close(os.open(f"written-{number}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=self._directory))
            self._numbers.append(number)
            self._drop(self._numbers[:-_KEPT])

    def begin_again(self, number: int) -> None:
        """The log goes on from write `number`: what was written before it, elsewhere, says nothing now."""
        self._drop([each for each in self._numbers if each > number])

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"written-{number}", dir_fd=self._directory)
            self._numbers.remove(number)

    def close(self) -> None:
        """Nothing is noted any more."""
        os.close(self._directory)
