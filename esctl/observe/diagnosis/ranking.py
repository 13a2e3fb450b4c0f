"""From a situation to its findings: the worst first, and what follows from another one under that.

Pure. A cause that explains something is shown before it, however bad the consequence is: a follower that is
behind since somebody has cut its link is one problem, not two. Called by `esctl why`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from esctl.observe.diagnosis import activefaults, followers, leadership, logbounds, machine, nodes, settings
from esctl.observe.diagnosis.problem import Problem, ProblemKind
from esctl.observe.diagnosis.situation import Situation
from esctl.query.ringsurvey import RingSurvey
from esctl.ui.formatting import partitions_named, quantity, shared

Rule = Callable[[Situation], Iterator[Problem]]
RULES: Final[Sequence[Rule]] = (
    leadership.two_leaders,
    leadership.split_history,
    leadership.no_quorum,
    logbounds.shortened,
    activefaults.faults,
    settings.settings_differ,
    nodes.down,
    nodes.paused,
    nodes.silent,
    nodes.rejoining,
    followers.cut_off,
    leadership.no_leader,
    leadership.not_serving,
    followers.lagging,
    leadership.outvoted,
    nodes.slow_disk,
    machine.clocks_off,
    logbounds.window_full,
    logbounds.window_shrunk,
    machine.disks_low,
    logbounds.retention,
)

_GONE: Final = frozenset(
    {
        ProblemKind.FILES_GONE, ProblemKind.DISK_FULL, ProblemKind.DISK_FAILED, ProblemKind.BAD_CONFIG,
        ProblemKind.PORT_TAKEN, ProblemKind.NEWER_FORMAT, ProblemKind.DAMAGE, ProblemKind.NODE_DOWN,
        ProblemKind.NODE_PAUSED, ProblemKind.NODE_SILENT, ProblemKind.REJOINING,
    }
)  # fmt: skip
"""What keeps a node from voting."""
_OF_ALL: Final = frozenset({ProblemKind.NO_LEADER, ProblemKind.NOT_SERVING})
"""What a fault on any node may have done."""
_OF_ONE: Final = frozenset(
    {
        ProblemKind.CUT_OFF, ProblemKind.LAGGING, ProblemKind.OUTVOTED, ProblemKind.NODE_SILENT,
        ProblemKind.REJOINING, ProblemKind.SLOW_DISK,
        ProblemKind.CLOCK_OFF,
    }
)  # fmt: skip
"""What a fault that touches the node may have done."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found: the worst first, consequences under their cause."""

    situation: Situation
    findings: Sequence[Problem]
    facts: Sequence[str]
    """What is well, for people who want to be sure that somebody has looked."""

    @property
    def well(self) -> bool:
        """Nothing is wrong; there may be notes."""
        return not any(finding.wrong for finding in self.findings)


@dataclass(frozen=True, slots=True)
class RingDiagnosis:
    """What was found in several partitions: what is true of all of them is said once."""

    ring: RingSurvey
    findings: Sequence[Problem]
    facts: Sequence[str]

    @property
    def well(self) -> bool:
        """Nothing is wrong with any partition; there may be notes."""
        return not any(finding.wrong for finding in self.findings)


def diagnose_all(seen: Sequence[Situation]) -> "Diagnosis | RingDiagnosis":
    """The same for each partition; one that is the only one has a diagnosis as ever."""
    if len(seen) == 1:
        return diagnose(seen[0])
    each = [diagnose(one) for one in seen]
    cluster = seen[0].survey.cluster
    ring = RingSurvey(cluster, [one.survey for one in seen])
    said = shared([found.facts for found in each])
    return RingDiagnosis(ring, _together(each), [f"{where}{fact}" for where, fact in said])


def _together(each: Sequence[Diagnosis]) -> list[Problem]:
    """The findings of all partitions: one that several have says of which it is one."""
    found: dict[tuple[ProblemKind, str], list[tuple[int, Problem]]] = {}
    for partition, diagnosis in enumerate(each):
        for problem in diagnosis.findings:
            found.setdefault((problem.kind, problem.what), []).append((partition, problem))
    merged = []
    for parts in found.values():
        numbers = [partition for partition, _ in parts]
        worst = max((problem for _, problem in parts), key=lambda problem: problem.severity)
        where = "" if len(numbers) == len(each) else f"{partitions_named(numbers)}: "
        merged.append(replace(worst, what=f"{where}{worst.what}", partitions=numbers))
    return sorted(merged, key=_order)


def diagnose(seen: Situation) -> Diagnosis:
    """Apply every rule, and put what was found in order."""
    found = [finding for rule in RULES for finding in rule(seen)]
    return Diagnosis(seen, rank(seen, found), facts(seen))


