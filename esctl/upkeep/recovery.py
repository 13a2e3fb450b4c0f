"""One recovery from a lost quorum, step by step, in the order in which nothing can be lost twice.

Looks, asks, tries to bring the old cluster back, stops what is left of it, backs the survivor up, moves all
old files aside, and makes the new cluster. What may be done is decided in `recoverysteps.py`. Called by
`esctl cluster recover`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from esctl.cli import guard
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.state import Cluster
from esctl.upkeep import recoverysteps
from esctl.upkeep.backups import catalog, create, offlinedata
from esctl.upkeep.backups.startup import start_and_elect
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done."""

    cluster: Cluster
    leader: int
    backup: Path
    manifest: Manifest
    tried: list[recoverysteps.Tried]
    aside: list[Path]


@dataclass(frozen=True, slots=True)
class RecoveryRequest:
    """What the operator said."""

    survivor: int
    confirm: str | None
    timeout_s: float


def consequence(cluster: Cluster, survivor: int) -> str:
    """What is lost, in words that can be confirmed."""
    others = [str(node.id) for node in cluster.nodes if node.id != survivor]
    return (
        f"the log of node {survivor} becomes that of a new cluster; what was acked by nodes"
        f" {' and '.join(others)} and had not reached node {survivor} is lost for good"
    )


def recover(run: Invocation, cluster: Cluster, wanted: RecoveryRequest) -> Recovered:
    """All of it, under the cluster's lock. Raises `QuorumNotLost`, `SurvivorDistrusted`, `NotConfirmed`,
    `MachineRefused`, and what a backup and a restore raise."""
    backend, survivor = backend_named(cluster.backend), wanted.survivor
    cluster.node(survivor)
    run.trio(lambda: recoverysteps.refuse_if_alive(cluster))
    offlinedata.check_survivor(cluster, survivor)
    guard.severe(
        run.terminal, cluster, consequence(cluster, survivor), confirm=wanted.confirm,
        words=f"cluster recover --from-node {survivor}",
    )  # fmt: skip
    numbers = recoverysteps.startable(cluster, backend)
    with run.terminal.progress(f"trying to bring {cluster.name} back"):
        tried = run.trio(lambda: recoverysteps.try_to_start(cluster, backend, numbers))
        run.trio(lambda: backend.stop(cluster, [node.id for node in cluster.nodes], wanted.timeout_s))
    home = catalog.default_directory()
    state.make_directory(home)
    recoverysteps.check_best(cluster, survivor, home)
    created = create.now_text()
    path = home / catalog.default_name(f"{cluster.name}-survivor-{survivor}", created)
    with run.terminal.progress(f"backing up node {survivor} of {cluster.name}", None, "events") as bar:
        manifest = offlinedata.back_up_stopped(cluster, survivor, path, bar.advance)
    reader = offlinedata.open_backup(path)
    with run.terminal.progress(f"checking {path.name}", manifest.events, "events") as bar:
        offlinedata.check_backup(reader, bar.advance)
    return _go_on(run, cluster, wanted, reader, tried, created)


def _go_on(
    run: Invocation,
    cluster: Cluster,
    wanted: RecoveryRequest,
    reader: BackupReader,
    tried: list[recoverysteps.Tried],
    created: str,
) -> Recovered:
    """From the backup of the survivor to a cluster that runs."""
    backend, manifest = backend_named(cluster.backend), reader.manifest
    settings = offlinedata.check_survivor(cluster, wanted.survivor)
    aside = recoverysteps.move_aside(cluster, manifest.origin.epoch)
    run.terminal.note(f"the old files are kept beside the new ones; the survivor is in {reader.path}")
    successor = recoverysteps.successor_of(cluster, created)
    options = replace(
        offlinedata.successor_options(manifest, cluster.storage),
        log_level=settings.log_level, faults=settings.faults.allowed, retention=settings.retention,
    )  # fmt: skip
    total = manifest.events * len(cluster.nodes)
    with run.terminal.progress(f"recreating {cluster.name}", total, "events") as bar:
        offlinedata.rebuild(backend, successor, options, reader, bar.advance)
    state.replace(successor)
    with run.terminal.progress(f"starting {len(cluster.nodes)} nodes of {cluster.name}"):
        leader = run.trio(lambda: start_and_elect(backend, successor, wanted.timeout_s))
    return Recovered(successor, leader, reader.path, manifest, tried, aside)
