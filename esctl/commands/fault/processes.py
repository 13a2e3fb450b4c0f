"""`esctl fault kill`, `pause` and `freeze`: nodes that end or stand still, until a watchdog ends that."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esctl.chaos import effect, ledger
from esctl.chaos.effect import Effect, EffectLook
from esctl.cli import guard
from esctl.cli.arguments import DryRun, NodeArgument, OnlyPartition, Yes
from esctl.cli.durationoption import METAVAR
from esctl.cli.invocation import Invocation
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.commands.fault.injection import (
    Lease,
    Name,
    answer_of,
    check_up,
    head_of,
    new_id,
    pids_of,
    survey_of,
)
from esctl.faults import leases, nodeorders
from esctl.faults.partitionshapes import listed
from esctl.ui.answer import Answer, Line
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.cli.guard import QuorumChange
    from esctl.commands.fault.answers import (
        Freeze,
        JudgedFreeze,
        JudgedNodeStrike,
        NodeStrike,
        PlannedFreeze,
        PlannedNodeStrike,
    )
    from esctl.query.ringsurvey import RingSurvey


def kill(
    run: Invocation,
    node: NodeArgument,
    partition: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedNodeStrike | NodeStrike | JudgedNodeStrike]":
    """Kill a node without warning (SIGKILL), and start it again when the lease ends; with --partition,
    only its process for that partition, which the node itself starts again at once"""
    return _stop(run, "kill", [node], partition, lease, name, yes=yes, dry_run=dry_run)


def pause(
    run: Invocation,
    node: NodeArgument,
    partition: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedNodeStrike | NodeStrike | JudgedNodeStrike]":
    """Freeze a node (SIGSTOP), and resume it when the lease ends"""
    return _stop(run, "pause", [node], partition, lease, name, yes=yes, dry_run=dry_run)


def freeze(
    run: Invocation,
    partition: OnlyPartition = None,
    lease: Annotated[
        str,
        typer.Option("--lease", metavar=METAVAR, help="Time after which the nodes are resumed; at most 10m"),
    ] = "5s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedFreeze | Freeze | JudgedFreeze]":
    """Freeze all nodes at the same time, as a snapshot of a virtual machine does, and resume them when
    the lease ends"""
    numbers = [node.id for node in run.cluster().nodes]
    return _stop(run, "freeze", numbers, partition, lease, name, yes=yes, dry_run=dry_run)


def _stop(
    run: Invocation,
    kind: str,
    numbers: list[int],
    partition: int | None,
    lease: str,
    name: str | None,
    *,
    yes: bool,
    dry_run: bool,
) -> Answer[Any]:
    """Kill or pause nodes, or their processes for one partition, each with a watchdog that ends that."""
    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    for number in numbers:
        cluster.node(number)
    aim = survey_of(run, cluster, partition)
    # Its own node starts it again: that is over at once, and no lease has to end it.
    once = kind == "kill" and aim.only is not None
    uncounted = aim.uncounted
    change = guard.quorum_change(cluster, aim.worst.processes, uncounted=uncounted, without=numbers)
    fault, what = new_id(kind, name), f"{kind} of node {listed(numbers)}"
    head = head_of(aim, fault, 0 if once else lease_ms)
    which = f"node {listed(numbers)}"
    if aim.only is not None:
        which = f"the process of partition {aim.only} of {which}"
    data: Freeze | NodeStrike
    if kind == "freeze":
        data = {**head, "struck": numbers, "quorum": change.as_data()}
    else:
        data = {**head, "node": numbers[0], "quorum": change.as_data()}
    if dry_run:
        span = "" if once else f" for {duration(lease_ms / 1000)}"
        line = Line(f"would {kind} {which}{span}; then {change.text}")
        return Answer({**data, "dry_run": True}, [line])
    run.terminal.view(Line(f"afterwards: {change.text}"))
    if change.lost:
        guard.moderate(
            run.terminal,
            f"{kind} {which} of {cluster.name}{'' if once else f' for {lease}'}.",
            yes=yes,
            typed=run.typed,
        )
    helps = f"esctl fault heal {fault} --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; its lease ends it anyway")
    check_up(aim, numbers)
    with run.terminal.progress(f"{what}: looking whether it hits"):
        if once:
            assert aim.only is not None
            only, backend = aim.only, backend_named(cluster.backend)
            run.trio(lambda: backend.kill_replica(cluster, numbers[0], only))
            helps = "nothing: it is over"
        else:
            names = {number: fault if len(numbers) == 1 else f"{fault}.{number}" for number in numbers}
            for one in leases.begin_all(cluster, names, kind, lease_ms, aim.only):
                leases.strike(cluster, one)
        ledger.note(cluster, fault, [kind], numbers)
        effects, after = run.trio(lambda: _watch(aim, kind, numbers, lease_ms, change))
    return answer_of(data, what, effects, after, helps)


async def _watch(
    aim: "RingSurvey", kind: str, numbers: list[int], lease_ms: int, change: "QuorumChange"
) -> tuple[list[list[Effect]], "RingSurvey"]:
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    pids = pids_of(aim.partitions[0]) if kind == "kill" and aim.only is not None else {}

    def judge(_struck: int | None, looks: Mapping[int, EffectLook], _elapsed_ms: int) -> list[Effect]:
        if pids:
            return effect.of_replicas(numbers, looks, pids)
        return effect.of_processes(numbers, RunState.DOWN if kind == "kill" else RunState.PAUSED, looks)

    kept = change.running_after >= change.needed
    return await nodes.watch(aim.cluster, judge, lease_ms, for_leader=kept, only=aim.only)
