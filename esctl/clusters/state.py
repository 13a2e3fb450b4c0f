"""Where clusters are kept: one directory each, under $XDG_STATE_HOME/esctl/clusters.

Decides names, places and which cluster is the default; writes atomically, under a lock. Holds no event
and no process: those belong to the data directory and the backend. Called by commands and backends.
"""

import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from esctl import oserror
from esctl.errors import (
    ClusterExists,
    ClusterNotFound,
    InvalidName,
    MachineRefused,
    NewerState,
    NoCluster,
    NodeNotFound,
    SeveralClusters,
    StateUnreadable,
)
from esctl.ui import escape
from esctl.ui.values import BackendName
from esnode import limits
from esnode.dataclass import dataclass

_SCHEMA_NAME: Final = "esctl-cluster/v"
FORMAT: Final = 1
"""Of the description and of all notes in the directory beside it: whoever changes one raises this."""
SCHEMA: Final = f"{_SCHEMA_NAME}{FORMAT}"
DEFAULT_NAME: Final = "local"
LOCK: Final = ".lock"
HOME: Final = "data"
"""Where a cluster keeps its nodes' files unless it is told a place."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster: where it listens and where its files are. Addresses are `host:port`."""

    id: int
    client: str
    peer: str
    data_dir: Path
    config: Path
    log: Path
    former: tuple[Path, ...] = ()
    """Data directories that it had elsewhere before, and that nobody has deleted."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `cluster up` decided, kept for every later command.

    `identity` is what the nodes call the cluster: the name and a random part, so that a new cluster
    never takes in a node of an older one of the same name.
    """

    name: str
    identity: str
    backend: BackendName
    storage: str
    created: str
    data_dir: Path
    nodes: tuple[Node, ...]
    partitions: int = 1
    """Of how many each node has a process, behind its two ports."""

    @property
    def directory(self) -> Path:
        """Where this description and the notes of the backend are kept."""
        return clusters_root() / self.name

    @property
    def quorum(self) -> int:
        """How many nodes make a majority."""
        return len(self.nodes) // 2 + 1

    @property
    def addresses(self) -> list[str]:
        """Where clients connect, a node each."""
        return [node.client for node in self.nodes]

    def node(self, number: int) -> Node:
        """The node `number`; raises `NodeNotFound`."""
        for node in self.nodes:
            if node.id == number:
                return node
        known = ", ".join(str(node.id) for node in self.nodes)
        raise NodeNotFound(f"cluster {self.name} has no node {number}; it has {known}")


def clusters_root() -> Path:
    """The directory of all clusters of this user."""
    configured = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    base = Path(configured) if configured.startswith("/") else oserror.home() / ".local" / "state"
    return base / "esctl" / "clusters"


def names() -> list[str]:
    """Every cluster there is, by name."""
    root = clusters_root()
    if not root.is_dir():
        return []
    return sorted(path.parent.name for path in root.glob("*/cluster.json"))


def names_that_begin(incomplete: str) -> list[str]:
    """What a shell may complete the name of a cluster to."""
    return [name for name in names() if name.startswith(incomplete)]


def check_name(name: str) -> None:
    """Raises `InvalidName`."""
    if not _NAME.fullmatch(name):
        raise InvalidName(f"{escape.named(name)} cannot name a cluster")


def resolve(name: str | None) -> Cluster:
    """The cluster `name`, or the only one there is."""
    if name:
        return load(name)
    known = names()
    if not known:
        raise NoCluster("there is no cluster yet")
    if len(known) > 1:
        raise SeveralClusters(f"there are {len(known)} clusters: {', '.join(known)}")
    return load(known[0])


def load(name: str) -> Cluster:
    """Read a cluster's description; raises `ClusterNotFound`, `StateUnreadable`, `NewerState`."""
    check_name(name)
    path = clusters_root() / name / "cluster.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        number = str(document["schema"]).removeprefix(_SCHEMA_NAME)
        refuse_newer(path, int(number) if number.isdecimal() else 0, FORMAT)
        if document["schema"] != SCHEMA:
            raise StateUnreadable(
                f"{path} has the schema {document['schema']!r}, not {SCHEMA!r}", next_step="upgrade esctl"
            )
        return _from_json(document)
    except FileNotFoundError:
        others = ", ".join(names()) or "none"
        raise ClusterNotFound(f"there is no cluster {name}; there are: {others}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateUnreadable(
            f"{path} cannot be used: {_why_unusable(error)}",
            next_step=f"put the file back, or: esctl cluster destroy {name} --confirm {name}",
        ) from error


def readable() -> Iterator[Cluster]:
    """Every cluster whose description can be read: a broken one is in nobody's way but its own."""
    for name in names():
        try:
            yield load(name)
        except (InvalidName, ClusterNotFound, StateUnreadable):
            continue  # no name of a cluster, gone meanwhile, or not to be read


