"""`esctl fault ls` and `heal`: what is active, and its end before the lease is over."""

from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import candidates
from esctl.cli.arguments import DryRun, OnlyPartition
from esctl.cli.invocation import Invocation
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.errors import CleanUpIncomplete, FaultNotFound, InvalidArgument
from esctl.exits import Exit
from esctl.faults import leases, nodeorders
from esctl.faults.nodeorders import NodeFaultData
from esctl.faults.partitionshapes import listed
from esctl.ui.answer import Answer, Line, Table, Tone, Value, elapsed

if TYPE_CHECKING:
    from esctl.commands.fault.answers import FaultsAnswer, HealAnswer, PlannedHealAnswer


def ls(run: Invocation) -> "Answer[FaultsAnswer]":
    """List the active faults of every node, the time left of each lease, and how often each fault has
    taken effect"""
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    cluster = run.cluster()
    active, ring = run.trio(lambda: nodes.active(cluster))
    for one in leases.active(cluster):
        active.setdefault(one.node, []).append(one.as_data())
    for number, why in ring.down.items():
        run.terminal.warn(f"node {number} gives no answer: {why}")
    several = cluster.partitions > 1
    rows: list[list[Value]] = [
        [
            number,
            *([str(fault.get("partition", "all"))] if several else []),
            fault["id"],
            fault["kind"],
            listed(fault["peers"]) or None,
            fault["direction"] or None,
            _parameters(fault["parameters"]),
            elapsed(fault["left_ms"] / 1000),
            fault["hits"],
        ]
        for number, faults in sorted(active.items())
        for fault in faults
    ]
    columns = [
        "node",
        *(["partition"] if several else []),
        "fault",
        "kind",
        "peers",
        "way",
        "how",
        "left",
        "hits",
    ]
    data: FaultsAnswer = {
        "cluster": cluster.name,
        "allowed": sorted(
            {
                r.node.id
                for survey in ring.partitions
                for r in survey.up
                if (r.status or {}).get("faults_allowed")
            }
        ),
        "faults": [{"node": n, **fault} for n, faults in sorted(active.items()) for fault in faults],
    }
    table = Table(columns, rows, empty=f"no faults are active in {cluster.name}")
    if not ring.up:
        return Answer(data, [table], [ring.worst.nobody], Exit.UNREACHABLE)
    return Answer(data, [table])


def heal(
    run: Invocation,
    fault: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="Id of the fault to end, from esctl fault ls",
            autocompletion=candidates.faults,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="End every fault of the cluster")] = False,
    partition: OnlyPartition = None,
    dry_run: DryRun = False,
) -> "Answer[PlannedHealAnswer | HealAnswer]":
    """End faults before their leases end, and wait until the nodes hear each other again"""
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    if (fault is None) is not everything:
        raise InvalidArgument("name a fault, or say --all; nothing was done", next_step="esctl fault ls")
    cluster = run.cluster()
    only = run.partition(cluster, partition, required=False)
    ids = [] if fault is None else [fault]
    if dry_run:
        active, _ = run.trio(lambda: nodes.active(cluster))
        for stopped in leases.active(cluster):
            active.setdefault(stopped.node, []).append(stopped.as_data())
        found: list[NodeFaultData] = [
            {"node": number, **one}
            for number, ones in sorted(active.items())
            for one in ones
            if only is None or one.get("partition") == only
            if everything or nodeorders.belongs(one["id"], ids[0])
        ]
        text = ", ".join(f"{one['id']} {_where(one)}" for one in found) or "nothing"
        planned: PlannedHealAnswer = {"cluster": cluster.name, "dry_run": True, "faults": found}
        return Answer(planned, [Line(f"would end {text}")])
    with run.terminal.progress(f"healing {cluster.name}"):
        going_on, failure = leases.heal(cluster, ids, only)  # first, so that these nodes answer
        healed = run.trio(lambda: nodes.heal(cluster, ids, only))
    ended: list[NodeFaultData] = [
        {"node": n, **one} for n, ones in sorted(healed.ended.items()) for one in ones
    ]
    ended += [{"node": one.node, **one.as_data()} for one in going_on]
    data: HealAnswer = {
        "cluster": cluster.name, "healed": ended, "silent": list(healed.silent),
        "recovered": healed.recovered,
    }  # fmt: skip
    if failure is not None:
        return Answer.of_error(failure, data)
    running = [n for n in healed.silent if _runs(cluster, n)]
    if running:
        error = CleanUpIncomplete(
            f"node {listed(running)} gives no answer: a fault there ends with its lease",
            next_step=f"esctl why --cluster {cluster.name}",
        )
        return Answer.of_error(error, data)
    if not ended and fault is not None:
        # A write that was refused on purpose ends its node, and the fault with it.
        step = f"node start {healed.silent[0]}" if healed.silent else "fault ls"
        raise FaultNotFound(
            f"no node of {cluster.name} has a fault {fault}: it was healed, or is over",
            next_step=f"esctl {step} --cluster {cluster.name}",
        )
    if not ended:
        return Answer(data, [Line(f"no faults were active in {cluster.name}")])
    names = ", ".join(f"{one['id']} {_where(one)} (hits: {one['hits']:,})" for one in ended)
    return Answer(data, [Line(f"healed {names}"), _calm(cluster, recovered=healed.recovered)])


def _calm(cluster: Cluster, *, recovered: bool) -> Line:
    """Have the nodes got over it?"""
    if recovered:
        return Line("the nodes follow one leader and hear it", Tone.GOOD)
    helps = f"esctl status health --wait 10s --cluster {cluster.name}"
    return Line(f"the nodes do not follow one leader yet; next: {helps}", Tone.WARN)


def _where(fault: NodeFaultData) -> str:
    """Which node has it, and whether only one of its partitions."""
    only = f", partition {fault['partition']}" if "partition" in fault else ""
    return f"on node {fault['node']}{only}"


def _parameters(parameters: dict[str, int]) -> str | None:
    return " ".join(f"{name}={value}" for name, value in parameters.items()) or None


def _runs(cluster: Cluster, number: int) -> bool:
    processes = backend_named(cluster.backend).nodes(cluster)
    return next(p.state is not RunState.DOWN for p in processes if p.node.id == number)
