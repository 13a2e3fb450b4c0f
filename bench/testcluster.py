"""The ground that a measurement stands on: a throw-away cluster, and a load that goes on while it is treated.

Decides how the cluster is made and that it goes, whatever ends the measurement; and which stretch of one long
load a figure is of. What is done to the cluster meanwhile is the caller's. Called by `catchup.py`,
`slowlink.py` and `filled.py`.
"""

import argparse
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from bench.floor.cluster import NODES, START_TIMEOUT_S, STOP_TIMEOUT_S, on_a_leash, state_in
from esctl.bench import machine
from esctl.bench.generator import Generator
from esctl.bench.latency import Percentiles
from esctl.bench.runner import Load, TrialPlan
from esctl.clusters import nodelog, state
from esctl.clusters.backends import layout
from esctl.clusters.backends.interface import NodeOptions
from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.backends.process import ProcessBackend
from esctl.clusters.state import Cluster
from esctl.errors import NodeNotReady
from esctl.events.producer import Appender
from esctl.query.leader import wait_for_leader
from esnode import config as node_config
from esnode.client import connect
from esnode.config import Config
from esnode.errors import EventStreamError, first_of

UNENDING_S: Final = 24 * 3600.0
"""A load goes on until its block ends."""
WINDOW: Final = 512
"""Batches under way at a rate: more than ever wait while the log keeps up."""
FILL_WINDOW: Final = 64
ANSWER_S: Final = 10.0
TAIL_LINES: Final = 8
STEP_S: Final = 0.05
"""Between two questions to a node."""
TELL_EVERY_S: Final = 5.0
"""Between two lines about what takes long."""

Change = Callable[[Config], Config]
"""What a node's configuration shall be instead."""


class WholeBatches(TrialPlan):
    """A plan whose batches are full at any rate: each leaves when its last event is due."""

    @property
    def events_a_batch(self) -> int:
        """All of them."""
        return self.batch


@dataclass(frozen=True, slots=True)
class Answers:
    """What a follower that catches up and its leader say of themselves, at `at_s` on trio's clock."""

    follower: dict[str, Any]
    leader: dict[str, Any]
    at_s: float


@dataclass(frozen=True, slots=True)
class Ground:
    """A running cluster, and the hands that treat it."""

    cluster: Cluster
    backend: ProcessBackend

    async def start(self, *numbers: int) -> None:
        """As `esctl node start`."""
        await self.backend.start(self.cluster, numbers, START_TIMEOUT_S)

    async def stop(self, *numbers: int) -> None:
        """As `esctl node stop`."""
        await self.backend.stop(self.cluster, numbers, STOP_TIMEOUT_S)

    async def leader(self) -> int:
        """Who leads, as soon as somebody does."""
        return await wait_for_leader(self.cluster, START_TIMEOUT_S)

    async def status(self, number: int) -> dict[str, Any]:
        """What the node says of itself; raises `NodeNotReady` when it says nothing for long.

        A node that finds its disk emptied starts anew in its process, and for a moment nobody listens.
        """
        with trio.move_on_after(ANSWER_S):
            while True:
                found = await status_of(self.cluster.node(number))
                if found is not None:
                    return found
                await trio.sleep(STEP_S)
        tail = nodelog.tail(self.cluster.node(number).log, TAIL_LINES)
        raise NodeNotReady(f"node {number} does not answer; the end of its log:\n{tail}")

    async def wait_level(
        self, number: int, leader: int, seen: Callable[[Answers], None] = lambda _answers: None
    ) -> None:
        """Wait until the node has all that the leader had a moment before; `seen` hears what both answer."""
        while True:
            theirs = await self.status(leader)
            mine = await self.status(number)
            seen(Answers(mine, theirs, trio.current_time()))
            if mine["next_offset"] >= theirs["next_offset"] and not mine["rejoining"]:
                return
            await trio.sleep(STEP_S)

    @asynccontextmanager
    async def client(self, window: int = WINDOW) -> AsyncIterator[Appender]:
        """A client that may have so many batches under way."""
        async with connect(self.cluster.addresses, cluster=self.cluster.identity, window=window) as log:
            yield log


@asynccontextmanager
async def ground(home: Path, storage: str, change: Change = lambda config: config) -> AsyncIterator[Ground]:
    """Three nodes below `home`, started; gone with their files at the end of the block."""
    state.make_directory(home)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as directory, state_in(Path(directory)):
        cluster = layout.plan("bench", NODES, storage=storage)
        backend = ProcessBackend(command=lambda node: on_a_leash("esnode", "--config", str(node.config)))
        backend.create(cluster, NodeOptions(storage))
        for node in cluster.nodes:
            changed = change(node_config.load(node.config))
            node.config.write_text(node_config.dump(changed), encoding="utf-8")
        numbers = [node.id for node in cluster.nodes]
        try:
            await backend.start(cluster, numbers, START_TIMEOUT_S)
            yield Ground(cluster, backend)
        finally:
            with trio.CancelScope(shield=True):
                await backend.stop(cluster, numbers, STOP_TIMEOUT_S)


