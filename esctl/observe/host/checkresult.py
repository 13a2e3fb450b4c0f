"""What a check of the machine found, and what to do about it. Called by the other modules of this package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from esctl import oserror
from esnode.errors import EventStreamError


class CheckData(TypedDict):
    """The end of one check of the machine."""

    check: str
    result: Literal["ok", "warning", "bad"]
    found: str
    next: str
    fixable: bool


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The end of one check."""

    check: str
    result: Literal["ok", "warning", "bad"]
    found: str
    next: str = ""
    fix: Callable[[], str] | None = None
    """Mends it without any harm, and says what was done; None where a person has to."""

    def as_data(self) -> CheckData:
        """For the JSON answer."""
        return {
            "check": self.check,
            "result": self.result,
            "found": self.found,
            "next": self.next,
            "fixable": self.fix is not None,
        }

    def mended(self) -> "CheckResult":
        """The same after its fix, or itself where there is none; bad where the fix fails."""
        if self.fix is None:
            return self
        try:
            return CheckResult(self.check, "ok", self.fix())
        except EventStreamError as error:
            return CheckResult(self.check, "bad", str(error), error.next_step)
        except OSError as error:
            next_step = oserror.next_step(error) or "remove it by hand"
            return CheckResult(self.check, "bad", f"{self.found}; {error}", next_step)
