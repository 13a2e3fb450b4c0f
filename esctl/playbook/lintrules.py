"""The linter's rules by name, what each is about, and one finding of such a rule.

A name never changes: `docs/playbooks.md` explains each. Pure. Called by the linter and by what shows what it
found.
"""

import enum
from dataclasses import dataclass
from typing import Annotated, Final, TypedDict

from esctl.playbook.lines import Place
from esctl.ui.values import Count


class LintSeverity(enum.StrEnum):
    """An error keeps a playbook from being run."""

    ERROR = "error"
    WARNING = "warning"


_E, _W = LintSeverity.ERROR, LintSeverity.WARNING
RULES: Final[dict[str, tuple[LintSeverity, str]]] = {
    "undo-missing": (_E, "a step that changes something has an `undo` or says `irreversible = true`"),
    "undo-contradicted": (_W, "a step does not have both an `undo` and `irreversible = true`"),
    "confirm-missing": (_E, "a destructive step has a `confirm`"),
    "approval-missing": (_E, "a playbook whose `risk` is `severe` asks a person: `approve` or `confirm`"),
    "impact-too-low": (_E, "the `impact` of a step is no lower than that of its command"),
    "impact-too-high": (_W, "the `impact` of a read-only step is not above `ro`"),
    "lease-missing": (_E, "a fault has a `lease`"),
    "lease-too-long": (_E, "a lease exceeds neither the limit of the nodes nor `max_duration`"),
    "fault-not-leased": (_E, "only a step of kind `fault` injects a fault, so that the run can heal it"),
    "faults-not-required": (_W, "a playbook that injects faults says `requires.faults = true`"),
    "verify-missing": (_E, "an `assert` step that reads `verify.*` follows the last fault"),
    "verify-elsewhere": (_W, "only `assert` steps read `verify.*`, because that reads every node's log"),
    "unknown-name": (_E, "expressions and `${...}` read only names that are in scope"),
    "captured-early": (_E, "a captured value is read only after it has been captured"),
    "types-differ": (_E, "both sides of a comparison have the same type"),
    "not-its-own": (_E, "`fault.*`, `bench.*` and `answer.*` are read only in the step that produces them"),
    "load-missing": (_E, "`load.*` is read only while a background load is running"),
    "guard-blind": (_E, "a guard reads something that can change: `status`, `health`, `faults` or `load`"),
    "duplicate-id": (_E, "each step has an id of its own"),
    "fault-unknown": (_E, "the `fault` argument of a `heal` step names an earlier `fault` step"),
    "timeout-too-long": (_E, "no step has a `timeout` above the playbook's `max_duration`"),
    "expects-nothing": (_E, "a read-only step has an `expect` or a `capture`"),
    "not-in-background": (_E, "only a `bench` step with the mode `produce` runs in the background"),
    "no-such-command": (_E, "the command of a step, and of its undo, exists and takes the given options"),
    "old-words": (_W, "a step uses the current name of a command, instead of an old one"),
    "secret-shown": (_E, "no title, question, command line or expression contains a secret"),
    "input-unused": (_W, "each input is used somewhere"),
    "doc-missing": (_W, "the playbook itself and each step have a `doc`"),
}  # fmt: skip


class LintFindingData(TypedDict):
    """Something in a playbook that would do harm or fail."""

    severity: LintSeverity
    code: str
    step: str | None
    path: Annotated[str, "The file that the line is of: another one for what an include holds"]
    line: Annotated[Count | None, "From 1; null where nothing says which it is"]
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding. `step` is empty when it is about the whole, `place` is below that step."""

    severity: LintSeverity
    code: str
    step: str
    message: str
    advice: str
    place: Place = ()
    path: str = ""
    line: int | None = None

    @classmethod
    def of(cls, code: str, step: str, message: str, advice: str, *place: str | int) -> "LintFinding":
        """With the severity of its rule."""
        return cls(RULES[code][0], code, step, message, advice, place)

    def as_data(self) -> LintFindingData:
        """For the JSON answer."""
        return {
            "severity": self.severity,
            "code": self.code,
            "step": self.step or None,
            "path": self.path,
            "line": self.line,
            "message": self.message,
            "advice": self.advice,
        }
