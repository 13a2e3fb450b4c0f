"""The guided tour: what `esctl demo` does, step by step, every figure measured and none assumed.

The leader is killed when so many events are acked, not after so much time; the proof reads the log of
every node. Each step tells the `Guide` what it found and the `TourStory` keeps it; nothing is printed and
nothing is cleared away here. Called by `esctl/commands/demo.py`.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypedDict

import trio

from esctl.clusters.backends.interface import Backend, NodeOptions
from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.state import Cluster
from esctl.errors import InputUnreadable
from esctl.events.inputs import open_input
from esctl.events.ndjson import EventReader, GoodLine
from esctl.events.producer import ProducedData, Producer, ProduceTally, Watch, produce
from esctl.query.leader import wait_for_leader
from esctl.ui.formatting import quantity
from esctl.ui.progress import Progress
from esctl.ui.values import Count, Milliseconds, NodeId
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome, read_logs
from esctl.verify.verdict import LogVerdict
from esnode.client import connect

START_TIMEOUT_S: Final = 30.0
CATCH_UP_TIMEOUT_S: Final = 30.0
APPEND_TIMEOUT_S: Final = 20.0
RATE: Final = 10_000
"""Events a second of the first sending: slow enough to be watched."""
WINDOW: Final = 32
BATCH: Final = 64
KILL_AFTER: Final = 1 / 3
"""The share of the events that is acked when the leader is killed."""


class Guide(Protocol):
    """Who tells the story."""

    def working(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """This is going on now, `total` events of it."""

    def done(self, text: str, detail: str = "") -> None:
        """This has been achieved, and it took or measured so much."""


class TourNodeData(TypedDict):
    """Where the log of one node ends, and the hash of its events."""

    id: NodeId
    next_offset: Count
    hash: str | None


class TourVerdictData(TypedDict):
    """What the logs of all nodes say."""

    ok: bool
    events: Count
    acked_lost: Count
    duplicates: Count
    hashes_equal: bool
    nodes: list[TourNodeData]


class TourData(TypedDict):
    """What has happened on the tour."""

    ok: bool
    conclusive: bool
    events: Count
    leader_before: NodeId | None
    leader_after: NodeId | None
    killed_pid: int | None
    killed_after_acks: Count | None
    gap_ms: Milliseconds | None
    first: ProducedData
    second: ProducedData
    verify: TourVerdictData | None


class DemoAnswer(TourData):
    """What has happened, and on which cluster."""

    cluster: str
    kept: bool


@dataclass(slots=True)
class TourStory:
    """What has happened so far."""

    total: int
    """Events of the input, each once."""
    first: ProduceTally = field(default_factory=ProduceTally)
    second: ProduceTally = field(default_factory=ProduceTally)
    leader_before: int | None = None
    leader_after: int | None = None
    killed_pid: int | None = None
    killed_after: int | None = None
    """How many events were acked when the leader was killed."""
    killed_s: float = 0.0
    acks_s: list[float] = field(default_factory=list)
    """When acks came, during the first sending."""
    reading: ReadOutcome | None = None
    verdict: LogVerdict | None = None

    @property
    def gap_s(self) -> float | None:
        """The longest time without an ack from the kill on; None when no ack came after it."""
        if self.killed_pid is None:
            return None
        pairs = zip(self.acks_s, self.acks_s[1:], strict=False)
        return max((after - before for before, after in pairs if after > self.killed_s), default=None)

    @property
    def in_mid_stream(self) -> bool:
        """Was the leader killed while events were on their way?"""
        return self.killed_after is not None and 0 < self.killed_after < self.total

    @property
    def conclusive(self) -> bool:
        """Did everything happen that the proof is about, and was every node read?"""
        return (
            self.in_mid_stream
            and self.first.acked == self.second.acked == self.total
            and self.reading is not None
            and self.reading.confirmed
            and not self.reading.troubles
        )

    @property
    def proved(self) -> bool:
        """Each event once, at the same offset, on every node; and the second sending added nothing."""
        verdict = self.verdict
        return (
            verdict is not None
            and verdict.clean
            and verdict.hashes_equal
            and verdict.events == self.total
            and self.second.duplicates == self.total
        )

    def as_data(self) -> TourData:
        """For the JSON answer."""
        gap_s = self.gap_s
        return {
            "ok": self.conclusive and self.proved,
            "conclusive": self.conclusive,
            "events": self.total,
            "leader_before": self.leader_before,
            "leader_after": self.leader_after,
            "killed_pid": self.killed_pid,
            "killed_after_acks": self.killed_after,
            "gap_ms": None if gap_s is None else round(gap_s * 1000, 1),
            "first": self.first.as_data(),
            "second": self.second.as_data(),
            "verify": None if self.verdict is None else _verdict_data(self.verdict),
        }


def read_events(path: Path) -> list[GoodLine]:
    """Every event of a small input; raises `InputUnreadable` when a line is none, or there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    reader = EventReader()
    lines = [*reader.feed(data), *reader.end()]
    bad = [line for line in lines if not isinstance(line, GoodLine)]
    if bad or not lines:
        raise InputUnreadable(f"{path}: {bad[0] if bad else 'it holds no event'}")
    return [line for line in lines if isinstance(line, GoodLine)]


