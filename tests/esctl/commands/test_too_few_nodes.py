"""What the operating system knows is not waited for: too few nodes run, and nobody is bringing them back."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.exits import Exit
from esctl.faults import leases
from esctl.faults.leases import StoppedNode
from esctl.query import processes
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome, _arrive
from tests.esctl.clusters.test_backends import wait_until
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

PATIENCE_S = 60.0
LONG_S = 300.0
"""What a command is told to wait at most; it must not."""


@contextmanager
def at_once() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < LONG_S / 5


def test_a_quorum_that_cannot_be_is_known_unless_a_lease_brings_it_back(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processes.no_quorum(fakes.cluster) is None, "where none runs here, they may run elsewhere"
    trio.run(fakes.backend.start, fakes.cluster, [1, 3], PATIENCE_S)
    assert processes.no_quorum(fakes.cluster) is None
    wait_until(fakes.backend.pause(fakes.cluster, 3), os.WSTOPPED)
    known = processes.no_quorum(fakes.cluster)
    assert known is not None
    assert str(known) == "1 of 3 nodes of fake run, 2 needed: node 2 is down, node 3 is paused"
    assert known.next_step == "esctl node start 2 --cluster fake"
    assert processes.no_quorum(fakes.cluster, answered=[2]) is None
    struck = StoppedNode("pause-1", "pause", 3, 10_000, 0.0, struck=True)
    monkeypatch.setattr(leases, "active", lambda _: [struck])
    assert processes.no_quorum(fakes.cluster) is None


def test_nodes_that_stay_away_are_known_beside_those_that_run(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processes.away(fakes.cluster) == set(), "where none runs here, they may run elsewhere"
    trio.run(fakes.backend.start, fakes.cluster, [1], PATIENCE_S)
    assert processes.away(fakes.cluster) == {2, 3}
    struck = StoppedNode("kill-1", "kill", 3, 10_000, 0.0, struck=True)
    monkeypatch.setattr(leases, "active", lambda _: [struck])
    assert processes.away(fakes.cluster) == {2}


async def test_an_audit_does_not_wait_for_a_node_that_stays_down(fakes: FakeNodes) -> None:
    """The one that runs says nothing that a node says; the others are not asked for ever either."""
    await fakes.backend.start(fakes.cluster, [1], PATIENCE_S)
    outcome, readings = ReadOutcome(), dict[int, Any]()
    with at_once():
        async with AsyncExitStack() as stack:
            deadline = trio.current_time() + LONG_S
            await _arrive(
                fakes.cluster, fakes.cluster.node(2), outcome, deadline, History([1, 2, 3]), readings, stack
            )
    assert set(outcome.troubles) == {2}
    assert readings == {}


def test_a_leader_that_cannot_be_elected_is_not_waited_for(fakes: FakeNodes) -> None:
    trio.run(fakes.backend.start, fakes.cluster, [1], PATIENCE_S)
    with at_once():
        waited = Run("cluster", "wait", "fake", "--timeout", str(LONG_S), "-o", "json")
    assert waited.code == Exit.TIMEOUT, waited.out + waited.err
    (error,) = waited.document["errors"]
    assert error["message"].startswith("1 of 3 nodes of fake run, 2 needed")
    assert error["next"] == "esctl node start 2 --cluster fake"


def test_events_for_a_cluster_that_is_stopped_are_refused_at_once(fakes: FakeNodes, tmp_path: Path) -> None:
    file = tmp_path / "one.ndjson"
    file.write_text(json.dumps({"id": "1", "source": "/s", "type": "t"}) + "\n")
    with at_once():
        refused = Run("produce", str(file), "--timeout", str(LONG_S), "-o", "json")
    assert refused.code == Exit.TIMEOUT
    (error,) = refused.document["errors"]
    assert error["message"].startswith("no node of cluster fake runs; 0 events are acked")
    assert error["next"].startswith("esctl cluster start fake; then send the same input again")
    assert refused.document["data"]["sent"] == 0


def test_a_read_that_no_majority_can_answer_says_how_many_nodes_run(fakes: FakeNodes) -> None:
    trio.run(fakes.backend.start, fakes.cluster, [2], PATIENCE_S)
    refused = Run("consume", "-o", "json")
    assert refused.code == Exit.UNHEALTHY
    assert refused.document["errors"][0]["message"].startswith("1 of 3 nodes of fake run, 2 needed")