def refuse_newer(path: Path, found: object, known: int) -> None:
    """Raise `NewerState` where what is kept at `path` is of a later format than is known here."""
    if type(found) is int and found > known:
        raise NewerState(f"{path} is of format {found}, and this esctl reads up to {known}")


def owner_of(path: Path) -> str | None:
    """The name of the cluster whose description has the file or directory `path`; None if none has."""
    for cluster in readable():
        if any(path in (node.config, node.data_dir, node.log, *node.former) for node in cluster.nodes):
            return cluster.name
    return None


def add(cluster: Cluster) -> None:
    """Write the description of a new cluster; raises `ClusterExists`."""
    if (cluster.directory / "cluster.json").exists():
        raise ClusterExists(
            f"there is a cluster {cluster.name} already",
            next_step=f"esctl cluster start {cluster.name}, or: esctl cluster destroy {cluster.name}",
        )
    replace(cluster)


def replace(cluster: Cluster) -> None:
    """Write another description in place of the one that the cluster has."""
    document = {"schema": SCHEMA, **dataclasses.asdict(cluster)}
    if cluster.partitions == 1:  # versions from before there was the key read all other descriptions
        del document["partitions"]
    write_atomically(cluster.directory / "cluster.json", json.dumps(document, indent=2, default=str) + "\n")


def remove(name: str) -> list[Path]:
    """Forget a cluster; what is left of its directory: what others keep beside its data, and mount points.

    Raises `MachineRefused` when it cannot be forgotten.
    """
    place, left = clusters_root() / name, []
    description = place / "cluster.json"
    for entry in sorted(place.iterdir()) if place.is_dir() else []:
        if entry.name in (description.name, LOCK, HOME):
            continue
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except OSError:
            left.append(entry)
    try:
        shutil.rmtree(description) if description.is_dir() else description.unlink(missing_ok=True)
    except OSError as error:
        raise MachineRefused(f"{description} cannot be deleted: {error.strerror}") from error
    for last, delete in ((place / HOME, Path.rmdir), (place / LOCK, Path.unlink), (place, Path.rmdir)):
        with suppress(OSError):
            delete(last)
    return [*left, *([place / HOME] if (place / HOME).exists() else [])]


def make_directory(path: Path) -> None:
    """Create a directory that only its owner can read, and those above it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MachineRefused(f"{path} cannot be created: {error.strerror}") from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content, or leave it as it was: after a crash too. Raises `MachineRefused`."""
    content = text.encode()  # before anything is made: a path in it may be bytes and no text
    make_directory(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # what refused the writing may refuse this; `doctor` finds the rest
            beside.unlink(missing_ok=True)
        raise MachineRefused(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def locked(name: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the cluster `name`, or with "" that of the list of clusters.

    One `esctl` at a time changes what runs; reading needs no lock. When another one holds it, `waiting`
    is told, once. The lock goes with the process that holds it.
    """
    directory = clusters_root() / name
    make_directory(directory)
    try:
        file = (directory / LOCK).open("w")
    except OSError as error:
        raise MachineRefused(f"{directory / LOCK} cannot be opened: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another esctl is changing this; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _why_unusable(error: Exception) -> str:
    """What is wrong with a description, without Python's own words."""
    match error:
        case OSError():
            return f"it cannot be read: {error.strerror}"
        case UnicodeDecodeError():
            return "it is not text in UTF-8"
        case json.JSONDecodeError():
            return f"it is not JSON: line {error.lineno}, column {error.colno}"
        case KeyError():
            return f"it does not say {error.args[0]!r}"
        case _:
            return "a value in it is not what belongs there"


def _from_json(document: dict[str, object]) -> Cluster:
    document = {"partitions": 1, **document}
    fields = {f.name: document[f.name] for f in dataclasses.fields(Cluster)}
    if type(fields["partitions"]) is not int or not 1 <= fields["partitions"] <= limits.MAX_PARTITIONS:
        raise ValueError("partitions is not a number that a cluster can have")
    listed = fields["nodes"]
    if not isinstance(listed, list):
        raise TypeError("nodes is not a list")
    if not listed:
        raise ValueError("there are no nodes")
    fields["nodes"] = tuple(
        Node(
            id=int(node["id"]),
            client=str(node["client"]),
            peer=str(node["peer"]),
            data_dir=Path(node["data_dir"]),
            config=Path(node["config"]),
            log=Path(node["log"]),
            former=tuple(Path(path) for path in node.get("former", ())),
        )
        for node in listed
    )
    fields["data_dir"] = Path(str(fields["data_dir"]))
    return Cluster(**fields)  # type: ignore[arg-type]  # checked field by field above
