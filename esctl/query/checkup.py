"""The four stages of a cluster's health: alive, ready, quorum, deep; each with its reasons.

A stage that is not well says why, and which command helps. The deep one asks for a linearizable read, so
that a majority has to answer for it. Computes on a survey but for that read, and never prints. Called by
`esctl status health`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict

import trio

from esctl.clusters import nodelog
from esctl.clusters.backends.interface import RunState
from esctl.clusters.nodelog import LogLine
from esctl.clusters.state import Cluster
from esctl.query import lostlog, ringsurvey
from esctl.query import survey as surveys
from esctl.query.barrier import confirmed_end
from esctl.query.lostlog import Shortened
from esctl.query.ringsurvey import RingSurvey, shared, without_why
from esctl.query.survey import MAX_LAG_EVENTS, Report, Survey
from esctl.ui.formatting import quantity
from esnode.errors import EventStreamError

READ_TIMEOUT_S: Final = 2.0
ROUND_S: Final = 0.2
"""Between two looks while waiting for health."""


StageName = Literal["alive", "ready", "quorum", "deep"]


class StageData(TypedDict):
    """One stage, what is wrong with it, and what helps."""

    stage: StageName
    ok: bool
    reasons: list[str]
    next: list[str]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage and what is wrong with it: (reason, next command) pairs; none means well."""

    name: StageName
    asks: str
    flaws: Sequence[tuple[str, str]]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.flaws

    def as_data(self) -> StageData:
        """For the JSON answer."""
        return {
            "stage": self.name,
            "ok": self.ok,
            "reasons": [reason for reason, _ in self.flaws],
            "next": [step for _, step in self.flaws],
        }


@dataclass(frozen=True, slots=True)
class Checkup:
    """One look at a cluster."""

    survey: Survey
    """With several partitions, that of the worst."""
    stages: Sequence[Stage]
    ring: RingSurvey | None = None
    """With several partitions, all of them."""

    @property
    def healthy(self) -> bool:
        """Every stage is well."""
        return all(stage.ok for stage in self.stages)

    @property
    def gist(self) -> tuple[object, ...]:
        """What it comes to, without figures that change all the time: who leads, and what would help."""
        up = tuple(tuple(report.node.id for report in survey.up) for survey in self.surveys)
        steps = tuple((stage.name, tuple(step for _, step in stage.flaws)) for stage in self.stages)
        return (self.leaders, up, steps)

    @property
    def surveys(self) -> Sequence[Survey]:
        """Of each partition."""
        return [self.survey] if self.ring is None else self.ring.partitions

    @property
    def leaders(self) -> tuple[int | None, ...]:
        """Of each partition, the number of the node that leads."""
        found = [survey.leader for survey in self.surveys]
        return tuple(leader.node.id if leader is not None else None for leader in found)

    @property
    def quorum_text(self) -> str:
        """For people."""
        return self.survey.quorum_text if self.ring is None else self.ring.quorum_text

    @property
    def serving(self) -> bool:
        """Events are taken and read, even if a node is missing."""
        return all(stage.ok for stage in self.stages if stage.name in ("quorum", "deep"))


async def examine(cluster: Cluster) -> Checkup:
    """Look once; takes a few seconds at most."""
    tails = lostlog.tails(cluster)
    if cluster.partitions == 1:
        survey = await surveys.ask(cluster)
        return Checkup(survey, await _stages(survey, tails))
    ring = await ringsurvey.ask(cluster)
    each: dict[int, Sequence[Stage]] = {}

    async def examine_one(partition: int, survey: Survey) -> None:
        each[partition] = await _stages(survey, tails)

    async with trio.open_nursery() as nursery:
        for partition, survey in enumerate(ring.partitions):
            nursery.start_soon(examine_one, partition, survey)
    return Checkup(ring.worst, _together([each[partition] for partition in sorted(each)]), ring)


def _together(each: Sequence[Sequence[Stage]]) -> list[Stage]:
    """The stages of all partitions as those of the cluster; a flaw says of which partitions it is one."""
    return [
        Stage(
            stages[0].name,
            stages[0].asks,
            [
                (f"{where}{reason}", without_why(step))
                for where, (reason, step) in shared([one.flaws for one in stages])
            ],
        )
        for stages in zip(*each, strict=True)
    ]


async def _stages(survey: Survey, tails: Mapping[int, Sequence[LogLine]]) -> list[Stage]:
    quorum = _quorum(survey)
    deep = Stage(
        "deep", _DEEP, [("not tried: there is no quorum", quorum.flaws[0][1])] if quorum.flaws else []
    )
    if quorum.ok:
        deep = await _deep(survey)
    lost = lostlog.find(survey, tails)
    return [_alive(survey), ready(survey, lost), quorum, deep]


async def wait_healthy(cluster: Cluster, timeout_s: float) -> Checkup:
    """Look until all is well, or the time is over; the last look."""
    deadline = trio.current_time() + timeout_s
    checkup = await examine(cluster)
    while not checkup.healthy and trio.current_time() < deadline:
        await trio.sleep(ROUND_S)  # nothing tells when a cluster recovers
        checkup = await examine(cluster)
    return checkup


