"""The nodes of a cluster as child processes on this machine's loopback.

Each node is `python -m esnode --config FILE` in a session of its own: it outlives `esctl`, and is found
again by the lock that it holds (see `nodeprocess.py`). Decides how processes are started, watched and ended;
knows nothing of Raft. Called by the commands through `interface.py`.
"""

import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import trio

from esctl import oserror
from esctl.clusters import detached, nodelog, ports, state
from esctl.clusters.backends import datadir, nodeprocess, pidfile
from esctl.clusters.backends.interface import Address, Links, NodeOptions, NodeProcess, Ready, RunState
from esctl.clusters.backends.nodeprocess import Holder
from esctl.clusters.backends.nodestatus import answers
from esctl.clusters.state import Cluster, Node, make_directory, owner_of, write_atomically
from esctl.errors import (
    DirectoryTaken,
    MachineRefused,
    NodeFailedToStart,
    NodeFilesGone,
    NodeNotReady,
    NodeNotRunning,
    NodesAlive,
    PortTaken,
)
from esctl.ui.formatting import duration
from esctl.ui.values import BackendName
from esnode.config import Config, Faults, Member, dump, load, parse_address
from esnode.dataclass import dataclass
from esnode.errors import EngineMissing, EventStreamError

KILL_TIMEOUT_S: Final = 10.0
"""A killed process that is still there after this hangs in the kernel."""
TAIL_LINES: Final = 8


def node_command(node: Node) -> list[str]:
    """The command line of a node's process."""
    return [sys.executable, "-m", "esnode", "--config", str(node.config)]


@dataclass(frozen=True, slots=True)
class _Started:
    """A node's new process; its log was `log_end` bytes long before it began."""

    node: Node
    log_end: int
    pid: int


