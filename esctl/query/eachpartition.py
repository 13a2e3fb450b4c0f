"""The same question about each partition of a cluster, all at once.

Decides what is raised where some cannot be answered: the error of the first, which says of which partition it
is. Never prints. Called by `partitionreading.py` and `esctl/bench`.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from esctl.clusters.state import Cluster
from esnode.errors import EventStreamError

T = TypeVar("T")


async def of_each(cluster: Cluster, ask: Callable[[int | None], Awaitable[T]]) -> dict[int, T]:
    """What `ask` says of each partition. It gets its number, or None where there is only partition 0."""
    if cluster.partitions == 1:
        return {0: await ask(None)}
    answers: dict[int, T] = {}
    errors: dict[int, EventStreamError] = {}

    async def ask_one(partition: int) -> None:
        try:
            answers[partition] = await ask(partition)
        except EventStreamError as error:
            errors[partition] = error

    async with trio.open_nursery() as nursery:
        for partition in range(cluster.partitions):
            nursery.start_soon(ask_one, partition)
    if errors:
        first = min(errors)
        error = errors[first]
        raise type(error)(f"partition {first}: {error}", next_step=error.next_step) from error
    return {partition: answers[partition] for partition in range(cluster.partitions)}
