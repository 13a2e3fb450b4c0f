"""Nodes with several partitions as real processes: started, watched through their logs, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from esnode.client import connect_node
from esnode.config import Config, dump
from esnode.errors import OperatorError, PeerError
from tests.cluster import three_configs

Line = dict[str, Any]
PATIENCE_S = 30.0


class Supervisor:
    """One supervisor, and what it and its processes have logged so far."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lines: list[Line] = []
        self.process: trio.Process
        self._more = trio.Event()
        self._closed = trio.Event()

    @property
    def client(self) -> str:
        return str(self.config.me.client)

    async def start(self, nursery: trio.Nursery, *options: str) -> None:
        file = self.config.data_dir.parent / f"node-{self.config.node_id}.toml"
        file.write_text(dump(self.config), encoding="utf-8")
        command = [sys.executable, "-m", "esnode", "--config", str(file), *options]
        self._closed = trio.Event()
        self.process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
        nursery.start_soon(self._read, self.process)

    async def _read(self, process: trio.Process) -> None:
        """Until the last process that may write there has ended."""
        assert process.stderr is not None
        rest = b""
        async for data in process.stderr:
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [json.loads(line) for line in whole]
            self._more.set()
            self._more = trio.Event()
        self._closed.set()

    async def wait_line(self, wanted: Callable[[Line], bool], since: int = 0) -> Line:
        """The first line from `since` on that is wanted; waits until it is there."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for line in self.lines[since:]:
                    if wanted(line):
                        return line
                await self._more.wait()
        raise AssertionError("not reached")

    async def wait_event(self, event: str, since: int = 0, **fields: object) -> Line:
        return await self.wait_line(lambda line: line.items() >= {"event": event, **fields}.items(), since)

    async def wait_ended(self) -> int:
        """The exit code of the supervisor, once it and all its processes have ended."""
        with trio.fail_after(PATIENCE_S):
            code = await self.process.wait()
            await self._closed.wait()
        return code

    def pid_of(self, partition: int) -> int:
        """The process of a partition that was started last."""
        started = [
            line["pid"]
            for line in self.lines
            if line["event"] == "partition_started" and line["partition"] == partition
        ]
        pid = started[-1]
        assert isinstance(pid, int)
        return pid

    def kill(self, partition: int) -> None:
        os.kill(self.pid_of(partition), signal.SIGKILL)

    async def end(self) -> None:
        """At the end of a test, whatever it has done: its processes end with it."""
        if self.process.returncode is None:
            self.process.kill()
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE_S):
            await self.process.wait()
            await self._closed.wait()


@asynccontextmanager
async def supervisors(
    tmp_path: Path, count: int = 3, partitions: int = 3, **settings: object
) -> AsyncIterator[list[Supervisor]]:
    """Started ones, each process of each partition serving, all by the ring that has all of them."""
    settings = {"partitions": partitions, **settings}
    configs = [replace(config, **settings) for config in await three_configs(tmp_path, count)]  # type: ignore[arg-type]
    nodes = [Supervisor(config) for config in configs]
    async with trio.open_nursery() as nursery:
        started: list[Supervisor] = []
        try:
            for node in nodes:
                await node.start(nursery)
                started.append(node)
            for node in nodes:
                for partition in range(partitions):
                    await node.wait_event("node_started", partition=partition)
                    await node.wait_event("ring_changed", partition=partition, partitions=partitions)
            yield nodes
        finally:
            for node in started:
                await node.end()
            nursery.cancel_scope.cancel()


async def leader_of(nodes: Sequence[Supervisor], partition: int) -> int:
    """Wait until a node leads the partition and serves; its id."""
    with trio.fail_after(PATIENCE_S):
        while True:
            for node in nodes:
                status = await _status(node, partition)
                if status is not None and status["role"] == "leader":
                    return node.config.node_id
            await trio.lowlevel.checkpoint()


async def _status(node: Supervisor, partition: int) -> dict[str, Any] | None:
    try:
        async with connect_node(node.client, partition=partition) as link:
            return await link.status()
    except (OperatorError, PeerError):
        return None
