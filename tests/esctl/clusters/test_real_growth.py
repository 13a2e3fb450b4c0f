"""A real cluster whose ring grows and shrinks while it takes events: nothing is lost or stored twice."""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.clusters import state
from esnode.client import connect
from tests.esctl.clusters.test_real_cluster import esctl, nodes_below

pytestmark = pytest.mark.slow

SOURCES = 40
AT_ONCE = 40


@pytest.fixture
def grows(tmp_path: Path) -> Iterator[str]:
    """A running cluster of one partition; gone after the test, with all its processes."""
    home = tmp_path / "data"
    esctl("cluster", "up", "grows", "--data-dir", str(home))
    yield "grows"
    esctl("cluster", "destroy", "grows", "--confirm", "grows")
    assert nodes_below(home) == set()


async def send_meanwhile(name: str, changes: list[str], sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every event twice, without a pause, until the ring was changed so; what `esctl ring` said each time."""
    said: list[dict[str, Any]] = []
    async with connect(state.load(name).addresses, timeout_s=60) as log, trio.open_nursery() as nursery:

        async def send() -> None:
            while True:
                events = [
                    {"id": str(len(sent) + n), "source": f"/airport/{n % SOURCES}", "type": "t"}
                    for n in range(AT_ONCE)
                ]
                await log.append_many(events)  # some are duplicates where a leader went before it could ack
                sent.extend(events)
                assert all(ack.duplicate for ack in await log.append_many(events))

        nursery.start_soon(send)
        for change in changes:
            how, size = change.split()
            changed = await trio.to_thread.run_sync(partial(esctl, "ring", how, "--to", size))
            said.append(changed["data"])
        nursery.cancel_scope.cancel()
    return said


def prove(sent: list[dict[str, Any]], file: Path) -> None:
    """Each event that was sent is in one log, once."""
    file.write_text("".join(json.dumps(one) + "\n" for one in sent), encoding="utf-8")
    proof = esctl("verify", "--input", str(file))["data"]
    assert (proof["ok"], proof["acked_lost"], proof["duplicates"]) == (True, 0, 0)
    assert len(sent) <= proof["events"] <= len(sent) + AT_ONCE


def test_a_cluster_that_takes_events_grows_and_shrinks_and_has_each_of_them_once(
    grows: str, tmp_path: Path
) -> None:
    planned = esctl("ring", "grow", "--to", "2", "--dry-run")["data"]
    assert (planned["restarts"], planned["partitions"]) == ([1, 2, 3], 2)
    assert 0.4 < planned["moving_share"] < 0.6
    assert esctl("status")["data"]["ring"] == {"version": 1, "partitions": 1, "moving": False}
    sent: list[dict[str, Any]] = []
    first, second = trio.run(send_meanwhile, grows, ["grow 2", "grow 3"], sent)
    assert [(one["version"], one["partitions"]) for one in (first, second)] == [(2, 2), (3, 3)]
    assert first["moved_keys"] > 0
    assert esctl("status")["data"]["ring"] == {"version": 3, "partitions": 3, "moving": False}
    prove(sent, tmp_path / "sent.ndjson")
    again = esctl("ring", "grow", "--to", "3")["data"]
    assert (again["version"], again["partitions"]) == (3, 3), "there is nothing left to do"
    assert esctl("ring", "show")["data"]["ring"]["version"] == 3
    refused = esctl("ring", "grow", "--to", "2", code=2)["errors"][0]
    assert refused["next"] == "esctl ring shrink --to 2 --cluster grows"
    before = len(sent)
    (third,) = trio.run(send_meanwhile, grows, ["shrink 2"], sent)
    assert (third["version"], third["partitions"], third["moved_keys"] > 0) == (4, 2, True)
    assert [row["share"] > 0 for row in esctl("ring", "show")["data"]["partitions"]] == [True, True, False]
    prove(sent, tmp_path / "sent.ndjson")
    consumed = subprocess.run(
        [sys.executable, "-m", "esctl.main", "consume"], capture_output=True, timeout=100
    )
    assert consumed.returncode == 0, consumed.stderr
    assert consumed.stdout.count(b"\n") >= len(sent), "the partition that owns nothing is read, too"
    # An event of before the shrink, by its id: its log is another one than that of its source now.
    for one in sent[before - 3 : before]:
        found = esctl("event", "--source", one["source"], "--id", one["id"])["data"]
        assert found["event"] == one
        known = esctl("event", "dedup", "--source", one["source"], "--id", one["id"])["data"]
        assert (known["known"], known["would_store"]) == (True, False)
    trio.run(send_meanwhile, grows, ["grow 3"], sent)
    prove(sent, tmp_path / "sent.ndjson")
    assert esctl("ring", "shrink", "--to", "4", code=2)["errors"][0]["next"].startswith("esctl ring grow")
