"""Every measurement once on a real cluster, for a moment each: that they measure, not what."""

from typing import Any

import pytest

from esctl.exits import Exit
from tests.esctl.conftest import FLIGHTS_COUNT, RealCluster

pytestmark = pytest.mark.slow


REACHED_OR_NOT = (Exit.OK, Exit.INCONCLUSIVE)
"""A machine that is too busy for the rate makes a load inconclusive."""


def figures_of(data: dict[str, Any], kind: str) -> dict[str, Any]:
    assert data["kind"] == kind
    assert data["cluster"]["nodes"] == 3
    found = data["figures"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("session", [[], ["--session"]])
def test_produce_tells_what_an_event_costs_every_node(real_cluster: RealCluster, session: list[str]) -> None:
    words = ["bench", "produce", "--duration", "1s", "--warmup", "0.5", "--rate", "2000", *session]
    data = real_cluster.data(*words, code=REACHED_OR_NOT)
    found = figures_of(data, "produce")
    assert (found["failed"], found["unknown"]) == (0, 0)
    for role in ("leader", "follower", "client"):
        assert found[f"{role}_cpu_us_per_event"] > 0
    assert found["leader_rss_bytes"] > 1_000_000
    assert data["settings"]["producer_session"] is bool(session)


def test_consume_reads_all_that_there_is_from_the_leader_and_from_another_node(
    real_cluster: RealCluster,
) -> None:
    leader = real_cluster.data("leader", "show")["leader"]
    found = figures_of(real_cluster.data("bench", "consume", "--decode"), "consume")
    assert found["events"] >= FLIGHTS_COUNT
    assert found["node_cpu_us_per_event"] > 0
    follower = real_cluster.data("bench", "consume", "--node", str(leader % 3 + 1), "--max", "1000")
    assert follower["settings"]["from"] == "follower"
    assert figures_of(follower, "consume")["events"] == 1000


def test_every_event_reaches_a_subscriber_on_a_follower(real_cluster: RealCluster) -> None:
    follower = real_cluster.data("leader", "show")["leader"] % 3 + 1
    words = ["bench", "e2e", "--rate", "500", "--duration", "1s", "--warmup", "0.5", "--node", str(follower)]
    data = real_cluster.data(*words, code=REACHED_OR_NOT)
    found = figures_of(data, "e2e")
    assert (found["undelivered"], found["failed"], found["unknown"]) == (0, 0, 0)
    assert data["settings"]["from"] == "follower"
    assert 0 < found["p50_ms"] <= found["max_ms"]
    assert 0 < found["ack_p50_ms"] <= found["ack_max_ms"]


def test_a_sweep_of_one_low_rate_finds_that_it_holds(real_cluster: RealCluster) -> None:
    words = ["bench", "sweep", "--rates", "100", "--p99", "60000", "--duration", "1s", "--warmup", "0.2"]
    data = real_cluster.data(*words)
    assert [step["rate"] for step in data["detail"]["steps"]] == [100]
    assert len(data["series"]["p99_ms"]) == 1


def test_a_soak_looks_at_memory_and_disk_each_interval(real_cluster: RealCluster) -> None:
    words = ["bench", "soak", "--minutes", "0.04", "--interval", "1", "--rate", "200", "--warmup", "0.2"]
    data = real_cluster.data(*words, code=12)  # too short to judge anything by
    assert figures_of(data, "soak")["acked"] > 0
    for interval in data["detail"]["intervals"]:
        assert all(rss > 1_000_000 for rss in interval["rss_bytes"].values())
        assert interval["log_bytes"] > 0
        assert interval["live_keys"] >= FLIGHTS_COUNT
