"""Where everything of a new cluster is: its identity, its ports, its directories.

Decided once, kept in the cluster's description; nothing is written here. Called by `cluster up`, the demo
and the torture tests.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from esctl import ports, state


def plan(
    name: str,
    count: int,
    *,
    data_dir: Path | None = None,
    storage: str = "sqlite",
    base_port: int | None = None,
) -> state.Cluster:
    """A cluster that could be made now; raises `PortTaken`."""
    home = (data_dir or state.clusters_root() / name / "data").expanduser().absolute()
    reserved = {
        int(address.rpartition(":")[2])
        for other in state.names()
        for node in state.load(other).nodes
        for address in (node.client, node.peer)
    }
    chosen = ports.choose(2 * count, reserved, base_port)
    nodes = tuple(
        state.Node(
            id=number,
            client=f"{ports.HOST}:{chosen[number - 1]}",
            peer=f"{ports.HOST}:{chosen[count + number - 1]}",
            data_dir=home / f"node-{number}",
            config=home / f"node-{number}.toml",
            log=home / f"node-{number}.log",
        )
        for number in range(1, count + 1)
    )
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return state.Cluster(name, f"{name}-{secrets.token_hex(4)}", "process", storage, created, home, nodes)
