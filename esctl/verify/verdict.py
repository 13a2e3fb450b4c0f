"""What the evidence of a history adds up to: lost, duplicate, changed, reordered, phantom, or clean.

Judges key by key. An event that was stored again after the deduplication window is another one, and counted.
An event that a majority holds and one node has passed over is lost there; one that too few hold to have been
committed is a phantom; where nodes that were not read could decide, it counts as lost. What a node has not
reached yet, and what retention has cut, is never called lost. Pure. Called by `history.py`; `operations.py`
finds with the same words.
"""

import enum
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from esctl.verify.sightings import Expectation, Sighting, Sightings
from esctl.verify.window import DedupWindow

MAX_EXAMPLES: Final = 5
"""Findings of one kind that are described; all are counted."""


class Flaw(enum.StrEnum):
    """What can be wrong with a history."""

    LOST = "lost"
    """An event should be on a node and is not."""
    HOLE = "hole"
    """Offsets that a node has passed over."""
    DUPLICATE = "duplicate"
    """One event at two offsets of a node, the second within the deduplication window of the first."""
    CHANGED = "changed"
    """The same event with another content."""
    REORDERED = "reordered"
    """The same event at another offset on another node, or offsets that went back; or an event that was
    first sent after another one was acked, and stands in front of it."""
    PHANTOM = "phantom"
    """An event that cannot have been committed, or that nobody sent."""
    DAMAGED = "damaged"
    """Bytes that are not what was sealed."""
    WRONG_KEY = "wrong_key"
    """A key that is not its event's."""
    MISPLACED = "misplaced"
    """An event in a partition that does not own its source."""
    HASH = "hash"
    """Two nodes whose logs differ up to an offset that both have reached."""
    SPLIT_HISTORY = "split_history"
    """A node that has applied what its leader has not: more, or something else."""
    OFFSET_CHANGED = "offset_changed"
    """An event that was acked at one offset, and is or was acked at another one."""
    STALE_READ = "stale_read"
    """A linearizable read that ended before an offset that was acked, or read, before it began."""
    READ_CHANGED = "read_changed"
    """What a read or a subscription saw is not what the log has there."""
    ACKED_BUT_REFUSED = "acked_but_refused"
    """Every attempt to append an event was answered "certainly not done", and it is in the log."""
    MISCOUNTED = "miscounted"
    """An ack for more or fewer events than were sent, or the second one to call an event new."""


@dataclass(frozen=True, slots=True)
class LogFinding:
    """One flaw. `node` is 0 when it is not one node's, `offset` -1 when there is none."""

    flaw: Flaw
    node: int
    offset: int
    text: str
    file: int = -1
    """The expectation that was not met, by file and line; -1 when it is another kind of finding."""
    line: int = 0


class LogFindings:
    """Counts every finding, keeps the first few of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[Flaw] = Counter()
        self.examples: list[LogFinding] = []

    @property
    def clean(self) -> bool:
        """Was nothing found? It does not say that enough was looked at."""
        return not self.counts

    def add(self, finding: LogFinding) -> None:
        """One more."""
        self.counts[finding.flaw] += 1
        if self.counts[finding.flaw] <= MAX_EXAMPLES:
            self.examples.append(finding)

    def add_all(self, flaw: Flaw, offsets: Sequence[int], text: Callable[[int], str]) -> None:
        """One of the same kind at each of the offsets; `text` is asked for the n-th only if it is kept."""
        room = max(0, MAX_EXAMPLES - self.counts[flaw])
        for number, offset in enumerate(offsets[:room]):
            self.examples.append(LogFinding(flaw, 0, offset, text(number)))
        if len(offsets):
            self.counts[flaw] += len(offsets)


@dataclass(frozen=True, slots=True)
class StoredAgain:
    """An event that is in the log once more, rightly: its key may have been forgotten by then."""

    offset: int
    earlier_offset: int
    after_ms: int
    """So much log time lies between the two."""


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """What was read of one node: offsets from `first_offset` up to `next_offset`, but for the holes."""

    bit: int
    first_offset: int
    next_offset: int
    holes: Sequence[tuple[int, int]]
    hash: str | None

    def passed(self, offset: int) -> bool:
        """Should the node have shown this offset?"""
        return self.first_offset <= offset < self.next_offset


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was read. The hashes are those of the offsets from `hashed_from` up to `hashed_to`."""

    voters: int
    nodes: Mapping[int, NodeEvidence]
    hashed_from: int
    hashed_to: int
    expecting: bool
    exact: bool
    windows: frozenset[DedupWindow] = frozenset()
    """How the nodes forget keys."""
    strict: bool = False
    """Name each event that was stored again."""
    strays: Collection[bytes] = ()
    """Keys of events that are in a partition that does not own their source: of this log or another one."""
    duplicates_elsewhere: int = 0
    """Events that are in this log, and were in that of another partition already."""
    adopted: int = 0
    """Offsets that hold no event, since keys of another partition were adopted there."""

    @property
    def quorum(self) -> int:
        """How many nodes make a majority."""
        return self.voters // 2 + 1

    def forgotten(self, earlier: Sighting, later: Sighting) -> bool:
        """May the earlier one have been forgotten when the later one was appended?"""
        return any(
            window.over(earlier.offset, earlier.log_time_ms, later.base_offset, later.log_time_ms)
            for window in self.windows
        )


