"""The linter's rules by name, what each is about, and one finding of such a rule.

A name never changes: `docs/playbooks.md` explains each. Pure. Called by the linter and by what shows what it
found.
"""

import enum
from dataclasses import dataclass
from typing import Final, TypedDict


class LintSeverity(enum.StrEnum):
    """An error keeps a playbook from being run."""

    ERROR = "error"
    WARNING = "warning"


_E, _W = LintSeverity.ERROR, LintSeverity.WARNING
RULES: Final[dict[str, tuple[LintSeverity, str]]] = {
    "undo-missing": (_E, "a step that changes something has an `undo` or says `irreversible = true`"),
    "undo-contradicted": (_W, "not both"),
    "confirm-missing": (_E, "a destructive step has a `confirm`"),
    "approval-missing": (_E, "a playbook of severe risk asks a person: an `approve` step, or a `confirm`"),
    "impact-too-low": (_E, "a step says no less of itself than what its command does"),
    "impact-too-high": (_W, "a step that only looks does not claim to change something"),
    "lease-missing": (_E, "a fault has a `lease`"),
    "lease-too-long": (_E, "the lease is one that nodes take, and no longer than `max_duration`"),
    "fault-not-leased": (_E, "a fault is set by a step of kind `fault`, which the run leases and heals"),
    "faults-not-required": (_W, "a playbook that injects faults says `requires.faults = true`"),
    "audit-missing": (_E, "after the last fault comes an `assert` step that reads `verify.*`"),
    "audit-elsewhere": (_W, "`verify.*` reads every node's log: it is for `assert` steps"),
    "unknown-name": (_E, "expressions and `${...}` read names that are there, where they stand"),
    "captured-early": (_E, "a captured value is read after it was captured"),
    "types-differ": (_E, "both sides of a comparison are of one type"),
    "not-its-own": (_E, "`fault.*`, `bench.*`, `answer.*` are read by the step whose command answers them"),
    "load-missing": (_E, "`load.*` is read where a background load runs"),
    "guard-blind": (_E, "a guard reads what changes: `status`, `health`, `faults` or `load`"),
    "duplicate-id": (_E, "each step has an id of its own"),
    "fault-unknown": (_E, "`fault` of a `heal` names a fault step that comes before"),
    "timeout-too-long": (_E, "no step may take longer than the whole playbook"),
    "expects-nothing": (_E, "a step that looks has something that it expects or captures"),
    "not-in-background": (_E, "only `produce` runs in the background"),
    "no-such-command": (_E, "the command of a step, and of its undo, can be typed with these options"),
    "old-words": (_W, "a command of a step is called by its current words"),
    "secret-shown": (_E, "a secret stands in no title, question, command line or expression"),
    "input-unused": (_W, "each input is read somewhere"),
    "doc-missing": (_W, "the head and each step have a `doc`"),
}  # fmt: skip


class LintFindingData(TypedDict):
    """Something in a playbook that would do harm or fail."""

    severity: LintSeverity
    code: str
    step: str | None
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding. `step` is empty when it is about the whole."""

    severity: LintSeverity
    code: str
    step: str
    message: str
    advice: str

    @classmethod
    def of(cls, code: str, step: str, message: str, advice: str) -> "LintFinding":
        """With the severity of its rule."""
        return cls(RULES[code][0], code, step, message, advice)

    def as_data(self) -> LintFindingData:
        """For the JSON answer."""
        return {
            "severity": self.severity,
            "code": self.code,
            "step": self.step or None,
            "message": self.message,
            "advice": self.advice,
        }
