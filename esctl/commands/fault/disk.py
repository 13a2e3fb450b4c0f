"""`esctl fault disk`: a disk that is slow, refuses a write, has a flipped bit, or a torn end.

The first three last for a lease. The last two are events, not states: the node is stopped, its files are
damaged, it is started again, and what it does then is the answer. A watchdog starts it should `esctl` be
gone.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from esctl.chaos import ledger
from esctl.cli import guard
from esctl.cli.arguments import DryRun, OnlyPartition, Yes
from esctl.cli.durationoption import METAVAR, duration_option
from esctl.cli.invocation import Invocation
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.commands.fault.injection import Lease, Name, answer_of, counts, new_id, strike, survey_of
from esctl.errors import TooFewNodes
from esctl.faults import leases, nodeorders
from esctl.faults.nodeorders import Order
from esctl.ui.answer import Answer, Line

if TYPE_CHECKING:
    from esctl.chaos.atrest import Damage
    from esctl.cli.guard import QuorumChange
    from esctl.commands.fault.answers import (
        DamagedStrike,
        DamageStrike,
        JudgedDamageStrike,
        JudgedNodeOrderStrike,
        NodeOrderStrike,
        OneNode,
        PlannedDamageStrike,
        PlannedNodeOrderStrike,
    )
    from esctl.query.ringsurvey import RingSurvey
    from esctl.query.survey import Survey

AT_REST: Final = ("flip", "torn")
LEASE_MS: Final = 60_000
"""When a watchdog starts a node whose files are being damaged, should nobody else have."""
MEANINGS: Final = {
    "slow": "each commit to the disk is delayed by --delay",
    "fail": "the next write fails, and the node exits",
    "full": "the next write fails because the disk is full, and the node exits",
    "flip": "a bit of an acked entry is flipped while the node is stopped",
    "torn": "half a record is left at the end of the log while the node is stopped",
}
"""What the help says of each."""
_ONE_OFF: Final = {
    "flip": "stop it, flip one bit of an acked entry on its disk, start it",
    "torn": "kill it, leave half a record at the end of its log, start it",
}


def disk(
    run: Invocation,
    how: Annotated[
        Literal["slow", "fail", "full", "flip", "torn"],
        typer.Argument(help="Kind of disk fault"),
    ],
    node: Annotated[int, typer.Argument(metavar="NODE", min=1, help="Node number")],
    delay: Annotated[str, typer.Option("--delay", metavar=METAVAR, help="Delay of each commit")] = "100ms",
    jitter: Annotated[
        str,
        typer.Option(
            "--jitter", metavar=METAVAR, help="Maximum of the random time that is added to the delay"
        ),
    ] = "0ms",
    partition: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    wait: Annotated[
        float, duration_option("--wait", "Time that the node has to repair its log after flip or torn")
    ] = 60.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> (
    "Answer[PlannedNodeOrderStrike | NodeOrderStrike | JudgedNodeOrderStrike"
    " | PlannedDamageStrike | DamageStrike | DamagedStrike | JudgedDamageStrike]"
):
    """Make a node's disk slow, make it refuse a write, or damage stored data, which the node then repairs"""
    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    cluster.node(node)
    if how in AT_REST:
        partition = run.partition(cluster, partition)  # there is one file, and one log that is made whole
    aim = survey_of(run, cluster, partition)
    gone = () if how == "slow" else (node,)
    change = guard.quorum_change(cluster, aim.worst.processes, uncounted=aim.uncounted, without=gone)
    if how in AT_REST:
        return _at_rest(run, aim, how, node, change, wait, name, yes=yes, dry_run=dry_run)
    parameters = {}
    if how == "slow":
        parameters = {"delay_ms": nodeorders.delay_of(delay), "jitter_ms": nodeorders.delay_of(jitter)}
    ordered = [Order(node, new_id("disk", name), f"disk-{how}", parameters=parameters)]
    plan = Line(f"afterwards: {change.text}")
    if not dry_run:
        run.terminal.view(plan)
    if change.lost and not dry_run:
        guard.moderate(
            run.terminal, f"let the disk of node {node} refuse its next write.", yes=yes, typed=run.typed
        )
    data: OneNode = {"node": node, "quorum": change.as_data()}
    what = f"a disk that is {how}" if how != "fail" else "a disk that fails"
    return strike(
        run, aim, ordered, lease_ms, data, f"{what} at node {node}", counts(aim, ordered),
        dry_run=dry_run, plan=plan, ways=[f"disk {how}"],
    )  # fmt: skip


