"""`esctl leader`: who leads, and handing the leadership over without a gap."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final, Literal, NotRequired, TypedDict

import typer

from esctl.cli import candidates
from esctl.cli.arguments import DryRun, PartitionOption
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.errors import InvalidArgument, NodeNotRunning, OtherLeader
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value
from esctl.ui.formatting import duration
from esctl.ui.values import Address, Count, NodeId, Seconds
from esnode.errors import NoQuorum

if TYPE_CHECKING:
    from esctl.query.ringsurvey import PartitionLeader
    from esctl.query.survey import QuorumData, Report, Survey

app = new_typer()


class LeaderAnswer(TypedDict):
    """Who leads, and how many nodes answer."""

    cluster: str
    partition: NotRequired[Count]
    leader: NodeId | None
    address: Address | None
    pid: int | None
    term: int
    quorum: "QuorumData"


_From = TypedDict("_From", {"from": NodeId})


class LeadersAnswer(TypedDict):
    """Who leads each of several partitions."""

    cluster: str
    partitions: "list[PartitionLeader]"
    quorum: Annotated["QuorumData", "That of the worst"]


class PlannedTransferAnswer(_From):
    """What a transfer would do."""

    cluster: str
    partition: NotRequired[Count]
    to: Annotated[NodeId | None, "null is the best follower"]
    quorum: "QuorumData"
    dry_run: Literal[True]


class TransferAnswer(_From):
    """Who led, who leads now, and how long that took."""

    cluster: str
    partition: NotRequired[Count]
    to: NodeId
    quorum: "QuorumData"
    seconds: Seconds


CONFIRM_TIMEOUT_S: Final = 5.0
"""How long the new leader may take to answer for a majority."""


@command(app, "show", partitions=True)
def show(run: Invocation, partition: PartitionOption = None) -> Answer[LeaderAnswer | LeadersAnswer]:
    """Show which node leads, and whether the cluster would still have a quorum without it"""
    if partition is None and run.cluster().partitions > 1:
        return _show_all(run)
    survey = _survey(run, partition)
    if not survey.up:
        return Answer(errors=[survey.nobody], exit_code=Exit.UNREACHABLE)
    leader = survey.leader
    data: LeaderAnswer = {
        "cluster": survey.cluster.name,
        "leader": leader.node.id if leader is not None else None,
        "address": leader.node.client if leader is not None else None,
        "pid": leader.number("pid") if leader is not None else None,
        "term": survey.term,
        "quorum": survey.quorum_data(),
    }
    if survey.partition is not None:
        data["partition"] = survey.partition
    if leader is None:
        return Answer.of_error(_nobody_leads(survey), data)
    fields = Fields(
        [
            ("leader", Cell(f"node {leader.node.id}", Tone.GOOD)),
            ("address", leader.node.client),
            ("term", str(survey.term)),
            ("quorum", survey.quorum_text),
            ("without it", _without(survey)),
        ]
    )
    return Answer(data, [fields])


def _show_all(run: Invocation) -> Answer[LeadersAnswer]:
    """Who leads, of a cluster with several partitions."""
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client

    cluster = run.cluster()
    ring = run.trio(lambda: ringsurvey.ask(cluster))
    if not ring.up:
        return Answer(errors=[ring.worst.nobody], exit_code=Exit.UNREACHABLE)
    leaders = ring.leaders()
    data: LeadersAnswer = {
        "cluster": cluster.name, "partitions": leaders, "quorum": ring.worst.quorum_data(),
    }  # fmt: skip
    alone = next((survey for survey in ring.partitions if survey.leader is None), None)
    if alone is not None:
        return Answer.of_error(_nobody_leads(alone), data)
    counts = Counter(one["leader"] for one in leaders)
    rows: list[list[Value]] = [
        [
            str(number),
            Cell(f"node {survey.leader.node.id}", Tone.GOOD),
            survey.leader.node.client,
            survey.term,
            _without(survey),
        ]
        for number, survey in enumerate(ring.partitions)
        if survey.leader is not None
    ]
    spread = ", ".join(f"node {node.id} leads {counts[node.id]}" for node in cluster.nodes)
    table = Table(["partition", "leader", "address", "term", "without it"], rows)
    return Answer(data, [table, Fields([("spread", spread), ("quorum", ring.quorum_text)])])


@command(app, "transfer", partitions=True)
def transfer(
    run: Invocation,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="ID",
            min=1,
            help="New leader; by default, the best follower",
            autocompletion=candidates.nodes,
        ),
    ] = None,
    partition: PartitionOption = None,
    dry_run: DryRun = False,
) -> Answer[PlannedTransferAnswer | TransferAnswer]:
    """Transfer the leadership to another node; no event is lost, and clients hardly notice"""
    if to is not None:
        run.cluster().node(to)  # a number that does not exist is said before anything else
    survey = _survey(run, partition)
    if not survey.up:
        return Answer(errors=[survey.nobody], exit_code=Exit.UNREACHABLE)
    leader = _leader(survey)
    check(survey, leader, to)
    cluster, quorum, of = survey.cluster.name, survey.quorum_data(), _of(survey)
    if dry_run:
        planned: PlannedTransferAnswer = {
            "cluster": cluster, "from": leader.node.id, "to": to, "quorum": quorum, "dry_run": True,
        }  # fmt: skip
        whom = f"node {to}" if to is not None else "the best follower"
        if survey.partition is not None:
            planned["partition"] = survey.partition
        text = (
            f"would move the leadership{of} from node {leader.node.id} to {whom}; still {survey.quorum_text}"
        )
        return Answer(planned, [Line(text)])
    with run.terminal.progress("moving the leadership"):
        old, new, seconds = run.trio(lambda: _transfer(survey, leader, to))
    data: TransferAnswer = {
        "cluster": cluster, "from": old, "to": new, "quorum": quorum, "seconds": round(seconds, 4),
    }  # fmt: skip
    if survey.partition is not None:
        data["partition"] = survey.partition
    if to is not None and new != to:
        trouble = Trouble(
            OtherLeader.code,
            f"node {new} leads{f' partition {survey.partition}' if of else ''} now, not node {to}",
            "another election came between",
            OtherLeader.next_step,
        )
        return Answer(data, errors=[trouble], exit_code=Exit.ERROR)
    text = f"the leadership{of} went from node {old} to node {new} in {duration(seconds)}"
    return Answer(data, [Line(text, Tone.GOOD), Line(f"quorum: {survey.quorum_text}")])


async def _transfer(survey: "Survey", leader: "Report", to: int | None) -> tuple[int, int, float]:
    """Ask the leader, and wait until the new one answers for a majority."""
    from esctl.query.barrier import confirmed_end
    from esnode.client import connect_node

    begun = time.perf_counter()
    identity, partition = survey.cluster.identity, survey.partition
    async with connect_node(leader.node.client, cluster=identity, partition=partition) as link:
        old, new = await link.transfer_leadership(to)
    end = await confirmed_end(survey.cluster, CONFIRM_TIMEOUT_S, partition=partition)
    return old, end.leader or new, time.perf_counter() - begun


def _survey(run: Invocation, partition: int | None) -> "Survey":
    from esctl.query import survey  # loaded late: it brings trio and the client

    cluster = run.cluster()
    number = run.partition(cluster, partition)
    return run.trio(lambda: survey.ask(cluster, partition=number))


def _of(survey: "Survey") -> str:
    """Of which partition, where there are several."""
    return "" if survey.partition is None else f" of partition {survey.partition}"


def _leader(survey: "Survey") -> "Report":
    if survey.leader is None:
        raise _nobody_leads(survey)
    return survey.leader


def check(survey: "Survey", leader: "Report", to: int | None) -> None:
    """That the transfer makes sense; raises the error that says why not."""
    name = f"--cluster {survey.cluster.name}"
    if to == leader.node.id:
        raise InvalidArgument(
            f"node {to} leads already; nothing was done", next_step=f"esctl leader show {name}"
        )
    wanted = survey.report(to) if to is not None else None
    if wanted is not None and not wanted.up:
        raise NodeNotRunning(
            f"node {to} cannot lead, it is down: {wanted.why}; nothing was done",
            next_step=f"{wanted.next_step} {name}",
        )
    followers = [report for report in survey.up if report.node != leader.node]
    if survey.may_fail < 0 or not followers:
        raise NoQuorum(
            f"nobody could take over: {survey.quorum_text}; nothing was done",
            next_step=f"esctl status {name}",
        )


def _nobody_leads(survey: "Survey") -> NoQuorum:
    which = "" if survey.partition is None else f" partition {survey.partition}"
    return NoQuorum(
        f"no node of {survey.cluster.name} leads{which}: {survey.quorum_text}",
        next_step=f"esctl status health --wait 10s --cluster {survey.cluster.name}",
    )


def _without(survey: "Survey") -> Cell:
    if survey.may_fail >= 1:
        return Cell("the others elect a new one", Tone.NORMAL)
    return Cell("no quorum: nothing is acked", Tone.WARN)
