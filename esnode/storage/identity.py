"""The small files of a data directory that say who is who, each written whole or not at all.

`identity.json`: whose directory this is, with which members, its own random name, the formats and the
version that wrote it, the inode of its mark and when that was made (a copy has others). `peers.json`: the
name of each peer's directory. `reached.json`: up to where each peer once held the log, and so still does.
`rejoining`: why what is stored is not to be believed, and the name that the directory has since.
`partitions.json`: that this is no log, but that there is one for each of so many partitions below. Decides
what is readable; never what follows from it. Called by `directory`.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import esnode
from esnode.errors import DamagedRecord, WrongDirectory
from esnode.formats import refuse_newer
from esnode.raft.messages import NodeId
from esnode.storage.interface import Distrust, Identity

FORMAT: Final = 3
"""The format of the directory: which files there are, and what is in the small ones."""
ENGINE_FORMATS: Final = {"sqlite": 1, "rocksdb": 1, "segments": 1}
"""The format of each engine's own files. A directory that does not say has the first."""
_SMALL_FORMAT: Final = 1
"""Of `peers.json`, `reached.json` and `rejoining`, which say it under `format` once it is another."""
IDENTITY_FILE: Final = "identity.json"
PEERS_FILE: Final = "peers.json"
REACHED_FILE: Final = "reached.json"
REJOIN_FILE: Final = "rejoining"
PARTITIONS_FILE: Final = "partitions.json"
NAME_BYTES: Final = 16
_MARK_KEYS: Final = ("inode", "born_ns")


@dataclass(frozen=True, slots=True)
class Title:
    """What `identity.json` says. `inode` is None until the mark is there, `born_ns` also where the file
    system does not tell when a file was made."""

    engine: str
    identity: Identity
    directory: bytes
    inode: int | None
    born_ns: int | None = None
    written_by: str = esnode.__version__
    """The version that wrote this down, and to the directory last; empty where it did not say."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What `rejoining` says. The new name is in it, so that no crash leaves the one without the other."""

    distrust: Distrust
    directory: bytes


def new_name() -> bytes:
    """A name for a directory that no other one has."""
    return secrets.token_bytes(NAME_BYTES)


def read_title(path: Path) -> Title | None:
    """The title of the directory `path`; None when it is nobody's.

    Raises `NewerFormat` for a later format, of the directory or of its engine, `WrongDirectory` for an
    earlier one, `DamagedRecord`.
    """
    found = _load(path / IDENTITY_FILE)
    if found is None:
        return None
    try:
        written_by = str(found.get("written_by", ""))
        version, engine_format = (_whole(found.get(key, 1)) for key in ("format", "engine_format"))
        refuse_newer(f"the directory {path}", version, FORMAT, written_by)
        if version == FORMAT:
            members, partition = _ids(found.get("members", [])), _whole(found.get("partition", 0))
            identity = Identity(found["cluster"], found["node_id"], members, partition)
            inode, born_ns = (_number(found[key]) for key in _MARK_KEYS)
            engine = str(found["engine"])
            known = ENGINE_FORMATS.get(engine, engine_format)
            refuse_newer(f"the {engine} log in {path}", engine_format, known, written_by)
            name = _name(found["directory"])
            return Title(engine, identity, name, inode, born_ns, written_by)
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedRecord(f"{path / IDENTITY_FILE} is not the identity of a node") from error
    raise WrongDirectory(
        f"{path} is of format {version}; this version reads and writes {FORMAT}",
        next_step="run the version that wrote it, or start once with an empty data_dir and --rejoin",
    )


def write_title(path: Path, title: Title) -> None:
    """Write it, durably; the caller syncs the directory."""
    content = {
        "format": FORMAT,
        "engine": title.engine,
        "cluster": title.identity.cluster,
        "node_id": title.identity.node_id,
        "members": list(title.identity.members),
        "directory": title.directory.hex(),
        "inode": title.inode,
        "born_ns": title.born_ns,
        "engine_format": ENGINE_FORMATS.get(title.engine, 1),
        "written_by": esnode.__version__,
    }
    if title.identity.partition:
        content["partition"] = title.identity.partition
    _save(path / IDENTITY_FILE, content)