# --- load -------------------------------------------------------------------------------------------


@asynccontextmanager
async def loaded(log: Appender, rate: float, batch: int, size: int) -> AsyncIterator[Load]:
    """A load at that rate from here to the end of the block."""
    plan = WholeBatches(seconds=UNENDING_S, warmup_s=0.0, rate=rate, batch=batch, window=WINDOW)
    load = Load(log, Generator(secrets.token_hex(8), size, batch), plan)
    async with trio.open_nursery() as nursery:
        await nursery.start(load.run)
        yield load
        nursery.cancel_scope.cancel()


async def fill(log: Appender, events: int, batch: int, size: int) -> None:
    """So many events, as fast as it goes."""
    generator = Generator(secrets.token_hex(8), size, batch)
    tell_at_s = trio.current_time() + TELL_EVERY_S

    async def serve() -> None:
        nonlocal tell_at_s
        while generator.made < events:
            await log.append_batch(generator.next_batch())
            if trio.current_time() > tell_at_s:
                tell_at_s += TELL_EVERY_S
                note(f"{generator.made:,} of {events:,} events")

    async with trio.open_nursery() as nursery:
        for _ in range(FILL_WINDOW):
            nursery.start_soon(serve)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a load, on trio's clock."""

    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_s - self.begin_s

    def latencies(self, load: Load) -> Percentiles:
        """Of the events that were meant to be sent in it, from then on."""
        return load.recorder.percentiles(self.begin_s, self.end_s, intended=True)

    def kept_up(self, load: Load, rate: float) -> float:
        """The share of the events that were meant to be sent in it which have an ack by now."""
        return load.recorder.meant_between(self.begin_s, self.end_s) / (rate * self.seconds)


async def stretch(seconds: float) -> Stretch:
    """Let the load go on for so long."""
    begun = trio.current_time()
    await trio.sleep(seconds)
    return Stretch(begun, trio.current_time())


# --- the program around it --------------------------------------------------------------------------


def parser(name: str, what: str) -> argparse.ArgumentParser:
    """The options that all of them have."""
    made = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=what)
    made.add_argument("--storage", default="sqlite", help="the storage engine of the nodes")
    made.add_argument("--size", type=int, default=100, help="bytes of an event")
    made.add_argument("--batch", type=int, default=64, help="events in a batch")
    made.add_argument("--directory", type=Path, help="on the disk to use; default: where esctl has clusters")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return made


def refuse_below(made: argparse.ArgumentParser, options: argparse.Namespace, **least: float) -> None:
    """End with a usage error when one of these options is below its least value."""
    for name, bound in least.items():
        if not getattr(options, name) >= bound:
            made.error(f"--{name.replace('_', '-')} is {bound:g} at least")


def home_of(options: argparse.Namespace) -> Path:
    """Where throw-away directories are made."""
    directory: Path = options.directory or state.clusters_root().parent
    return directory.absolute()


def run(name: str, measure: Callable[[], Awaitable[None]]) -> int:
    """Run `measure` under trio until it ends or a signal ends it; the exit code."""
    ended_by: list[int] = []

    async def guarded() -> None:
        async def end_on_signal(task_status: trio.TaskStatus[None]) -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                task_status.started()
                async for number in signals:
                    ended_by.append(number)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            await nursery.start(end_on_signal)
            await measure()
            nursery.cancel_scope.cancel()

    failures: list[EventStreamError] = []
    try:
        trio.run(guarded)
    except* EventStreamError as group:
        failures.append(first_of(group))
    if failures:
        note(f"bench.{name}: {failures[0].code}: {failures[0]}\nnext: {failures[0].next_step}")
        return 1
    return 128 + ended_by[0] if ended_by else 0


def note(line: str) -> None:
    """What goes on, for whoever waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """One line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def written(value: float | None, digits: int = 1) -> str:
    """A figure in a table; a dash for one that is not known."""
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(value: float | None, other: float | None) -> float | None:
    """One by the other, where both are known."""
    return value / other if value is not None and other else None


@contextmanager
def document(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The figures, to be filled in. Written where that was asked for, with the machine, if all goes well."""
    found: dict[str, Any] = {"load_average_before": machine.load_average()}
    yield found
    settings = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()
    }
    whole = {"settings": settings, "machine": machine.fingerprint(), **found}
    whole["load_average_after"] = machine.load_average()
    if options.json is not None:
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