async def changes(cluster: Cluster, every_s: float = ROUND_S) -> AsyncGenerator[Checkup, None]:
    """The first look, and then each that comes to something else than the one before; for ever."""
    gist: tuple[object, ...] | None = None
    while True:
        checkup = await examine(cluster)
        if checkup.gist != gist:
            yield checkup
        gist = checkup.gist
        await trio.sleep(every_s)  # nothing tells when a cluster changes


_DEEP: Final = "a read that a majority answers for"


def _alive(survey: Survey) -> Stage:
    gone = [
        (f"node {r.node.id} is {_state(r)}", f"{_step(survey, r)} --cluster {survey.cluster.name}")
        for r in survey.reports
        if r.process.state is not RunState.RUNNING
    ]
    return Stage("alive", "every process runs", gone)


def _step(survey: Survey, report: Report) -> str:
    """What to type about a node that is down; the cluster is not named."""
    return "esctl why" if survey.data_is_gone else report.next_step


def _state(report: Report) -> str:
    """Of a process that is not running, with the error that ended it where it left one."""
    ended = report.process.state is RunState.DOWN
    error = nodelog.last_error(report.node.log) if ended else ""
    return f"{report.process.state}: {error}" if error else str(report.process.state)


def ready(survey: Survey, lost: Shortened | None) -> Stage:
    """Every running node answers, keeps up, and has the history that its leader has."""
    name = survey.cluster.name
    flaws = [] if lost is None else [(lost.text, f"esctl why --cluster {name}")]
    flaws += [
        (f"node {r.node.id}: {r.why}", f"{r.next_step} --cluster {name}")
        for r in survey.down
        if r.process.state is RunState.RUNNING
    ]
    for report in survey.up:
        lag = survey.behind(report, "next_offset") or 0
        if lag > MAX_LAG_EVENTS:
            flaws.append(
                (
                    f"node {report.node.id} is {quantity(lag, 'event')} behind",
                    f"esctl status --cluster {name}",
                )
            )
        elif report.node.id in survey.unheard:
            said = f"node {report.node.id} answers here, and its leader does not hear it"
            flaws.append((said, f"esctl why --cluster {name}"))
    flaws += [(text, f"esctl why --cluster {name}") for text in survey.conflicts.values()]
    flaws += [_rejoining(survey, report) for report in survey.rejoining]
    flaws += [
        (
            f"node {report.node.id} is broken on purpose: {report.faults_text}",
            f"esctl fault heal --all --cluster {name}",
        )
        for report in survey.reports
        if report.faults
    ]
    flaws += [
        (f"nodes {one} and {other} do not talk to each other ({code}): {why}", f"esctl why --cluster {name}")
        for (one, other), (code, why) in survey.refusals.items()
    ]
    if not survey.up:
        flaws.append(("no node answers", survey.nobody.next))
    return Stage("ready", "every running node answers and keeps up", flaws)


def _rejoining(survey: Survey, report: Report) -> tuple[str, str]:
    """Why such a node is not ready, and what helps: it is done once all others have answered it."""
    name, number = survey.cluster.name, report.node.id
    cause = f" ({report.rejoin_cause})" if report.rejoin_cause else ""
    what = f"node {number} does not trust its own disk{cause} and fetches its log from the others"
    if survey.down:
        missing = survey.down[0]
        return f"{what}; it needs node {missing.node.id} too", f"{missing.next_step} --cluster {name}"
    sound = len(survey.up) - len(survey.rejoining)
    copies = sum(each.rejoin_cause == "copy" for each in survey.rejoining)
    if sound >= survey.cluster.quorum:
        return what, f"esctl status health --wait 1m --cluster {name}"
    helps = f"esctl cluster start {name} --trust-copy"
    if sound + copies < survey.cluster.quorum:
        helps = 'esctl docs deployment, "When a majority rejoins"'
    return f"{what}; too few of them trust theirs", f"esctl cluster stop {name}; then {helps}"


def _quorum(survey: Survey) -> Stage:
    name = survey.cluster.name
    flaws = []
    if survey.may_fail < 0:
        helps = f"esctl logs --cluster {name}"
        if survey.down:
            helps = f"{_step(survey, survey.down[0])} --cluster {name}"
        elif survey.rejoining:
            _, helps = _rejoining(survey, survey.rejoining[0])
        flaws.append((survey.quorum_text, helps))
    elif survey.leader is None:
        flaws.append(
            ("a majority answers and nobody leads", f"esctl status health --wait 10s --cluster {name}")
        )
    return Stage("quorum", "a majority follows one leader", flaws)


async def _deep(survey: Survey) -> Stage:
    helps = f"esctl status --cluster {survey.cluster.name}"
    try:
        await confirmed_end(survey.cluster, READ_TIMEOUT_S, partition=survey.partition)
    except EventStreamError as error:
        return Stage("deep", _DEEP, [(str(error), helps)])
    return Stage("deep", _DEEP, [])
