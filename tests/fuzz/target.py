"""What a door is to the fuzzer: a function of bytes, and good inputs to begin with.

A target's function returns a short word for what became of a case; what it raises is a finding. So each
target names, itself, the errors that may come out of its door, and nothing wider.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esnode.errors import EventStreamError

CORPUS: Final = Path(__file__).resolve().parent / "corpus"
_VARIABLE: Final = re.compile(r"0x[0-9a-f]+|-?\d+|'[^']*'|b?\"[^\"]*\"")


class Finding(AssertionError):
    """What came out of a door breaks a rule, though nothing was raised."""


@dataclass(frozen=True, slots=True)
class Target:
    """One door. `share` of a hundred cases in all go to it."""

    name: str
    run: Callable[[bytes], str]
    seeds: Callable[[], list[bytes]]
    share: int

    def kept(self) -> list[Path]:
        """The files of its corpus."""
        return sorted((CORPUS / self.name).glob("*"))

    def pool(self) -> list[bytes]:
        """All that a run begins with."""
        return [*self.seeds(), *(path.read_bytes() for path in self.kept())]


def told(error: EventStreamError) -> str:
    """Code and text, without what differs from case to case: so that new ground is seen as new."""
    return f"{error.code} {_VARIABLE.sub('#', str(error))[:90]}"
