"""What one simulated run gives back, whichever tier it was."""

from collections import Counter
from dataclasses import dataclass, field


class Violation(AssertionError):
    """Something that must never happen has happened. `rule` is the short name of what was broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.text = text

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        return Violation, (self.rule, self.text)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one seed.

    `counts` say how often each fault really hit and what the load was: `fault.crash`, `op.append`...
    """

    seed: int
    tier: str
    simulated_s: float
    trace_hash: str
    counts: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