class ProcessBackend:
    """See `interface.Backend`. Tests give their own `ready` and `command`."""

    name: BackendName = "process"
    links: Links | None = None

    def __init__(self, ready: Ready = answers, command: Callable[[Node], list[str]] = node_command) -> None:
        self._ready = ready
        self._command = command

    # --- files -------------------------------------------------------------------------------------

    def addresses(self, count: int, base_port: int | None = None) -> list[Address]:
        """See `interface.Backend.addresses`."""
        theirs = [
            parse_address(text)
            for other in state.readable()
            for node in other.nodes
            for text in (node.client, node.peer)
        ]
        reserved = {address.port for address in theirs if address.host == ports.HOST}
        chosen = ports.choose(2 * count, reserved, base_port)
        pairs = zip(chosen[:count], chosen[count:], strict=True)
        return [Address(f"{ports.HOST}:{client}", f"{ports.HOST}:{peer}") for client, peer in pairs]

    def check_free(self, cluster: Cluster, options: NodeOptions) -> None:
        """See `interface.Backend.check_free`."""
        if options.storage == "rocksdb" and find_spec("rocksdict") is None:
            raise EngineMissing("the storage engine rocksdb needs the package rocksdict")
        oserror.check_text(cluster.data_dir)
        for node in cluster.nodes:
            for path in (node.config, node.data_dir, node.log):
                if os.path.lexists(path) or owner_of(path) not in (None, cluster.name):
                    raise _taken(cluster, node, path)

    def create(self, cluster: Cluster, options: NodeOptions) -> None:
        """See `interface.Backend.create`."""
        self.check_free(cluster, options)
        make_directory(cluster.data_dir)
        try:
            for node in cluster.nodes:
                write_atomically(node.config, dump(_config(cluster, node, options)))
                load(node.config)
                make_directory(node.data_dir)
        except (EventStreamError, *oserror.KINDS):
            self.destroy(cluster)
            raise

    def destroy(self, cluster: Cluster) -> list[Path]:
        """See `interface.Backend.destroy`."""
        alive = _holders(cluster)
        if alive:
            pids = ", ".join(f"node {number} (pid {each.pid})" for number, each in sorted(alive.items()))
            raise NodesAlive(
                f"{pids} of {cluster.name} still runs; nothing was deleted",
                next_step=f"esctl cluster destroy {cluster.name} --confirm {cluster.name}",
            )
        left: list[Path] = []
        for node in cluster.nodes:
            for directory in datadir.of_node(cluster, node):
                left += datadir.delete(directory)
            unfinished = node.config.parent.glob(f".{node.config.name}.*")
            for file in (node.config, node.log, _pid_path(cluster, node), *unfinished):
                try:
                    file.unlink(missing_ok=True)
                except OSError:
                    left.append(file)
        with suppress(OSError):
            cluster.data_dir.rmdir()  # unless others keep something there
        return left

    def log_path(self, cluster: Cluster, number: int) -> Path:
        """See `interface.Backend.log_path`."""
        return cluster.node(number).log

    # --- processes ---------------------------------------------------------------------------------

    def nodes(self, cluster: Cluster) -> list[NodeProcess]:
        """See `interface.Backend.nodes`."""
        found = _holders(cluster)
        return [_look(node, found.get(node.id)) for node in cluster.nodes]

    async def start(
        self, cluster: Cluster, numbers: Collection[int], timeout_s: float, options: Sequence[str] = ()
    ) -> list[NodeProcess]:
        """See `interface.Backend.start`."""
        await self._until_ended(cluster, numbers, timeout_s)
        # In a thread: a load that this process sends must not wait for it.
        started = await trio.to_thread.run_sync(self._spawn_those_down, cluster, numbers, options)
        failures: list[EventStreamError] = []

        async def watch(one: _Started) -> None:
            failure = await self._until_ready(cluster, one, timeout_s)
            if failure is not None:
                failures.append(failure)

        async with trio.open_nursery() as nursery:
            for one in started:
                nursery.start_soon(watch, one)
        if failures:
            raise failures[0]
        found = await trio.to_thread.run_sync(self.nodes, cluster)
        return [p for p in found if p.node.id in numbers]

    async def stop(self, cluster: Cluster, numbers: Collection[int], timeout_s: float) -> list[int]:
        """See `interface.Backend.stop`."""
        forced: list[int] = []

        async def end(node: Node, process: Holder) -> None:
            _tell_to_end(cluster, node, process, signal.SIGTERM)
            for each in (process, *process.partitions):  # a paused one would keep the SIGTERM waiting
                nodeprocess.send(each, signal.SIGCONT)
            with trio.move_on_after(timeout_s) as patience:
                await _gone(process.pid)
            if patience.cancelled_caught:
                forced.append(node.id)
                await _kill(cluster, node, process)
            _forget(cluster, node)

        asked = [node for node in cluster.nodes if node.id in numbers]
        # Again: what had not yet got its lock may be seen only now, and what a supervisor has left.
        while live := nodeprocess.holders(asked, cluster.partitions):
            async with trio.open_nursery() as nursery:
                for node in asked:
                    if node.id in live:
                        nursery.start_soon(end, node, live[node.id])
        return sorted(set(forced))

    async def kill(self, cluster: Cluster, number: int) -> int:
        """See `interface.Backend.kill`."""
        node = cluster.node(number)
        process = _live(cluster, node)
        await _kill(cluster, node, process)
        _forget(cluster, node)
        return process.pid

    def pause(self, cluster: Cluster, number: int) -> int:
        """See `interface.Backend.pause`."""
        pid = _signal(cluster, number, signal.SIGSTOP)
        # The supervisor stands still: it starts no other one while those that it has are stopped.
        _signal_partitions(cluster, number, signal.SIGSTOP)
        return pid

    def resume(self, cluster: Cluster, number: int) -> int:
        """See `interface.Backend.resume`."""
        _signal_partitions(cluster, number, signal.SIGCONT)
        return _signal(cluster, number, signal.SIGCONT)

    # --- inside ------------------------------------------------------------------------------------

    def _check_ports(self, cluster: Cluster, node: Node) -> None:
        for what, text in (("client", node.client), ("peer", node.peer)):
            address = parse_address(text)
            if self._is_free(cluster, node, address.port):
                continue
            look = " ".join([*self._inside(cluster, node), f"ss -ltnp 'sport = :{address.port}'"])
            raise PortTaken(
                f"the {what} port {address.port} of node {node.id} of cluster {cluster.name} is in use",
                next_step=f"see who has it: {look}; stop that, then start again",
            )

    def _is_free(self, _cluster: Cluster, node: Node, port: int) -> bool:
        """Could the node listen on that port of its address?"""
        return ports.is_free(port, parse_address(node.client).host)

    def _inside(self, _cluster: Cluster, _node: Node) -> list[str]:
        """What stands before the command line of a process that is to run where the node does."""
        return []

    def _spawn_those_down(
        self, cluster: Cluster, numbers: Collection[int], options: Sequence[str]
    ) -> list[_Started]:
        down = [p.node for p in self.nodes(cluster) if p.node.id in numbers and p.state is RunState.DOWN]
        for node in down:
            _check_files(cluster, node)
            self._check_ports(cluster, node)
        return [
            _Started(node, log_end=nodelog.size(node.log), pid=self._spawn(cluster, node, options))
            for node in down
        ]

    def _spawn(self, cluster: Cluster, node: Node, options: Sequence[str]) -> int:
        """Start the node's process, detached from this one and from the terminal; its pid.

        It can be found from here on: by its command line, and by its lock before it serves.
        """
        command = [*self._inside(cluster, node), *self._command(node), *options]
        try:
            log = os.open(node.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                pid = detached.spawn(command, log, log)
            finally:
                os.close(log)
        except OSError as error:
            raise MachineRefused(f"node {node.id} could not be started: {error.strerror}") from error
        nodeprocess.wait_named(pid)
        with suppress(MachineRefused):  # a memory for `doctor` and `why`, which nothing else relies on
            pidfile.take_note(_pid_path(cluster, node), pid, str(node.config))
        return pid

    async def _until_ended(self, cluster: Cluster, numbers: Collection[int], timeout_s: float) -> None:
        """Wait for those of the nodes that somebody has told to end, and did not wait for.

        Raises `NodeNotReady` when one has not ended in time.
        """
        for number in numbers:
            for pid in _ending(cluster, cluster.node(number)):
                with trio.move_on_after(timeout_s) as patience:
                    await _gone(pid)
                if patience.cancelled_caught:
                    raise NodeNotReady(
                        f"node {number} (pid {pid}) was told to end and has not ended "
                        f"within {duration(timeout_s)}; nothing was started",
                        next_step=f"esctl node stop {number} --cluster {cluster.name}",
                    )

    async def _until_ready(
        self, cluster: Cluster, started: _Started, timeout_s: float
    ) -> EventStreamError | None:
        """Wait until the node answers; what went wrong if it does not."""
        node, pid, log_end = started.node, started.pid, started.log_end
        logs = f"esctl logs --cluster {cluster.name} --node {node.id}"
        failure: EventStreamError | None = NodeNotReady(
            f"node {node.id} (pid {pid}) runs and did not answer on {node.client} "
            f"within {duration(timeout_s)}; the end of its log:\n"
            f"{nodelog.tail(node.log, TAIL_LINES, log_end)}",
            next_step=f"{logs}; then: esctl cluster wait {cluster.name}",
        )

        async def watch_the_end() -> None:
            nonlocal failure
            status = await _gone(pid)
            how = (
                ""
                if status is None
                else f" with exit code {status}"
                if status >= 0
                else f" by signal {-status}"
            )
            failure = NodeFailedToStart(
                f"node {node.id} ended{how} before it answered; the end of its log:\n"
                f"{nodelog.tail(node.log, TAIL_LINES, log_end)}",
                next_step=nodelog.next_step(node.log, log_end) or logs,
            )
            nursery.cancel_scope.cancel()

        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch_the_end)
                pause_s = 0.01
                while not await self._ready(node, cluster.partitions):
                    await trio.sleep(pause_s)  # nothing tells when a port opens
                    pause_s = min(2 * pause_s, 0.1)
                failure = None
                nursery.cancel_scope.cancel()
        return failure


