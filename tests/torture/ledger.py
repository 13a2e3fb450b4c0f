"""What a client was promised: the offset of every event that was acked. Held against the log afterwards.

Knows only what was sent and what came back, never a node. The judging is `esctl/verify/operations.py`'s;
here is what a run wants to know while it is under way. Called by the load and the judgement.
"""

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from esctl.verify.operations import Operations
from esctl.verify.verdict import Flaw, LogFindings
from esnode import limits
from esnode.dedup.batch import Batch, OffsetRange

UNKNOWN = -1


@dataclass
class Ledger:
    """Events are numbered as they are made; `offsets[n]` is where event n is, as far as is known."""

    operations: Operations = field(default_factory=Operations)
    """Also takes reads, on the same clock."""
    clock: Callable[[], float] = time.monotonic
    keys: bytearray = field(default_factory=bytearray)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    batches: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By the first key of each batch: the number of its attempt, and of its first event."""
    acked: int = 0
    acked_again: int = 0

    def sent(self, batch: Batch) -> None:
        """A batch of new events is about to leave. When it is sent again, nothing needs to be said."""
        attempt = self.operations.append_begins(batch.keys, self.clock())
        self.batches[batch.keys[: limits.KEY_BYTES]] = attempt, len(self.offsets)
        self.keys += batch.keys
        self.offsets.extend([UNKNOWN] * batch.count)

    def ack(self, batch: Batch, ranges: Sequence[OffsetRange], duplicates: int | None = None) -> None:
        """An ack came; another one for the same events must say the same."""
        attempt, first = self.batches[batch.keys[: limits.KEY_BYTES]]
        self.operations.acked(attempt, ranges, self.clock(), duplicates)
        offsets = [part.base_offset + n for part in ranges for n in range(part.count)]
        for event, offset in enumerate(offsets[: batch.count], start=first):
            if self.offsets[event] == UNKNOWN:
                self.offsets[event] = offset
                self.acked += 1
            else:
                self.acked_again += 1

    def check(self, log_keys: bytes, first_offset: int = 0) -> LogFindings:
        """Hold it against the packed keys of a log."""
        return self.operations.check(log_keys, first_offset)

    @property
    def conflicts(self) -> list[str]:
        """Events that were acked at two offsets, one line each, whatever the log says."""
        findings = self.operations.check(b"", limits.MAX_INDEX)
        return _lines(findings, Flaw.OFFSET_CHANGED)

    def compare(self, log_keys: bytes) -> "Comparison":
        """The same as `check`, in the words of the runs."""
        return Comparison(self.check(log_keys))


@dataclass(frozen=True)
class Comparison:
    """What a ledger and a log say of each other."""

    findings: LogFindings

    @property
    def lost(self) -> list[str]:
        """A line for each event that is not where it was acked."""
        return _lines(self.findings, Flaw.LOST) + _lines(self.findings, Flaw.OFFSET_CHANGED)

    @property
    def twice(self) -> int:
        return self.findings.counts[Flaw.DUPLICATE]

    @property
    def unknown_origin(self) -> int:
        return self.findings.counts[Flaw.PHANTOM]

    @property
    def clean(self) -> bool:
        return self.findings.clean


def _lines(findings: LogFindings, flaw: Flaw) -> list[str]:
    told = [finding.text for finding in findings.examples if finding.flaw is flaw]
    return told + [f"one more: {flaw}"] * (findings.counts[flaw] - len(told))
