"""`esctl cluster stop` and `restart`: all nodes together, or one after the other; the data stays."""

from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import guard
from esctl.cli.arguments import (
    ClusterArgument,
    DryRun,
    StopTimeout,
    UpkeepTimeout,
    Yes,
)
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.commands.cluster.starting import start_all
from esctl.ui.answer import Answer, Fields, Line
from esctl.ui.formatting import duration
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        PlannedRestartAnswer,
        PlannedRollingAnswer,
        PlannedStopAnswer,
        RestartedAnswer,
        RollingAnswer,
        StoppedAnswer,
    )
    from esctl.upkeep.rolling import RestartStep


def stop(
    run: Invocation, name: ClusterArgument = None, timeout: StopTimeout = 5.0, dry_run: DryRun = False
) -> "Answer[PlannedStopAnswer | StoppedAnswer]":
    """Stop every node; the data stays"""
    return _stop(run, name, timeout, dry_run)


def down(
    run: Invocation, name: ClusterArgument = None, timeout: StopTimeout = 5.0, dry_run: DryRun = False
) -> "Answer[PlannedStopAnswer | StoppedAnswer]":
    """Stop every node; the data stays (the same as stop)"""
    return _stop(run, name, timeout, dry_run)


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
        started = start_all(run, cluster, timeout)
        data: RestartedAnswer = {**started.data, "rolling": False, "quorum": change.as_data()}
        return Answer(data, started.views)


def _roll(
    run: Invocation, cluster: state.Cluster, timeout_s: float, *, dry_run: bool
) -> "Answer[PlannedRollingAnswer | RollingAnswer]":
    from esctl.upkeep import report, rolling  # loaded late: they bring trio and the client
    from esctl.upkeep.operations import STOP_TIMEOUT_S, ClusterOperations

    operations = ClusterOperations(cluster, backend_named(cluster.backend), timeout_s)
    ring = run.trio(operations.look)
    order = rolling.order_of(ring)
    if dry_run:
        return report.rolling_plan(ring, order)
    done: list[RestartStep] = []

    def tell(step: "RestartStep") -> None:
        done.append(step)
        run.terminal.view(report.step_line(step, len(done), len(order)))
        bar.advance()

    run.on_interrupt(
        lambda: report.rolling_answer(ring, order, done), "the same command again restarts all of them"
    )
    with run.terminal.progress(f"restarting {cluster.name}", len(order), "nodes") as bar:
        try:
            run.trio(
                lambda: rolling.restart(operations, order, timeout_s, tell), 2 * timeout_s + STOP_TIMEOUT_S
            )
        except EventStreamError as error:
            return Answer.of_error(error, report.rolling_answer(ring, order, done).data)
    return report.rolling_answer(ring, order, done)
