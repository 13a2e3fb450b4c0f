"""May a node be taken away, and is one really back? What the nodes say of themselves decides it.

A node counts when it answers, follows the one leader, is broken by nobody on purpose, trusts its disk and
has applied what that leader had committed when it was first looked at: so a steady load keeps nobody
waiting for ever. With several partitions it counts when it does so in each of them. Looks and waits, changes
nothing, never prints. Called by the rest of this package.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from esctl.clusters.backends.interface import RunState
from esctl.errors import TooFewNodes
from esctl.faults import leases
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import duration, shared

ROUND_S: Final = 0.1
"""Between two looks; nothing tells when a follower has caught up."""

Look = Callable[[], Awaitable[RingSurvey]]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a node does not count, and the command that helps."""

    reason: str
    next: str
    lasting: bool = False
    """Nothing that is under way ends it: there is nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Floor:
    """How far the leader of one term had committed when it was first looked at."""

    leader: int
    term: int
    index: int


Floors = Mapping[int | None, Floor]
"""Of the partitions that have a leader, each by its number."""


def floors_of(ring: RingSurvey, before: Floors) -> Floors:
    """The floors to hold the nodes to; see `_floor_of`."""
    found = {one.partition: _floor_of(one, before.get(one.partition)) for one in ring.partitions}
    return {partition: floor for partition, floor in found.items() if floor is not None}


def _floor_of(survey: Survey, before: Floor | None) -> Floor | None:
    """That of one partition: the one there is while the same node leads in the same term."""
    leader = survey.leader
    if leader is None:
        return None
    number, term = leader.node.id, leader.number("term") or 0
    if before is not None and (before.leader, before.term) == (number, term):
        return before
    return Floor(number, term, leader.number("commit_index") or 0)


def obstacles(ring: RingSurvey, numbers: Collection[int], floors: Floors) -> list[Obstacle]:
    """What keeps these nodes from counting; empty when all of them do. Of several partitions, once each."""
    each = [_obstacles(one, numbers, floors.get(one.partition)) for one in ring.partitions]
    return [replace(found, reason=f"{where}{found.reason}") for where, found in shared(each)]


def lacking(ring: RingSurvey, number: int) -> list[int | None]:
    """The partitions in which a node does not count, or not yet."""
    floors = floors_of(ring, {})
    return [one.partition for one in ring.partitions if _obstacles(one, [number], floors.get(one.partition))]


def _obstacles(survey: Survey, numbers: Collection[int], floor: Floor | None) -> list[Obstacle]:
    """Those in one partition."""
    found = [
        each for report in survey.reports if report.node.id in numbers for each in _of(survey, report, floor)
    ]
    if floor is None and not found:
        name = survey.cluster.name
        found.append(Obstacle("nobody leads", f"esctl status health --wait 10s --cluster {name}"))
    return found


async def wait_until_counting(
    look: Look, numbers: Collection[int], timeout_s: float
) -> tuple[RingSurvey, Sequence[Obstacle]]:
    """Look until these nodes count, or cannot, or the time is over: the last look, and what is in the way."""
    deadline = trio.current_time() + timeout_s
    floors: Floors = {}
    while True:
        ring = await look()
        floors = floors_of(ring, floors)
        found = obstacles(ring, numbers, floors)
        if not found or any(each.lasting for each in found) or trio.current_time() >= deadline:
            return ring, found
        await trio.sleep(ROUND_S)


async def wait_until_spared(look: Look, number: int, timeout_s: float) -> RingSurvey:
    """Wait until the cluster can do without node `number`: all others count, and make a majority.

    Raises `TooFewNodes`; nothing was done then.
    """
    ring = await look()
    others = [node.id for node in ring.cluster.nodes if node.id != number]
    name = ring.cluster.name
    if len(others) < ring.cluster.quorum:
        raise TooFewNodes(
            f"without node {number} nothing is acked in {name}, which has no other node; nothing was done",
            next_step=f"esctl node restart {number} --cluster {name}, if a gap is no harm",
        )
    ring, found = await wait_until_counting(look, others, timeout_s)
    if found:
        reasons = "; ".join(each.reason for each in found)
        waited = "" if any(each.lasting for each in found) else f" after {duration(timeout_s)}"
        raise TooFewNodes(
            f"node {number} of {name} cannot be spared{waited}: {reasons}; it was left alone",
            next_step=next((each.next for each in found if each.lasting), found[0].next),
        )
    return ring


def _of(survey: Survey, report: Report, floor: Floor | None) -> list[Obstacle]:
    """What is wrong with one node, the gravest first; only that is told."""
    number, name = report.node.id, f"--cluster {survey.cluster.name}"
    status = report.status
    if status is None:
        return [_away(survey, report)]
    if report.rejoining:
        # All others have to answer it, so one that stays away holds it up for ever.
        away = [_away(survey, other) for other in survey.down]
        held = next((each for each in away if each.lasting), None)
        if held is not None:
            return [Obstacle(f"node {number} is rejoining, and {held.reason}", held.next, lasting=True)]
        return [Obstacle(f"node {number} is rejoining", f"esctl status health --wait 1m {name}")]
    if report.faults:
        broken = f"node {number} is broken on purpose: {report.faults_text}"
        return [Obstacle(broken, f"esctl fault heal --all {name}")]
    if floor is None:
        return []
    if status["leader"] != floor.leader or report.number("term") != floor.term:
        return [
            Obstacle(
                f"node {number} does not follow node {floor.leader}", f"esctl status health --wait 10s {name}"
            )
        ]
    if number in survey.unheard:
        return [Obstacle(f"node {floor.leader} does not hear node {number}", f"esctl why {name}")]
    behind = floor.index - (report.number("applied_index") or 0)
    if behind > 0:
        return [Obstacle(f"node {number} is {behind:,} entries behind", f"esctl status {name}")]
    return []


def _away(survey: Survey, report: Report) -> Obstacle:
    """A node that does not answer. Its process may only just have begun, or a lease will bring it back."""
    cluster = survey.cluster
    struck = {one.node for one in leases.active(cluster)}
    stands = report.process.state_of(survey.partition) is not RunState.RUNNING
    lasting = stands and report.node.id not in struck
    reason = f"node {report.node.id} is down: {report.why}"
    return Obstacle(reason, f"{report.next_step} --cluster {cluster.name}", lasting)
