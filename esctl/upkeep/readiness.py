"""May a node be taken away, and is one really back? What the nodes say of themselves decides it.

A node counts when it answers, follows the one leader, is broken by nobody on purpose, trusts its disk and
has applied what that leader had committed when it was first looked at: so a steady load keeps nobody
waiting for ever. Looks and waits, changes nothing, never prints. Called by the rest of this package.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.clusters.backends.interface import RunState
from esctl.errors import TooFewNodes
from esctl.faults import leases
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import duration

ROUND_S: Final = 0.1
"""Between two looks; nothing tells when a follower has caught up."""

Look = Callable[[], Awaitable[Survey]]


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


def floor_of(survey: Survey, before: Floor | None) -> Floor | None:
    """The floor to hold the nodes to: the one there is while the same node leads in the same term."""
    leader = survey.leader
    if leader is None:
        return None
    number, term = leader.node.id, leader.number("term") or 0
    if before is not None and (before.leader, before.term) == (number, term):
        return before
    return Floor(number, term, leader.number("commit_index") or 0)


def obstacles(survey: Survey, numbers: Collection[int], floor: Floor | None) -> list[Obstacle]:
    """What keeps these nodes from counting; empty when all of them do."""
    found = [
        each for report in survey.reports if report.node.id in numbers for each in _of(survey, report, floor)
    ]
    if floor is None and not found:
        name = survey.cluster.name
        found.append(Obstacle("nobody leads", f"esctl status health --wait 10s --cluster {name}"))
    return found


async def wait_until_counting(
    look: Look, numbers: Collection[int], timeout_s: float
) -> tuple[Survey, Sequence[Obstacle]]:
    """Look until these nodes count, or cannot, or the time is over: the last look, and what is in the way."""
    deadline = trio.current_time() + timeout_s
    floor: Floor | None = None
    while True:
        survey = await look()
        floor = floor_of(survey, floor)
        found = obstacles(survey, numbers, floor)
        if not found or any(each.lasting for each in found) or trio.current_time() >= deadline:
            return survey, found
        await trio.sleep(ROUND_S)


async def wait_until_spared(look: Look, number: int, timeout_s: float) -> Survey:
    """Wait until the cluster can do without node `number`: all others count, and make a majority.

    Raises `TooFewNodes`; nothing was done then.
    """
    survey = await look()
    others = [node.id for node in survey.cluster.nodes if node.id != number]
    name = survey.cluster.name
    if len(others) < survey.cluster.quorum:
        raise TooFewNodes(
            f"without node {number} nothing is acked in {name}, which has no other node; nothing was done",
            next_step=f"esctl node restart {number} --cluster {name}, if a gap is no harm",
        )
    survey, found = await wait_until_counting(look, others, timeout_s)
    if found:
        reasons = "; ".join(each.reason for each in found)
        waited = "" if any(each.lasting for each in found) else f" after {duration(timeout_s)}"
        raise TooFewNodes(
            f"node {number} of {name} cannot be spared{waited}: {reasons}; it was left alone",
            next_step=next((each.next for each in found if each.lasting), found[0].next),
        )
    return survey


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
    lasting = report.process.state is not RunState.RUNNING and report.node.id not in struck
    reason = f"node {report.node.id} is down: {report.why}"
    return Obstacle(reason, f"{report.next_step} --cluster {cluster.name}", lasting)
