"""THE MAP: one node, its modules, and every long-lived task of it, by name, in one nursery.

Decides who knows whom, in which order they start, and how the node stops. Everything else is
decided in the modules. Called by `__main__` and by the simulation of whole nodes.
"""

import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import trio

from esnode import limits
from esnode.apply import Machine
from esnode.config import Address, Config
from esnode.dedup.admission import Admission
from esnode.errors import AddressTaken
from esnode.faults import FaultTable, not_allowed
from esnode.loop.clocks import Elapsed, run_election, run_heartbeat
from esnode.loop.driver import Driver
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.core import Core
from esnode.raft.messages import NodeId, Snapshot, Transfer
from esnode.replication.keychunks import KeyChunks
from esnode.replication.peerdisks import PeerDisks
from esnode.replication.peeridentity import PeerIdentities
from esnode.replication.replication import Replication
from esnode.server.appendlatency import AppendLatency
from esnode.server.faultinjector import FaultInjector
from esnode.server.ingest import Ingest
from esnode.server.reading import Reader
from esnode.server.status import Process, Status, this_process
from esnode.storage.interface import Storage
from esnode.storage.worker import Pace, StorageWorker
from esnode.transport.connection import ByteListener, Dialer, open_stream
from esnode.upkeep.adminservice import AdminService
from esnode.upkeep.checkpointer import Checkpointer
from esnode.upkeep.fullwindow import FullWindow
from esnode.upkeep.leaderspread import LeaderSpread
from esnode.upkeep.recovery import Found, recover
from esnode.upkeep.repair import repairable
from esnode.upkeep.retention import PrefixCutter
from esnode.upkeep.scrub import Scrub
from esnode.wallclock import WallClock

log = logging.getLogger(__name__)

OpenPort = Callable[[Address, ExitStack], Awaitable[Sequence[ByteListener]]]
"""As `listen`."""


