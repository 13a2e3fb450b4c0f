"""Where everything of a new cluster is: its identity, its addresses, its directories.

Decided once, and written down before anything else is: from then on every command knows the cluster,
whatever becomes of the one that makes it. Called by `cluster up`, the demo and the torture tests.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from esctl import oserror
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import NodeOptions
from esctl.errors import InvalidArgument
from esctl.ui.values import BackendName
from esnode.errors import EventStreamError


def check_count(count: int, one_more: str) -> None:
    """Raises `InvalidArgument` for an even number of nodes; `one_more` is the command with the next one."""
    if count % 2 == 0:
        raise InvalidArgument(
            f"{count} nodes survive no more failures than {count - 1}; the number of nodes must be odd",
            next_step=one_more,
        )


def plan(
    name: str,
    count: int,
    *,
    data_dir: Path | None = None,
    storage: str = "sqlite",
    backend: BackendName = "process",
    base_port: int | None = None,
    partitions: int = 1,
) -> state.Cluster:
    """A cluster that could be made now. Raises what its backend raises: `PortTaken`, `NetnsUnavailable`."""
    home = (data_dir or state.clusters_root() / name / state.HOME).expanduser().absolute()
    addresses = backend_named(backend).addresses(count, base_port)
    nodes = tuple(
        state.Node(
            id=number,
            client=address.client,
            peer=address.peer,
            data_dir=home / f"node-{number}",
            config=home / f"node-{number}.toml",
            log=home / f"node-{number}.log",
        )
        for number, address in enumerate(addresses, 1)
    )
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    identity = f"{name}-{secrets.token_hex(4)}"
    return state.Cluster(name, identity, backend, storage, created, home, nodes, partitions)


def check_free(cluster: state.Cluster, options: NodeOptions) -> None:
    """Raises what the backend raises when the cluster could not be made: `DirectoryTaken` and others."""
    backend_named(cluster.backend).check_free(cluster, options)


def describe(cluster: state.Cluster, options: NodeOptions) -> None:
    """Write down that there is the cluster, if all its places are free. Raises as `check_free` does."""
    check_free(cluster, options)
    state.add(cluster)


def make(cluster: state.Cluster, options: NodeOptions) -> None:
    """Describe a cluster, then make its files. Raises what the backend raises; nothing is left then."""
    describe(cluster, options)
    try:
        backend_named(cluster.backend).create(cluster, options)
    except (EventStreamError, *oserror.KINDS):
        state.remove(cluster.name)
        raise