def _at_rest(
    run: Invocation,
    aim: "RingSurvey",
    how: str,
    number: int,
    change: "QuorumChange",
    wait_s: float,
    name: str | None,
    *,
    yes: bool,
    dry_run: bool,
) -> Answer[Any]:
    """Stop the node, damage its files, start it, and see whether it is whole again."""
    from esctl.chaos import atrest  # loaded late: it brings trio and the client

    cluster, survey = aim.cluster, aim.worst
    _check_others(survey, how, number)
    fault = new_id(how, name)
    data: DamageStrike | DamagedStrike = {
        "cluster": cluster.name, "fault": fault, "lease_ms": None, "node": number, "quorum": change.as_data(),
    }  # fmt: skip
    if aim.only is not None:
        data["partition"] = aim.only
    plan = Line(f"while node {number} is away: {change.text}")
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(f"node {number}: would {_ONE_OFF[how]}"), plan])
    run.terminal.view(plan)
    guard.moderate(
        run.terminal, f"node {number} of {cluster.name}: {_ONE_OFF[how]}.", yes=yes, typed=run.typed
    )
    helps = f"esctl status --cluster {cluster.name}"
    away = f"a watchdog starts node {number} within {LEASE_MS // 1000} s if it is down"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; {away}")
    log_end = nodelog.size(backend_named(cluster.backend).log_path(cluster, number))
    with run.terminal.progress(f"{how} at node {number}"):
        done = _damaged(survey, fault, how, number)
        ledger.note(cluster, fault, [f"disk {how}"], [number])
    run.terminal.note(f"node {number}: {done.text}; looking what it makes of it")
    damaged: DamagedStrike = {**data, "damage": done.facts}
    data = damaged
    before = survey.report(number)
    with run.terminal.progress(f"{how} at node {number}: looking whether it is repaired"):
        found, left = run.trio(lambda: atrest.watch(cluster, number, how, before, log_end, wait_s, aim.only))
    after = replace(aim, partitions=[left])
    return answer_of(data, done.text, [[found]], after, f"nothing: it is over; {helps}")


def _damaged(survey: "Survey", fault: str, how: str, number: int) -> "Damage":
    """The node is away only in here, whatever comes; a watchdog sees to that."""
    from esctl.chaos import atrest

    stopped = leases.begin(survey.cluster, fault, how, number, LEASE_MS)
    try:
        stopped = leases.strike(survey.cluster, stopped)
        return atrest.damage(survey.cluster, number, how, survey.partition)
    finally:
        leases.end(survey.cluster, stopped)


def _check_others(survey: "Survey", how: str, number: int) -> None:
    """Raises `TooFewNodes`: no acked entry may be damaged on two nodes, and all others must answer."""
    name = survey.cluster.name
    why = [f"node {report.node.id}: {report.why}" for report in survey.down]
    why += [f"node {report.node.id} is fetching its log itself" for report in survey.rejoining]
    if len(survey.cluster.nodes) < 3:
        why.append(f"{name} has no other nodes to repair it from")
    if why:
        raise TooFewNodes(
            f"disk {how} at node {number} wants every node to be well; {'; '.join(why)}; nothing was done",
            next_step=f"esctl status health --wait 1m --cluster {name}",
        )
