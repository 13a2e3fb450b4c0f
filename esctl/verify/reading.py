"""Reads the log of every node itself, over the wire, and lays them side by side.

Decides how far each should have come: to the end of the log that a majority confirms at the beginning; and
how long it may take. Each is read to its own end, and one that has more than a majority confirms afterwards
has another history. Believes a node only what its records prove. A node that is down, goes away or does not
arrive leaves the proof inconclusive. Never prints. Called by `esctl verify`.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.clusters.state import Cluster, Node
from esctl.query import processes
from esctl.query import survey as surveys
from esctl.query.barrier import DOWN_TIMEOUT_S, confirmed_end, reason_of
from esctl.query.ringsurvey import of_each
from esctl.ui.formatting import quantity
from esctl.verify.history import History
from esctl.verify.ringhistory import RingHistory
from esctl.verify.window import DedupWindow
from esnode import limits
from esnode.client import NodeLink, connect_node
from esnode.errors import (
    DamagedRecord,
    EventStreamError,
    NoQuorum,
    OffsetOutOfRange,
    OperationTimeout,
    Unreachable,
)
from esnode.messages import Records

CONFIRM_TIMEOUT_S: Final = 1.0
"""For the end of the log, when nothing is to be waited for."""
ROUND_S: Final = 0.05
PAGE_EVENTS: Final = 100_000
"""A page is bounded by its bytes."""


class ReadProgress(Protocol):
    """Who is told how far the reading has come; `terminal.Progress` is one."""

    def advance(self, amount: int = 1) -> None:
        """So many more events of one node are read."""

    def describe(self, text: str) -> None:
        """What is going on now."""


@dataclass(slots=True)
class _Reading:
    """One node while it is read."""

    node: Node
    link: NodeLink
    first_offset: int
    next_offset: int


@dataclass(slots=True)
class ReadOutcome:
    """How the reading went; the rest is in the history."""

    partition: int | None = None
    """Which of several partitions was read."""
    target: int = 0
    """Every node should have the events before this offset."""
    confirmed: bool = True
    """Did a majority confirm the target?"""
    troubles: dict[int, str] = field(default_factory=dict)
    """Why a node was not read to the target."""
    up: set[int] = field(default_factory=set)
    """The nodes that answered to the end."""


async def read_logs(
    cluster: Cluster,
    history: History,
    wait_s: float,
    begin: Callable[[int], ReadProgress],
    partition: int | None = None,
) -> ReadOutcome:
    """Read every node into `history`; waits up to `wait_s` for nodes that are down or behind.

    `begin` is called once, with the number of events to be read, all nodes together. When no node
    answers, that is in the troubles. Where there are several partitions, `partition` is one of them.
    """
    outcome = ReadOutcome(partition)
    deadline = trio.current_time() + wait_s
    async with AsyncExitStack() as stack:
        await _confirm(cluster, outcome, wait_s)
        readings: dict[int, _Reading] = {}
        async with trio.open_nursery() as nursery:
            for node in cluster.nodes:
                nursery.start_soon(_arrive, cluster, node, outcome, deadline, history, readings, stack)
        if not outcome.confirmed:
            outcome.target = max((reading.next_offset for reading in readings.values()), default=0)
        for number in sorted(readings):
            history.begin(number, readings[number].first_offset)
        ends = {number: r.next_offset for number, r in readings.items()}
        watcher = begin(sum(max(0, ends[n] - r.first_offset) for n, r in readings.items()))
        await _read_in_step(history, readings, ends, outcome, watcher)
        await _compare_ends(cluster, history, readings, outcome)
    for number in readings:
        if number in outcome.up and history.position(number) < outcome.target:
            behind = outcome.target - history.position(number)
            outcome.troubles.setdefault(number, f"{quantity(behind, 'event')} behind")
    return outcome


async def read_ring(
    cluster: Cluster, history: RingHistory, wait_s: float, begin: Callable[[int], ReadProgress]
) -> list[ReadOutcome]:
    """Read every partition at the same time; the outcomes, by number. See `read_logs`.

    The progress is that of all together: it begins when it is known how much there is of each.
    """
    waiting = WholeProgress(cluster.partitions, begin)

    async def read_one(partition: int | None) -> ReadOutcome:
        return await read_logs(cluster, history.partitions[partition or 0], wait_s, waiting.begin, partition)

    return await of_each(cluster, read_one)


class WholeProgress:
    """The progress of several readings as that of one."""

    def __init__(self, readings: int, begin: Callable[[int], ReadProgress]) -> None:
        self._missing, self._begin = readings, begin
        self._events = self._done = 0
        self._watcher: ReadProgress | None = None

    def begin(self, events: int) -> ReadProgress:
        """One of them knows how much it reads."""
        self._missing -= 1
        self._events += events
        if not self._missing:
            self._watcher = self._begin(self._events)
            self._watcher.advance(self._done)
        return self

    def advance(self, amount: int = 1) -> None:
        """One of them has read so much more."""
        self._done += amount
        if self._watcher is not None:
            self._watcher.advance(amount)

    def describe(self, text: str) -> None:
        """What one of them does now."""
        if self._watcher is not None:
            self._watcher.describe(text)


async def _compare_ends(
    cluster: Cluster, history: History, readings: dict[int, _Reading], outcome: ReadOutcome
) -> None:
    """Find nodes that had more than a majority confirms now, later, or that contradict their leader.

    Nothing is cut from the end of what was committed, so an end that was there before is within this one.
    """
    told = await surveys.ask(cluster, partition=outcome.partition)
    found = {number: (-1, text) for number, text in told.conflicts.items()}
    most = max((reading.next_offset for reading in readings.values()), default=0)
    if outcome.confirmed and most > outcome.target:
        try:
            confirmed = await confirmed_end(cluster, CONFIRM_TIMEOUT_S, partition=outcome.partition)
        except (NoQuorum, OperationTimeout, Unreachable):
            outcome.confirmed = False
        else:
            end = confirmed.next_offset
            for number, reading in readings.items():
                if reading.next_offset > end:
                    events = quantity(reading.next_offset, "event")
                    more = f"node {number} has {events}; the cluster's log ends at {end:,}"
                    found.setdefault(number, (end, more))
    for number, (offset, text) in sorted(found.items()):
        history.split(number, offset, text)


async def _confirm(cluster: Cluster, outcome: ReadOutcome, wait_s: float) -> None:
    timeout_s = max(wait_s, CONFIRM_TIMEOUT_S)
    try:
        end = await confirmed_end(cluster, timeout_s, down_timeout_s=wait_s, partition=outcome.partition)
        outcome.target = end.next_offset
    except (NoQuorum, OperationTimeout, Unreachable):
        outcome.confirmed = False


async def _arrive(
    cluster: Cluster,
    node: Node,
    outcome: ReadOutcome,
    deadline: float,
    history: History,
    readings: dict[int, _Reading],
    stack: AsyncExitStack,
) -> None:
    """Connect to a node and wait until it says that it has the target; at the deadline, take it as it is.

    One that is down, beside others that run, is not waited for: nobody brings it back.
    """
    known_at = trio.current_time() + DOWN_TIMEOUT_S
    while True:
        try:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                link = connect_node(
                    node.client,
                    cluster=cluster.identity,
                    partition=outcome.partition,
                    timeout_s=ANSWER_TIMEOUT_S,
                )
                await link.__aenter__()
                stack.push_async_exit(link)
                window = DedupWindow.of(await link.status())
            if window is not None:
                history.allow(window)
            while True:
                answer = await link.read_records(limits.MAX_INDEX, 1)
                if answer.next_offset >= outcome.target or trio.current_time() >= deadline:
                    readings[node.id] = _Reading(node, link, answer.first_offset, answer.next_offset)
                    outcome.up.add(node.id)
                    outcome.troubles.pop(node.id, None)
                    return
                await trio.sleep(ROUND_S)  # a read of what is there does not wait for more
        except trio.TooSlowError:
            outcome.troubles[node.id] = f"no answer in {ANSWER_TIMEOUT_S:g} s"
        except EventStreamError as error:
            outcome.troubles[node.id] = reason_of(error)
        if trio.current_time() >= deadline:
            return
        if trio.current_time() >= known_at:
            if node.id in processes.away(cluster):
                return
            known_at = trio.current_time() + DOWN_TIMEOUT_S
        await trio.sleep(ROUND_S)


async def _read_in_step(
    history: History,
    readings: dict[int, _Reading],
    ends: dict[int, int],
    outcome: ReadOutcome,
    watcher: ReadProgress,
) -> None:
    """Always read on where least has been read, so that no node's log waits in memory for another's."""
    going = set(readings)
    while going:
        for number in [n for n in going if history.position(n) >= ends[n]]:
            history.finish(number)
            going.discard(number)
        if not going:
            return
        least = min(history.position(number) for number in going)
        turn = sorted(number for number in going if history.position(number) == least)
        pages: dict[int, Records | EventStreamError] = {}
        async with trio.open_nursery() as nursery:
            for number in turn:
                nursery.start_soon(_page, readings[number], least, ends[number], pages)
        for number in turn:
            page = pages[number]
            if isinstance(page, Records):
                _take(history, number, page, ends[number], watcher)
            else:
                _give_up(history, number, page, outcome)
                going.discard(number)


async def _page(
    reading: _Reading, offset: int, end: int, pages: dict[int, Records | EventStreamError]
) -> None:
    try:
        pages[reading.node.id] = await reading.link.read_records(offset, min(PAGE_EVENTS, end - offset))
    except EventStreamError as error:
        pages[reading.node.id] = error


def _take(history: History, number: int, page: Records, end: int, watcher: ReadProgress) -> None:
    before = history.position(number)
    for record in page.records:
        history.add(number, record)
    if history.position(number) == before:
        history.skip(number, end)  # it has said that it has these events, and does not show them
    watcher.advance(history.position(number) - before)


def _give_up(history: History, number: int, error: EventStreamError, outcome: ReadOutcome) -> None:
    outcome.troubles[number] = str(error)
    match error:
        case OffsetOutOfRange():
            outcome.troubles[number] = "retention cut its log while it was read"
            history.finish(number)
        case DamagedRecord():
            history.damaged(number, str(error))
            history.finish(number)
        case _:
            outcome.up.discard(number)
            history.finish(number, gone=True)
