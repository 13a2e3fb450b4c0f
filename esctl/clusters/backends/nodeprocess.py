"""Which process is a node's: the one that holds the lock of its data directory.

With several partitions that is their supervisor, and their processes belong to the node as well. They end
when it does, a moment later, and until then the node is not gone: they hold locks of their own.

A node takes that lock before it serves, and the kernel keeps it until the process is gone; so nothing that
`esctl` has written, or could not write, decides what runs. Where the directory is gone, or the node has only
just been started, the command lines of all processes are looked at. Signals go through a pidfd: the process
cannot change between the look and the signal. Called by the process backend and the doctor.
"""

import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from esctl.clusters.backends import pidfile
from esctl.clusters.state import Node
from esctl.errors import MachineRefused

_PROC: Final = Path("/proc")
_OPTION: Final = "--config"
_PARTITION: Final = "--partition"
"""What only a supervisor gives to a process that it starts."""
LOCK_FILE: Final = "lock"
"""In a data directory; it holds the number of the process that has it."""
YOUNG_S: Final = 10.0
NAMELESS_S: Final = 1.0
"""How long a young process may be without a command line: it has none at one moment of its start."""
LOOK_EVERY_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Holder:
    """A live process of a node."""

    pid: int
    facts: pidfile.ProcessFacts
    of_partition: bool = False
    """Is it the process of one of several partitions? Otherwise it is the node, or their supervisor."""
    partitions: "tuple[Holder, ...]" = ()
    """Those that it has started, where it is a supervisor; the others, where it has gone already."""

    @property
    def paused(self) -> bool:
        """Does it stand still (SIGSTOP)?"""
        return self.facts.state == "T"


def holders(nodes: Collection[Node], partitions: int = 1) -> dict[int, Holder]:
    """The live process of each of these nodes that has one, by the node's number."""
    found = {node.id: holder for node in nodes if (holder := _of_lock(node)) is not None}
    if len(found) == len(nodes) and partitions == 1:
        return found
    places = {os.path.realpath(node.config): node.id for node in nodes}
    theirs: dict[int, list[Holder]] = {}
    for holder, config in every_node():
        number = places.get(os.path.realpath(config))
        if number is None:
            continue
        if holder.of_partition:
            theirs.setdefault(number, []).append(holder)
        else:
            found.setdefault(number, holder)
    for number, (first, *others) in theirs.items():
        if number in found:
            found[number] = replace(found[number], partitions=(first, *others))
        else:
            found[number] = replace(first, partitions=tuple(others))
    return found


def holder_of(node: Node, partitions: int = 1) -> Holder | None:
    """The live process of one node."""
    return holders([node], partitions).get(node.id)


def every_node() -> Iterator[tuple[Holder, Path]]:
    """Every process of this machine that is a node, and the path of its configuration."""
    nameless = []
    for entry in os.listdir(_PROC) if _PROC.is_dir() else []:
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        words = pidfile.words_of(int(entry))
        if words:
            yield from _as_node(int(entry), words)
        elif _may_get_a_name(int(entry)):
            nameless.append(int(entry))
    deadline = time.monotonic() + NAMELESS_S
    for pid in nameless:
        yield from _as_node(pid, _words_by(pid, deadline))


def wait_named(pid: int) -> None:
    """Wait until the process that this one has just started can be told apart by its command line."""
    _words_by(pid, time.monotonic() + NAMELESS_S)


def send(holder: Holder, number: signal.Signals) -> bool:
    """Send a signal to the process; False when it is gone. Raises `MachineRefused`."""
    try:
        descriptor = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return False
    try:
        now = _alive(holder.pid)
        if now is None or now.facts.start_ticks != holder.facts.start_ticks:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise MachineRefused(
            f"process {holder.pid} belongs to another user and cannot be sent {number.name}",
            next_step=f"ask its owner: ps -o user=,args= -p {holder.pid}",
        ) from error
    else:
        return True
    finally:
        os.close(descriptor)


def _of_lock(node: Node) -> Holder | None:
    """The process that the lock names, if that is a node and has this very file open."""
    path = node.data_dir / LOCK_FILE
    try:
        pid, lock = int(path.read_text(encoding="ascii")), path.stat()
    except (OSError, ValueError):
        return None
    pidfile.reap(pid)
    holder = _alive(pid)
    if holder is None or _config_in(pidfile.words_of(pid)) is None:
        return None
    try:
        for name in sorted(os.listdir(_PROC / str(pid) / "fd"), key=int):
            if _is_file(_PROC / str(pid) / "fd" / name, lock):
                return holder
    except OSError:
        return None  # it has just ended, or is another user's: its command line is looked at next
    return None


def _is_file(path: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), wanted)
    except FileNotFoundError:  # it has closed it meanwhile
        return False


def _alive(pid: int) -> Holder | None:
    facts = pidfile.facts_of(pid)
    return None if facts is None or facts.state in "ZX" else Holder(pid, facts)


def _as_node(pid: int, words: Sequence[str]) -> Iterator[tuple[Holder, Path]]:
    config = _config_in(words)
    if config is None:
        return
    try:
        where = Path(os.readlink(_PROC / str(pid) / "cwd")) / config
    except OSError:
        where = Path(config)
    holder = _alive(pid)
    if holder is not None:
        yield replace(holder, of_partition=_PARTITION in words), where


def _config_in(words: Sequence[str]) -> str | None:
    """The configuration that a command line names; None when it is no node's."""
    if not any(Path(word).name == "esnode" for word in words):
        return None
    for at, word in enumerate(words):
        if word == _OPTION and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{_OPTION}="):
            return word.partition("=")[2]
    return None


def _may_get_a_name(pid: int) -> bool:
    """Is it a young process of a program? Those of the kernel have no command line for ever."""
    facts = pidfile.facts_of(pid)
    if facts is None or facts.state in "ZX" or (pidfile.uptime_s(facts) or 0.0) > YOUNG_S:
        return False
    try:
        os.readlink(_PROC / str(pid) / "exe")
    except OSError:
        return False
    return True


def _words_by(pid: int, deadline: float) -> Sequence[str]:
    """The command line of a process, once it has one; empty when it ends first, or has none in time."""
    while not (words := pidfile.words_of(pid)):
        if _alive(pid) is None or time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)  # nothing tells when it has been given one
    return words
