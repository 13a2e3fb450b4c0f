"""How `esctl fault` strikes: who is asked first, the orders, the look at what they do, and the answer.

Shared by the commands of the group. Once the orders are given nothing depends on this process.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from esctl.chaos import effect, ledger
from esctl.chaos.effect import Effect, EffectVerdict, RingJudge
from esctl.cli.durationoption import METAVAR
from esctl.cli.invocation import Invocation
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.errors import Inconclusive, InvalidArgument, NodeNotRunning, NoEffect
from esctl.exits import exit_of
from esctl.faults.nodeorders import Order
from esctl.faults.partitionshapes import Partition, listed
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration, leaders_named
from esnode.errors import Unreachable

if TYPE_CHECKING:
    from esctl.commands.fault.answers import Cut, Judged, OneNode, StrikeData, StruckLinks
    from esctl.query.ringsurvey import RingSurvey
    from esctl.query.survey import Survey

Lease = Annotated[
    str,
    typer.Option(
        "--lease",
        metavar=METAVAR,
        help="Time after which the fault ends by itself: 500ms, 10s, 2m; at most 10m",
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", show_default=False, help="Id of the fault; by default, a new one"),
]
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
"""No dot: where one command sets several faults, what follows a dot tells them apart."""
_TONES: Final = {
    EffectVerdict.APPLIED: Tone.GOOD,
    EffectVerdict.NO_EFFECT: Tone.BAD,
    EffectVerdict.UNKNOWN: Tone.WARN,
}


def strike(
    run: Invocation,
    aim: "RingSurvey",
    ordered: Sequence[Order],
    lease_ms: int,
    more: "OneNode | Cut | StruckLinks",
    what: str,
    judge: RingJudge,
    *,
    dry_run: bool,
    plan: View,
    ways: Sequence[str],
) -> Answer[Any]:
    """Give the orders, look whether they hit, and say so. `ways` is what the ledger calls it.

    `aim`: the partitions that are struck, as they were before.

    What is answered is a `StrikeData`, `more`, the orders, and `Planned` or `Judged`.
    """
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    cluster, fault = aim.cluster, ordered[0].id.partition(".")[0]
    head = head_of(aim, fault, lease_ms)
    data: dict[str, Any] = {**head, **more, "orders": [order.as_data() for order in ordered]}
    if dry_run:
        struck = listed(sorted({order.node for order in ordered}))
        first = Line(f"would set {what} for {duration(lease_ms / 1000)}, on node {struck}")
        return Answer({**data, "dry_run": True}, [first, plan])
    helps = f"esctl fault heal {fault} --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; its lease ends it anyway")

    async def strike_and_watch() -> tuple[list[list[Effect]], "RingSurvey"]:
        reached = await nodes.set_all(cluster, ordered, lease_ms, aim.only)
        ledger.note(cluster, fault, ways, reached)
        kept = more["quorum"]["kept"]
        return await nodes.watch(cluster, judge, lease_ms, for_leader=kept, only=aim.only)

    with run.terminal.progress(f"{what}: looking whether it hits"):
        effects, after = run.trio(strike_and_watch)
    processes = {process.node.id: process for process in after.worst.processes}
    ended = [order.node for order in ordered if processes[order.node].state is RunState.DOWN]
    if ended:  # by the fault, as by a write that was refused: it is over, and nothing brings the node back
        helps = f"esctl node start {ended[0]} --cluster {cluster.name}"
    return answer_of(data, what, effects, after, helps)


def answer_of(
    data: Mapping[str, Any], what: str, effects: Sequence[Sequence[Effect]], after: "RingSurvey", helps: str
) -> Answer[Any]:
    """What each node shows, and how it ends: exit 1 without effect, 12 where that is not known.

    The effects are those on each of the partitions that were struck.
    """
    several = len(after.partitions) > 1
    found = [
        (survey.partition, one)
        for survey, of_one in zip(after.partitions, effects, strict=True)
        for one in of_one
    ]
    verdict, leader = effect.of_all(one for _, one in found), after.leader
    judged: Judged = {
        "effect": verdict,
        "nodes": [one.as_data(partition if several else None) for partition, one in found],
        "leader_after": leader,
        "term_after": None if several else after.worst.term or None,
    }
    rows: list[list[Value]] = [
        [
            *([str(partition)] if several else []),
            one.node,
            Cell(one.verdict.value, _TONES[one.verdict]),
            one.evidence,
        ]
        for partition, one in found
    ]
    if several:
        leads = leaders_named([one["leader"] for one in after.leaders()])
    else:
        leads = f"node {leader}, term {after.worst.term}" if leader is not None else "nobody"
    head = Fields(
        [
            ("fault", Cell(data["fault"], Tone.STRONG)),
            ("what", what),
            *([("partition", str(data["partition"]))] if "partition" in data else []),
            ("lease", duration(data["lease_ms"] / 1000) if data["lease_ms"] else "none: it is no state"),
            ("effect", Cell(verdict.value, _TONES[verdict])),
            ("leader now", leads),
        ]
    )
    views: list[View] = [
        head,
        Table([*(["partition"] if several else []), "node", "effect", "what it shows"], rows),
        Fields([("to end it", helps)]),
    ]
    return Answer({**data, **judged}, views, *_ending(verdict, [one for _, one in found], after.cluster))


def _ending(
    verdict: EffectVerdict, effects: Sequence[Effect], cluster: Cluster
) -> tuple[Sequence[Trouble], Any]:
    """The error of a fault that was not shown to hit, and the exit code."""
    if verdict is EffectVerdict.APPLIED:
        return (), Answer().exit_code
    flaw = next(one for one in effects if one.verdict is verdict)
    error: type[NoEffect | Inconclusive] = NoEffect if verdict is EffectVerdict.NO_EFFECT else Inconclusive
    what = "has no effect" if verdict is EffectVerdict.NO_EFFECT else "is set; whether it hits is not known"
    step = f"esctl fault ls --cluster {cluster.name}"
    return [Trouble(error.code, f"the fault {what}", f"node {flaw.node}: {flaw.evidence}", step)], exit_of(
        error
    )


def head_of(aim: "RingSurvey", fault: str, lease_ms: int) -> "StrikeData":
    """What is said of every strike."""
    head: StrikeData = {"cluster": aim.cluster.name, "fault": fault, "lease_ms": lease_ms}
    if aim.only is not None:
        head["partition"] = aim.only
    return head


def counts(aim: "RingSurvey", ordered: Sequence[Order]) -> RingJudge:
    """Judge by what the nodes have counted."""
    pids = {survey.partition: pids_of(survey) for survey in aim.partitions}
    return lambda partition, looks, _: effect.of_orders(ordered, looks, pids[partition])


def pids_of(survey: "Survey") -> dict[int, int]:
    """The processes of a partition that answer, by node; where there is one partition, a node has one."""
    if survey.partition is None:
        return {}
    return {report.node.id: report.number("pid") or 0 for report in survey.up}


def survey_of(run: Invocation, cluster: Cluster, partition: int | None) -> "RingSurvey":
    """Every node asked, for all partitions or only one.

    Raises `InvalidArgument` where there is no such partition, `Unreachable` when none answers,
    `FaultsNotAllowed` when one allows none.
    """
    from esctl.chaos import nodes  # loaded late: it brings trio and the client
    from esctl.query import ringsurvey

    only = run.partition(cluster, partition, required=False)
    ring = run.trio(lambda: ringsurvey.ask(cluster, only=only))
    if not ring.up:
        raise Unreachable(ring.worst.nobody.message, next_step=ring.worst.nobody.next)
    for survey in ring.partitions:
        nodes.check_allowed(cluster, survey)
    return ring


def check_up(aim: "RingSurvey", numbers: Sequence[int]) -> None:
    """Raises `NodeNotRunning` when one of the nodes does not answer, for a partition that is struck."""
    for survey in aim.partitions:
        for number in numbers:
            report = survey.report(number)
            if not report.up:
                raise NodeNotRunning(
                    f"node {number} gives no answer: {report.why}; nothing was done",
                    next_step=f"{report.next_step} --cluster {aim.cluster.name}",
                )


def voters_of(aim: "RingSurvey") -> list[int]:
    """The committed membership, as a node that answers has it."""
    up = next(report for survey in aim.partitions for report in survey.up)
    return [int(number) for number in (up.status or {})["voters"]]


def sides_of(cut: Partition) -> Table:
    """What the quorum would be on each side."""
    rows: list[list[Value]] = [
        [
            listed(side),
            listed(reach),
            Cell(cut.outcome(reach), Tone.GOOD if len(reach) >= cut.needed else Tone.WARN),
        ]
        for side, reach in cut.sides()
    ]
    return Table(["node", "exchanges messages with", "so it has"], rows)


def new_id(what: str, wanted: str | None) -> str:
    """The name that was asked for, or a short one, to be typed again. Raises `InvalidArgument`."""
    if wanted is not None and not _ID.fullmatch(wanted):
        raise InvalidArgument(
            f"{wanted!r} cannot name a fault", next_step="use up to 60 letters, digits, _ and -"
        )
    return wanted or f"{what}-{secrets.token_hex(2)}"
