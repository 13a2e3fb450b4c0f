"""One client's connection: its requests go in, its replies come out, in any order.

Decides what one client may have waiting at once; beyond it the answer is `Busy`, "definitely not
taken". What it refuses of a run of appends, it refuses to the run's end. Memory for a client that does
not read is bounded: reads wait until earlier replies have left. Never touches the core. Made by
`ingest.py`, one task tree a session.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from esnode import limits
from esnode.errors import (
    Busy,
    CallerError,
    DamagedRecord,
    EarlierRefused,
    EventStreamError,
    InvalidRequest,
    NotLeader,
    OffsetAfterRestore,
    OperationTimeout,
    OperatorError,
    ProtocolError,
    Rejoining,
    StorageFailed,
    declared,
)
from esnode.loop.waiting import Settle
from esnode.messages import (
    AdminRequest,
    Append,
    Appended,
    ChangeRing,
    CutPrefix,
    ExplainKey,
    FaultRequest,
    FetchSnapshot,
    HealFault,
    KeyExplained,
    ListFaults,
    OpenProducerSession,
    ProducerOpened,
    Read,
    ReadEntries,
    ReadMovingKeys,
    Records,
    Refused,
    RingChanged,
    SetFault,
    SnapshotPiece,
    StatusReply,
    StatusRequest,
    Subscribe,
    TakeCheckpoint,
    TransferLeadership,
    Transferred,
)
from esnode.raft.appendorder import AppendOrder
from esnode.raft.entry import change_of
from esnode.raft.messages import (
    Decision,
    OpenProducer,
    Propose,
    ProposeRing,
    ReadGrant,
    ReadIndex,
    Transfer,
)
from esnode.refusal import Refusal
from esnode.server.reading import Page
from esnode.server.replies import Replies
from esnode.server.services import Services
from esnode.transport.connection import Connection
from esnode.wire import Message

log = logging.getLogger(__name__)

_FINAL_FOR_SESSIONS = (Refusal.UNKNOWN_PRODUCER, Refusal.PRODUCER_FENCED, Refusal.PRODUCERS_FULL)

SlowRequest = OpenProducerSession | Read | Subscribe | TransferLeadership | AdminRequest


class Session:
    """Serves one client after its handshake."""

    def __init__(self, connection: Connection, services: Services) -> None:
        self._connection = connection
        self._services = services
        self._memory = services.memory
        self._scope = trio.CancelScope()
        self._replies = Replies(connection, services.memory.answers, self._scope.cancel)
        self._push = self._replies.push
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._append_order = AppendOrder()
        self._refused_run: int | None = None
        """The run of the append that was last refused here, before the core had it."""
        self._reads = trio.Semaphore(limits.MAX_SESSION_READS)

    async def run(self) -> None:
        """Serve until the client leaves. Raises `PeerError` when it breaks the protocol."""
        self.tell_leader()
        self._connection.on_progress(self.tell_leader)  # a client that sends for long hears that we live
        try:
            with self._scope:
                await self._serve_requests()
        finally:
            self._replies.close()
        if self._replies.ended is not None:
            raise self._replies.ended

    async def _serve_requests(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._replies.write)
            while messages := await self._connection.receive():
                for message in messages:
                    if isinstance(message, Append) and (cold := self._services.cold(message.batch.keys)):
                        await trio.to_thread.run_sync(_fetch, cold, abandon_on_cancel=True)
                    self._handle(message, nursery)
                    if self._replies.waiting_bytes > limits.SMALL_ANSWERS_BYTES:
                        await self._replies.wait_drained()
            nursery.cancel_scope.cancel()

    def tell_leader(self) -> None:
        """Send the news of who leads; older news that have not left yet are forgotten."""
        self._replies.push_news(self._services.leader_news())

    # --- going out -----------------------------------------------------------------------------

    def _refuse(self, request_id: int, error: EventStreamError) -> None:
        self._push(Refused(request_id, error.code, str(error)))

    # --- coming in -----------------------------------------------------------------------------

    def _handle(self, message: Message, nursery: trio.Nursery) -> None:
        match message:
            case Append():
                self._append(message)
            case OpenProducerSession(request_id) if not self._services.openings.take(self._connection.source):
                self._refuse(request_id, Busy("this address has opened too many producer sessions"))
            case OpenProducerSession():
                self._start(nursery, message, partial(self._open_producer, message))
            case Read():
                self._start(nursery, message, partial(self._read, message))
            case Subscribe():
                self._start(nursery, message, partial(self._subscribe, message))
            case TransferLeadership():
                self._start(nursery, message, partial(self._transfer, message))
            case StatusRequest(request_id):
                self._push(StatusReply(request_id, dict(self._services.status())))
            case ExplainKey(request_id) if self._services.view.rejoining:
                self._refuse(request_id, self._rejoining())
            case ExplainKey(request_id, key):
                offset, expires_in_ms = self._services.explain(key)
                self._push(KeyExplained(request_id, offset, expires_in_ms))
            case SetFault() | HealFault() | ListFaults():
                self._answer_faults(message)
            case (
                ReadEntries()
                | FetchSnapshot()
                | CutPrefix()
                | TakeCheckpoint()
                | ReadMovingKeys()
                | ChangeRing()
            ):
                self._start(nursery, message, partial(self._serve_admin, message))
            case _:
                raise ProtocolError(f"a client may not send {type(message).__name__}")

    def _answer_faults(self, request: FaultRequest) -> None:
        try:
            self._push(self._services.faults(request))
        except (CallerError, OperatorError) as error:
            self._refuse(request.request_id, error)

    def _append(self, message: Append) -> None:
        batch, run = message.batch, message.run
        if run == self._refused_run:
            self._refuse(message.request_id, EarlierRefused("it may not overtake what was refused before it"))
            return
        if (wrong := self._services.check.wrong(batch)) is not None:
            self._refused_run = run
            self._refuse(message.request_id, wrong)
            return
        size = len(batch.payload)
        settle = partial(self._settle_append, message.request_id, size, trio.current_time())
        taken = self._propose(
            message.request_id, size, settle, lambda token: Propose(token, batch, self._append_order, run)
        )
        if not taken:
            self._refused_run = run

    def _propose(
        self,
        request_id: int,
        size_bytes: int,
        settle: Settle,
        proposal: Callable[[int], Propose],
    ) -> bool:
        """Hand a proposal to the core, or say why not; whether the core has it."""
        services = self._services
        if not services.view.leads:
            self._refuse(request_id, NotLeader(self._who_leads()))
            return False
        if not self._has_room(size_bytes):
            self._refuse(request_id, Busy("this connection, or all together, have too much in flight"))
            return False
        token = services.waiting.expect_decision(settle)
        if not services.inbox.offer(proposal(token)):
            services.waiting.withdraw(token)
            self._refuse(request_id, Busy("the node's inbox is full"))
            return False
        self._in_flight += 1
        self._in_flight_bytes += size_bytes
        self._memory.request_bytes += size_bytes
        return True

    def _has_room(self, size_bytes: int) -> bool:
        return (
            self._in_flight < limits.MAX_SESSION_INFLIGHT
            and self._in_flight_bytes + size_bytes <= limits.MAX_SESSION_INFLIGHT_BYTES
            and self._memory.request_bytes + size_bytes <= limits.MAX_REQUEST_BYTES
        )

    def _settle_append(self, request_id: int, size_bytes: int, begun: float, decision: Decision) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= size_bytes
        self._memory.request_bytes -= size_bytes
        if decision.refusal is None:
            self._services.latency.note(trio.current_time() - begun)
            self._push(Appended(request_id, decision.ranges, decision.duplicates))
        else:
            self._push_refusal(request_id, decision.refusal.value)

    def _push_refusal(self, request_id: int, code: str) -> None:
        why = f"{declared()[code].title}; {self._who_leads()}"
        if code == Refusal.MOVED.value:
            version, partitions = self._services.view.ring
            why += f", and goes by version {version} of the ring, of {partitions} partitions"
        self._push(Refused(request_id, code, why))
        if code == Refusal.WINDOW_PASSED.value:
            self.tell_leader()  # and with it where the log ends: the client may know an old end

    def _rejoining(self) -> Rejoining:
        """What is here may be a part of what was acked, and looks like all of it."""
        me = self._services.view.me
        return Rejoining(f"node {me} is fetching its log from the others; {self._who_leads()}")

    def _who_leads(self) -> str:
        leader = self._services.view.soft_state.leader
        return "nobody leads at the moment" if leader is None else f"node {leader} leads"

    # --- requests that take their time -----------------------------------------------------------

    def _start(
        self, nursery: trio.Nursery, request: SlowRequest, serve: Callable[[], Awaitable[None]]
    ) -> None:
        """Serve a request in a task of its own."""
        if self._has_room(0):
            self._in_flight += 1
            nursery.start_soon(self._serve, request, serve)
        else:
            self._refuse(request.request_id, Busy("this connection has too much in flight"))

    async def _serve(self, request: SlowRequest, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except (CallerError, OperationTimeout) as error:
            self._refuse(request.request_id, error)
        finally:
            self._in_flight -= 1

    async def _open_producer(self, request: OpenProducerSession) -> None:
        services = self._services
        if not services.view.leads:
            raise NotLeader(self._who_leads())
        decision = await self._decided(
            lambda token: OpenProducer(token, request.name, request.producer_id, request.holder)
        )
        if decision.refusal in _FINAL_FOR_SESSIONS:
            # A client ends its session for that: it must not hear it from a leader that was deposed.
            await self._wait_linearizable()
            if services.view.leading_term != decision.term:
                raise NotLeader(self._who_leads())
        if decision.opened is None:
            assert decision.refusal is not None
            self._push_refusal(request.request_id, decision.refusal.value)
        else:
            session, offset = decision.opened.opening, decision.opened.last_offset
            last = session.next_sequence - 1
            self._push(ProducerOpened(request.request_id, session.producer_id, session.epoch, last, offset))

    async def _decided(
        self, wanted: Callable[[int], OpenProducer | ProposeRing | Transfer], *, always: bool = False
    ) -> Decision:
        """What became of a request, once that is final; with `always`, even a full inbox takes it."""
        inbox, waiting = self._services.inbox, self._services.waiting
        answer: list[Decision] = []
        decided = trio.Event()

        def settle(decision: Decision) -> None:
            answer.append(decision)
            decided.set()

        token = waiting.expect_decision(settle)
        if always:
            inbox.put(wanted(token))
        elif not inbox.offer(wanted(token)):
            waiting.withdraw(token)
            raise Busy("the node's inbox is full")
        await decided.wait()
        return answer[0]

    async def _change_ring(self, request: ChangeRing) -> None:
        if not self._services.view.leads:
            raise NotLeader(self._who_leads())
        try:
            change = change_of(request.kind, request.change)
        except DamagedRecord as error:
            raise InvalidRequest(str(error)) from error
        decision = await self._decided(lambda token: ProposeRing(token, change, request.keys))
        if decision.refusal is None:
            self._push(RingChanged(request.request_id))
        else:
            self._push_refusal(request.request_id, decision.refusal.value)

    async def _read(self, request: Read) -> None:
        async with self._reads:
            await self._replies.wait_drained()
            if self._services.view.rejoining:
                raise self._rejoining()
            if request.linearizable:
                await self._wait_linearizable()
                if request.from_offset != limits.MAX_INDEX:  # that asks where the end is
                    self._check_offset(request.from_offset)
            page = await self._services.reader.page(
                request.from_offset, request.max_events, request.max_bytes
            )
            self._push_records(request.request_id, page)

    async def _wait_linearizable(self) -> None:
        """Return once everything acked before this call is applied here (Raft thesis 6.4)."""
        services = self._services
        answer: list[ReadGrant] = []
        granted = trio.Event()

        def take(grant: ReadGrant) -> None:
            answer.append(grant)
            granted.set()

        token = services.waiting.expect_grant(take)
        if not services.inbox.offer(ReadIndex(token)):
            services.waiting.withdraw(token)
            raise Busy("the node's inbox is full")
        with trio.move_on_after(limits.OPERATION_TIMEOUT_S) as deadline:
            await granted.wait()
            if answer[0].refusal is not None:
                raise declared()[answer[0].refusal.value](self._who_leads())
            await services.view.wait_applied(answer[0].index)
        if deadline.cancelled_caught:
            raise OperationTimeout(f"no majority answered within {limits.OPERATION_TIMEOUT_S:g} s")

    async def _subscribe(self, request: Subscribe) -> None:
        if self._services.view.rejoining:
            raise self._rejoining()
        offset = request.from_offset
        if self._services.restored:
            await self._wait_known(offset)
        while True:
            with trio.move_on_after(limits.SUBSCRIPTION_SIGN_OF_LIFE_S):
                await self._services.view.wait_offset(offset)
            async with self._reads:
                await self._replies.wait_drained()
                page = await self._services.reader.page(offset, limits.MAX_INDEX, limits.MAX_READ_BYTES)
                self._push_records(request.request_id, page)
            offset = page.next_offset

    async def _wait_known(self, offset: int) -> None:
        """Return once the log reaches to `offset`; raises `OffsetAfterRestore` where only the old one did.

        A follower may be behind, and cannot tell: it sends the client on to another node.
        """
        view = self._services.view
        with trio.move_on_after(limits.SUBSCRIPTION_SIGN_OF_LIFE_S):
            await view.wait_offset(offset - 1)
            return
        if not view.leads:
            raise NotLeader(f"this node does not know offset {offset}; {self._who_leads()}")
        await self._wait_linearizable()
        self._check_offset(offset)

    def _check_offset(self, offset: int) -> None:
        """To be called by a leader that has just heard from its majority."""
        end = self._services.view.next_offset
        if self._services.restored and offset > end:
            raise OffsetAfterRestore(
                f"offset {offset} is past the end of this log, {end}, which was restored from a backup:"
                " whoever has read so far has read events that are not in it"
            )

    async def _serve_admin(self, request: AdminRequest) -> None:
        admin = self._services.admin
        if admin is None or self._services.view.rejoining:
            raise self._rejoining()
        match request:
            case ReadEntries():
                async with self._reads:
                    await self._replies.wait_drained()
                    if request.linearizable:
                        await self._wait_linearizable()
                    self._push(await admin.entries(request))
            case FetchSnapshot():
                await admin.snapshot(request, self._push_piece)
            case CutPrefix():
                self._push(await admin.cut(request))
            case TakeCheckpoint():
                self._push(await admin.checkpoint(request))
            case ReadMovingKeys():
                async with self._reads:
                    await self._replies.wait_drained()
                    self._push(await admin.moving_keys(request))
            case ChangeRing():
                await self._change_ring(request)

    async def _push_piece(self, piece: SnapshotPiece) -> None:
        await self._replies.wait_drained()
        self._push(piece)

    def _push_records(self, request_id: int, page: Page) -> None:
        view = self._services.view
        self._push(Records(request_id, view.first_offset, view.next_offset, view.silence_ms(), page.records))

    async def _begin_transfer(self, request: TransferLeadership) -> None:
        """Return once the core has begun it; raises its refusal."""
        decision = await self._decided(
            lambda token: Transfer(request.to or None, token, asked=self._services.spreads), always=True
        )
        refusal = decision.refusal
        if refusal is Refusal.LEADERSHIP_LOST and request.to != self._services.view.me:
            return  # to another node, in the very same round: as was wanted
        if refusal is not None:
            raise declared()[refusal.value](f"{declared()[refusal.value].title}; {self._who_leads()}")

    async def _transfer(self, request: TransferLeadership) -> None:
        view = self._services.view
        if not view.leads:
            raise NotLeader(self._who_leads())
        if request.to and request.to not in self._services.members:
            members = ", ".join(str(member) for member in self._services.members)
            raise InvalidRequest(f"there is no node {request.to}; the members are {members}")
        log.info("transfer_asked", extra={"to": request.to or None})
        with trio.move_on_after(limits.TRANSFER_TIMEOUT_S):
            await self._begin_transfer(request)
            new_leader = view.me if request.to == view.me else await view.wait_other_leader()
            log.info("transfer_done", extra={"to": new_leader})
            self._push(Transferred(request.request_id, view.me, new_leader))
            return
        log.warning("transfer_failed", extra={"to": request.to or None})
        raise OperationTimeout(f"node {request.to or 'of its choice'} did not take over in time")


def _fetch(cold: Sequence[Callable[[], object]]) -> None:
    """Let the system read from the disk; what is wrong there ends the node when the decision is made."""
    for read in cold:
        with suppress(DamagedRecord, StorageFailed):
            read()