@dataclass(frozen=True, slots=True)
class Partitions:
    """What `partitions.json` says: among how many partitions the data is shared out, and whether the log of
    the only one before is still being moved to the place of partition 0."""

    number: int
    moves_log: bool = False


def read_partitions(path: Path) -> Partitions | None:
    """Whether the data in `path` is shared out among partitions; None where it is that of one node, or none.

    Raises `DamagedRecord`, `NewerFormat`.
    """
    found = _load(path / PARTITIONS_FILE)
    _refuse_newer_small(path / PARTITIONS_FILE, found)
    if found is None:
        return None
    try:
        return Partitions(_whole(found["partitions"]), bool(found.get("moves_log", False)))
    except (ValueError, KeyError) as error:
        raise DamagedRecord(f"{path / PARTITIONS_FILE} does not tell a number of partitions") from error


def write_partitions(path: Path, partitions: int, *, moves_log: bool = False) -> None:
    """Write it, durably; the caller syncs the directory."""
    moving = {"moves_log": True} if moves_log else {}
    _save(path / PARTITIONS_FILE, {"partitions": partitions, **moving})


def read_peers(path: Path) -> dict[NodeId, bytes]:
    """The names of the peers' directories; raises `DamagedRecord`, `NewerFormat`."""
    found = _load(path / PEERS_FILE)
    try:
        _refuse_newer_small(path / PEERS_FILE, found)
        return {int(peer): _name(name) for peer, name in (found or {}).items()}
    except (ValueError, TypeError) as error:
        raise DamagedRecord(f"{path / PEERS_FILE} does not list directories of peers") from error


def write_peers(path: Path, peers: Mapping[NodeId, bytes]) -> None:
    """Write them, durably; the caller syncs the directory."""
    _save(path / PEERS_FILE, {str(peer): name.hex() for peer, name in sorted(peers.items())})


def read_reached(path: Path) -> dict[NodeId, int]:
    """Up to where each peer once held the log; raises `DamagedRecord`."""
    found = _load(path / REACHED_FILE)
    try:
        _refuse_newer_small(path / REACHED_FILE, found)
        return {int(peer): _number(index) or 0 for peer, index in (found or {}).items()}
    except ValueError as error:
        raise DamagedRecord(f"{path / REACHED_FILE} does not list indexes of peers") from error


def write_reached(path: Path, reached: Mapping[NodeId, int]) -> None:
    """Write them, durably; the caller syncs the directory."""
    _save(path / REACHED_FILE, {str(peer): index for peer, index in sorted(reached.items())})


def read_marker(path: Path) -> Marker | None:
    """The marker of the directory `path`; None when there is none. One that cannot be read says damage.

    Raises `NewerFormat`.
    """
    try:
        found = _load(path / REJOIN_FILE)
        _refuse_newer_small(path / REJOIN_FILE, found)
        return None if found is None else Marker(Distrust(found["cause"]), _name(found["directory"]))
    except (DamagedRecord, ValueError, TypeError, KeyError):
        return Marker(Distrust.DAMAGE, new_name())


def write_marker(path: Path, marker: Marker) -> None:
    """Write it, durably; the caller syncs the directory."""
    _save(path / REJOIN_FILE, {"cause": marker.distrust.value, "directory": marker.directory.hex()})


def _refuse_newer_small(path: Path, found: Mapping[str, Any] | None) -> None:
    refuse_newer(str(path), 1 if found is None else _whole(found.get("format", 1)), _SMALL_FORMAT)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(value)
    return value


def _number(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise ValueError(value)
    return value


def _ids(value: object) -> tuple[int, ...]:
    """Node ids; none in a directory that was written before they were noted."""
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ValueError(value)
    return tuple(value)


def _name(text: str) -> bytes:
    name = bytes.fromhex(text)
    if len(name) != NAME_BYTES:
        raise ValueError(text)
    return name


def _load(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, endless brackets
        raise DamagedRecord(f"{path} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise DamagedRecord(f"{path} is not a JSON object")
    return found


def _save(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
