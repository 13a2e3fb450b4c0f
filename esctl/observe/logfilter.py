"""Which lines of the nodes' logs are wanted: by time, level, kind of event, and words.

Pure. All conditions hold together; several kinds mean any of them. Keeps count of the kinds that it has
seen, so that a kind that nobody writes can be answered with those that somebody does. Called by `esctl logs`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from esctl.clusters import nodelog
from esctl.clusters.nodelog import LogLine
from esctl.ui.answer import Tone

TONES: Final = {"warning": Tone.WARN, "error": Tone.BAD, "critical": Tone.BAD, "debug": Tone.DIM}
"""By level; the others have the normal one."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for; the empty one takes everything."""

    level: str = "debug"
    """This level and graver ones."""
    kinds: Sequence[str] = ()
    """Names of events, with `*` and `?`."""
    words: str = ""
    """Text that must be somewhere in the line, in any case of letters."""
    since: str = ""
    """Not before this time, as nodes write it."""
    until: str = ""
    """Before this time."""
    seen: dict[str, int] = field(default_factory=dict)
    """How many lines of each kind there were within the time and of the level, wanted or not."""

    def of(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Those that are wanted, in their order."""
        return filter(self.wants, lines)

    def wants(self, line: LogLine) -> bool:
        """Is it one of them?"""
        if line.time < self.since or (self.until and line.time >= self.until):
            return False
        if not nodelog.at_least(self.level, line):
            return False
        self.seen[line.event] = self.seen.get(line.event, 0) + 1
        if self.kinds and not any(fnmatchcase(line.event, kind) for kind in self.kinds):
            return False
        return not self.words or self.words.casefold() in line.text.casefold()

    @property
    def unseen(self) -> list[str]:
        """The kinds asked for that no line was of."""
        return [kind for kind in self.kinds if not any(fnmatchcase(event, kind) for event in self.seen)]
