"""`esctl cluster destroy` and `recover`: what gives data up, and wants the cluster's name for that."""

from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import guard
from esctl.cli.arguments import (
    ClusterArgument,
    DryRun,
    StartTimeout,
)
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.errors import (
    NewerState,
    StateUnreadable,
)
from esctl.ui.answer import Answer, Line

if TYPE_CHECKING:
    from esctl.upkeep.answers import (
        DestroyedAnswer,
        PlannedDestructionAnswer,
        PlannedRecoveryAnswer,
        RecoveredAnswer,
    )


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
