"""A state directory of its own for each test of `esctl`, and a node that is only a script.

The fake node reads a real configuration, listens, logs JSON lines and ends on SIGTERM; the word after its
configuration makes it crash at start, stay deaf, or ignore SIGTERM.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import NodeOptions, RunState
from esctl.clusters.backends.netns import NetnsBackend
from esctl.clusters.backends.process import ProcessBackend
from esctl.clusters.state import Cluster, Node
from esctl.exits import Exit
from esctl.ui import plain
from esctl.ui.answer import Answer
from esctl.ui.terminal import Terminal
from esctl.ui.values import BackendName
from tests.esctl import contract, forked

FAKE_NODE = Path(__file__).with_name("fake_node.py")
FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights-2013-01.ndjson.gz"
FLIGHTS_COUNT = 27_004


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is seen or touched."""
    home = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ESCTL_CLUSTER", "ESCTL_CONTEXT", "ESCTL_OUTPUT", "ESCTL_NO_INPUT", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(autouse=True)
def answers_fit_their_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document and each record that a command prints in this process is checked against its schema."""
    envelope, record, conclude = plain.envelope, Terminal.record, Invocation.conclude
    running: list[str] = []

    def concluding(self: Invocation, function: Callable[[], Answer[Any] | None]) -> Exit:
        running[:] = [self.command]
        return conclude(self, function)

    def recording(self: Terminal, fields: Mapping[str, Any], *cells: str) -> None:
        if running and running[0] in contract.STREAMS:
            contract.check_record(running[0], fields)
        record(self, fields, *cells)

    monkeypatch.setattr(plain, "envelope", lambda *printed: contract.check(envelope(*printed)))
    monkeypatch.setattr(Terminal, "record", recording)
    monkeypatch.setattr(Invocation, "conclude", concluding)


def plan(name: str, home: Path, count: int = 3, backend: BackendName = "process") -> Cluster:
    """A cluster that could be made, its addresses free now."""
    nodes = tuple(
        Node(
            id=n,
            client=address.client,
            peer=address.peer,
            data_dir=home / f"node-{n}",
            config=home / f"node-{n}.toml",
            log=home / f"node-{n}.log",
        )
        for n, address in enumerate(backend_named(backend).addresses(count), 1)
    )
    # A network is named for the identity, and other tests may run beside these.
    unique = "0a1b2c3d" if backend == "process" else secrets.token_hex(4)
    return Cluster(name, f"{name}-{unique}", backend, "sqlite", "2013-01-01T00:00:00Z", home, nodes)


async def listens(node: Node, _partitions: int = 1) -> bool:
    """The fake node is ready when its client port is open."""
    host, _, port = node.client.rpartition(":")
    try:
        stream = await trio.open_tcp_stream(host, int(port))
    except OSError:
        return False
    await stream.aclose()
    return True


@dataclass
class FakeNodes:
    """A made cluster of fake nodes and its backend."""

    cluster: Cluster
    backend: ProcessBackend
    moods: dict[int, str]
    """What is wrong with a node, by number; see `fake_node.py`."""

    @property
    def numbers(self) -> list[int]:
        return [node.id for node in self.cluster.nodes]

    def states(self) -> list[str]:
        return [str(process.state) for process in self.backend.nodes(self.cluster)]

    def pids(self) -> list[int | None]:
        return [process.pid for process in self.backend.nodes(self.cluster)]


@pytest.fixture
def make_fakes(tmp_path: Path) -> Iterator[Callable[..., FakeNodes]]:
    """Makes clusters of fake nodes; none of them outlives the test."""
    made: list[FakeNodes] = []

    def make(
        name: str = "fake", count: int = 3, backend: BackendName = "process", partitions: int = 1
    ) -> FakeNodes:
        moods: dict[int, str] = {}

        def command(node: Node) -> list[str]:
            mood = moods.get(node.id, "well" if partitions == 1 else "supervisor")
            return [sys.executable, str(FAKE_NODE), "esnode", "--config", str(node.config), mood]

        kind = NetnsBackend if backend == "netns" else ProcessBackend
        planned = replace(plan(name, tmp_path / name, count, backend), partitions=partitions)
        fakes = FakeNodes(planned, kind(listens, command), moods)
        fakes.backend.create(fakes.cluster, NodeOptions())
        state.add(fakes.cluster)
        made.append(fakes)
        return fakes

    yield make
    for fakes in made:
        live = [p.node.id for p in fakes.backend.nodes(fakes.cluster) if p.state is not RunState.DOWN]
        trio.run(fakes.backend.stop, fakes.cluster, live, 0.0)


@pytest.fixture
def fakes(make_fakes: Callable[..., FakeNodes]) -> FakeNodes:
    """Three fake nodes, not yet started."""
    return make_fakes()


@dataclass(frozen=True)
class RealCluster:
    """A running cluster of real nodes, shared by the tests of one module; they put back what they change."""

    home: Path
    patience_s: float = 100.0

    @property
    def environment(self) -> dict[str, str]:
        """Nothing that the person who runs the tests has set counts."""
        theirs = {name: text for name, text in os.environ.items() if not name.startswith("ESCTL_")}
        return {**theirs, "XDG_STATE_HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config")}

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator does, in a process of its own."""
        return forked.run(words, self.environment, stdin, self.patience_s)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on while the test does something else, in an interpreter of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "esctl.main", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def data(self, *words: str, code: int | tuple[int, ...] = 0, stdin: str | None = None) -> dict[str, Any]:
        """The `data` of a command's JSON document; it must exit with `code`, or one of them, and each error
        has a code of its own."""
        done = self.run(*words, "-o", "json", stdin=stdin)
        assert done.returncode in (code if isinstance(code, tuple) else (code,)), done.stdout + done.stderr
        document = contract.check(json.loads(done.stdout))
        assert all(error["code"] and error["next"] for error in document["errors"]), document["errors"]
        data = document["data"]
        assert isinstance(data, dict)
        return data


@pytest.fixture(scope="module")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes that hold the example's 27,004 flights."""
    cluster = RealCluster(tmp_path_factory.mktemp("real"))
    try:
        cluster.data("cluster", "up", "drill")
        assert cluster.data("produce", str(FLIGHTS))["acked"] == FLIGHTS_COUNT
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "drill", "--confirm", "drill")
