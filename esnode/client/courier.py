"""Brings every request to the leader, and brings it again until it is answered.

Decides which node leads (the connected one that says so itself, in the highest term), what is sent
again after a change of leader (everything unanswered, in order) and after which pause a refused
request is (`RETRY_S`, or `ROUND_S` once all nodes have refused it; +-50 %). Sending twice is safe:
the keys are the same. Never waits for a request; all state changes are plain functions. Used by
`log.py`, told by its links.
"""

import itertools
import random
from collections.abc import Callable
from math import inf
from typing import Final

import trio

from esnode.client.allegiance import Allegiance
from esnode.client.link import PING_ID, Link
from esnode.client.request import Request
from esnode.config import Address, parse_address
from esnode.connection import Dialer, error_of
from esnode.dedup.batch import Batch
from esnode.errors import (
    Busy,
    ClusterRestored,
    ConnectionLost,
    EventStreamError,
    InvalidConfig,
    LeadershipLost,
    NoQuorum,
    NotLeader,
    OperationTimeout,
    OutOfSequence,
    ProtocolError,
    Rejoining,
    UnknownProducer,
    Unreachable,
    VersionMismatch,
    WrongCluster,
)
from esnode.messages import (
    Append,
    Appended,
    Goodbye,
    KeyExplained,
    LeaderIs,
    NodeReply,
    ProducerOpened,
    Records,
    Refused,
    StatusReply,
    Transferred,
)
from esnode.wire import Message, encode_parts

RETRY_S: Final = 0.01
ROUND_S: Final = 0.25
MAX_LINKS: Final = 32
"""Addresses learnt from nodes included: a node that names ever new leaders fills nothing."""

_RETRIED: Final = {NotLeader.code, LeadershipLost.code, Busy.code}
_SESSION_GONE: Final = {UnknownProducer.code, OutOfSequence.code}


