"""Where each event is: by the log, and by the acks that clients got.

Numbers the keys, so that all else is columns of numbers, and finds what needs no clock: lost, duplicate,
phantom, offset changed, refused and there all the same, miscounted. A finding counts events: one that was
acked wrongly ten times is one. Never keeps anything. Called by `operations.py`.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esctl.verify.verdict import Flaw, LogFindings
from esctl.verify.window import MayRepeat
from esnode import limits
from esnode.dedup.batch import UNKNOWN_OFFSET

Numbers: TypeAlias = npt.NDArray[np.int64]
Times: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]

NO_KEY: Final = bytes(limits.KEY_BYTES)
"""Stands in a log for an event that could not be read."""
_HOLE: Final = -1


def never(_earlier: int, _later: int) -> bool:
    """No event may ever be there again: right while no key expires."""
    return False


@dataclass(frozen=True, slots=True)
class Told:
    """What clients did and were told, in columns: a row for each event of each attempt, and of each ack."""

    keys: bytes
    begun: Times
    """When the attempt of the row began."""
    refused: Flags
    """Was the attempt of the row refused for certain?"""
    ack_rows: Numbers
    """Which row each acked event has."""
    ack_offsets: Numbers
    ack_times: Times
    ack_new: Flags
    """Did the ack call all its events new?"""


@dataclass(frozen=True, slots=True)
class Claims:
    """Every distinct pair of an event and an offset at which it was acked, by event, then by offset."""

    ids: Numbers
    offsets: Numbers
    times: Times
    """Of the first ack that said so."""
    times_new: Numbers
    """How many acks called the event new there."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The log and the claims, with a number for each distinct key."""

    first_offset: int
    next_offset: int
    log_ids: Numbers
    """By offset, from `first_offset` on; -1 where the log has a hole."""
    claims: Claims
    unplaced: Numbers
    """Events that were acked without an offset: in the log for certain, and nobody remembers where."""
    attempts: Numbers
    """By event."""
    refusals: Numbers
    first_sent: Times
    """By event: when the first attempt began that was not refused; minus infinity when nobody sent it."""
    sorted_log: Numbers
    """The places of `log_ids`, sorted by event, then by offset."""
    may_repeat: MayRepeat

    @staticmethod
    def of(told: Told, log: bytes, first_offset: int, may_repeat: MayRepeat) -> "Placement":
        """Sort everything."""
        size = limits.KEY_BYTES
        ids, count = _number(told.keys + log)
        sent_ids, log_ids = ids[: len(told.keys) // size], ids[len(told.keys) // size :].copy()
        log_ids[_is_hole(log)] = _HOLE
        attempts, refusals, first_sent = _sent(told, sent_ids, count)
        known = told.ack_offsets >= 0
        ack_ids = sent_ids[told.ack_rows]
        return Placement(
            first_offset=first_offset,
            next_offset=first_offset + len(log_ids),
            log_ids=log_ids,
            claims=_claims(told, ack_ids, known),
            unplaced=np.unique(ack_ids[told.ack_offsets == UNKNOWN_OFFSET]),
            attempts=attempts,
            refusals=refusals,
            first_sent=first_sent,
            sorted_log=np.argsort(log_ids, kind="stable"),
            may_repeat=may_repeat,
        )

    def kept(self) -> Flags:
        """Which claims are for what the log still has, or had to have."""
        return self.claims.offsets >= self.first_offset

    def right(self) -> Flags:
        """Which claims are for an offset where the log has that event."""
        inside = self.kept() & (self.claims.offsets < self.next_offset)
        found = np.zeros(len(inside), np.bool_)
        found[inside] = (
            self.log_ids[self.claims.offsets[inside] - self.first_offset] == self.claims.ids[inside]
        )
        return found

    def places(self, event: int) -> list[int]:
        """The offsets at which the log has the event."""
        start = np.searchsorted(self.log_ids, event, "left", self.sorted_log)
        end = np.searchsorted(self.log_ids, event, "right", self.sorted_log)
        return [int(place) + self.first_offset for place in self.sorted_log[start:end]]

    def contradicts(self, one: int, other: int) -> bool:
        """Are an event at `one` offset and the same at the `other` one too many?"""
        earlier, later = sorted((one, other))
        return earlier < later and (later >= self.next_offset or not self.may_repeat(earlier, later))


def judge_places(placement: Placement, findings: LogFindings, *, exact: bool) -> None:
    """Hold the acks and the refusals against the log."""
    _judge_log(placement, findings, exact=exact)
    changed = _judge_claims(placement, findings)
    changed |= _acked_apart(placement) | _acked_together(placement)
    _tell(findings, Flaw.OFFSET_CHANGED, changed, "was acked at offset {offset}, and is elsewhere")
    absent = placement.unplaced[~np.isin(placement.unplaced, placement.log_ids)]
    if not placement.first_offset:
        gone = dict.fromkeys(absent.tolist(), UNKNOWN_OFFSET)
        _tell(findings, Flaw.LOST, gone, "was acked without an offset and is nowhere")
    claims = placement.claims
    twice = claims.times_new > 1
    again = dict(zip(claims.ids[twice].tolist(), claims.offsets[twice].tolist(), strict=True))
    _tell(findings, Flaw.MISCOUNTED, again, "at offset {offset} was called new by two acks")


def _judge_log(placement: Placement, findings: LogFindings, *, exact: bool) -> None:
    """What the log alone, and with the attempts, says."""
    log_ids, first = placement.log_ids, placement.first_offset
    there = log_ids != _HOLE
    sent = np.zeros(len(log_ids), np.bool_)
    sent[there] = placement.attempts[log_ids[there]] > 0
    if exact:
        strange = np.flatnonzero(there & ~sent) + first
        findings.add_all(
            Flaw.PHANTOM, strange.tolist(), lambda n: f"the event at offset {strange[n]} was sent by nobody"
        )
    by_event = log_ids[placement.sorted_log]
    pairs = np.flatnonzero((by_event[1:] == by_event[:-1]) & (by_event[1:] != _HOLE))
    doubles = [
        (earlier + first, later + first)
        for earlier, later in zip(
            placement.sorted_log[pairs].tolist(), placement.sorted_log[pairs + 1].tolist(), strict=True
        )
        if not placement.may_repeat(earlier + first, later + first)
    ]
    findings.add_all(
        Flaw.DUPLICATE,
        [later for _, later in doubles],
        lambda n: f"the event at offset {doubles[n][1]} is also at offset {doubles[n][0]}",
    )
    denied = sent & there
    denied[denied] = placement.refusals[log_ids[denied]] == placement.attempts[log_ids[denied]]
    places = np.flatnonzero(denied) + first
    findings.add_all(
        Flaw.ACKED_BUT_REFUSED,
        places.tolist(),
        lambda n: f"the event at offset {places[n]} was refused for certain each time that it was sent",
    )


def _judge_claims(placement: Placement, findings: LogFindings) -> dict[int, int]:
    """Look at the acks that the log does not bear out; those that name another place than the log."""
    claims = placement.claims
    doubtful = ~placement.right()
    there = np.isin(claims.ids, placement.log_ids)
    nowhere = doubtful & ~there & placement.kept()
    lost = dict(zip(claims.ids[nowhere].tolist(), claims.offsets[nowhere].tolist(), strict=True))
    changed: dict[int, int] = {}
    for at in np.flatnonzero(doubtful & there).tolist():
        event, offset = int(claims.ids[at]), int(claims.offsets[at])
        if any(placement.contradicts(offset, place) for place in placement.places(event)):
            changed[event] = offset
        elif offset >= placement.first_offset:
            lost[event] = offset
    _tell(findings, Flaw.LOST, lost, "was acked at offset {offset} and is not there")
    return changed


def _acked_apart(placement: Placement) -> dict[int, int]:
    """Events that were acked at two offsets."""
    claims = placement.claims
    pairs = np.flatnonzero(claims.ids[1:] == claims.ids[:-1]).tolist()
    return {
        int(claims.ids[at]): int(claims.offsets[at + 1])
        for at in pairs
        if placement.contradicts(int(claims.offsets[at]), int(claims.offsets[at + 1]))
    }


def _acked_together(placement: Placement) -> dict[int, int]:
    """Two events that were acked at one offset, which the log no longer has."""
    claims, cut = placement.claims, np.flatnonzero(~placement.kept())
    cut = cut[np.argsort(claims.offsets[cut], kind="stable")]
    both = cut[1:][claims.offsets[cut[1:]] == claims.offsets[cut[:-1]]]
    return dict(zip(claims.ids[both].tolist(), claims.offsets[both].tolist(), strict=True))


def _tell(findings: LogFindings, flaw: Flaw, events: dict[int, int], text: str) -> None:
    """A finding for each event, at the offset that is given with it."""
    offsets = list(events.values())
    findings.add_all(flaw, offsets, lambda n: f"an event {text.format(offset=offsets[n])}")


def _number(keys: bytes) -> tuple[Numbers, int]:
    """A number for each key, equal for equal keys; and how many there are."""
    halves = np.frombuffer(keys, np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 0], halves[:, 1]))
    ordered = halves[order]
    numbers = np.zeros(len(order), np.int64)
    if len(order):
        numbers[order[1:]] = np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))
    return numbers, int(numbers.max(initial=-1)) + 1