class Tour:
    """One tour through one new cluster."""

    def __init__(
        self, cluster: Cluster, backend: Backend, path: Path, events: list[GoodLine], guide: Guide
    ) -> None:
        self.story = TourStory(len({event.key for event in events}))
        self._cluster = cluster
        self._backend = backend
        self._path = path
        self._events = events
        self._guide = guide
        self._kill_due = trio.Event()

    async def run(self) -> None:
        """All of it. Raises what the backend and the client raise."""
        await self._boot()
        await self._stream()
        await self._restart()
        await self._send_again()
        await self._prove()

    async def _boot(self) -> None:
        begun = trio.current_time()
        numbers = [node.id for node in self._cluster.nodes]
        with self._guide.working(f"starting {len(numbers)} nodes"):
            self._backend.create(self._cluster, NodeOptions(self._cluster.storage))
            await self._backend.start(self._cluster, numbers, START_TIMEOUT_S)
            self.story.leader_before = await wait_for_leader(self._cluster, START_TIMEOUT_S)
        took_s = trio.current_time() - begun
        self._guide.done(
            f"{len(numbers)} nodes are up, node {self.story.leader_before} leads", f"{took_s:.1f} s"
        )

    async def _stream(self) -> None:
        story = self.story
        with self._guide.working("streaming", story.total) as bar:
            watch = Watch(acked=lambda batch, _taken: self._count_ack(bar, batch.count))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._kill_leader, bar)
                await self._send(story.first, RATE, watch)
                nursery.cancel_scope.cancel()
        if story.killed_pid is None:
            return
        story.leader_after = await wait_for_leader(self._cluster, START_TIMEOUT_S)
        gap = "" if story.gap_s is None else f"{story.gap_s * 1000:.0f} ms"
        self._guide.done(
            f"kill -9 of node {story.leader_before}, the leader, after {story.killed_after:,} acks"
        )
        self._guide.done(f"node {story.leader_after} has taken over; acks stood still for", gap)
        self._guide.done(
            f"{story.first.acked:,} of {story.total:,} events acked, {story.first.failed} failed",
            f"{story.first.seconds:.1f} s",
        )

    def _count_ack(self, bar: Progress, count: int) -> None:
        self.story.acks_s.append(trio.current_time())
        bar.advance(count)
        if self.story.first.acked >= self.story.total * KILL_AFTER:
            self._kill_due.set()

    async def _kill_leader(self, bar: Progress) -> None:
        story = self.story
        await self._kill_due.wait()
        assert story.leader_before is not None
        story.killed_after, story.killed_s = story.first.acked, trio.current_time()
        story.killed_pid = await self._backend.kill(self._cluster, story.leader_before)
        bar.describe(f"node {story.leader_before} killed; streaming")

    async def _restart(self) -> None:
        number = self.story.leader_before
        assert number is not None
        begun = trio.current_time()
        with self._guide.working(f"starting node {number} again"):
            await self._backend.start(self._cluster, [number], START_TIMEOUT_S)
            behind = await self._caught_up(number)
        took_s = trio.current_time() - begun
        caught_up = "and has caught up" if not behind else f"and is {quantity(behind, 'event')} behind"
        self._guide.done(f"node {number} runs again {caught_up}", f"{took_s:.1f} s")

    async def _caught_up(self, number: int) -> int:
        """Wait until the node has every event; how many it lacks when the time is over."""
        node = self._cluster.node(number)
        behind = self.story.total
        with trio.move_on_after(CATCH_UP_TIMEOUT_S):
            while behind:
                status = await status_of(node)
                behind = self.story.total - int(status["next_offset"]) if status is not None else behind
                await trio.sleep(0.02)  # a status is a question, nobody announces the answer
        return max(0, behind)

    async def _send_again(self) -> None:
        story = self.story
        with self._guide.working("sending all of it again", story.total) as bar:
            await self._send(story.second, 0, Watch(acked=lambda batch, _taken: bar.advance(batch.count)))
        self._guide.done(
            f"the whole file sent again: {story.second.duplicates:,} of {story.total:,} were known",
            f"{story.second.seconds:.1f} s",
        )

    async def _send(self, tally: ProduceTally, rate: float, watch: Watch) -> None:
        opened = connect(
            self._cluster.addresses,
            cluster=self._cluster.identity,
            window=WINDOW,
            timeout_s=APPEND_TIMEOUT_S,
        )
        with open_input(str(self._path)) as source:
            async with opened as log:
                producer = Producer(log, window=WINDOW, rate=rate, tally=tally, watch=watch)
                await produce(producer, source, BATCH)

    async def _prove(self) -> None:
        story = self.story
        history = History(node.id for node in self._cluster.nodes)
        for event in self._events:
            history.expect(event.key, event.encoded, 0, event.number)
        with self._guide.working("reading every node's log", len(self._cluster.nodes) * story.total) as bar:
            story.reading = await read_logs(self._cluster, history, CATCH_UP_TIMEOUT_S, lambda _total: bar)
            story.verdict = history.verdict(exact=True)
        if story.proved and story.conclusive:
            self._guide.done(f"the logs of all {len(self._cluster.nodes)} nodes read and compared")


async def clear(cluster: Cluster, backend: Backend) -> list[Path]:
    """End the nodes and delete their files; what could not be deleted."""
    await backend.stop(cluster, [node.id for node in cluster.nodes], 0.0)
    return backend.destroy(cluster)


def _verdict_data(verdict: LogVerdict) -> TourVerdictData:
    return {
        "ok": verdict.clean,
        "events": verdict.events,
        "acked_lost": verdict.lost,
        "duplicates": verdict.duplicates,
        "hashes_equal": verdict.hashes_equal,
        "nodes": [
            {"id": number, "next_offset": node.next_offset, "hash": node.hash}
            for number, node in sorted(verdict.nodes.items())
        ],
    }