@dataclass(frozen=True, slots=True)
class LogVerdict:
    """The outcome. `lost`, `duplicates` and so on count events, not findings."""

    events: int
    """Offsets up to the one that every node has reached."""
    next_offset: int
    lost: int
    duplicates: int
    changed: int
    expected: int
    """Distinct events of the input."""
    unjudged: int
    """Expected events that retention may have cut on every node."""
    unexpected: int
    """Events that are in no input, where there is an input."""
    hashes_equal: bool
    nodes: Mapping[int, NodeEvidence]
    counts: Mapping[Flaw, int]
    examples: Sequence[LogFinding]
    stored_again: int = 0
    """Events that were sent again after the window, and rightly have another offset each time."""
    again: Sequence[StoredAgain] = ()
    """What `stored_again` counts, by offset; where it was asked for."""

    @property
    def clean(self) -> bool:
        """Was nothing found that must not be? It does not say that enough was looked at."""
        return not any(self.counts.values())


@dataclass(slots=True)
class _Tally:
    """Counts while the keys go by."""

    lost_nowhere: int = 0
    """Expected, and on no node."""
    lost_somewhere: int = 0
    duplicates: int = 0
    stored_again: int = 0
    again: list[StoredAgain] = field(default_factory=list)
    changed: int = 0
    expected: int = 0
    unjudged: int = 0
    unexpected: int = 0
    findings: LogFindings = field(default_factory=LogFindings)


def judge(evidence: Evidence, sightings: Sightings, findings: LogFindings) -> LogVerdict:
    """Look at every key, then at the holes and the hashes."""
    tally = _Tally(findings=findings, duplicates=evidence.duplicates_elsewhere)
    everybody = sum(node.bit for node in evidence.nodes.values())
    for key, seen, expected in sightings.by_key():
        for time in _times(evidence, seen, tally):
            _judge_seen(evidence, everybody, time, tally)
        if expected and (seen or key not in evidence.strays):
            _judge_expected(evidence, seen, expected, tally)
        elif expected:
            tally.expected += 1  # it is not lost: it is in a partition where it should not be
        elif evidence.expecting and key not in evidence.strays:
            tally.unexpected += 1
            if evidence.exact:
                offset = seen[0].offset
                findings.add(
                    LogFinding(Flaw.PHANTOM, 0, offset, f"the event at offset {offset} is in no input")
                )
    nowhere = _holes_everywhere(evidence)
    hashes = {node.hash for node in evidence.nodes.values() if node.hash is not None}
    if len(hashes) > 1:
        text = f"the logs of the nodes differ between offsets {evidence.hashed_from} and {evidence.hashed_to}"
        findings.add(LogFinding(Flaw.HASH, 0, evidence.hashed_to, text))
    return LogVerdict(
        events=evidence.hashed_to - evidence.hashed_from - evidence.adopted,
        next_offset=evidence.hashed_to,
        lost=tally.lost_somewhere + max(tally.lost_nowhere, nowhere),
        duplicates=tally.duplicates,
        changed=tally.changed,
        expected=tally.expected,
        unjudged=tally.unjudged,
        unexpected=tally.unexpected,
        hashes_equal=len(hashes) == 1,
        nodes=evidence.nodes,
        counts=dict(findings.counts),
        examples=sorted(findings.examples, key=lambda finding: (finding.flaw, finding.offset)),
        stored_again=tally.stored_again,
        again=sorted(tally.again, key=lambda one: one.offset),
    )