def rank(seen: Situation, found: Iterable[Problem]) -> list[Problem]:
    """Each finding under its cause, as bad as the worst that it causes; the worst first."""
    left = sorted(found, key=_order)
    left = _gather_consequences(seen, left)
    left = _gather_parts(left)
    return sorted(left, key=_order)


def facts(seen: Situation) -> list[str]:
    """What is known to be well, most important first."""
    survey, told = seen.survey, []
    if survey.leader is not None and survey.may_fail >= 0:
        told.append(f"{survey.state_text}, in term {survey.term}")
    if seen.read_ms is not None and survey.leader is not None:
        told.append(
            f"a majority has confirmed a read in {seen.read_ms:.0f} ms: the log ends at event"
            f" {survey.leader.number('next_offset'):,}"
        )
    behind = [lag for r in survey.up if (lag := survey.behind(r, "next_offset")) is not None and not r.leads]
    if behind:
        told.append(f"the followers are {quantity(max(behind), 'event')} behind at most")
    if seen.disks:
        least = min(seen.disks.values(), key=lambda disk: disk.free_percent)
        told.append(f"the fullest disk has {least.free_percent:.0f} % left")
    return told


def _order(finding: Problem) -> tuple[int, int, list[int]]:
    return -finding.severity, list(ProblemKind).index(finding.kind), sorted(finding.nodes)


def _gather_consequences(seen: Situation, left: list[Problem]) -> list[Problem]:
    """Put what faults and missing nodes have done under them."""
    heads = (ProblemKind.FAULT, ProblemKind.SETTINGS_DIFFER, ProblemKind.CUT_OFF, ProblemKind.SPLIT_HISTORY)
    causes = [one for one in left if one.kind in heads or one.kind in _GONE]
    for cause in sorted(causes, key=lambda one: list(ProblemKind).index(one.kind)):
        if cause not in left:
            continue  # it follows from another one itself
        so = [one for one in left if one is not cause and _explains(seen, cause, one)]
        if not so:
            continue
        worst = max(cause.severity, *(one.severity for one in so))
        where = left.index(cause)
        left[where] = replace(cause, so=(*cause.so, *so), severity=worst)
        left = [one for one in left if one not in so]
    return left


def _gather_parts(left: list[Problem]) -> list[Problem]:
    """Put every node that is missing under the quorum that it is missing from."""
    head = next((one for one in left if one.kind is ProblemKind.NO_QUORUM), None)
    if head is None:
        return left
    kinds = (
        _GONE | _OF_ALL | {ProblemKind.FAULT, ProblemKind.OUTVOTED, ProblemKind.LAGGING, ProblemKind.CUT_OFF}
    )
    parts = [one for one in left if one.kind in kinds and one.nodes & head.nodes and one.wrong]
    after = [one for one in left if one.kind in kinds and one not in parts and one.kind not in _GONE]
    after = [one for one in after if one.kind is not ProblemKind.FAULT]
    rest = [one for one in left if one is not head and one not in parts and one not in after]
    return [replace(head, because=parts, so=after), *rest]


def _explains(seen: Situation, cause: Problem, other: Problem) -> bool:
    apart = (
        ProblemKind.FAULT,
        ProblemKind.NO_QUORUM,
        ProblemKind.TWO_LEADERS,
        ProblemKind.SPLIT_HISTORY,
        ProblemKind.SETTINGS_DIFFER,
    )
    if not other.wrong or other.kind in apart:
        return False
    if cause.kind is ProblemKind.SPLIT_HISTORY:
        return other.kind in _OF_ONE | {ProblemKind.NODE_DOWN} and other.nodes <= cause.nodes
    if cause.kind is ProblemKind.FAULT:
        if other.kind in (ProblemKind.NODE_DOWN, ProblemKind.NODE_PAUSED):
            return any(
                (one := seen.struck_process(number)) is not None and cause.next.split()[3] == one.fault
                for number in other.nodes
            )
        return other.kind in _OF_ALL or (other.kind in _OF_ONE and bool(other.nodes & cause.nodes))
    if cause.kind is ProblemKind.SETTINGS_DIFFER:
        return other.kind in _OF_ALL or (other.kind in _OF_ONE and bool(other.nodes & cause.nodes))
    if cause.kind is ProblemKind.CUT_OFF:
        return other.kind is ProblemKind.LAGGING and other.nodes == cause.nodes
    # A node that rejoins needs every other one to answer.
    return other.kind is ProblemKind.REJOINING and cause.kind not in (
        ProblemKind.REJOINING,
        ProblemKind.DAMAGE,
    )
