"""The way back when a quorum is gone for good: one node's log becomes that of a new cluster.

Decides when that may be done: no majority answers, none can be started, and of the disks that can be
believed the named one has the log that Raft would elect. Takes a backup first, and moves the old files
aside, all of them. Keeps the whole log of the survivor: what was acked is a prefix of the log of every
majority's most complete member, and of what is beyond its commit index nobody can say any more that it was
not acked. Called by `esctl cluster recover`.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from esctl.clusters.backends import datadir
from esctl.clusters.backends.interface import Backend, RunState
from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused, QuorumNotLost, SurvivorDistrusted
from esctl.query import survey as surveys
from esctl.query.barrier import confirmed_end
from esctl.upkeep.backups import offlinedata
from esnode.errors import EventStreamError, NoQuorum, OperationTimeout, Unreachable

START_S: Final = 10.0
"""For one node to start, or not, while the quorum is looked for."""
QUORUM_S: Final = 5.0
"""For the nodes that answer to elect a leader."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of each node that was down when it was started."""

    node: int
    outcome: str


async def refuse_if_alive(cluster: Cluster) -> None:
    """Raises `QuorumNotLost` where a majority answers now; changes nothing."""
    survey = await surveys.ask(cluster)
    if len(survey.up) - len(survey.rejoining) >= cluster.quorum:  # even if they do not hear each other
        raise QuorumNotLost(
            f"{len(survey.up)} of {len(cluster.nodes)} nodes of {cluster.name} answer, {cluster.quorum} are a"
            " majority: nothing is lost for good",
            next_step=f"esctl status health --cluster {cluster.name}",
        )


def startable(cluster: Cluster, backend: Backend) -> list[int]:
    """The nodes that are down or paused, and whose configuration and data are still there."""
    return [
        process.node.id
        for process in backend.nodes(cluster)
        if process.state is not RunState.RUNNING and _has_data(process.node.data_dir, process.node.config)
    ]


async def try_to_start(cluster: Cluster, backend: Backend, numbers: Collection[int]) -> list[Tried]:
    """Bring back what can be brought back; raises `QuorumNotLost` where that is a majority."""
    tried: list[Tried] = []
    if not numbers:
        return tried  # nothing has changed since no majority answered
    for process in backend.nodes(cluster):
        number = process.node.id
        if number not in numbers:
            continue
        try:
            if process.state is RunState.PAUSED:
                backend.resume(cluster, number)
            else:
                await backend.start(cluster, [number], START_S)
            tried.append(Tried(number, "started"))
        except EventStreamError as error:
            tried.append(Tried(number, str(error).splitlines()[0]))
    try:
        await confirmed_end(cluster, QUORUM_S)
    except (NoQuorum, OperationTimeout, Unreachable):
        return tried
    raise QuorumNotLost(
        f"a majority of {cluster.name} answers again, now that the nodes that were down were started",
        next_step=f"esctl status health --cluster {cluster.name}",
    )


def check_best(cluster: Cluster, number: int, scratch: Path) -> None:
    """Raises `SurvivorDistrusted` where another disk that can be believed has more than node `number`.

    More as Raft compares logs: the later last term, then the longer log (Raft 5.4.1).
    """
    offlinedata.check_survivor(cluster, number)
    others = [
        node.id for node in cluster.nodes if node.id != number and _has_data(node.data_dir, node.config)
    ]
    ends = {each: offlinedata.end_of(cluster, each, scratch) for each in (number, *others)} if others else {}
    mine = ends.get(number)
    for other in others:
        end = ends[other]
        if end is not None and mine is not None and end > mine:
            raise SurvivorDistrusted(
                f"node {other} has more than node {number}: its log ends with entry {end[1]} of"
                f" term {end[0]}, not with {mine[1]} of term {mine[0]}; the nodes are stopped",
                next_step=f"esctl cluster recover {cluster.name} --from-node {other}",
            )


def successor_of(cluster: Cluster, created: str) -> Cluster:
    """The same nodes at the same addresses, as another cluster."""
    return replace(cluster, identity=f"{cluster.name}-{secrets.token_hex(4)}", created=created)


def move_aside(cluster: Cluster, epoch: int) -> list[Path]:
    """Give every file of the old nodes another name; where they are now. Raises `MachineRefused`.

    What `node replace` had put aside, too: else it would go with the new nodes, should they be deleted.
    """
    moved: list[Path] = []
    for node in cluster.nodes:
        name = node.data_dir.name
        wanted = {path: f"{path.name}.epoch-{epoch}" for path in (node.data_dir, node.config, node.log)}
        for path in set(datadir.put_aside(node)) - set(node.former):
            wanted[path] = f"{name}.epoch-{epoch}{path.name.removeprefix(name)}"
        for path, new_name in wanted.items():
            aside = _free(path.with_name(new_name))
            try:
                path.rename(aside)
            except FileNotFoundError:
                continue  # that is what was lost
            except OSError as error:
                raise MachineRefused(f"{path} cannot be moved aside: {error.strerror}") from error
            moved.append(aside)
    return moved


def _free(path: Path) -> Path:
    """`path`, or the first free name like it."""
    numbered, number = path, 1
    while numbered.exists():
        number += 1
        numbered = path.with_name(f"{path.name}-{number}")
    return numbered


def _has_data(data_dir: Path, config: Path) -> bool:
    return config.is_file() and (data_dir / "identity.json").is_file()
