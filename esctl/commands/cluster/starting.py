"""`esctl cluster up` and `start`: from nothing, or from nodes that are down, to a cluster that has a leader.

`up` decides name, ports and places, once. Nodes run on when `esctl` has ended.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import guard
from esctl.cli.arguments import (
    BasePort,
    ClusterArgument,
    DataDir,
    DryRun,
    Engine,
    Nodes,
    Partitions,
    StartTimeout,
)
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.backends.interface import NodeOptions, NodeProcess, RunState
from esctl.errors import (
    ClusterExists,
    InvalidArgument,
)
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.formatting import leaders_named, partitions_named
from esctl.ui.values import BackendName
from esnode.config import LogLevel

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        NodeProcessData,
        PartitionLeaderData,
        PlannedClusterAnswer,
        PlannedStartAnswer,
        StartedAnswer,
    )


def up(
    run: Invocation,
    name: ClusterArgument = None,
    nodes: Nodes = 3,
    partitions: Partitions = 1,
    data_dir: DataDir = None,
    storage: Engine = "sqlite",
    backend: Annotated[
        BackendName,
        typer.Option("--backend", help="Run nodes on loopback, or in network namespaces (needs root)"),
    ] = "process",
    base_port: BasePort = None,
    log_level: Annotated[
        LogLevel,
        typer.Option("--log-level", help="Lowest level to log"),
    ] = "info",
    faults: Annotated[
        bool, typer.Option("--faults", help="Allow esctl fault to inject faults; never in production")
    ] = False,
    timeout: StartTimeout = 30.0,
    dry_run: DryRun = False,
) -> "Answer[PlannedClusterAnswer | StartedAnswer]":
    """Create a cluster, named "local" by default, and start it"""
    wanted = name or run.cluster_name or state.DEFAULT_NAME
    state.check_name(wanted)
    layout.check_count(nodes, f"esctl cluster up {wanted} --nodes {nodes + 1}")
    with state.locked("", run.terminal.note):
        _refuse_second(wanted)
        cluster = layout.plan(
            wanted,
            nodes,
            data_dir=data_dir,
            storage=storage,
            backend=backend,
            base_port=base_port,
            partitions=partitions,
        )
        options = NodeOptions(storage, log_level, faults)
        if dry_run:
            layout.check_free(cluster, options)
            data: PlannedClusterAnswer = {
                "name": wanted,
                "dry_run": True,
                "backend": backend,
                "data_dir": str(cluster.data_dir),
                "addresses": cluster.addresses,
            }
            what = f"{nodes} nodes" if partitions == 1 else f"{nodes} nodes of {partitions} partitions"
            if partitions > 1:
                data["partitions"] = partitions
            return Answer(
                data, [Line(f"would start {what} in {cluster.data_dir}: {', '.join(cluster.addresses)}")]
            )
        run.intend(wanted)
        layout.make(cluster, options)
    with run.changing(wanted):
        return start_all(run, cluster, timeout)


def start(
    run: Invocation,
    name: ClusterArgument = None,
    timeout: StartTimeout = 30.0,
    trust_copy: Annotated[
        bool,
        typer.Option(
            "--trust-copy",
            help="Accept data that was moved; you assert that all nodes were stopped at the time, "
            "and that it is the latest copy",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedStartAnswer | StartedAnswer]":
    """Start the nodes that are down, with the ports and the data they had"""
    with run.changing(name) as cluster:
        processes = backend_named(cluster.backend).nodes(cluster)
        down = [p.node.id for p in processes if p.state is RunState.DOWN]
        if trust_copy and len(down) < len(processes):
            raise InvalidArgument(
                f"{len(processes) - len(down)} nodes of {cluster.name} run: --trust-copy is for the start of"
                " all; nothing was done",
                next_step=f"esctl cluster stop {cluster.name}",
            )
        if dry_run:
            change = guard.quorum_change(cluster, processes, with_=down)
            data: PlannedStartAnswer = {
                "name": cluster.name, "dry_run": True, "nodes": down, "quorum": change.as_data(),
            }  # fmt: skip
            return Answer(data, [Line(f"would start nodes {down}; then {change.text}")])
        return start_all(run, cluster, timeout, ["--trust-copy"] * trust_copy)


def _refuse_second(name: str) -> None:
    if name not in state.names():
        return
    cluster = state.load(name)
    running = any(p.state is not RunState.DOWN for p in backend_named(cluster.backend).nodes(cluster))
    helps = f"esctl status --cluster {name}" if running else f"esctl cluster start {name}"
    raise ClusterExists(
        f"there is a cluster {name} already, {'running' if running else 'stopped'}, "
        f"with its data in {cluster.data_dir}",
        next_step=f"{helps}; to start over: esctl cluster destroy {name}",
    )


def start_all(
    run: Invocation, cluster: state.Cluster, timeout_s: float, options: Sequence[str] = ()
) -> "Answer[StartedAnswer]":
    """Start the nodes that are down, wait for a leader, and say what is up."""
    from esctl.query import lostlog  # loaded late: it brings trio
    from esctl.query.leader import wait_for_leaders

    backend = backend_named(cluster.backend)
    numbers = [node.id for node in cluster.nodes]

    async def start_and_elect() -> tuple[list[NodeProcess], list[int]]:
        deadline = time.monotonic() + timeout_s
        processes = await backend.start(cluster, numbers, timeout_s, options)
        return processes, await wait_for_leaders(cluster, max(0.1, deadline - time.monotonic()))

    with run.terminal.progress(f"starting {len(numbers)} nodes of {cluster.name}"):
        processes, leaders = run.trio(start_and_elect)
    for paused in (p.node.id for p in processes if p.state is RunState.PAUSED):
        helps = f"esctl node resume {paused} --cluster {cluster.name}"
        run.terminal.warn(f"node {paused} is paused; next: {helps}")
    if (lost := run.trio(lambda: lostlog.look(cluster))) is not None:
        run.terminal.warn(f"{lost.text}; next: esctl why --cluster {cluster.name}")
    data: StartedAnswer = {
        "name": cluster.name,
        "identity": cluster.identity,
        "backend": cluster.backend,
        "storage": cluster.storage,
        "data_dir": str(cluster.data_dir),
        "nodes": [_node_data(p) for p in processes],
        "leader": leaders[0] if cluster.partitions == 1 else None,
    }
    if cluster.partitions > 1:
        data["partitions"] = leaders_data(leaders)
    rows: list[list[Value]] = [[p.node.id, _role(p, leaders), str(p.pid), p.node.client] for p in processes]
    views: list[View] = [
        Line(f"cluster {cluster.name} is up; {leaders_named(leaders)}", Tone.GOOD),
        Table(["node", "role", "pid", "address"], rows),
        Fields([("data", str(cluster.data_dir)), ("next", f"esctl status --cluster {cluster.name}")]),
    ]
    return Answer(data, views)


def leaders_data(leaders: Sequence[int]) -> "list[PartitionLeaderData]":
    """Who leads each partition, for the JSON answer."""
    return [{"id": partition, "leader": leader} for partition, leader in enumerate(leaders)]


def _role(process: NodeProcess, leaders: Sequence[int]) -> Cell:
    if process.state is RunState.PAUSED:
        return Cell("paused", Tone.WARN)
    led = [partition for partition, leader in enumerate(leaders) if leader == process.node.id]
    if not led:
        return Cell("follower")
    return Cell("leader" if len(leaders) == 1 else f"leads {partitions_named(led)}", Tone.GOOD)


def _node_data(process: NodeProcess) -> "NodeProcessData":
    node = process.node
    return {
        "id": node.id,
        "pid": process.pid,
        "state": process.state,
        "address": node.client,
        "peer_address": node.peer,
        "data_dir": str(node.data_dir),
        "log": str(node.log),
    }
