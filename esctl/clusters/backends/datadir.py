"""Gives a node that is down an empty data directory: in the old one's place, or somewhere else.

A replacement never deletes the old one: it is moved aside under a name that says when, or stays where it
is, and the cluster's description remembers it. Links stay links, and mount points are emptied, never moved.
Called by `esctl node replace`, by the backend when it deletes what a node has left, and by whoever must know
whether a log is there.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from esctl import oserror
from esctl.clusters import nodelog, state, tomlfile
from esctl.clusters.state import Cluster, Node
from esctl.errors import DirectoryTaken, MachineRefused
from esnode import config

ASIDE: Final = "aside"
LOST_AND_FOUND: Final = "lost+found"
LOGS: Final = ("log.sqlite", "segments", "rocksdb")
"""Where in a data directory the log is, by engine."""


def check(cluster: Cluster, number: int, where: Path) -> None:
    """Raises `DirectoryTaken` unless `where` is free to be the node's data directory, or is not there.

    Raises `InvalidArgument` for a path that no configuration can hold.
    """
    oserror.check_text(where)
    helps = f"esctl node replace {number} --data-dir DIR, with an empty one, --cluster {cluster.name}"
    if os.path.lexists(where) and not _is_empty(where):
        raise DirectoryTaken(f"{where} is not an empty directory; nothing was done", next_step=helps)
    owner = state.owner_of(where)
    if owner is not None:
        raise DirectoryTaken(f"{where} belongs to cluster {owner}; nothing was done", next_step=helps)


def has_lost_its_log(node: Node, partition: int | None = None) -> bool:
    """Has the node run, and is its log not there any more? What cannot be looked at may be there.

    Where there are several, that of `partition`: it has a directory in that of the node.
    """
    place = node.data_dir if partition is None else config.partition_directory(node.data_dir, partition)
    try:
        place.stat()
        if any(os.path.lexists(place / name) for name in LOGS):
            return False
    except (FileNotFoundError, NotADirectoryError):
        return partition is None or not node.data_dir.is_dir() or _opened(node, partition)
    except OSError:
        return False
    return _opened(node, partition)


def _opened(node: Node, partition: int | None) -> bool:
    """Does the log of the node say that it has run?"""
    lines = nodelog.backwards(node.log, node.id, nodelog.size(node.log), containing=b'"storage_opened"')
    return any(partition is None or line.fields.get("partition") == partition for line in lines)


def too_few_logs(cluster: Cluster, up: Collection[int] = ()) -> bool:
    """Are there fewer logs than make a majority? Those of nodes that are `up` are there.

    Then no node may be started before somebody has looked for them: it would begin with an empty log.
    """
    logs = range(cluster.partitions) if cluster.partitions > 1 else (None,)
    return any(
        sum(node.id in up or not has_lost_its_log(node, log) for node in cluster.nodes) < cluster.quorum
        for log in logs
    )


def _is_empty(where: Path) -> bool:
    """Is it a directory in which nothing is but what a new file system comes with?"""
    try:
        return all(entry.name == LOST_AND_FOUND for entry in where.iterdir())
    except OSError:
        return False


def aside_of(node: Node, now: datetime) -> Path:
    """Where the node's old data is moved: beside its directory, or into it where that is a mount point."""
    place, stamp = _place(node), f"{ASIDE}-{now:%Y%m%dT%H%M%SZ}"
    return place / stamp if os.path.ismount(place) else place.with_name(f"{place.name}.{stamp}")


def put_aside(node: Node) -> Sequence[Path]:
    """What earlier replacements have left: beside the node's directory, in it, and where it was before."""
    place = _place(node)
    beside = {path for one in (node.data_dir, place) for path in one.parent.glob(f"{one.name}.{ASIDE}-*")}
    inside = place.glob(f"{ASIDE}-*") if os.path.ismount(place) else ()
    return sorted({*beside, *inside, *(path for path in node.former if os.path.lexists(path))})


def of_node(cluster: Cluster, node: Node) -> Sequence[Path]:
    """The directories that hold data of this node of this cluster, and may be deleted with it."""
    aside = [path for path in put_aside(node) if path not in node.former or _is_of(cluster, node, path)]
    # Through a link, only what is certainly the node's: somebody may have turned the link round.
    linked = node.data_dir.is_symlink() and not _is_of(cluster, node, node.data_dir)
    return aside if linked and any(_place(node).glob("*")) else [*aside, node.data_dir]


def delete(directory: Path) -> list[Path]:
    """Delete a directory with all that is in it; what could not be deleted.

    Where it is a link, that goes, and what it leads to. A mount point cannot go: it is left empty.
    """
    left: list[Path] = []
    place = directory.resolve()
    mounted = os.path.ismount(place)
    try:
        for entry in sorted(place.iterdir()) if place.is_dir() else []:
            if mounted and entry.name == LOST_AND_FOUND:
                continue  # it is the file system's own
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, onerror=lambda _call, path, _error: left.append(Path(path)))
            else:
                entry.unlink()
        if place.is_dir() and not mounted:
            place.rmdir()
        if directory.is_symlink():
            directory.unlink()
    except OSError as error:
        left.append(Path(error.filename or place))
    return [path for path in dict.fromkeys(left) if os.path.lexists(path)]


def renew(node: Node, now: datetime) -> Path | None:
    """Move the data aside and leave an empty directory on the same disk; where the old data is, if any was.

    A link stays as it is: what it leads to is renewed. Raises `MachineRefused`; what could not be moved is
    where it was then.
    """
    place, aside = _place(node), aside_of(node, now)
    try:
        if os.path.ismount(place):
            aside.mkdir(mode=0o700)
            for entry in sorted(place.iterdir()):
                if entry.name != LOST_AND_FOUND and not entry.name.startswith(f"{ASIDE}-"):
                    entry.rename(aside / entry.name)
            return aside
        place.rename(aside)
    except FileNotFoundError:
        state.make_directory(place)
        return None  # the disk is gone, and the directory with it
    except OSError as error:
        raise MachineRefused(
            f"{node.data_dir} cannot be moved aside: {error.strerror}; it was left as it is",
            next_step=f"esctl node replace {node.id} --data-dir DIR, on another disk",
        ) from error
    state.make_directory(place)
    return aside


def move(cluster: Cluster, number: int, where: Path) -> Path | None:
    """Let the node keep its data in `where` from now on; the old directory, if it is there still.

    The description remembers the old one: it is of this cluster until somebody deletes it.
    """
    node = cluster.node(number)
    state.make_directory(where)
    config.load(node.config)  # it is one
    former = tuple(path for path in (*node.former, node.data_dir) if path != where and os.path.lexists(path))
    moved = dataclasses.replace(node, data_dir=where, former=former)
    nodes = [moved if one.id == number else one for one in cluster.nodes]
    state.replace(dataclasses.replace(cluster, nodes=tuple(nodes)))
    tomlfile.change(node.config, lambda document: tomlfile.put(document, ["data_dir"], str(where)))
    return node.data_dir if node.data_dir.exists() else None


def _place(node: Node) -> Path:
    """Where the node's data is, on whatever disk."""
    return node.data_dir.resolve() if node.data_dir.is_symlink() else node.data_dir


def _is_of(cluster: Cluster, node: Node, directory: Path) -> bool:
    """Does the directory say that it is this node's of this cluster?"""
    place = directory if cluster.partitions == 1 else config.partition_directory(directory, 0)
    try:
        title = json.loads((place / "identity.json").read_text(encoding="utf-8"))
        return (title["cluster"], title["node_id"]) == (cluster.identity, node.id)
    except (OSError, ValueError, KeyError, TypeError):
        return False
