"""`esctl fault kill`, `pause` and `freeze`: nodes that end or stand still, until a watchdog ends that."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from esctl.chaos import effect, ledger
from esctl.chaos.effect import Effect
from esctl.cli import guard
from esctl.cli.arguments import DryRun, NodeArgument, Yes
from esctl.cli.durationoption import METAVAR
from esctl.cli.invocation import Invocation
from esctl.clusters.backends.interface import RunState
from esctl.commands.fault.injection import Lease, Name, answer_of, new_id, survey_of
from esctl.errors import NodeNotRunning
from esctl.faults import leases, nodeorders
from esctl.faults.partitionshapes import listed
from esctl.ui.answer import Answer, Line
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.commands.fault.answers import (
        Freeze,
        JudgedFreeze,
        JudgedNodeStrike,
        NodeStrike,
        PlannedFreeze,
        PlannedNodeStrike,
        StrikeData,
    )
    from esctl.query.survey import Survey


def kill(
    run: Invocation,
    node: NodeArgument,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedNodeStrike | NodeStrike | JudgedNodeStrike]":
    """Kill a node without warning (SIGKILL), and start it again when the lease ends"""
    return _stop(run, "kill", [node], lease, RunState.DOWN, name, yes=yes, dry_run=dry_run)


def pause(
    run: Invocation,
    node: NodeArgument,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedNodeStrike | NodeStrike | JudgedNodeStrike]":
    """Freeze a node (SIGSTOP), and resume it when the lease ends"""
    return _stop(run, "pause", [node], lease, RunState.PAUSED, name, yes=yes, dry_run=dry_run)


def freeze(
    run: Invocation,
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
    return _stop(run, "freeze", numbers, lease, RunState.PAUSED, name, yes=yes, dry_run=dry_run)


def _stop(
    run: Invocation,
    kind: str,
    numbers: list[int],
    lease: str,
    wanted: RunState,
    name: str | None,
    *,
    yes: bool,
    dry_run: bool,
) -> Answer[Any]:
    """Kill or pause nodes, each with a watchdog that ends that."""
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    for number in numbers:
        cluster.node(number)
    survey = survey_of(run, cluster)
    change = guard.quorum_change(cluster, survey.processes, uncounted=survey.uncounted, without=numbers)
    fault, what = new_id(kind, name), f"{kind} of node {listed(numbers)}"
    head: StrikeData = {"cluster": cluster.name, "fault": fault, "lease_ms": lease_ms}
    data: Freeze | NodeStrike
    if kind == "freeze":
        data = {**head, "struck": numbers, "quorum": change.as_data()}
    else:
        data = {**head, "node": numbers[0], "quorum": change.as_data()}
    if dry_run:
        line = Line(
            f"would {kind} node {listed(numbers)} for {duration(lease_ms / 1000)}; then {change.text}"
        )
        return Answer({**data, "dry_run": True}, [line])
    run.terminal.view(Line(f"afterwards: {change.text}"))
    if change.lost:
        guard.moderate(
            run.terminal,
            f"{kind} node {listed(numbers)} of {cluster.name} for {lease}.",
            yes=yes,
            typed=run.typed,
        )
    helps = f"esctl fault heal {fault} --cluster {cluster.name}"
    run.on_interrupt(lambda: Answer(data), next_step=f"{helps}; its lease ends it anyway")
    for number in numbers:
        if not survey.report(number).up:
            raise NodeNotRunning(
                f"node {number} gives no answer: {survey.report(number).why}; nothing was done",
                next_step=f"{survey.report(number).next_step} --cluster {cluster.name}",
            )

    async def watch() -> tuple[list[Effect], "Survey"]:
        kept = change.running_after >= change.needed
        return await nodes.watch(
            cluster, lambda looks, _: effect.of_processes(numbers, wanted, looks), lease_ms, for_leader=kept
        )

    with run.terminal.progress(f"{what}: looking whether it hits"):
        names = {number: fault if len(numbers) == 1 else f"{fault}.{number}" for number in numbers}
        for one in leases.begin_all(cluster, names, kind, lease_ms):
            leases.strike(cluster, one)
        ledger.note(cluster, fault, [kind], numbers)
        effects, after = run.trio(watch)
    return answer_of(data, what, effects, after, helps)
