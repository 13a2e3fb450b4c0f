"""What came before what: the order of the log, and of reads, against the clock of those who asked.

If one thing had ended before another began, the log must have them in that order; of things that overlap
nothing is said. All of it is running maxima over what was sorted once. Two times that are equal overlap.
Never keeps anything. Called by `operations.py`.
"""

from dataclasses import dataclass

import numpy as np

from esctl.verify.placement import Flags, Numbers, Placement, Times
from esctl.verify.verdict import Flaw, LogFindings


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read, a row for each that has ended: how far the log went, as the reader was told."""

    begun: Times
    ended: Times
    next_offsets: Numbers
    linearizable: Flags


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The log with what is known of its cut prefix, in the order of offsets."""

    offsets: Numbers
    sent: Times
    """When each event can have come in first; minus infinity when it is not known."""
    acked: Times
    """When each was first acked at that very place; infinity when it was not."""


def judge_times(placement: Placement, reads: Reads, findings: LogFindings) -> None:
    """Hold the order of the log, and what reads saw of it, against the clock."""
    line = _sequence(placement)
    _judge_order(line, findings)
    _judge_stale(placement, reads, findings)
    _judge_ends(placement, line, reads, findings)


def _judge_order(line: _Sequence, findings: LogFindings) -> None:
    """An event that was first sent after another one was acked must stand behind it."""
    earliest = np.append(np.minimum.accumulate(line.acked[::-1])[::-1], np.inf)
    acked_behind = earliest[np.searchsorted(line.offsets, line.offsets, "right")]
    early = np.flatnonzero(acked_behind < line.sent)
    findings.add_all(
        Flaw.REORDERED,
        line.offsets[early].tolist(),
        lambda n: (
            f"the event at offset {line.offsets[early[n]]} was first sent at {line.sent[early[n]]:g}; "
            f"one behind it had been acked at {acked_behind[early[n]]:g}"
        ),
    )


def _judge_ends(placement: Placement, line: _Sequence, reads: Reads, findings: LogFindings) -> None:
    """No read sees what comes after it ended."""
    latest_sent = np.append(-np.inf, np.maximum.accumulate(line.sent))
    seen = latest_sent[np.searchsorted(line.offsets, reads.next_offsets, "left")]
    changed = np.flatnonzero((seen > reads.ended) | (reads.next_offsets > placement.next_offset))
    findings.add_all(
        Flaw.READ_CHANGED,
        reads.next_offsets[changed].tolist(),
        lambda n: (
            f"a read that ended at {reads.ended[changed[n]]:g} saw the log up to offset "
            f"{reads.next_offsets[changed[n]]}; now it ends at {placement.next_offset}, or has there what "
            "was first sent later"
        ),
    )


def _judge_stale(placement: Placement, reads: Reads, findings: LogFindings) -> None:
    """A linearizable read against the acks, and the other linearizable reads, that it must have seen."""
    bound = reads.linearizable
    begun, ended, ends = reads.begun[bound], reads.ended[bound], reads.next_offsets[bound]
    told = placement.right() | ~placement.kept()
    promised = _largest_before(placement.claims.times[told], placement.claims.offsets[told] + 1, begun)
    promised = np.maximum(promised, _largest_before(ended, ends, begun))
    stale = np.flatnonzero(ends < promised)
    findings.add_all(
        Flaw.STALE_READ,
        ends[stale].tolist(),
        lambda n: (
            f"a read that began at {begun[stale[n]]:g} saw the log up to offset {ends[stale[n]]}; "
            f"before that it was known to go up to {promised[stale[n]]}"
        ),
    )


def _largest_before(times: Times, values: Numbers, moments: Times) -> Numbers:
    """For each moment the largest of the values whose time is before it; 0 when there is none."""
    order = np.argsort(times, kind="stable")
    largest = np.append(0, np.maximum.accumulate(values[order]))
    found: Numbers = largest[np.searchsorted(times[order], moments, "left")]
    return found


def _sequence(placement: Placement) -> _Sequence:
    claims, ids = placement.claims, placement.log_ids
    cut = np.flatnonzero(~placement.kept())
    cut = cut[np.argsort(claims.offsets[cut], kind="stable")]
    sent, acked = np.full(len(ids), -np.inf), np.full(len(ids), np.inf)
    there = ids >= 0
    sent[there] = placement.first_sent[ids[there]]
    right = placement.right()
    acked[claims.offsets[right] - placement.first_offset] = claims.times[right]
    return _Sequence(
        np.append(claims.offsets[cut], np.arange(placement.first_offset, placement.next_offset)),
        np.append(placement.first_sent[claims.ids[cut]], sent),
        np.append(claims.times[cut], acked),
    )
