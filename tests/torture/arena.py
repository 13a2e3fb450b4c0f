"""A throw-away cluster of real nodes, load on it that never gives up, and the judging of what is left."""

import json
import os
import random
import secrets
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from esctl import layout, state
from esctl.backends.interface import NodeOptions, RunState
from esctl.backends.process import ProcessBackend
from esctl.exits import Exit
from esctl.inquiry import probe
from esctl.load.generator import Generator
from esctl.proof.audit import Audit, audit
from esctl.proof.history import History
from esctl.proof.verdict import Verdict
from esctl.state import Cluster
from esctl.terminal import Output, Terminal
from esnode.client import Log, connect, connect_node
from esnode.dedup.batch import Batch
from esnode.errors import EventStreamError
from tests.torture.ledger import Comparison, Ledger

BATCH = 64
EVENT_BYTES = 128
WINDOW = 128
APPEND_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
CATCH_UP_TIMEOUT_S = 120.0
SENT_AGAIN_EVERY = 16
"""One batch in so many is sent a second time, some time later."""
REMEMBERED = 512
ENOUGH_LOAD = 0.5
"""With less than this of the rate acked, the load did not happen."""


@dataclass
class Arena:
    """A running cluster and what kills and starts its nodes."""

    cluster: Cluster
    backend: ProcessBackend

    @property
    def numbers(self) -> list[int]:
        return [node.id for node in self.cluster.nodes]

    async def start(self, numbers: list[int]) -> None:
        await self.backend.start(self.cluster, numbers, START_TIMEOUT_S)

    async def kill(self, numbers: list[int]) -> None:
        """SIGKILL, all at the same time."""
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(self.backend.kill, self.cluster, number)

    async def leader(self) -> int:
        return await probe.wait_for_leader(self.cluster, START_TIMEOUT_S)

    async def wait_caught_up(self) -> None:
        """Return when every node answers and has what the leader has acked by now."""
        with trio.fail_after(CATCH_UP_TIMEOUT_S):
            leader = self.cluster.node(await self.leader())
            status = await probe.status_of(leader)
            target = int(status["next_offset"]) if status is not None else 0
            for node in self.cluster.nodes:
                while True:
                    status = await probe.status_of(node)
                    if status is not None and int(status["next_offset"]) >= target:
                        break
                    await trio.sleep(0.02)


@contextmanager
def arena(storage: str = "sqlite", home: Path | None = None) -> Iterator[Arena]:
    """A cluster of three that exists only here; nothing of it is left afterwards."""
    before = os.environ.get("XDG_STATE_HOME")
    directory = Path(tempfile.mkdtemp(prefix="torture-", dir=home))
    os.environ["XDG_STATE_HOME"] = str(directory)
    backend = ProcessBackend()
    cluster = layout.plan("torture", 3, storage=storage)
    try:
        backend.create(cluster, NodeOptions(storage))
        state.add(cluster)
        yield Arena(cluster, backend)
    finally:
        live = [p.node.id for p in backend.nodes(cluster) if p.state is not RunState.DOWN]
        trio.run(backend.stop, cluster, live, 0.0)
        shutil.rmtree(directory)
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


