"""The time of day as this node sees it: the one place of the node that reads the wall clock.

It is for people: the times in the log and one field of the status. No decision depends on it: log time,
timers and leases use the monotonic clock. Injected faults can shift it here, so that tests can prove that.
Made by `__main__`; read by the log lines and the status, shifted by the fault injector.
"""

import time
from collections.abc import Callable

from esnode.faults import ClockFaults


class WallClock:
    """Seconds since 1970. Asked from any thread."""

    def __init__(self, system: Callable[[], float] = time.time) -> None:
        self._system = system
        self._faults: ClockFaults | None = None

    def strike(self, faults: ClockFaults | None) -> None:
        """What is seen from now on suffers these faults."""
        if faults is not None:
            faults.begin(self._system())
        self._faults = faults

    def seen(self, true_s: float) -> float:
        """What this node takes the moment `true_s` of the system's clock for."""
        faults = self._faults
        return true_s if faults is None else faults.seen(true_s)

    def now_ms(self) -> int:
        """The time of day in milliseconds."""
        return round(self.seen(self._system()) * 1000)
