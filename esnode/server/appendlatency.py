"""How long appends take: from when the leader took a batch in to when it was committed, applied and acked.

Counts batches in steps of at most an eighth, since the node began. The way to the client and back is not in
it, nor what a client waits before it sends. Never reads a clock. Noted by the sessions, told by `status.py`.
"""

from typing import Final

STEPS: Final = 256
"""Enough for four hours."""


class AppendLatency:
    """Counts of acked batches, by how long they took."""

    def __init__(self) -> None:
        self._counts = [0] * STEPS

    def note(self, seconds: float) -> None:
        """A batch was acked after so long."""
        microseconds = int(seconds * 1e6)
        shift = microseconds.bit_length() - 4  # the four highest bits tell the step
        step = (shift << 3) + (microseconds >> shift) if shift > 0 else microseconds
        self._counts[step if step < STEPS else -1] += 1

    def picture(self) -> list[list[int]]:
        """The steps that are not empty, in order: a bound in microseconds, and how many took less."""
        return [[_bound_us(step), count] for step, count in enumerate(self._counts) if count]


def _bound_us(step: int) -> int:
    shift = max(0, (step >> 3) - 1)
    return (step - (shift << 3) + 1) << shift
