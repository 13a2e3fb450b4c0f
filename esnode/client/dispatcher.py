"""Sends every request to the leader, and sends it again until it is answered.

Decides which node leads (the connected one that says so itself, in the highest term) and what is sent
again after a change of leader: everything unanswered, in order. Appends are sent in runs (`runs.py`), other
requests one by one, and again after a pause if they were refused (`pause_s`, or `ROUND_S` once all nodes have
refused it). Sending twice is safe: the keys are the same. Never waits for a request; all state
changes are plain functions. Used by `log.py`, told by its links.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Final

import trio

from esnode.client.appendhooks import Numbering, Router
from esnode.client.clusterpin import ClusterPin
from esnode.client.lateness import restored, why_late
from esnode.client.link import PING_ID, Link
from esnode.client.request import Request
from esnode.client.runs import ROUND_S, Runs, pause_s
from esnode.config import Address, parse_address
from esnode.errors import (
    Busy,
    ClusterRestored,
    ConnectionLost,
    EarlierRefused,
    EventStreamError,
    InvalidConfig,
    LeadershipLost,
    Moved,
    NotLeader,
    OutOfSequence,
    PartitionNeeded,
    ProducerFenced,
    ProtocolError,
    Rejoining,
    UnknownPartition,
    UnknownProducer,
    WindowPassed,
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
from esnode.transport.connection import Dialer, error_of
from esnode.wire import Message, encode_parts

MAX_LINKS: Final = 32
"""Addresses learnt from nodes included: a node that names ever new leaders fills nothing."""

_RETRIED: Final = {NotLeader.code, LeadershipLost.code, Busy.code, EarlierRefused.code}
_SESSION_GONE: Final = {UnknownProducer.code, OutOfSequence.code, ProducerFenced.code}


class Dispatcher:
    """The requests of one client, its links, and the leader."""

    def __init__(self, pin: ClusterPin, dial: Dialer, rng: random.Random, nursery: trio.Nursery) -> None:
        self.links: dict[Address, Link] = {}
        self.leader: Link | None = None
        self.pending: dict[int, Request] = {}
        """What is not answered, in the order of submission."""
        self.producer: Numbering | None = None
        """The producer session, where there is one."""
        self.router: Router | None = None
        """None where the client is for one partition alone."""
        self.closed = False
        self._pin = pin
        self._dial = dial
        self._rng = rng
        self._nursery = nursery
        self._partition = pin.partition or 0
        self._ids = itertools.count(PING_ID + 1)
        self._log_end = 0
        """The log ends here or later: the offset after the last event that is known to be in it."""
        self._learnt_term = 0
        """The highest term whose leader was dialled because others named it."""
        self._runs = Runs(rng)
        self._unstamped: deque[Request] | None = None
        """What `restamp` has yet to number; None: it does not run."""
        self._retry_at = inf
        """When to send again what was refused, besides appends; infinite when nothing was."""
        self._retry = trio.lowlevel.ParkingLot()
        self._has_strays = False
        """Whether what belongs to others is here yet: nothing behind it is sent, so that order is kept."""
        self._without_strays: list[Callable[[], None]] = []

    def add_link(self, address: Address) -> None:
        """Keep a connection to `address` from now on."""
        if address not in self.links and len(self.links) < MAX_LINKS:
            self.links[address] = Link(address, self._pin, self, self._dial, self._rng)
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
        if request.batch is None:
            self._send(request)
            return
        if request.batch.partition != self._partition:
            request.batch = replace(request.batch, partition=self._partition)
        if self.router is not None and self.router.is_stray(request.batch, self._partition):
            request.stray = True
            self._move_strays()
            return
        if self._unstamped is not None:
            self._unstamped.append(request)
            return
        if self._has_strays:
            return
        self._stamp(request)
        if self._runs.under_way:
            self._send_append(request)
        else:
            self._send_appends()

    def _stamp(self, request: Request) -> None:
        request.stamped = self.producer.number(request) if self.producer else request.batch

    def restamp(self) -> None:
        """Prepare all unanswered appends again, in order, and send them.

        They get new ids: what a node still says about the earlier sending is no answer to this one. One that
        cannot have its number is settled, which may bring in another: that is behind them all.
        """
        assert self.producer is not None
        self._runs.begin_anew(set())
        self._unstamped = deque(self.appends())
        for request in self._unstamped:
            del self.pending[request.id]
            request.unsure |= request.sent_on is not None
            request.id, request.sent_on = self.next_id(), None
            self.pending[request.id] = request
        self._move_strays()
        while self._unstamped:
            request = self._unstamped.popleft()
            if self.pending.get(request.id) is request and not request.stray:
                request.stamped = self.producer.number(request)
        self._unstamped = None
        self._send_appends()

    # --- a newer ring --------------------------------------------------------------------------

    def route_again(self, done: Callable[[], None]) -> None:
        """A newer ring is known: hand over what belongs to others, and then call `done`."""
        assert self.router is not None
        for request in self.appends():
            assert request.batch is not None
            request.stray = self.router.is_stray(request.batch, self._partition)
        self._without_strays.append(done)
        self._move_strays()

    def _move_strays(self) -> None:
        """In their order: one that is on its way to this partition may be stored here, and is waited for."""
        for request in self.appends():
            if request.stray and self.pending.get(request.id) is request:
                if request.sent_on is not None:
                    self._has_strays = True
                    return
                self._hand_over(request)
        self._has_strays = False
        if self._unstamped is None:
            for request in self.appends():
                if request.stamped is None:
                    self._stamp(request)
            self._send_appends()
        told, self._without_strays = self._without_strays, []
        for done in told:
            done()

    def _hand_over(self, request: Request) -> None:
        """What stays keeps its place among the others."""
        assert self.router is not None
        self._runs.given_up(request.id)
        if self.producer is not None:
            self.producer.gave_up(request)
        stays = self.router.move(request, self._partition)
        if stays is None:
            del self.pending[request.id]
        else:
            after = [stays if one is request else one for one in self.pending.values()]
            self.pending = {one.id: one for one in after}

    def abandon(self, *requests: Request) -> None:
        """Nobody waits for these any more. All go at once: none is sent again without one before it."""
        for request in requests:
            if self.pending.get(request.id) is request:
                del self.pending[request.id]
                self._runs.given_up(request.id)
                if request.batch is not None and self.producer is not None:
                    self.producer.gave_up(request)
        for request in requests:
            request.settle(None, None)
        self._go_on()

    def close(self) -> None:
        """Give up what is unanswered, and refuse what comes."""
        self.closed = True
        given_up, self.pending = self.pending, {}
        for request in given_up.values():
            self.settle(request, None, ConnectionLost("the log was closed before the answer came"))

    def send_unsent(self) -> None:
        """Send what no living connection owes an answer for, in the order of submission."""
        for request in list(self.pending.values()):
            if request.batch is None:
                self._send(request)
        self._send_appends()

    async def run_retries(self) -> None:
        """Send refused requests again, after a pause."""
        while True:
            while trio.current_time() < (due_at := self._next_try_at()):
                with trio.move_on_at(due_at):
                    await self._retry.park()
            self._retry_at = inf
            self.send_unsent()

    def _next_try_at(self) -> float:
        return min(self._retry_at, self._runs.next_at if self.leader is not None else inf)

    def _send(self, request: Request) -> None:
        if not request.parts:
            return  # the next node that greets is its answer
        link = self.leader
        if link is None and request.anywhere and request.sent_on is None:
            link = self._anyone(request.turn)
        if link is None or request.sent_on == link.number:
            return
        if request.once and request.sent_on is not None:
            return
        if trio.current_time() < request.retry_at:
            self._retry_at = min(self._retry_at, request.retry_at)
            return
        self._push(link, request, request.parts)

    def _send_appends(self) -> None:
        """All that are not on their way to the leader, unless a refusal holds them up."""
        if self.leader is not None and self._runs.may_send():
            for request in self.appends():
                if request.stray:
                    break
                self._send_append(request)

    def _send_append(self, request: Request) -> None:
        """To be called for one after the other, in the order of submission."""
        link = self.leader
        if link is None or request.stamped is None or request.sent_on == link.number:
            return
        self._runs.sent(request.id)
        batch = request.stamped
        if not request.unsure and request.sent_on is None:
            request.sent_after, request.sent_to = self._log_end, None
        if batch.producer is None or request.sent_to is not None:
            batch = replace(batch, sent_after=request.sent_after, sent_to=request.sent_to)
        self._push(link, request, encode_parts(Append(request.id, batch, self._runs.number)))

    def _push(self, link: Link, request: Request, parts: Sequence[bytes]) -> None:
        request.unsure |= request.sent_on is not None
        request.sent_on = link.number
        request.sends += 1
        if request.sends == 1 and request.on_sent is not None:
            request.on_sent()
        link.push(parts)

    def appends(self) -> list[Request]:
        """The appends among what is not answered, in the order of submission."""
        return [request for request in self.pending.values() if request.batch is not None]

    def _anyone(self, turn: int) -> Link | None:
        """A node that answers; another one for each `turn`."""
        up = [link for link in self.links.values() if link.connected]
        return up[turn % len(up)] if up else None

    # --- what the links tell -------------------------------------------------------------------

    def on_up(self, link: Link) -> None:
        """A node can be reached."""
        for request in list(self.pending.values()):
            if request.batch is None and not request.parts:
                self.settle(request, None, None)
        self.send_unsent()

    def on_down(self, link: Link) -> None:
        """A connection is gone, and with it the answers that were due on it."""
        for request in list(self.pending.values()):
            if request.sent_on == link.number:
                request.sent_on, request.unsure = None, True
                if request.once:
                    self.settle(request, None, ConnectionLost("the connection broke before the answer came"))
        self._choose_leader()
        if self._has_strays:
            self._move_strays()
        self.send_unsent()

    def on_error(self, link: Link) -> None:
        """A connection was not made. Where the cluster is another one, nothing will ever be answered."""
        unknown = all(
            isinstance(each.error, PartitionNeeded | UnknownPartition) for each in self.links.values()
        )
        if unknown and self.router is None:  # else the ring has it, and it is about to be there
            assert link.error is not None
            for request in list(self.pending.values()):
                self.settle(request, None, type(link.error)(str(link.error), definite=not request.unsure))
            return
        other = restored(list(self.links.values()))
        if other is not None and all(isinstance(each.error, WrongCluster) for each in self.links.values()):
            for request in list(self.pending.values()):
                error = ClusterRestored(str(other), definite=not request.unsure)
                self.settle(request, None, error)

    def on_message(self, link: Link, message: Message) -> None:
        """An answer, or news."""
        match message:
            case Appended() | Records() | StatusReply() | ProducerOpened() | Transferred() | KeyExplained():
                self._answered(message)
            case Refused():
                self._refused(link, message)
            case LeaderIs():
                link.claim = message
                self._log_end = max(self._log_end, message.next_offset)
                self._pin.learn(message.ring_version, message.partitions)
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
            for part in message.ranges:
                self._log_end = max(self._log_end, part.base_offset + part.count)
            self._runs.acked(request.id)
        self.settle(request, message, None)

    def _refused(self, link: Link, message: Refused) -> None:
        request = self.pending.get(message.request_id)
        if request is None or request.sent_on != link.number:
            return  # an earlier sending; the one that counts is on another connection
        request.sent_on = None
        error = error_of(message.code, message.message)
        if isinstance(error, ProtocolError):
            raise error  # a code that this version does not know: it may be done or not
        if isinstance(error, WindowPassed) and not request.unsure:
            error.definite = True  # of the only sending: the client knew an old end of the log
        request.unsure |= not error.definite
        if request.batch is not None:
            self._append_refused(request, error)
        elif message.code == Rejoining.code:
            request.turn, request.refusal = request.turn + 1, error
            up = sum(each.connected for each in self.links.values())
            full = request.turn % up == 0
            self._retry_later(
                request, ROUND_S * self._rng.uniform(0.5, 1.5) if full else pause_s(1, self._rng)
            )
        elif message.code in _RETRIED and (error.definite or not request.once):
            request.refusals, request.refusal = request.refusals + 1, error
            self._retry_later(request, pause_s(request.refusals, self._rng))
        else:
            self._refused_for_good(request, error)

    def _append_refused(self, request: Request, error: EventStreamError) -> None:
        """Its run is over. It goes again in the next one, or is over, too."""
        first = next(one for one in self.pending.values() if one.batch is not None)
        if error.code in _SESSION_GONE and (error.code != OutOfSequence.code or request is first):
            self._runs.refused(request.id, None)
            if self.producer is None:
                self._refused_for_good(request, error)
            else:
                self.producer.refused()
        elif error.code in _RETRIED | _SESSION_GONE or self._can_go_again(error):
            self._runs.refused(request.id, error)
            # What was refused before it is the reason; it may have been given up since.
            request.refusal = (isinstance(error, EarlierRefused) and self._runs.refusal) or error
        else:
            self._runs.refused(request.id, None)
            self._refused_for_good(request, error)
        self._go_on()

    def _can_go_again(self, error: EventStreamError) -> bool:
        """Another owner may take it, or the same one when the client has heard where its log ends now."""
        return (
            self.router is not None
            if isinstance(error, Moved)
            else (isinstance(error, WindowPassed) and error.definite)
        )

    def _refused_for_good(self, request: Request, error: EventStreamError) -> None:
        """What this node says is of its own log, as it is now."""
        error.definite = error.definite and not request.unsure
        self.settle(request, None, error)

    def settle(self, request: Request, answer: NodeReply | None, error: EventStreamError | None) -> None:
        """End `request`, answered or not. An append that ends with an error tells whoever sends more."""
        self.pending.pop(request.id, None)
        self._runs.given_up(request.id)
        if answer is None and request.batch is not None and self.producer is not None:
            self.producer.gave_up(request)
        if error is not None and request.on_refused is not None and not request.done.is_set():
            request.on_refused(request)
        request.settle(answer, error)
        if request.batch is not None:
            self._go_on()

    def _go_on(self) -> None:
        """An append is on its way no more: perhaps it was the last that held up the next run."""
        if self._has_strays:
            self._move_strays()
        if not self._runs.under_way:
            self._send_appends()
            self._retry.unpark()

    def _retry_later(self, request: Request, pause: float) -> None:
        request.retry_at = trio.current_time() + pause
        self._retry_at = min(self._retry_at, request.retry_at)
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
            if best is not None:
                self._runs.begin_anew({one.id for one in self.appends() if one.sent_on == best.number})
            for request in self.pending.values():
                request.retry_at = 0.0
            self.send_unsent()

    def why_late(self, request: Request | None) -> EventStreamError:
        """The error of a request that its timeout found unanswered; None: it was never submitted.

        Abandon it first: one that others still wait for may yet be sent.
        """
        return why_late(request, list(self.links.values()), self.leader)
