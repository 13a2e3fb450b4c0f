"""The log of a cluster as an application sees it: append, read, subscribe.

    async with connect(["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]) as log:
        ack = await log.append({"id": "1", "source": "/shop", "type": "order", "data": {"sum": 12}})

Decides which partition an operation is for: each has a `PartitionLog`, and the ring says which owns a source.
Where there is one partition, calls are passed on as they are. Never retries: that is theirs.
Sending an event again, with the same `source` and `id`, is always safe.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

import trio

from esnode import limits
from esnode.client.acks import Ack, BatchAck, acks_of, put_together
from esnode.client.checks import check_batch, check_unnumbered
from esnode.client.clusterpin import ClusterPin
from esnode.client.dispatcher import Dispatcher
from esnode.client.heldsources import HeldSources
from esnode.client.knownring import KnownRing, token_of_event, tokens_of
from esnode.client.merged import MergedBatches, MergedEvents
from esnode.client.movedappend import MovedAppend
from esnode.client.partitionlog import KeyState, PartitionLog, Settings
from esnode.client.producer import ProducerState
from esnode.client.request import Request
from esnode.client.splitcall import all_of, once
from esnode.client.stored import StoredEvent
from esnode.client.subscription import BatchSubscription, Subscription
from esnode.config import Address, parse_address
from esnode.dedup.batch import Batch, select
from esnode.errors import InvalidRequest, PartitionNeeded, UnknownPartition, WindowPassed
from esnode.events import make_batches
from esnode.ring import FIRST_VERSION
from esnode.transport.connection import Dialer, open_stream

T = TypeVar("T")
Target = tuple[int, bool]
"""A partition, and whether it is for events that wait: see `HeldSources`."""


def connect(
    addresses: Sequence[str],
    *,
    cluster: str = "",
    partition: int | None = None,
    batch_events: int = 64,
    batch_ms: float = 1.0,
    window: int = 64,
    timeout_s: float | None = limits.CLIENT_TIMEOUT_S,
    producer_session: bool = False,
    producer: str | None = None,
    dial: Dialer = open_stream,
    rng: random.Random | None = None,
) -> "Connecting":
    """Open the log of the cluster whose nodes' client addresses (`host:port`) are given.

    One address is enough, all are better. Single appends travel in batches of `batch_events` or
    after `batch_ms`, with at most `window` batches under way. An operation is tried for `timeout_s`
    (None: for ever). `dial` and `rng` are for simulations. Entering waits for nothing: the first
    operation does. Leaving ends whatever is still waiting.

    With `producer_session` batches are numbered, and the log knows each by its number for as long as the
    client lives. With a name for the `producer` it does so after a restart as well; whoever had opened the
    name before is fenced: `ProducerFenced`. See docs/guarantees.md.

    A cluster may have several partitions, each with a log and offsets of its own. Events go to the partition
    that owns their source; what is about one log takes `partition`. Each partition has its own window and its
    own producer session. With `partition` here, the client is for that one alone: sources of others are
    refused (`Moved`).

    Raises `InvalidConfig` for a bad address, `InvalidRequest` for a setting out of range.
    """
    if not addresses:
        raise InvalidRequest("connect needs at least one address")
    if not 1 <= batch_events <= limits.MAX_BATCH_EVENTS:
        raise InvalidRequest(f"batch_events must be within 1 to {limits.MAX_BATCH_EVENTS} (MAX_BATCH_EVENTS)")
    if not 1 <= window <= limits.MAX_SESSION_INFLIGHT:
        raise InvalidRequest(
            f"window must be within 1 to {limits.MAX_SESSION_INFLIGHT} (MAX_SESSION_INFLIGHT)"
        )
    if batch_ms < 0 or (timeout_s is not None and timeout_s <= 0):
        raise InvalidRequest("batch_ms cannot be negative, and timeout_s must be positive")
    if producer is not None and not 0 < len(producer.encode()) <= limits.MAX_PRODUCER_NAME_BYTES:
        raise InvalidRequest(
            "the name of a producer must have 1 to"
            f" {limits.MAX_PRODUCER_NAME_BYTES} bytes (MAX_PRODUCER_NAME_BYTES)"
        )
    session = producer_session or producer is not None
    if partition is not None and not 0 <= partition < limits.MAX_PARTITIONS:
        raise InvalidRequest(f"partition must be within 0 to {limits.MAX_PARTITIONS - 1}")
    name = producer or ""
    settings = Settings(cluster, batch_events, batch_ms, window, timeout_s, session, name, partition)
    return Connecting(addresses, settings, dial, rng or random.Random())


class Connecting:
    """The context of a `Log`: the one nursery in which all its tasks live."""

    def __init__(
        self, addresses: Sequence[str], settings: Settings, dial: Dialer, rng: random.Random
    ) -> None:
        self._addresses = [parse_address(address) for address in addresses]
        self._settings = settings
        self._dial = dial
        self._rng = rng
        self._nursery_manager = trio.open_nursery()
        self._nursery: trio.Nursery
        self._log: Log

    async def __aenter__(self) -> "Log":
        self._nursery = await self._nursery_manager.__aenter__()
        self._log = Log(self._addresses, self._settings, self._dial, self._rng, self._nursery)
        return self._log

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._log.aclose()
        finally:
            self._nursery.cancel_scope.cancel()
            # The nursery sees its own tasks' errors only: what the caller raised stays as it was, not
            # wrapped in a group.
            await self._nursery_manager.__aexit__(None, None, None)


class Log:
    """The log of one cluster. Made by `connect`; its methods may be called from many tasks."""

    def __init__(
        self,
        addresses: Sequence[Address],
        settings: Settings,
        dial: Dialer,
        rng: random.Random,
        nursery: trio.Nursery,
    ) -> None:
        self._addresses = addresses
        self._settings = settings
        self._dial = dial
        self._rng = rng
        self._nursery = nursery
        self._ring = KnownRing()
        self._logs: dict[int, PartitionLog] = {}
        self._closed = False
        self._order = trio.StrictFIFOLock()
        """Of the calls that came before it was known how many partitions there are."""
        self._ready = False
        """Whether that is known, and none of those calls waits."""
        self._only: PartitionLog | None = None
        """The log of the only partition, once ready."""
        partition = settings.partition
        self._held = HeldSources()
        self._merged = WeakSet[MergedBatches]()
        """The subscriptions to all partitions: of new ones, too."""
        self._is_first_ring = True
        """Whether nothing was routed by another ring than the newest one."""
        if partition is None:
            self._pin = ClusterPin(settings.cluster, 0, self._learn)
        else:
            self._pin = ClusterPin(settings.cluster, partition)
        self._first = self._open(partition or 0)
        if partition is not None:
            self._only, self._ready = self._first, True

    def _open(self, partition: int) -> PartitionLog:
        """Begin with a partition: it dials all nodes."""
        pin = self._pin if partition == self._pin.partition else self._pin.for_partition(partition)
        dispatcher = Dispatcher(pin, self._dial, self._rng, self._nursery)
        dispatcher.router = self if self._settings.partition is None else None
        log = self._logs[partition] = PartitionLog(dispatcher, pin, self._settings, self._dial, self._rng)
        for address in self._addresses:
            dispatcher.add_link(address)
        for task in log.tasks():
            self._nursery.start_soon(task)
        return log

    def _learn(self, version: int, partitions: int) -> None:
        """A node says by which ring it goes."""
        old = self._ring.ring() if 0 < self._ring.version < version else None
        if self._closed or not self._ring.learn(version, partitions):
            return
        self._open_up_to(partitions)
        if old is not None:
            self._is_first_ring = False
            for partition in self._held.begin(old, self._ring.ring()):
                self._logs[partition].route_again(partial(self._held.drained, partition))
        self._get_ready()

    def _open_up_to(self, logs: int) -> None:
        """Begin with those of so many that are new."""
        for partition in range(logs):
            if partition not in self._logs:
                new = self._open(partition)
                for merged in self._merged:
                    merged.add(partition, new.subscribe_batches(0))

    def is_stray(self, batch: Batch, partition: int) -> bool:
        """Whether a batch that was routed by an older ring has events of other partitions."""
        return not self._is_first_ring and self._ring.owner_of_all(batch.keys) != partition

    def move(self, request: Request, partition: int) -> Request | None:
        """Send an append to the owners of its events; what stays with `partition`, if anything."""
        assert request.batch is not None
        places = self._ring.places(request.batch.keys)
        homes = {owner: self._logs[owner].dispatcher for owner in places}
        moved = MovedAppend(request, partition, places, homes)
        for owner, part in moved.parts.items():
            if owner in moved.returned:
                part.settle(
                    None, WindowPassed("its sources have moved away and back since it was first sent")
                )
            elif owner != partition:
                homes[owner].submit(part)
        return moved.parts.get(partition)

    def _get_ready(self) -> None:
        if self._ring.partitions and not self._order.locked():
            self._ready = True
            self._only = self._first if self._ring.partitions == 1 else None

    async def _wait_ready(self) -> None:
        """Return once it is known how many partitions there are, in the order of the calls.

        What the caller does before its next await is before what any later call does.
        """
        if self._ready:
            return
        try:
            async with self._order:
                while not self._ring.partitions:
                    await self._first.wait_greeted()
        finally:
            self._get_ready()

    async def _log_of(self, partition: int | None) -> PartitionLog:
        """The log of `partition`, or of the only one."""
        await self._wait_ready()
        if partition is None and len(self._logs) > 1:
            raise PartitionNeeded(f"the cluster has the partitions 0 to {len(self._logs) - 1}")
        if partition is not None and partition not in self._logs:
            await self._open_retired()
        log = self._first if partition is None else self._logs.get(partition)
        if log is None:
            raise UnknownPartition(f"there is no partition {partition} here: {sorted(self._logs)}")
        return log

    async def _open_retired(self) -> None:
        """Begin with the logs whose partitions the ring has lost: their events can be read still."""
        if self._settings.partition is None:
            self._open_up_to((await self._first.status())["ring"]["logs"])

    async def aclose(self) -> None:
        """Give up what still waits, and close every subscription that was opened here."""
        self._closed = True
        for log in self._logs.values():
            await log.aclose()

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that are known: the one of a cluster that has not answered yet."""
        return tuple(self._logs)

    @property
    def leader_id(self) -> int | None:
        """The id of the node that leads the only partition; None while nobody is known to."""
        return self._first.leader_id if len(self._logs) == 1 else None

    @property
    def leader_ids(self) -> dict[int, int | None]:
        """The id of the node that leads each partition, None while nobody is known to."""
        return {partition: log.leader_id for partition, log in self._logs.items()}

    @property
    def connections(self) -> dict[str, bool]:
        """Each node's address, in the order in which they are dialled, and whether it is connected now.

        All are dialled at once, and each is kept. With several partitions: whether it is for all of them.
        """
        every: dict[str, bool] = {}
        for log in self._logs.values():
            for address, connected in log.connections.items():
                every[address] = every.get(address, True) and connected
        return every

    # --- append --------------------------------------------------------------------------------

    def append(self, event: Mapping[str, Any], *, sequence: int | None = None) -> Coroutine[Any, Any, Ack]:
        """Put one event in the log; returns once a majority has it on disk.

        In a producer session, `sequence` may be its number: the next one, or one that is in the log
        already; then the event is a duplicate. Without it, it gets the next number.

        Raises `InvalidEvent`, `EventTooLarge`; `OperationTimeout` (unknown whether it is stored), or
        `NoQuorum`, `Unreachable` (certainly not); or what the leader refused it with. In a session also
        `OutOfSequence` (a number too high), and `ProducerFenced` or `UnknownProducer` when that is over.
        """
        if (only := self._only) is not None:
            return only.append(event, sequence=sequence)
        return self._where_it_belongs(lambda: self._append(event, sequence))

    def append_many(
        self, events: Iterable[Mapping[str, Any]], *, first_sequence: int | None = None
    ) -> Coroutine[Any, Any, list[Ack]]:
        """Put all `events` in the log, in order, in as many batches as it takes.

        All are checked before the first is sent. Raises what `append` raises; then the first of them may
        be stored, none without those before it that are of the same partition: send all of them again. The
        timeout is for each batch.
        """
        if (only := self._only) is not None:
            return only.append_many(events, first_sequence=first_sequence)
        listed = list(events)
        return self._where_it_belongs(lambda: self._append_many(listed, first_sequence))

    def append_batch(
        self,
        batch: Batch,
        *,
        first_sequence: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, BatchAck]:
        """Put a batch made by `events.make_batch` or `events.pack` in the log, as it is.

        Waits for a place in the window first. `first_sequence` is the number of its first event, as in
        `append`. Raises `InvalidRequest`, and what `append` raises.
        `on_sent` is called when the batch leaves for a node for the first time: one that is given up,
        or cancelled, without that is certainly not stored.
        With events of several partitions it is split, and each gets a batch. When one of them is refused,
        the others may be stored; the error is definite where none is.
        """
        if (only := self._only) is not None:
            return only.append_batch(batch, first_sequence=first_sequence, on_sent=on_sent)
        return self._where_it_belongs(lambda: self._append_batch(batch, first_sequence, on_sent))

    async def _where_it_belongs(self, go: Callable[[], Awaitable[T]]) -> T:
        """What `go` returns, which asks the ring: called once that is known."""
        await self._wait_ready()
        return await go()

    async def _append(self, event: Mapping[str, Any], sequence: int | None) -> Ack:
        if self._held and (token := token_of_event(event)) is not None and self._held.holds(token):
            await self._held.wait({token})
        return await self._logs[self._ring.owner_of(event)].append(event, sequence=sequence)

    async def _append_many(
        self, events: Sequence[Mapping[str, Any]], first_sequence: int | None
    ) -> list[Ack]:
        tokens = [token_of_event(event) for event in events] if self._held else [None] * len(events)
        targets = self._targets([self._ring.owner_of(event) for event in events], tokens)
        if len(targets) < 2 and not any(held for _, held in targets):
            partition, _ = next(iter(targets), (0, False))
            return await self._logs[partition].append_many(events, first_sequence=first_sequence)
        check_unnumbered(first_sequence)
        batches = {
            target: make_batches([events[place] for place in of_it], self._settings.batch_events)
            for target, of_it in targets.items()
        }
        answers = await all_of([self._begin(target, batches[target]) for target in targets])
        acks: dict[int, Ack] = {}
        for of_it, answer in zip(targets.values(), answers, strict=True):
            acks.update(zip(of_it, [ack for part in answer for ack in acks_of(part)], strict=True))
        return [acks[place] for place in range(len(events))]

    async def _append_batch(
        self, batch: Batch, first_sequence: int | None, on_sent: Callable[[], None] | None
    ) -> BatchAck:
        check_batch(batch)
        partition = self._ring.owner_of_all(batch.keys)
        if partition is not None and not self._held:
            return await self._logs[partition].append_checked(batch, first_sequence, on_sent)
        targets = self._targets(self._ring.owners(batch.keys), tokens_of(batch.keys))
        if len(targets) > 1:
            check_unnumbered(first_sequence)
        note = None if on_sent is None else once(on_sent)
        calls = [
            self._begin(target, [select(batch, of_it)], first_sequence, note)
            for target, of_it in targets.items()
        ]
        answers = await all_of(calls)
        parts = zip(targets.values(), answers, strict=True)
        return put_together([(of_it, answer) for of_it, (answer,) in parts])

    def _targets(self, owners: Sequence[int], tokens: Sequence[int | None]) -> dict[Target, list[int]]:
        """The places of the events of each partition: of those that are held, and of the others."""
        places: dict[Target, list[int]] = {}
        held = {token: self._held.holds(token) for token in set(tokens) if token is not None}
        for place, (owner, token) in enumerate(zip(owners, tokens, strict=True)):
            places.setdefault((owner, token is not None and held[token]), []).append(place)
        return places

    def _begin(
        self,
        target: Target,
        batches: Sequence[Batch],
        first_sequence: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> Callable[[], Awaitable[list[BatchAck]]]:
        """Queue the first of `batches` now, unless their sources are held: what appends them all."""
        partition, is_held = target
        if not is_held:
            return self._logs[partition].begin(batches, first_sequence, on_sent)

        async def later() -> list[BatchAck]:
            tokens = {token for batch in batches for token in tokens_of(batch.keys)}
            await self._held.wait(tokens)
            return await self._logs[partition].begin(batches, first_sequence, on_sent)()

        return later

    async def producer_state(self, *, partition: int | None = None) -> ProducerState:
        """Where the producer session is: the number of its last event in the log, and that event's offset.

        Waits until it is open. An application that was restarted goes on after that event. Raises
        `InvalidRequest` where there is no session; `ProducerFenced`, `ProducersFull`, `UnknownProducer`
        when it is over; `OperationTimeout`, `NoQuorum`, `Unreachable`. Each partition has one.
        """
        return await (await self._log_of(partition)).producer_state()

    # --- read ----------------------------------------------------------------------------------

    async def read(
        self,
        from_offset: int,
        max_events: int = 1000,
        *,
        linearizable: bool = True,
        partition: int | None = None,
    ) -> list[StoredEvent]:
        """Up to `max_events` events from `from_offset`; fewer at the end of the log.

        `linearizable`: through the leader, and every event acked before the call is seen. Otherwise
        from what a node has applied. Raises `OffsetOutOfRange`, `OperationTimeout`, `NoQuorum`,
        `Unreachable`; `PartitionNeeded` where the cluster has several and none is given.
        """
        log = await self._log_of(partition)
        return await log.read(from_offset, max_events, linearizable=linearizable)

    def subscribe(self, from_offset: int, *, partition: int | None = None) -> Subscription:
        """Follow the log from `from_offset`: an async iterator of `StoredEvent`, without end.

        On a connection of its own to any node; when that breaks, the next one goes on with the next
        offset: nothing is left out or repeated. Raises `OffsetOutOfRange` while iterating, and
        `PartitionNeeded` where the cluster has several and none is given.
        """
        return Subscription(self.subscribe_batches(from_offset, partition=partition))

    def subscribe_batches(self, from_offset: int, *, partition: int | None = None) -> BatchSubscription:
        """The same in whole `StoredBatch`es, which decode nothing before they are asked to."""
        meant = self._settings.partition if partition is None else partition
        return self._first.subscribe_batches(from_offset, self._pin.for_partition(meant))

    def subscribe_all(self, from_offsets: Mapping[int, int] | None = None) -> MergedEvents:
        """Follow all partitions, each from its offset in `from_offsets`, or from 0 where it is not there.

        An async iterator of `StoredEvent`, as `subscribe`, with a connection per partition. The events of a
        partition come in order, and so do those of a source.
        """
        return MergedEvents(self.subscribe_all_batches(from_offsets))

    def subscribe_all_batches(self, from_offsets: Mapping[int, int] | None = None) -> MergedBatches:
        """The same in whole `StoredBatch`es."""
        merged = MergedBatches(from_offsets or {}, self._subscribe_each, self._nursery)
        self._merged.add(merged)
        return merged

    async def _subscribe_each(self, from_offsets: Mapping[int, int]) -> dict[int, BatchSubscription]:
        await self._wait_ready()
        if self._ring.version > FIRST_VERSION:
            await self._open_retired()
        for partition in from_offsets:
            await self._log_of(partition)
        return {
            partition: log.subscribe_batches(from_offsets.get(partition, 0))
            for partition, log in self._logs.items()
        }

    # --- ask -----------------------------------------------------------------------------------

    async def status(self, *, partition: int | None = None) -> dict[str, Any]:
        """The status of the leader, or of any node while nobody leads; see docs/protocol.md."""
        return await (await self._log_of(partition)).status()

    async def explain(self, source: str, event_id: str) -> KeyState:
        """What the deduplication table of the leader knows of the event: of its partition."""
        await self._wait_ready()
        log = self._only or self._logs[self._ring.owner_of({"source": source})]
        return await log.explain(source, event_id)

    async def transfer_leadership(
        self, to: int | None = None, *, partition: int | None = None
    ) -> tuple[int, int]:
        """Hand the leadership to node `to`, or to the best follower; returns (from, to)."""
        return await (await self._log_of(partition)).transfer_leadership(to)
