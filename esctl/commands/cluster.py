"""`esctl cluster`: whole clusters, from `up` to `destroy`.

`up` decides name, ports and places, once; `down` and `stop` keep the data, `destroy` alone deletes it and
wants the name for that. Nodes run on when `esctl` has ended.
"""

import dataclasses
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
    StartTimeout,
    StopTimeout,
    UpkeepTimeout,
    Yes,
)
from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.backends.interface import NodeOptions, NodeProcess, RunState
from esctl.errors import (
    ClusterExists,
    ClusterNotRunning,
    InvalidArgument,
    NewerState,
    StateUnreadable,
)
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration
from esctl.ui.values import BackendName
from esnode.config import LogLevel
from esnode.errors import EventStreamError, NoQuorum

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        ClusterRow,
        ClustersAnswer,
        DestroyedAnswer,
        LeaderlessAnswer,
        NodeProcessData,
        PlannedClusterAnswer,
        PlannedDestructionAnswer,
        PlannedRecoveryAnswer,
        PlannedRestartAnswer,
        PlannedRollingAnswer,
        PlannedStartAnswer,
        PlannedStopAnswer,
        RecoveredAnswer,
        RestartedAnswer,
        RollingAnswer,
        StartedAnswer,
        StoppedAnswer,
        WaitAnswer,
    )
    from esctl.upkeep.rolling import RestartStep

app = new_typer()


@command(app, "up")
def up(
    run: Invocation,
    name: ClusterArgument = None,
    nodes: Nodes = 3,
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
            wanted, nodes, data_dir=data_dir, storage=storage, backend=backend, base_port=base_port
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
            return Answer(
                data,
                [Line(f"would start {nodes} nodes in {cluster.data_dir}: {', '.join(cluster.addresses)}")],
            )
        run.intend(wanted)
        layout.make(cluster, options)
    with run.changing(wanted):
        return _start(run, cluster, timeout)


@command(app, "start")
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
        return _start(run, cluster, timeout, ["--trust-copy"] * trust_copy)


@command(app, "stop")
def stop(
    run: Invocation, name: ClusterArgument = None, timeout: StopTimeout = 5.0, dry_run: DryRun = False
) -> "Answer[PlannedStopAnswer | StoppedAnswer]":
    """Stop every node; the data stays"""
    return _stop(run, name, timeout, dry_run)


@command(app, "down", hidden=True)
def down(
    run: Invocation, name: ClusterArgument = None, timeout: StopTimeout = 5.0, dry_run: DryRun = False
) -> "Answer[PlannedStopAnswer | StoppedAnswer]":
    """Stop every node; the data stays (the same as stop)"""
    return _stop(run, name, timeout, dry_run)


@command(app, "restart")
def restart(
    run: Invocation,
    name: ClusterArgument = None,
    rolling: Annotated[
        bool,
        typer.Option(
            "--rolling",
            help="Restart one node at a time, the leader last; the cluster keeps serving clients",
        ),
    ] = False,
    timeout: UpkeepTimeout = 60.0,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedRestartAnswer | RestartedAnswer | PlannedRollingAnswer | RollingAnswer]":
    """Stop and start every node: all nodes together, or one after the other"""
    with run.changing(name) as cluster:
        if rolling:
            return _roll(run, cluster, timeout, dry_run=dry_run)
        processes = backend_named(cluster.backend).nodes(cluster)
        change = guard.quorum_change(cluster, processes, without=[node.id for node in cluster.nodes])
        gentler = f"esctl cluster restart {cluster.name} --rolling"
        if dry_run:
            what = f"would stop all nodes and start them again; meanwhile {change.text}"
            planned: PlannedRestartAnswer = {
                "name": cluster.name, "rolling": False, "quorum": change.as_data(), "dry_run": True,
            }  # fmt: skip
            return Answer(planned, [Line(f"{what}; without a gap: {gentler}")])
        if change.lost:
            run.terminal.warn(f"meanwhile: {change.text}; without a gap: {gentler}")
            guard.moderate(
                run.terminal, f"restart all nodes of {cluster.name} at once.", yes=yes, typed=run.typed
            )
        backend = backend_named(cluster.backend)
        with run.terminal.progress(f"stopping {cluster.name}"):
            run.trio(lambda: backend.stop(cluster, [node.id for node in cluster.nodes], 5.0))
        started = _start(run, cluster, timeout)
        data: RestartedAnswer = {**started.data, "rolling": False, "quorum": change.as_data()}
        return Answer(data, started.views)


def _roll(
    run: Invocation, cluster: state.Cluster, timeout_s: float, *, dry_run: bool
) -> "Answer[PlannedRollingAnswer | RollingAnswer]":
    from esctl.upkeep import report, rolling  # loaded late: they bring trio and the client
    from esctl.upkeep.operations import STOP_TIMEOUT_S, ClusterOperations

    operations = ClusterOperations(cluster, backend_named(cluster.backend), timeout_s)
    survey = run.trio(operations.look)
    order = rolling.order_of(survey)
    if dry_run:
        return report.rolling_plan(survey, order)
    done: list[RestartStep] = []

    def tell(step: "RestartStep") -> None:
        done.append(step)
        run.terminal.view(report.step_line(step, len(done), len(order)))
        bar.advance()

    run.on_interrupt(
        lambda: report.rolling_answer(survey, order, done), "the same command again restarts all of them"
    )
    with run.terminal.progress(f"restarting {cluster.name}", len(order), "nodes") as bar:
        try:
            run.trio(
                lambda: rolling.restart(operations, order, timeout_s, tell), 2 * timeout_s + STOP_TIMEOUT_S
            )
        except EventStreamError as error:
            return Answer.of_error(error, report.rolling_answer(survey, order, done).data)
    return report.rolling_answer(survey, order, done)


@command(app, "destroy", impact="destructive")
def destroy(
    run: Invocation,
    name: ClusterArgument = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="Cluster name, to confirm")
    ] = None,
    dry_run: DryRun = False,
) -> "Answer[PlannedDestructionAnswer | DestroyedAnswer]":
    """Stop every node and delete all its data permanently"""
    from esctl.upkeep import destruction, report  # loaded late: they bring trio

    try:
        with run.changing(name) as cluster:
            doomed = destruction.doomed(cluster)
            consequence = f"{len(cluster.nodes)} nodes and every event in {cluster.data_dir} would be deleted"
            if dry_run:
                data: PlannedDestructionAnswer = {
                    "name": cluster.name, "dry_run": True, "deleted": [str(path) for path in doomed],
                }  # fmt: skip
                return Answer(data, [Line(consequence)])
            guard.severe(run.terminal, cluster, consequence, confirm=confirm, words="cluster destroy")
            return report.cleared(cluster.name, run.trio(lambda: destruction.clear(cluster)))
    except NewerState:
        raise  # what a newer esctl keeps is whole: it knows what belongs to it
    except StateUnreadable as error:
        broken = name or run.cluster_name
        if broken is None:
            raise
        return _destroy_unreadable(run, broken, error, confirm, dry_run=dry_run)


