"""Gives a node that is down an empty data directory: in the old one's place, or somewhere else.

The old directory is never deleted here: it is moved aside under a name that says when, or stays where it
is. Changes the node's configuration and the cluster's description when the place changes. Called by
`esctl node replace`, and by the backend that deletes what is left beside a node's directory.
"""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from esctl import state
from esctl.errors import DirectoryTaken, MachineRefused
from esctl.state import Cluster, Node
from esnode import config

ASIDE: Final = "aside"


def check(cluster: Cluster, number: int, where: Path) -> None:
    """Raises `DirectoryTaken` unless `where` is free to be the node's data directory, or is not there."""
    helps = f"esctl node replace {number} --data-dir DIR, with an empty one, --cluster {cluster.name}"
    if where.exists() and not (where.is_dir() and not any(where.iterdir())):
        raise DirectoryTaken(f"{where} is not an empty directory; nothing was done", next_step=helps)
    owner = state.owner_of(where)
    if owner is not None:
        raise DirectoryTaken(f"{where} belongs to cluster {owner}; nothing was done", next_step=helps)


def aside_of(node: Node, now: datetime) -> Path:
    """Where the node's data directory is moved."""
    return node.data_dir.with_name(f"{node.data_dir.name}.{ASIDE}-{now:%Y%m%dT%H%M%SZ}")


def put_aside(node: Node) -> Sequence[Path]:
    """The directories that earlier replacements have left beside the node's own."""
    return sorted(node.data_dir.parent.glob(f"{node.data_dir.name}.{ASIDE}-*"))


def renew(node: Node, now: datetime) -> Path | None:
    """Move the data directory aside and make an empty one; where the old one is, if there was one.

    Raises `MachineRefused`; the old one is where it was then.
    """
    aside: Path | None = aside_of(node, now)
    try:
        node.data_dir.rename(aside_of(node, now))
    except FileNotFoundError:
        aside = None  # the disk is gone, and the directory with it
    except OSError as error:
        raise MachineRefused(
            f"{node.data_dir} cannot be moved aside: {error.strerror}; it was left as it is",
            next_step=f"esctl node replace {node.id} --data-dir DIR, on another disk",
        ) from error
    state.make_directory(node.data_dir)
    return aside


def move(cluster: Cluster, number: int, where: Path) -> Path | None:
    """Let the node keep its data in `where` from now on; the old directory, if it is there still."""
    node = cluster.node(number)
    state.make_directory(where)
    settings = config.load(node.config)
    state.write_atomically(node.config, config.dump(dataclasses.replace(settings, data_dir=where)))
    nodes = [dataclasses.replace(one, data_dir=where) if one.id == number else one for one in cluster.nodes]
    state.replace(dataclasses.replace(cluster, nodes=tuple(nodes)))
    return node.data_dir if node.data_dir.exists() else None
