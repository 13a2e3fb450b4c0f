"""A cluster ended for good: its processes first, then its files, then what was known of it.

Says what is gone and what is not: nothing is called gone that is still there. What others keep beside its
data, data of an earlier cluster at the same place, and the empty directories of mounted disks stay. Called by
`esctl cluster destroy` and the demo.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esctl.clusters import state
from esctl.clusters.backends import backend_named, datadir, nodeprocess, pidfile
from esctl.clusters.backends.interface import Backend
from esctl.clusters.state import Cluster
from esctl.errors import NodesAlive


@dataclass(frozen=True, slots=True)
class Cleared:
    """What came of it."""

    gone: Sequence[Path]
    kept: Sequence[Path] = ()
    """What is there still, and is not the cluster's to delete."""
    failed: Sequence[Path] = ()
    """What should have been deleted and could not be; the cluster is still known then."""


def doomed(cluster: Cluster) -> list[Path]:
    """What is deleted with the cluster, as far as it is there."""
    wanted = [
        path for node in cluster.nodes for path in (node.config, *datadir.of_node(cluster, node), node.log)
    ]
    return [path for path in wanted if os.path.lexists(path)]


async def clear(cluster: Cluster) -> Cleared:
    """End the nodes without waiting for them, delete their files, and forget the cluster.

    Raises `NodesAlive`, `MachineRefused`, `NetworkRefused`.
    """
    backend = backend_named(cluster.backend)
    await backend.stop(cluster, [node.id for node in cluster.nodes], 0.0)
    return _delete(cluster, backend)


def _delete(cluster: Cluster, backend: Backend) -> Cleared:
    wanted = doomed(cluster)
    others = [path for node in cluster.nodes for path in node.former]
    failed = backend.destroy(cluster)
    gone = [path for path in wanted if not os.path.lexists(path)]
    if failed:
        return Cleared(gone, failed=failed)
    beside = sorted(cluster.data_dir.iterdir()) if cluster.data_dir.is_dir() else []
    left = state.remove(cluster.name)
    kept = [*wanted, *others, *beside, *(path for path in left if path != cluster.data_dir)]
    return Cleared(gone, [path for path in dict.fromkeys(kept) if os.path.lexists(path)])


def clear_unreadable(name: str) -> Cleared:
    """Delete what is in the directory of a cluster whose description cannot be read.

    Raises `NodesAlive` while a node runs whose configuration is in there, or that a note in there remembers.
    """
    place = state.clusters_root() / name
    alive = _alive_of(place)
    if alive:
        pids = " ".join(map(str, sorted(alive)))
        raise NodesAlive(
            f"nodes of {name} still run; nothing was deleted",
            next_step=f"kill {pids}; then: esctl cluster destroy {name} --confirm {name}",
        )
    failed = datadir.delete(place / state.HOME) if (place / state.HOME).exists() else []
    if failed:
        return Cleared([], failed=failed)
    left = state.remove(name)
    return Cleared([place], left) if not place.exists() else Cleared([], [*left] or [place])


def _alive_of(place: Path) -> set[int]:
    """The processes of the nodes of the cluster whose directory that is, as far as anything there tells."""
    here = place.resolve()  # a node's command line may lead there by another way
    inside = {
        each.pid
        for each, config in nodeprocess.every_node()
        if here in Path(os.path.realpath(config)).parents
    }
    # With --data-dir, the configurations are elsewhere, and only the notes know of the nodes.
    notes = [pidfile.read_note(path) for path in place.glob("node-*.pid")]
    return inside | {note.pid for note in notes if note is not None and pidfile.live(note) is not None}