def _destroy_unreadable(
    run: Invocation, name: str, why: StateUnreadable, confirm: str | None, *, dry_run: bool
) -> "Answer[PlannedDestructionAnswer | DestroyedAnswer]":
    """A cluster whose description is broken: what is kept beside that goes, and nothing else is known."""
    from esctl.upkeep import destruction, report

    with state.locked(name, run.terminal.note):
        place = state.clusters_root() / name
        consequence = f"{why}; {place} would be deleted, with the events in it"
        if dry_run:
            return Answer({"name": name, "dry_run": True, "deleted": [str(place)]}, [Line(consequence)])
        guard.by_name(run.terminal, name, consequence, confirm=confirm, words="cluster destroy")
        run.intend(name)
        cleared = destruction.clear_unreadable(name)
    run.terminal.warn("where else it kept data (--data-dir) is not known; what is there stays there")
    return report.cleared(name, cleared, f"what was kept of it in {place}")


@command(app, "recover")
def recover(
    run: Invocation,
    from_node: Annotated[
        int,
        typer.Option("--from-node", metavar="ID", min=1, help="Node whose log the cluster continues with"),
    ],
    name: ClusterArgument = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="Cluster name, to confirm")
    ] = None,
    timeout: StartTimeout = 30.0,
    dry_run: DryRun = False,
) -> "Answer[PlannedRecoveryAnswer | RecoveredAnswer]":
    """Continue with one node's log when a majority is permanently lost; entries that are not in this log
    are lost"""
    from esctl.upkeep import recovery, recoverysteps, report  # loaded late: they bring trio and the storage
    from esctl.upkeep.backups import offlinedata

    with run.changing(name) as cluster:
        if dry_run:
            run.trio(lambda: recoverysteps.refuse_if_alive(cluster))
            offlinedata.check_survivor(cluster, from_node)
            backend = backend_named(cluster.backend)
            tried = recoverysteps.startable(cluster, backend)
            change = guard.quorum_change(cluster, backend.nodes(cluster), with_=tried)
            words = recovery.consequence(cluster, cluster.node(from_node).id)
            data: PlannedRecoveryAnswer = {
                "name": cluster.name, "dry_run": True, "would_start": tried, "loss": words,
                "quorum": change.as_data(),
            }  # fmt: skip
            first = Line(f"would first try to start nodes {tried}; then {change.text}")
            return Answer(data, [first, Line(f"if that fails, {words}")])
        done = recovery.recover(run, cluster, recovery.RecoveryRequest(from_node, confirm, timeout))
    return report.recovered(done)


