"""What clients did and what they were told, held against the log: was a promise broken?

Told of appends, acks, refusals and reads, with times of one clock that never goes back, in any order. All
attempts of one key are one operation. An attempt without an answer needs no call: it may have been done at
any time since. `check` finds what `placement.py`, `precedence.py` and `readers.py` look for, in O(n log n).
Blind for what no client was told, for what retention has cut unless two clients were told of it, and for
contents (`history.py` sees those). Called by the torture runs and by the simulation.
"""

from array import array
from collections.abc import Sequence

import numpy as np

from esctl.verify.placement import Placement, Told, judge_places, never
from esctl.verify.precedence import Reads, judge_times
from esctl.verify.readers import Readers
from esctl.verify.verdict import Flaw, LogFinding, LogFindings
from esctl.verify.window import MayRepeat
from esnode import limits
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange

_SHORT = -2
"""The offset of an event that an ack left out."""


class Operations:
    """Everything that clients did. 25 bytes for each event and its ack; about 250 while it is checked."""

    def __init__(self) -> None:
        self._keys = bytearray()
        self._first_rows, self._counts = array("q"), array("q")
        self._begun = array("d")
        self._refused = bytearray()
        """1 for an attempt that was refused."""
        self._acks, self._ack_times = array("q"), array("d")
        """The attempt of each ack."""
        self._ack_new = bytearray()
        self._ack_offsets = array("q")
        """The events of all acks, one after the other."""
        self._reads_begun, self._reads_ended = array("d"), array("d")
        self._read_ends = array("q")
        self._linearizable = bytearray()
        self._readers = Readers()
        self._misfits: list[LogFinding] = []

    # --- appends -----------------------------------------------------------------------------------

    def append_begins(self, keys: bytes, at: float) -> int:
        """An attempt to append the events of these packed keys is about to leave; its number.

        Each attempt has its own, also when the same keys are sent again.
        """
        number, count = len(self._counts), len(keys) // limits.KEY_BYTES
        self._first_rows.append(len(self._keys) // limits.KEY_BYTES)
        self._counts.append(count)
        self._begun.append(at)
        self._refused.append(0)
        self._keys += keys
        return number

    def acked(
        self, attempt: int, ranges: Sequence[OffsetRange], at: float, duplicates: int | None = None
    ) -> None:
        """The attempt was acked; `duplicates` where it was told how many of its events were known."""
        assert at >= self._begun[attempt], "an ack before its attempt"
        count = self._counts[attempt]
        offsets = array("q")
        for part in ranges:
            base, fits = part.base_offset, min(part.count, count - len(offsets))
            offsets.extend([UNKNOWN_OFFSET] * fits if base < 0 else range(base, base + fits))
        told = sum(part.count for part in ranges)
        if told != count or not 0 <= (duplicates or 0) <= count:
            text = f"an ack for {told} events, {duplicates or 0} of them known, where {count} were sent"
            self._misfits.append(LogFinding(Flaw.MISCOUNTED, 0, offsets[0] if offsets else -1, text))
            offsets.extend([_SHORT] * (count - len(offsets)))
        self._acks.append(attempt)
        self._ack_times.append(at)
        self._ack_new.append(duplicates == 0)
        self._ack_offsets.extend(offsets)

    def refused(self, attempt: int) -> None:
        """The attempt was refused with a definite error: it was not done, and never will be."""
        self._refused[attempt] = 1

    # --- reads -------------------------------------------------------------------------------------

    def read_begins(self, at: float, *, linearizable: bool = True) -> int:
        """A read is about to leave; its number. One that never ends says nothing."""
        self._reads_begun.append(at)
        self._reads_ended.append(float("inf"))
        self._read_ends.append(0)
        self._linearizable.append(linearizable)
        return len(self._reads_begun) - 1

    def read_ends(
        self, read: int, next_offset: int, at: float, from_offset: int = 0, keys: bytes = b""
    ) -> None:
        """The read was told that the log goes up to `next_offset`, and saw these packed keys in it."""
        assert at >= self._reads_begun[read], "a read that ended before it began"
        self._reads_ended[read] = at
        self._read_ends[read] = next_offset
        if keys:
            self._readers.saw(self._readers.begin(from_offset), from_offset, keys)

    def subscription_begins(self, from_offset: int) -> int:
        """Somebody follows the log from there; the subscription's number. Begin again after a break."""
        return self._readers.begin(from_offset)

    def subscription_saw(self, subscription: int, offset: int, keys: bytes, at: float) -> None:
        """The packed keys of the events from `offset` on came next."""
        self._readers.saw(subscription, offset, keys)
        read = self.read_begins(at, linearizable=False)
        self.read_ends(read, offset + len(keys) // limits.KEY_BYTES, at)

    # --- the verdict -------------------------------------------------------------------------------

    def check(
        self,
        log: bytes | bytearray,
        first_offset: int = 0,
        *,
        may_repeat: MayRepeat = never,
        exact: bool = True,
    ) -> LogFindings:
        """Hold all of it against the packed keys of the log from `first_offset` to its end.

        The log must be read after the last ack. `may_repeat(earlier, later)` says whether the event at
        the earlier offset may have been forgotten when the later one was appended; it is asked only of
        events that are at two offsets. Without `exact` others may have sent other events; the keys
        that these clients sent are theirs alone. What was acked where the log has a hole is lost.
        """
        findings = LogFindings()
        for misfit in self._misfits:
            findings.add(misfit)
        packed = bytes(log)
        placement = Placement.of(self._told(), packed, first_offset, may_repeat)
        judge_places(placement, findings, exact=exact)
        judge_times(placement, self._reads(), findings)
        self._readers.judge(packed, first_offset, findings)
        return findings

    # --- inside ------------------------------------------------------------------------------------

    def _told(self) -> Told:
        counts, first_rows = np.array(self._counts, np.int64), np.array(self._first_rows, np.int64)
        acks = np.array(self._acks, np.int64)
        ack_counts = counts[acks]
        ends = np.cumsum(ack_counts)
        places = np.arange(len(self._ack_offsets)) - np.repeat(ends - ack_counts, ack_counts)
        return Told(
            keys=bytes(self._keys),
            begun=np.repeat(np.array(self._begun, np.float64), counts),
            refused=np.repeat(np.array(self._refused, np.bool_), counts),
            ack_rows=np.repeat(first_rows[acks], ack_counts) + places,
            ack_offsets=np.array(self._ack_offsets, np.int64),
            ack_times=np.repeat(np.array(self._ack_times, np.float64), ack_counts),
            ack_new=np.repeat(np.array(self._ack_new, np.bool_), ack_counts),
        )

    def _reads(self) -> Reads:
        ended = np.array(self._reads_ended, np.float64)
        over = np.isfinite(ended)
        return Reads(
            begun=np.array(self._reads_begun, np.float64)[over],
            ended=ended[over],
            next_offsets=np.array(self._read_ends, np.int64)[over],
            linearizable=np.array(self._linearizable, np.bool_)[over],
        )