def _is_hole(log: bytes) -> Flags:
    halves = np.frombuffer(log, np.uint64).reshape(-1, 2)
    empty: Flags = (halves[:, 0] | halves[:, 1]) == 0
    return empty


def _sent(told: Told, ids: Numbers, count: int) -> tuple[Numbers, Numbers, Times]:
    """By event: the attempts, the refusals, and when it can have come into the log first."""
    attempts = np.bincount(ids, minlength=count)
    refusals = np.bincount(ids[told.refused], minlength=count)
    first = np.full(count, np.inf)
    possible = ~told.refused
    np.minimum.at(first, ids[possible], told.begun[possible])
    first[np.isinf(first)] = -np.inf  # nobody sent it, or all was refused: other findings say so
    return attempts, refusals, first


def _claims(told: Told, ids: Numbers, known: Flags) -> Claims:
    """Sort the acks with an offset; `ids` are the events of all."""
    order = np.flatnonzero(known)
    order = order[np.lexsort((told.ack_offsets[order], ids[order]))]
    ids, offsets, times, new = ids[order], told.ack_offsets[order], told.ack_times[order], told.ack_new[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1) | np.diff(offsets, prepend=-1))
    if not len(starts):
        return Claims(ids, offsets, times, np.zeros(0, np.int64))
    return Claims(
        ids[starts],
        offsets[starts],
        np.minimum.reduceat(times, starts),
        np.add.reduceat(new.astype(np.int64), starts),
    )