@command(app, "ls")
def ls(run: Invocation) -> "Answer[ClustersAnswer]":
    """List the clusters of this machine"""
    listed: list[ClusterRow] = []
    rows: list[list[Value]] = []
    errors: list[Trouble] = []
    for name in state.names():
        try:
            cluster = state.load(name)
            processes = backend_named(cluster.backend).nodes(cluster)
        except EventStreamError as error:  # one damaged description does not hide the others
            errors.append(Trouble.of(error))
            continue
        running = sum(p.state is RunState.RUNNING for p in processes)
        whole = running == len(cluster.nodes)
        tone = (
            Tone.GOOD
            if whole
            else Tone.WARN
            if running >= cluster.quorum
            else Tone.DIM
            if not running
            else Tone.BAD
        )
        rows.append(
            [
                name,
                Cell(f"{running}/{len(cluster.nodes)}", tone),
                cluster.backend,
                cluster.storage,
                cluster.created,
                str(cluster.data_dir),
            ]
        )
        listed.append(
            {"name": name, "running": running, "nodes": len(cluster.nodes), "backend": cluster.backend,
             "storage": cluster.storage, "created": cluster.created, "data_dir": str(cluster.data_dir),
             "addresses": cluster.addresses}
        )  # fmt: skip
    table = Table(
        ["name", "running", "backend", "storage", "created", "data"],
        rows,
        empty="no clusters; make one: esctl cluster up",
    )
    return Answer({"clusters": listed}, [table], errors, Exit.ERROR if errors else Exit.OK)


@command(app, "wait")
def wait(
    run: Invocation,
    name: ClusterArgument = None,
    timeout: Annotated[float, duration_option("--timeout", "Give up after this time")] = 30.0,
) -> "Answer[LeaderlessAnswer | WaitAnswer]":
    """Wait until the cluster has a leader"""
    from esctl.query.leader import wait_for_leader  # loaded late: it brings trio

    cluster = run.cluster(name)
    if all(p.state is RunState.DOWN for p in backend_named(cluster.backend).nodes(cluster)):
        raise ClusterNotRunning(
            f"no node of cluster {cluster.name} is running", next_step=f"esctl cluster start {cluster.name}"
        )
    begun = time.monotonic()
    with run.terminal.progress(f"waiting for a leader of {cluster.name}"):
        try:
            leader = run.trio(lambda: wait_for_leader(cluster, timeout, unless_known=True))
        except NoQuorum as error:
            nobody: LeaderlessAnswer = {"name": cluster.name}
            return dataclasses.replace(Answer.of_error(error, nobody), exit_code=Exit.TIMEOUT)
    seconds = round(time.monotonic() - begun, 3)
    data: WaitAnswer = {"name": cluster.name, "leader": leader, "seconds": seconds}
    return Answer(data, [Line(f"node {leader} leads cluster {cluster.name}", Tone.GOOD)])


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


def _start(
    run: Invocation, cluster: state.Cluster, timeout_s: float, options: Sequence[str] = ()
) -> "Answer[StartedAnswer]":
    from esctl.query import lostlog  # loaded late: it brings trio
    from esctl.query.leader import wait_for_leader

    backend = backend_named(cluster.backend)
    numbers = [node.id for node in cluster.nodes]

    async def start_and_elect() -> tuple[list[NodeProcess], int]:
        deadline = time.monotonic() + timeout_s
        processes = await backend.start(cluster, numbers, timeout_s, options)
        return processes, await wait_for_leader(cluster, max(0.1, deadline - time.monotonic()))

    with run.terminal.progress(f"starting {len(numbers)} nodes of {cluster.name}"):
        processes, leader = run.trio(start_and_elect)
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
        "leader": leader,
    }
    rows: list[list[Value]] = [[p.node.id, _role(p, leader), str(p.pid), p.node.client] for p in processes]
    views: list[View] = [
        Line(f"cluster {cluster.name} is up; node {leader} leads", Tone.GOOD),
        Table(["node", "role", "pid", "address"], rows),
        Fields([("data", str(cluster.data_dir)), ("next", f"esctl status --cluster {cluster.name}")]),
    ]
    return Answer(data, views)


def _role(process: NodeProcess, leader: int) -> Cell:
    if process.state is RunState.PAUSED:
        return Cell("paused", Tone.WARN)
    return Cell("leader", Tone.GOOD) if process.node.id == leader else Cell("follower")


def _stop(
    run: Invocation, name: str | None, timeout_s: float, dry_run: bool
) -> "Answer[PlannedStopAnswer | StoppedAnswer]":
    with run.changing(name) as cluster:
        backend = backend_named(cluster.backend)
        processes = backend.nodes(cluster)
        live = [p.node.id for p in processes if p.state is not RunState.DOWN]
        change = guard.quorum_change(cluster, processes, without=live)
        quorum = change.as_data()
        if dry_run:
            planned: PlannedStopAnswer = {
                "name": cluster.name, "nodes": live, "quorum": quorum, "dry_run": True,
            }  # fmt: skip
            return Answer(planned, [Line(f"would stop nodes {live}; then {change.text}")])
        with run.terminal.progress(f"stopping {len(live)} nodes of {cluster.name}"):
            forced = run.trio(lambda: backend.stop(cluster, live, timeout_s))
    if forced:
        run.terminal.warn(
            f"nodes {forced} did not end within {duration(timeout_s)} and were killed; acked events are safe"
        )
    stopped = Line(f"cluster {cluster.name} is stopped; its data stays in {cluster.data_dir}")
    data: StoppedAnswer = {"name": cluster.name, "nodes": live, "quorum": quorum, "killed": forced}
    return Answer(data, [stopped, Fields([("next", f"esctl cluster start {cluster.name}")])])


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