def _taken(cluster: Cluster, node: Node, path: Path) -> DirectoryTaken:
    """The error that names whose `path` is, as far as that is known."""
    elsewhere = f"esctl cluster up {cluster.name} --data-dir DIR, with a directory that is free"
    owner = owner_of(path)
    if owner is not None:
        return DirectoryTaken(
            f"{path} belongs to cluster {owner}; nothing was changed",
            next_step=f"esctl cluster start {owner}, or: {elsewhere}",
        )
    try:
        whose = f"belongs to cluster {load(node.config).cluster}, of which this user's esctl has no note"
    except EventStreamError:
        whose = "exists already"
    return DirectoryTaken(f"{path} {whose}; nothing was changed", next_step=elsewhere)


def _config(cluster: Cluster, node: Node, options: NodeOptions) -> Config:
    members = tuple(Member(n.id, parse_address(n.peer), parse_address(n.client)) for n in cluster.nodes)
    return Config(
        cluster=cluster.identity,
        node_id=node.id,
        data_dir=node.data_dir,
        members=members,
        storage=options.storage,
        log_level=options.log_level,
        faults=Faults(allowed=options.faults),
        partitions=cluster.partitions,
        dedup=options.dedup,
        retention=options.retention,
        ancestors=options.ancestors,
    )