class Courier:
    """The requests of one client, its links, and the leader."""

    def __init__(
        self, allegiance: Allegiance, dial: Dialer, rng: random.Random, nursery: trio.Nursery
    ) -> None:
        self.links: dict[Address, Link] = {}
        self.leader: Link | None = None
        self.pending: dict[int, Request] = {}
        """What is not answered, in the order of submission."""
        self.stamp: Callable[[Batch], Batch | None] | None = None
        """Gives a batch its place in the producer session; None while there is no session."""
        self.on_session_gone: Callable[[], None] | None = None
        self.closed = False
        self._allegiance = allegiance
        self._dial = dial
        self._rng = rng
        self._nursery = nursery
        self._ids = itertools.count(PING_ID + 1)
        self._learnt_term = 0
        """The highest term whose leader was dialled because others named it."""
        self._retry_at = inf
        """When to send again what was refused; infinite when nothing was."""
        self._retry = trio.lowlevel.ParkingLot()

    def add_link(self, address: Address) -> None:
        """Keep a connection to `address` from now on."""
        if address not in self.links and len(self.links) < MAX_LINKS:
            self.links[address] = Link(address, self._allegiance, self, self._dial, self._rng)
            self._nursery.start_soon(self.links[address].run)

    def next_id(self) -> int:
        """A request id that was never used."""
        return next(self._ids)

    # --- requests ------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take charge of `request`, and send it if there is somebody to send it to."""
        if self.closed:
            request.settle(None, ConnectionLost("the log was closed"))
            return
        self.pending[request.id] = request
        if request.batch is not None:
            batch = self.stamp(request.batch) if self.stamp else request.batch
            request.parts = encode_parts(Append(request.id, batch)) if batch else ()
        self._send(request)

    def restamp(self) -> None:
        """Prepare all unanswered appends again, in order, and send them.

        They get new ids: what a node still says about the earlier sending is no answer to this one.
        """
        for request in [one for one in self.pending.values() if one.batch is not None]:
            del self.pending[request.id]
            request.unsure |= request.sent_on is not None
            request.id, request.sent_on = self.next_id(), None
            self.submit(request)

    def abandon(self, request: Request) -> None:
        """Nobody waits for `request` any more."""
        if self.pending.get(request.id) is request:
            del self.pending[request.id]
        request.settle(None, None)

    def close(self) -> None:
        """Give up what is unanswered, and refuse what comes."""
        self.closed = True
        for request in list(self.pending.values()):
            self._settle(request, None, ConnectionLost("the log was closed before the answer came"))

    def send_unsent(self) -> None:
        """Send what no living connection owes an answer for, in the order of submission."""
        for request in list(self.pending.values()):
            self._send(request)

    async def run_retries(self) -> None:
        """Send refused requests again, after a pause."""
        while True:
            while trio.current_time() < self._retry_at:
                with trio.move_on_at(self._retry_at):
                    await self._retry.park()
            self._retry_at = inf
            self.send_unsent()

    def _send(self, request: Request) -> None:
        link = self.leader
        if link is None and request.anywhere and request.sent_on is None:
            link = self._anyone(request.turn)
        if link is None or not request.parts or request.sent_on == link.number:
            return
        if request.once and request.sent_on is not None:
            return
        request.unsure |= request.sent_on is not None
        request.sent_on = link.number
        request.sends += 1
        if request.sends == 1 and request.on_sent is not None:
            request.on_sent()
        link.push(request.parts)

    def _anyone(self, turn: int) -> Link | None:
        """A node that answers; another one for each `turn`."""
        up = [link for link in self.links.values() if link.connected]
        return up[turn % len(up)] if up else None

    # --- what the links tell -------------------------------------------------------------------

    def on_up(self, link: Link) -> None:
        """A node can be reached."""
        self.send_unsent()

    def on_down(self, link: Link) -> None:
        """A connection is gone, and with it the answers that were due on it."""
        for request in list(self.pending.values()):
            if request.sent_on == link.number:
                request.sent_on, request.unsure = None, True
                if request.once:
                    self._settle(request, None, ConnectionLost("the connection broke before the answer came"))
        self._choose_leader()
        self.send_unsent()

    def on_error(self, link: Link) -> None:
        """A connection was not made. Where the cluster is another one now, nothing will ever be answered."""
        restored = self._restored()
        if restored is not None and all(isinstance(each.error, WrongCluster) for each in self.links.values()):
            for request in list(self.pending.values()):
                error = ClusterRestored(str(restored), definite=not request.unsure)
                self._settle(request, None, error)

    def on_message(self, link: Link, message: Message) -> None:
        """An answer, or news."""
        match message:
            case Appended() | Records() | StatusReply() | ProducerOpened() | Transferred() | KeyExplained():
                self._answered(message)
            case Refused():
                self._refused(link, message)
            case LeaderIs():
                link.claim = message
                self._learn(message)
                self._choose_leader()
            case Goodbye(code, text):
                raise error_of(code, text)
            case _:
                raise ProtocolError(f"a node may not send {type(message).__name__} to a client")

    def is_due(self, link: Link) -> bool:
        """Whether an answer is due on this link's connection."""
        return any(request.sent_on == link.number for request in self.pending.values())

    def _answered(self, message: NodeReply) -> None:
        request = self.pending.get(message.request_id)
        if request is None:
            return  # abandoned, or answered by another node before
        if type(message) is not request.expects:
            raise ProtocolError(f"a {request.expects.__name__} was due, {type(message).__name__} came")
        if isinstance(message, Appended) and request.batch is not None:
            events = sum(part.count for part in message.ranges)
            if events != request.batch.count:
                raise ProtocolError(f"{events} offsets came for a batch of {request.batch.count} events")
        self._settle(request, message, None)

    def _refused(self, link: Link, message: Refused) -> None:
        request = self.pending.get(message.request_id)
        if request is None or request.sent_on != link.number:
            return  # an earlier sending; the one that counts is on another connection
        request.sent_on = None
        error = error_of(message.code, message.message)
        if isinstance(error, ProtocolError):
            raise error  # a code that this version does not know: it may be done or not
        request.unsure |= not error.definite
        if message.code in _SESSION_GONE and self.on_session_gone is not None:
            first = next((one for one in self.pending.values() if one.batch is not None), None)
            if message.code == UnknownProducer.code or request is first:
                self.on_session_gone()
            else:
                self._retry_soon()  # one before it was refused, and goes again first
        elif message.code == Rejoining.code:
            request.turn, request.refusal = request.turn + 1, error
            up = sum(each.connected for each in self.links.values())
            self._retry_soon(RETRY_S if request.turn % up else ROUND_S)
        elif message.code in _RETRIED and (error.definite or not request.once):
            request.refusal = error
            self._retry_soon()
        else:
            # What this node says is of its own log, as it is now.
            error.definite = error.definite and not request.unsure
            self._settle(request, None, error)

    def _settle(self, request: Request, answer: NodeReply | None, error: EventStreamError | None) -> None:
        self.pending.pop(request.id, None)
        request.settle(answer, error)

    def _retry_soon(self, pause_s: float = RETRY_S) -> None:
        now = trio.current_time()
        if self._retry_at > now + 1.5 * pause_s:
            self._retry_at = now + pause_s * self._rng.uniform(0.5, 1.5)
            self._retry.unpark()

    # --- who leads -----------------------------------------------------------------------------

    def _learn(self, claim: LeaderIs) -> None:
        """Connect to a leader that no given address reaches, or that has come back unnoticed."""
        if not claim.leader or any(
            link.connected and link.node_id == claim.leader for link in self.links.values()
        ):
            return
        try:
            address = parse_address(claim.address)
        except InvalidConfig as error:
            raise ProtocolError(f"the leader's address: {error}") from error
        if address not in self.links:
            self.add_link(address)
        elif claim.term > self._learnt_term:
            # Once a term: whoever repeats himself makes nobody dial faster.
            self._learnt_term = claim.term
            self.links[address].dial_now()

    def _choose_leader(self) -> None:
        best: Link | None = None
        best_term = -1
        for link in self.links.values():
            claim = link.claim
            if not link.connected or claim is None or claim.leader != link.node_id:
                continue
            if claim.term > best_term or (claim.term == best_term and link is self.leader):
                best, best_term = link, claim.term
        if best is not self.leader:
            self.leader = best
            self.send_unsent()

    def _restored(self) -> ClusterRestored | None:
        """What a node said that belongs to a restored cluster, where no node of ours answers."""
        if any(link.connected for link in self.links.values()):
            return None
        said = (link.error for link in self.links.values())
        return next((error for error in said if isinstance(error, ClusterRestored)), None)

    def why_late(self, request: Request | None) -> EventStreamError:
        """The error of a request that its time-out found unanswered; None: it was never submitted.

        Abandon it first: one that others still wait for may yet be sent.
        """
        if request is not None and request.refusal is not None and request.certainly_not_done:
            return _refused_to_the_end(request.refusal)
        if request is not None and request.sends:
            return OperationTimeout("no answer within the time-out; the request may or may not be done")
        if request is not None and not request.done.is_set():
            return OperationTimeout("not sent within the time-out; it may yet be, in one batch with others")
        connected = [link for link in self.links.values() if link.connected]
        if self.leader is not None:
            return OperationTimeout("the window stayed full for the whole time-out; this one was not sent")
        if connected:
            return NoQuorum(f"{len(connected)} of {len(self.links)} nodes answer, and none leads")
        restored = self._restored()
        if restored is not None:
            return ClusterRestored(str(restored), definite=request is None or request.certainly_not_done)
        for link in self.links.values():
            if isinstance(link.error, WrongCluster | VersionMismatch):
                return type(link.error)(f"{link.address}: {link.error}")
        reasons = "; ".join(
            f"{link.address}: {link.error or 'no answer yet'}" for link in self.links.values()
        )
        return Unreachable(f"no node answers ({reasons})")


def _refused_to_the_end(refusal: EventStreamError) -> EventStreamError:
    """The error of a request that was sent, and each time refused for certain, until its time-out."""
    match refusal:
        case NotLeader():
            return NoQuorum(f"nobody led when it was sent: {refusal}")
        case Busy():
            return OperationTimeout(f"refused until the time-out, so not done: {refusal}", definite=True)
        case _:
            return refusal
