"""A cluster made for one trial: like another one, empty, and gone afterwards.

Decides its name and that it allows faults. Called by `esctl fault storm`, which cannot try a schedule again
on a cluster whose log has already lost something.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.backends.interface import NodeOptions
from esctl.clusters.state import Cluster
from esctl.query.leader import wait_for_leader

START_TIMEOUT_S: Final = 30.0

Runner = Callable[[Callable[[], Awaitable[Any]]], Any]
"""Runs an async function to its end; `Invocation.trio`."""


@contextmanager
def trial_cluster(run: Runner, like: Cluster) -> Iterator[Cluster]:
    """Start it; in the end stop it and delete its files. Raises what the backend raises."""
    with state.locked("", lambda _: None):
        name = f"trial-{secrets.token_hex(3)}"
        cluster = layout.plan(name, len(like.nodes), storage=like.storage, backend=like.backend)
        backend = backend_named(cluster.backend)
        layout.make(cluster, NodeOptions(like.storage, faults=True))
    numbers = [node.id for node in cluster.nodes]
    try:
        run(lambda: backend.start(cluster, numbers, START_TIMEOUT_S))
        run(lambda: wait_for_leader(cluster, START_TIMEOUT_S))
        yield cluster
    finally:
        run(lambda: backend.stop(cluster, numbers, 0.0))
        if not backend.destroy(cluster):
            state.remove(name)