def _pid_path(cluster: Cluster, node: Node) -> Path:
    return cluster.directory / f"node-{node.id}.pid"


def _check_files(cluster: Cluster, node: Node) -> None:
    """Raises `NodeFilesGone` when the node was never made, or its configuration was deleted."""
    if not node.config.exists():
        raise NodeFilesGone(
            f"{node.config} of node {node.id} is not there: cluster {cluster.name} was not made to its end,"
            " or the file was deleted; nothing was started",
            next_step=f"put it back, or: esctl cluster destroy {cluster.name} --confirm {cluster.name}",
        )


def _holders(cluster: Cluster) -> dict[int, Holder]:
    return nodeprocess.holders(cluster.nodes, cluster.partitions)


def _ending(cluster: Cluster, node: Node) -> list[int]:
    """The processes of a node that were told to end, by a command or by the end of their supervisor, or that
    are ending anyway."""
    note = pidfile.read_note(_pid_path(cluster, node))
    if note is not None and (pidfile.is_dying(note) or (note.ending and pidfile.live(note) is not None)):
        return [note.pid]
    found = nodeprocess.holder_of(node, cluster.partitions) if cluster.partitions > 1 else None
    if found is None or not found.of_partition:
        return []
    return [each.pid for each in (found, *found.partitions)]


def _look(node: Node, process: Holder | None) -> NodeProcess:
    if process is None:
        return NodeProcess(node, RunState.DOWN, None, None, None)
    run_state = RunState.PAUSED if process.paused else RunState.RUNNING
    rss_bytes = pidfile.rss_bytes(process.pid)
    if rss_bytes is not None:
        rss_bytes += sum(pidfile.rss_bytes(each.pid) or 0 for each in process.partitions)
    return NodeProcess(node, run_state, process.pid, rss_bytes, pidfile.uptime_s(process.facts))


def _live(cluster: Cluster, node: Node) -> Holder:
    process = nodeprocess.holder_of(node, cluster.partitions)
    if process is None:
        raise NodeNotRunning(
            f"node {node.id} of cluster {cluster.name} is not running",
            next_step=f"esctl node start {node.id} --cluster {cluster.name}",
        )
    return process


def _signal(cluster: Cluster, number: int, which: signal.Signals) -> int:
    process = _live(cluster, cluster.node(number))
    if not nodeprocess.send(process, which):
        raise NodeNotRunning(f"node {number} of cluster {cluster.name} has just ended")
    return process.pid


def _signal_partitions(cluster: Cluster, number: int, which: signal.Signals) -> None:
    """Send the signal to the processes of a node's partitions, where it has several."""
    node = cluster.node(number)
    process = nodeprocess.holder_of(node, cluster.partitions) if cluster.partitions > 1 else None
    for each in process.partitions if process is not None else ():
        nodeprocess.send(each, which)


def _forget(cluster: Cluster, node: Node) -> None:
    """Somebody has stopped it: then nothing remembers that it was started."""
    with suppress(OSError):
        _pid_path(cluster, node).unlink()


def _tell_to_end(cluster: Cluster, node: Node, process: Holder, which: signal.Signals) -> None:
    """Send the signal; a start that comes before the process is gone waits for that."""
    path = _pid_path(cluster, node)
    pidfile.mark_ending(path, process.pid, ending=True)
    try:
        nodeprocess.send(process, which)
    except MachineRefused:
        pidfile.mark_ending(path, process.pid, ending=False)
        raise


async def _kill(cluster: Cluster, node: Node, process: Holder) -> None:
    left: Holder | None = process
    while left is not None:
        _tell_to_end(cluster, node, left, signal.SIGKILL)  # a supervisor first: it starts no other one then
        for each in left.partitions:
            nodeprocess.send(each, signal.SIGKILL)
        for each in (left, *left.partitions):
            with trio.move_on_after(KILL_TIMEOUT_S) as patience:
                await _gone(each.pid)
            if patience.cancelled_caught:
                raise MachineRefused(
                    f"node {node.id} (pid {each.pid}) was killed and does not go: it hangs in the kernel"
                )
        # What the supervisor had only just started when it was killed.
        left = nodeprocess.holder_of(node, cluster.partitions) if cluster.partitions > 1 else None


async def _gone(pid: int) -> int | None:
    """Wait until the process has ended; its exit code if it was a child of ours, minus the signal if one
    ended it, otherwise None."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if pidfile.facts_of(pid) is not None:
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    return pidfile.reap(pid)
