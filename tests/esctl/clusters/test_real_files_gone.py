"""Directories removed under running nodes: each node ends, and every command that is asked says why."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.esctl.conftest import FLIGHTS, RealCluster

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0


@pytest.fixture(params=["sqlite", "segments", "rocksdb"])
def emptied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCluster]:
    """Three nodes with events, whose directories were removed."""
    cluster = RealCluster(tmp_path)
    try:
        up = cluster.data("cluster", "up", "emptied", "--storage", request.param)
        cluster.data("produce", str(FLIGHTS))
        for node in up["nodes"]:
            shutil.rmtree(node["data_dir"])
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "emptied", "--confirm", "emptied")


def test_nodes_end_when_their_directories_are_removed_and_a_start_says_what_is_lost(
    emptied: RealCluster,
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(node["state"] != "down" for node in emptied.data("node", "ls")["nodes"]):
        assert time.monotonic() < deadline
    health = emptied.run("status", "health")
    assert health.stdout.count("ES3132") == 3, health.stdout
    assert emptied.run("why").stdout.count("its files were removed or replaced while it ran") == 3
    started = emptied.run("cluster", "start")
    assert started.returncode == 0
    assert "the log is shorter than it was" in started.stderr
    assert "acked events are gone" in emptied.run("status", "health").stdout
    assert "log-shortened" in emptied.run("why", "-o", "json").stdout
