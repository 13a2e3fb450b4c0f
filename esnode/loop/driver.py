"""The one loop that moves the core: drain what waits, step it, take one `Ready`, carry it out.

Decides the order in which a `Ready` is carried out, and nothing else. It alone touches the core and
the machine. Never waits for a disk, a peer or a client: the storage worker calls back, outboxes are
bounded, sessions have their own tasks. Started by `node.py`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import trio

from esnode import limits
from esnode.apply import Loaded, Machine
from esnode.errors import DamagedRecord, DamagedSnapshot, HistoryConflict, NewerFormat
from esnode.loop import rolechanges
from esnode.loop.clocks import Elapsed
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.core import Core
from esnode.raft.disklag import Yielded
from esnode.raft.entry import Entry
from esnode.raft.following import tell_conflict
from esnode.raft.messages import (
    NOTHING,
    AppendEntries,
    Decision,
    Fetch,
    Fetched,
    Input,
    InstallSnapshot,
    NodeId,
    Outgoing,
    PeerMessage,
    Persisted,
    ReadGrant,
    Ready,
    Received,
    Role,
    SendSnapshot,
    Snapshot,
    SoftState,
    Write,
)
from esnode.storage.interface import Storage

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Read(Received):
    """A message with a snapshot, and what that holds; None where it is damaged."""

    snapshot: Snapshot
    loaded: Loaded | None


class Peers(Protocol):
    """The way to the other nodes; `replication.py` has it."""

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        """Queue a message, or drop it and report `PeerUnreachable`."""
        ...

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """Begin to send the stored snapshot; `SnapshotSent` tells the end."""
        ...

    async def fetch_keys(self, peer: NodeId, snapshot: Snapshot) -> bool:
        """Whether the chunks of keys that the snapshot of `peer` names are all on disk, once it has been
        asked for those that were not."""
        ...


class Clients(Protocol):
    """Those who wait for answers; `ingest.py` has them."""

    def on_soft_state(self, soft_state: SoftState) -> None:
        """Role, term or leader have changed."""
        ...

    def on_decisions(self, decisions: Sequence[Decision]) -> None:
        """What became of proposals."""
        ...

    def on_read_grants(self, grants: Sequence[ReadGrant]) -> None:
        """What became of reads."""
        ...

    def on_applied(self, index: int) -> None:
        """The log is applied up to `index`."""
        ...

    def on_ring(self) -> None:
        """The partition goes by another ring."""
        ...


class Disk(Protocol):
    """The way to the disk; `storage/worker.py` has it."""

    def submit(self, write: Write | None, on_durable: Callable[[], None]) -> None:
        """Queue `write`; `on_durable` is called once it and all before it are durable."""
        ...

    async def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """`Storage.read`, between writes."""
        ...

    async def aside(self, fn: Callable[[], T]) -> T:
        """Run what takes long beside the event loop and the disk's own work."""
        ...

    @property
    def storage(self) -> Storage:
        """For `aside`: what may be called in any thread."""
        ...


