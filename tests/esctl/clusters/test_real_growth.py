"""A real cluster that is given partitions while it takes events: nothing is lost, nothing is stored twice."""

import json
from collections.abc import Iterator
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


async def send_while_growing(name: str, sizes: list[int], sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every event twice, without a pause, until the ring has had all these sizes; what `ring grow` said."""
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
        for size in sizes:
            grown = await trio.to_thread.run_sync(lambda n=size: esctl("ring", "grow", "--to", str(n)))  # type: ignore[misc]
            said.append(grown["data"])
        nursery.cancel_scope.cancel()
    return said


def test_a_cluster_that_takes_events_grows_twice_and_has_each_of_them_once(
    grows: str, tmp_path: Path
) -> None:
    planned = esctl("ring", "grow", "--to", "2", "--dry-run")["data"]
    assert (planned["restarts"], planned["partitions"]) == ([1, 2, 3], 2)
    assert 0.4 < planned["moving_share"] < 0.6
    assert esctl("status")["data"]["ring"] == {"version": 1, "partitions": 1, "moving": False}
    sent: list[dict[str, Any]] = []
    first, second = trio.run(send_while_growing, grows, [2, 3], sent)
    assert [(one["version"], one["partitions"]) for one in (first, second)] == [(2, 2), (3, 3)]
    assert first["moved_keys"] > 0
    assert esctl("status")["data"]["ring"] == {"version": 3, "partitions": 3, "moving": False}
    file = tmp_path / "sent.ndjson"
    file.write_text("".join(json.dumps(one) + "\n" for one in sent), encoding="utf-8")
    proof = esctl("verify", "--input", str(file))["data"]
    assert (proof["ok"], proof["acked_lost"], proof["duplicates"]) == (True, 0, 0)
    assert len(sent) <= proof["events"] <= len(sent) + AT_ONCE
    again = esctl("ring", "grow", "--to", "3")["data"]
    assert (again["version"], again["partitions"]) == (3, 3), "there is nothing left to do"
    assert esctl("ring", "show")["data"]["ring"]["version"] == 3
    assert esctl("ring", "grow", "--to", "2", code=2)["errors"][0]["code"]