@dataclass
class Load:
    """Events at a fixed rate, until it is told to end. Some batches are sent a second time, later."""

    rate: float
    source: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    errors: dict[str, int] = field(default_factory=dict)
    """Batches without an ack, by the code of the error."""
    sent_again: int = 0
    begun_s: float = 0.0
    ended_s: float = 0.0
    news: trio.Event = field(default_factory=trio.Event)
    ended: bool = False

    @property
    def seconds(self) -> float:
        return self.ended_s - self.begun_s

    @property
    def happened(self) -> bool:
        """Was there load enough to prove something?"""
        return self.ledger.acked >= ENOUGH_LOAD * self.rate * self.seconds > 0

    async def run(self, arena: Arena) -> None:
        """Send until `end`, then wait for the last answers."""
        generator = Generator(secrets.token_hex(8), EVENT_BYTES, BATCH)
        cluster = arena.cluster
        recent: deque[Batch] = deque(maxlen=REMEMBERED)
        slots = trio.Semaphore(WINDOW)
        opened = connect(
            cluster.addresses, cluster=cluster.identity, window=WINDOW, timeout_s=APPEND_TIMEOUT_S
        )
        self.begun_s = turn = trio.current_time()
        async with opened as log, trio.open_nursery() as nursery:
            while not self.ended:
                if recent and self.source.random() < 1 / SENT_AGAIN_EVERY:
                    batch = self.source.choice(recent)
                    self.sent_again += 1
                else:
                    batch = generator.next_batch()
                    self.ledger.sent(batch)
                    recent.append(batch)
                await slots.acquire()
                nursery.start_soon(self._append, log, batch, slots)
                turn = max(turn + batch.count / self.rate, trio.current_time() - 1.0)
                await trio.sleep_until(turn)
            self.ended_s = trio.current_time()

    def end(self) -> None:
        self.ended = True

    async def wait_acked(self, more: int) -> None:
        """Return when so many more events are acked than now."""
        target = self.ledger.acked + more
        while self.ledger.acked < target:
            await self.news.wait()

    async def _append(self, log: Log, batch: Batch, slots: trio.Semaphore) -> None:
        try:
            taken = await log.append_batch(batch)
        except EventStreamError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            return
        finally:
            slots.release()
        self.ledger.ack(batch, taken.ranges)
        self.news.set()
        self.news = trio.Event()


@dataclass(frozen=True)
class Judgement:
    """What the logs of all nodes and the ledger say."""

    audit: Audit
    verdict: Verdict
    comparison: Comparison
    conflicts: list[str]

    @property
    def clean(self) -> bool:
        return (
            self.verdict.clean and self.verdict.hashes_equal and self.comparison.clean and not self.conflicts
        )

    @property
    def complete(self) -> bool:
        """Was every node read to the end?"""
        return self.audit.confirmed and not self.audit.troubles

    def as_data(self) -> dict[str, Any]:
        return {
            "log_events": self.verdict.events,
            "acked_lost": len(self.comparison.lost),
            "duplicates": self.comparison.twice + self.verdict.duplicates,
            "acked_at_two_offsets": len(self.conflicts),
            "of_unknown_origin": self.comparison.unknown_origin,
            "hashes_equal": self.verdict.hashes_equal,
            "flaws": [f.text for f in self.verdict.examples] + self.comparison.lost[:5] + self.conflicts[:5],
            "not_read": self.audit.troubles,
        }


async def judge(arena: Arena, ledger: Ledger) -> Judgement:
    """Read every node's log; hold them against each other and against the ledger."""
    history = History(arena.numbers)
    silent = Terminal(Output.JSON)
    with silent.progress("") as nobody:
        outcome = await audit(arena.cluster, history, CATCH_UP_TIMEOUT_S, lambda _total: nobody)
    keys = bytearray()
    async with connect_node(arena.cluster.nodes[0].client) as link:
        offset = 0
        while page := (await link.read_page(offset, 100_000)).batches:
            for batch in page:
                keys += b"".join(batch.keys())
            offset = page[-1].next_offset
    return Judgement(outcome, history.verdict(), ledger.compare(bytes(keys)), ledger.conflicts)


def report(name: str, figures: dict[str, Any], *, clean: bool, conclusive: bool) -> Exit:
    """Print the one line of a run, and give its exit code."""
    code = Exit.VERDICT_FAILED if not clean else Exit.OK if conclusive else Exit.INCONCLUSIVE
    outcome = {Exit.OK: "passed", Exit.VERDICT_FAILED: "failed", Exit.INCONCLUSIVE: "inconclusive"}[code]
    print(json.dumps({"torture": name, "outcome": outcome, **figures}), flush=True)
    return code


def say(text: str) -> None:
    """What is going on, for those who watch."""
    print(text, file=sys.stderr, flush=True)