class Driver:
    """One node's core, machine, and the hands that carry out what they ask for."""

    def __init__(
        self,
        core: Core,
        machine: Machine,
        inbox: Inbox,
        view: View,
        worker: Disk,
        peers: Peers,
        clients: Clients,
        elapsed: Elapsed,
    ) -> None:
        self._core = core
        self._machine = machine
        self._inbox = inbox
        self._view = view
        self._worker = worker
        self._peers = peers
        self._clients = clients
        self._elapsed = elapsed
        self._untried_term: int | None = None
        """The term in which this node leads and has committed nothing yet."""
        self._snapshot_from: NodeId | None = None
        """Whose snapshot is being fetched, or read."""
        self._yielded: Yielded | None = None
        self._read: _Read | None = None
        """The snapshot that is stepped in this turn."""

    async def run(self) -> None:
        """Drive for ever."""
        async with trio.open_nursery() as tasks:
            while True:
                items = await self._inbox.take(limits.MAX_STEPS_A_ROUND)
                # First the time that has passed: what was silence before a heartbeat is none after it.
                items[:0] = self._elapsed.take(limits.TICK_MS)
                for fetch in self.turn([item for item in items if not self._is_early(item, tasks)]):
                    tasks.start_soon(self._fetch, fetch)
                self._read = None

    def turn(self, items: Sequence[Input]) -> Sequence[Fetch]:
        """Step `items` and carry out what follows, but for the entries to be fetched: these are returned."""
        for item in items:
            self._core.step(item)
        ready = self._core.ready()
        if ready is not NOTHING:
            self._carry_out(ready, items)
            if ready.write is not None or ready.committed:
                self._view.show_work()
        self._view.leader_in_doubt = self._core.doubts_its_leader
        if self._core.yielded is not self._yielded:
            self._tell_that_it_yields()
        return ready.fetches

    def _carry_out(self, ready: Ready, items: Sequence[Input]) -> None:
        if ready.soft_state is not None:
            before, silence_ms = self._view.soft_state, self._view.silence_ms()
            told = rolechanges.change(before, ready.soft_state, items, silence_ms, self._yielded)
            rejoined = self._view.rejoining and not ready.soft_state.rejoining
            self._view.show_state(ready.soft_state)
            self._untried_term = self._view.leading_term
            self._clients.on_soft_state(ready.soft_state)
            log.info("state_changed", extra=told)
            if rejoined:
                log.info("rejoin_done", extra={"next_offset": self._machine.next_offset})
        for conflict in ready.conflicts:
            said = {"code": HistoryConflict.code, "reason": tell_conflict(self._view.me, conflict)}
            log.error("history_conflict", extra={"peer": conflict.peer, **said})
        # Followers and disk at the same time (thesis 10.2.1).
        for outgoing in ready.messages:
            self._peers.send(outgoing.to, outgoing.message)
        if ready.write is not None:
            self._write(ready.write, ready.messages_after)
        elif ready.messages_after:
            self._worker.submit(None, partial(self._release, ready.messages_after))
        for wanted in ready.snapshots:
            self._peers.send_snapshot(wanted)
        if ready.decisions:
            self._clients.on_decisions(ready.decisions)
        if ready.read_grants:
            self._clients.on_read_grants(ready.read_grants)
        self._apply(ready)

    def _tell_that_it_yields(self) -> None:
        self._yielded = yielded = self._core.yielded
        assert yielded is not None
        log.warning("disk_behind", extra={"lag_ms": yielded.lag_ms, "to": yielded.to})

    def _write(self, write: Write, messages_after: Sequence[Outgoing]) -> None:
        if write.snapshot is not None:
            # Restoring checks it: a damaged one ends the process and leaves the disk as it was.
            try:
                self._machine.adopt(self._loaded(write.snapshot) or self._load_now(write.snapshot))
            except DamagedRecord as error:
                raise DamagedSnapshot(str(error)) from error  # the leader's: our own disk is as good as ever
            self._view.show_first_offset(write.snapshot.next_offset)
            installed = {"snapshot_index": write.snapshot.index, "next_offset": write.snapshot.next_offset}
            log.info("snapshot_installed", extra=installed)
        if write.hard_state is not None and write.hard_state.vote is not None and not write.rejoined:
            log.info("vote_cast", extra={"new_term": write.hard_state.term, "vote": write.hard_state.vote})
        self._worker.submit(write, partial(self._durable, write.write_id, messages_after))

    def _apply(self, ready: Ready) -> None:
        for entry in ready.committed:
            self._machine.apply(entry)
        if ready.committed:
            self._core.applied_to(self._machine.applied_index)
            if ready.committed[-1].term == self._untried_term:
                self._untried_term = None
                log.info("first_commit", extra={"new_term": ready.committed[-1].term})
        if self._view.applied_index != self._machine.applied_index:
            self._view.show_applied(self._machine.applied_index, self._machine.next_offset)
            owned = self._machine.ring.now
            if owned is not self._view.ownership and self._view.show_ownership(owned):
                log.info("ring_changed", extra={"version": owned.version, "partitions": owned.partitions})
                self._clients.on_ring()
            self._clients.on_applied(self._machine.applied_index)

    def _durable(self, write_id: int, messages: Sequence[Outgoing]) -> None:
        persisted = Persisted(write_id)
        if self._view.soft_state.role is Role.FOLLOWER:
            # Its leader hears of it from the messages; the next append or tick applies what it allows.
            self._inbox.leave(persisted)
        else:
            self._inbox.put(persisted)
        self._release(messages)

    def _release(self, messages: Sequence[Outgoing]) -> None:
        for outgoing in messages:
            self._peers.send(outgoing.to, outgoing.message)

    # --- a snapshot that has come: to read millions of keys takes longer than a turn may ---

    def _is_early(self, item: Input, tasks: trio.Nursery) -> bool:
        """Whether `item` is a snapshot that is yet to be completed and read, or what follows it.

        A snapshot comes again once it is read. Entries that follow it are let fall meanwhile, as is
        another snapshot: Raft sends them again. Refused, they would be answered with one more snapshot.
        """
        if not isinstance(item, Received):
            return False
        message = item.message
        if isinstance(item, _Read):
            self._read = item
            return False
        if not isinstance(message, InstallSnapshot):
            return item.sender == self._snapshot_from and isinstance(message, AppendEntries)
        if message.term < self._core.term or message.snapshot.index <= self._core.log.committed:
            return False  # the core only answers it
        if self._snapshot_from is None:
            self._snapshot_from = item.sender
            tasks.start_soon(self._load_snapshot, item.sender, message)
        return True

    async def _load_snapshot(self, sender: NodeId, message: InstallSnapshot) -> None:
        if not await self._peers.fetch_keys(sender, message.snapshot):
            self._snapshot_from = None  # what it sends next is refused again, and it sends a newer one
            return
        loaded = await self._worker.aside(partial(self._load, message.snapshot))
        if loaded is not None:
            # The write that names it then finds it on disk: commits do not wait for it.
            await self._worker.aside(partial(self._worker.storage.stage_snapshot, message.snapshot))
        self._snapshot_from = None
        self._inbox.put(_Read(sender, message, message.snapshot, loaded))

    def _loaded(self, snapshot: Snapshot) -> Loaded | None:
        return self._read.loaded if self._read is not None and self._read.snapshot is snapshot else None

    def _load(self, snapshot: Snapshot) -> Loaded | None:
        try:
            return self._load_now(snapshot)
        except (DamagedRecord, NewerFormat):
            return None  # should the core take it, `_write` meets this again

    def _load_now(self, snapshot: Snapshot) -> Loaded:
        return self._machine.load(snapshot, self._worker.storage)

    async def _fetch(self, fetch: Fetch) -> None:
        entries = await self._worker.read(fetch.first_index, fetch.last_index, limits.MAX_FETCH_BYTES)
        self._inbox.put(Fetched(fetch, tuple(entries)))