class Node:
    """One node of the cluster: the modules, wired."""

    def __init__(
        self,
        config: Config,
        storage: Storage,
        source: random.Random,
        dial: Dialer = open_stream,
        *,
        pace: Pace | None = None,
        process: Callable[[], Process] = this_process,
        clock: WallClock | None = None,
    ) -> None:
        """Recover what `storage` holds; blocks while it reads. Raises `DamagedRecord`.

        A simulation gives all that is not the node's own: `dial`, the `pace` of the disk, `process`, `clock`.
        """
        self.machine = machine = Machine(config.dedup, seed=source.getrandbits(63))
        found = recover(storage, machine, time.monotonic if pace is None else trio.current_time)
        incarnation = source.getrandbits(63)
        self._config = config
        self._inbox = Inbox()
        self.worker = StorageWorker(storage, pace=pace)
        self.view = View(
            config.node_id,
            term=found.hard_state.term,
            applied_index=machine.applied_index,
            first_offset=found.first_offset,
            next_offset=machine.next_offset,
            rejoining=found.rejoining,
            ownership=machine.ring.now,
        )
        core = _core(config, found, machine, source)
        identities = PeerIdentities(config, self.view, self.worker, dial, partial(_held, core))
        ways = (dial, self._load_snapshot, source, KeyChunks(self.worker))
        self._replication = Replication(config, incarnation, self._inbox, self.view, identities, *ways)
        faults = FaultTable(config.node_id, list(self._replication.links), source)
        clock = WallClock() if clock is None else clock
        allowed = config.faults.allowed
        self._injector = FaultInjector(faults, self._replication, self.worker, clock) if allowed else None
        self.cutter = PrefixCutter(config, machine, self.view, self.worker, self._inbox)
        self.checkpointer = Checkpointer(machine, storage, found.checkpoint)
        self._window = FullWindow(config.dedup, machine, self.view, lambda: core.requests.refused_by_window)
        self._spread = LeaderSpread.of(config, core, self.view, self._inbox, self._replication)
        parts = (config, core, machine, self.view, self.worker, self._replication, faults, self.checkpointer)
        self._status = Status(*parts, self._window, process, clock, AppendLatency(), self._spread)
        self.admin = AdminService(self.view, self.worker, self.cutter, self.checkpointer, machine.keys)
        self._ingest = Ingest(
            config,
            incarnation,
            self._inbox,
            self.view,
            Reader(self.view, self.worker, found.log.applied_from),
            self._status.gather,
            self._status.explain,
            not_allowed if self._injector is None else self._injector.answer,
            self.admin,
            self._status.latency,
            machine.keys.cold,
        )
        self._elapsed = Elapsed()
        ways_out = (self.worker, self._replication, self._ingest, self._elapsed)
        self._driver = Driver(core, machine, self._inbox, self.view, *ways_out)
        self._scrub = Scrub(self.worker, self.checkpointer.last_index)

    async def run(
        self,
        clients: Sequence[ByteListener],
        peers: Sequence[ByteListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Every long-lived task of the node, for ever.

        Raises `StorageFailed`, `FilesGone`, `NewerFormat`, and what `repair.py` is for: `DamagedRecord`,
        `UnknownDirectory` and `OlderDirectory`.
        """
        self._status.begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.worker.run)
            nursery.start_soon(self.worker.watch, name="disk")
            if self.worker.has_thread:
                nursery.start_soon(self.worker.watch_files, name="files")
            nursery.start_soon(self._driver.run, name="driver")
            nursery.start_soon(self.cutter.run, name="retention")
            nursery.start_soon(self.checkpointer.run, self.worker, name="checkpoints")
            nursery.start_soon(self._window.run, name="window")
            nursery.start_soon(self.admin.run, name="admin")
            nursery.start_soon(self._scrub.run, name="scrub")
            await nursery.start(self._replication.run, peers, name="replication")
            await nursery.start(self._ingest.serve, clients, name="ingest")
            timers, inbox = self._config.raft, self._inbox
            nursery.start_soon(run_heartbeat, inbox, self.view, timers.heartbeat_ms, name="heartbeat")
            nursery.start_soon(
                run_election, inbox, self.view, self._elapsed, timers.election_ms, name="election"
            )
            if self._spread is not None:
                nursery.start_soon(self._spread.run, name="leaders")
            if self._injector is not None:
                nursery.start_soon(self._injector.run, name="faults")
            log.info("node_started", extra={"next_offset": self.view.next_offset})
            task_status.started()

    def place(self) -> tuple[int, int]:
        """The term and the applied index, for the log."""
        return self.view.soft_state.term, self.view.applied_index

    def placement(self) -> dict[str, Any] | None:
        """Who is to lead, and why this node does, as in the status; None with one partition."""
        return None if self._spread is None else self._spread.picture()

    async def hand_over(self) -> None:
        """Give the leadership away, if this node has it, within a bound."""
        with trio.move_on_after(limits.STOP_TIMEOUT_S / 2):
            if self.view.leads and self._config.peers:
                log.info("transfer_asked", extra={"to": None})
            while self.view.leads and self._config.peers:
                # Asked again: a follower that was not heard from lately may answer the next heartbeat.
                self._inbox.put(Transfer(None))
                with trio.move_on_after(limits.TRANSFER_RETRY_S):
                    await self.view.wait_changed()

    async def _load_snapshot(self) -> Snapshot | None:
        return await self.worker.aside(self.worker.storage.load_snapshot)


def _core(config: Config, found: Found, machine: Machine, source: random.Random) -> Core:
    return Core(
        config.node_id,
        [member.id for member in config.members],
        hard_state=found.hard_state,
        log=found.log,
        admission=Admission(machine.keys, machine.producers, machine.ring, config.partition),
        timers=config.raft,
        random=source,
        rejoining=found.rejoining,
    )


def _held(core: Core) -> dict[NodeId, int]:
    """Up to where each peer holds what is committed, as it has told this process while it led."""
    return core.held if core.leadership is None else core.leadership.held(core.held)


async def listen(address: Address, opened: ExitStack) -> Sequence[trio.SocketListener]:
    """Open a port, which `opened` closes; raises `AddressTaken`."""
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        raise AddressTaken(f"{address} cannot be opened: {error.strerror or error}") from error
    for listener in listeners:
        opened.callback(listener.socket.close)
    return listeners


async def unsound_peers(config: Config, ports: OpenPort = listen) -> list[int]:
    """The peers that do not trust their disks, heard on this node's port while it does not run."""
    with ExitStack() as opened:
        listeners = await ports(config.me.peer, opened)
        return await PeerDisks(config, random.SystemRandom().getrandbits(63)).unsound(listeners)


async def run_until_stopped(
    node: Node,
    clients: Sequence[ByteListener],
    peers: Sequence[ByteListener],
    *beside: Callable[[], Awaitable[None]],
) -> None:
    """Run `node`, and `beside` it what else is to run, until SIGTERM or SIGINT; then hand over and end.

    What it finds out about its disk while it ends is no reason to run again: it returns, and the next
    start finds that too.
    """
    stopping = False
    try:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await nursery.start(node.run, clients, peers)
                for task in beside:
                    nursery.start_soon(task)
                async for number in signals:
                    stopping = True
                    log.info("node_stopping", extra={"signal": signal.Signals(number).name})
                    await node.hand_over()
                    break
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cause = repairable(group)
        if not stopping or cause is None:
            raise
        log.warning("left_to_the_next_start", extra={"code": cause.code, "reason": str(cause)})
