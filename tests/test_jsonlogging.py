"""What a node's log tells of an election, and how finely."""

import json
import logging
import random
from datetime import datetime
from pathlib import Path

import pytest

from esnode.client import connect
from esnode.faults import FaultTable, fault_of
from esnode.jsonlogging import JsonLines
from esnode.messages import SetFault
from esnode.wallclock import WallClock
from tests.appending import event
from tests.cluster import local_cluster


def test_a_line_of_the_log_tells_the_microsecond() -> None:
    fields = {"msg": "state_changed", "created": 1_384_000_000.000_250, "role": "leader"}
    record = logging.makeLogRecord(fields)
    line = json.loads(JsonLines(2, WallClock()).format(record))
    assert line["time"] == "2013-11-09T12:26:40.000250Z"
    assert datetime.fromisoformat(line["time"]).timestamp() == pytest.approx(record.created, abs=1e-6)
    assert (line["node"], line["event"], line["role"]) == (2, "state_changed", "leader")


def test_a_line_has_the_time_that_the_node_takes_it_to_be() -> None:
    table, clock = FaultTable(1, (), random.Random(1)), WallClock()
    jump = SetFault(1, "j", "clock-jump", [], "", {"by_ms": -3_600_000}, 1000)
    table.set(fault_of(jump), 1000, 0.0)
    clock.strike(table.of_clock())
    record = logging.makeLogRecord({"msg": "state_changed", "created": 1_384_000_000.0})
    assert json.loads(JsonLines(2, clock).format(record))["time"] == "2013-11-09T11:26:40.000000Z"


@pytest.mark.slow
async def test_each_leader_tells_once_when_its_first_commit_has_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "esnode")
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        await log.append(event(1))
        old = await cluster.leader()
        await cluster.kill(old)
        await log.append(event(2))
        leader = await cluster.leader()
        new = cluster.running[leader].node.view.soft_state.term
    fields = [record.__dict__ for record in caplog.records]
    led = [f["new_term"] for f in fields if f["msg"] == "state_changed" and f["role"] == "leader"]
    served = [f["new_term"] for f in fields if f["msg"] == "first_commit"]
    assert led[-1] == new
    assert served == sorted(set(served))
    assert set(served) <= set(led)
    assert new in served
    reasons = [(f["role"], f["why"]) for f in fields if f["msg"] == "state_changed" and f["new_term"] == new]
    assert ("candidate", "pre_votes") in reasons
    assert ("leader", "votes") in reasons
    assert "leader_closed" in [f.get("why") for f in fields]
    assert old in [f["peer"] for f in fields if f["msg"] == "peer_closed"]
    votes = [f["vote"] for f in fields if f["msg"] == "vote_cast" and f["new_term"] == new]
    assert len(votes) >= 2
    assert set(votes) == {leader}