def _times(evidence: Evidence, seen: list[Sighting], tally: _Tally) -> list[list[Sighting]]:
    """The places of one event, apart by the times that it was stored: after the window it is a new one."""
    if len(seen) < 2:
        return [seen] if seen else []
    seen.sort(key=lambda sighting: sighting.offset)
    times = [seen[:1]]
    for earlier, later in pairwise(seen):
        if not evidence.forgotten(earlier, later):
            times[-1].append(later)
            continue
        times.append([later])
        tally.stored_again += 1
        if evidence.strict:
            after_ms = later.log_time_ms - earlier.log_time_ms
            tally.again.append(StoredAgain(later.offset, earlier.offset, after_ms))
    return times


def _judge_seen(evidence: Evidence, everybody: int, seen: list[Sighting], tally: _Tally) -> None:
    """One event, with every place where a node has shown it."""
    if len(seen) == 1 and seen[0].holders == everybody:
        return
    places = {
        number: sorted(sighting.offset for sighting in seen if sighting.holders & node.bit)
        for number, node in evidence.nodes.items()
    }
    _judge_order(places, tally)
    if len({sighting.digest for sighting in seen}) > 1:
        tally.changed += 1
        text = f"the event at offset {seen[0].offset} has not the same content everywhere"
        tally.findings.add(LogFinding(Flaw.CHANGED, 0, seen[0].offset, text))
    _judge_presence(evidence, places, min(sighting.offset for sighting in seen), tally)


def _judge_order(places: Mapping[int, list[int]], tally: _Tally) -> None:
    worst = max(places, key=lambda number: len(places[number]))
    extra = len(places[worst]) - 1
    if extra > 0:
        tally.duplicates += extra
        first, second = places[worst][:2]
        tally.findings.add(
            LogFinding(
                Flaw.DUPLICATE, worst, second, f"the event at offset {second} is also at offset {first}"
            )
        )
    firsts = {offsets[0]: number for number, offsets in places.items() if offsets}
    if len(firsts) > 1:
        text = " and ".join(f"{offset} on node {number}" for offset, number in sorted(firsts.items()))
        at = min(firsts)
        tally.findings.add(LogFinding(Flaw.REORDERED, firsts[at], at, f"the same event is at offset {text}"))


def _judge_presence(evidence: Evidence, places: Mapping[int, list[int]], offset: int, tally: _Tally) -> None:
    holders = [number for number, offsets in places.items() if offsets]
    missing = [n for n, offsets in places.items() if not offsets and evidence.nodes[n].passed(offset)]
    if not missing:
        return
    may_hold = evidence.voters - len(missing)  # those that were not read, or not so far, might have it
    if may_hold < evidence.quorum:
        for number in holders:
            text = f"only a minority has the event at offset {offset}: it was never committed"
            tally.findings.add(LogFinding(Flaw.PHANTOM, number, offset, text))
        return
    tally.lost_somewhere += 1
    for number in missing:
        text = f"node {number} does not have the event that node {holders[0]} has at offset {offset}"
        tally.findings.add(LogFinding(Flaw.LOST, number, offset, text))


def _judge_expected(
    evidence: Evidence, seen: list[Sighting], expected: list[Expectation], tally: _Tally
) -> None:
    """One event of the input, which may stand there several times."""
    where = expected[0]
    tally.expected += 1
    if not seen:
        if all(node.first_offset > 0 for node in evidence.nodes.values()):
            tally.unjudged += 1  # it may have been there, before retention cut it
            return
        tally.lost_nowhere += 1
        tally.findings.add(LogFinding(Flaw.LOST, 0, -1, "it is on no node", where.file, where.line))
        return
    wanted = {expectation.digest for expectation in expected}
    wrong = [sighting for sighting in seen if sighting.digest not in wanted]
    if wrong:
        tally.changed += 1
        text = f"the event at offset {wrong[0].offset} is not what the input says"
        tally.findings.add(LogFinding(Flaw.CHANGED, 0, wrong[0].offset, text, where.file, where.line))


def _holes_everywhere(evidence: Evidence) -> int:
    """How many offsets every node has passed over without showing an event."""
    common: list[tuple[int, int]] | None = None
    for node in evidence.nodes.values():
        own = [(0, node.first_offset), *node.holes, (node.next_offset, 2**63)]
        common = own if common is None else _overlap(common, own)
    if common is None:
        return 0
    first = min(node.first_offset for node in evidence.nodes.values())
    last = max(node.next_offset for node in evidence.nodes.values())
    return sum(min(end, last) - max(start, first) for start, end in common if start < last and end > first)


def _overlap(left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in left:
        found += [(max(start, s), min(end, e)) for s, e in right if max(start, s) < min(end, e)]
    return found
