"""Backups of real nodes under load: restored, compared, and what is left when two of three nodes are gone."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FLIGHTS, FLIGHTS_COUNT, RealCluster

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def at_home(real_cluster: RealCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are run in this process: a new one for each takes longer than what it does."""
    monkeypatch.setenv("XDG_STATE_HOME", str(real_cluster.home))


def data(*words: str) -> dict[str, Any]:
    return Run(*words, "-o", "json").data


def refusal(*words: str) -> str:
    """The code of the error of a command that a guard has refused."""
    run = Run(*words, "-o", "json")
    assert run.code == 13, run.out
    return str(run.document["errors"][0]["code"])


@contextmanager
def load(cluster: RealCluster) -> Iterator[None]:
    """Events come in as long as the block takes."""
    words = ["bench", "produce", "--rate", "1000", "--duration", "100s", "-c", "drill"]
    process = subprocess.Popen(
        [sys.executable, "-m", "esctl.main", *words],
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert process.poll() is None, "the load ended before what it was for"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextmanager
def restored(file: Path, name: str) -> Iterator[dict[str, Any]]:
    try:
        yield data("backup", "restore", str(file), "--name", name, "--storage", "segments")
    finally:
        Run("cluster", "destroy", name, "--confirm", name)


def known_again(name: str) -> int:
    """How many of the flights are duplicates when all are sent again."""
    return int(data("produce", str(FLIGHTS), "-c", name)["duplicates"])


def test_a_drill_under_load_finds_the_same_events_in_both_clusters(real_cluster: RealCluster) -> None:
    with load(real_cluster):
        done = data("backup", "drill", "-c", "drill")
    assert done["verdict"] == "passed"
    assert done["events"] >= FLIGHTS_COUNT
    assert len({copy["hash"] for copy in done["copies"]}) == 1
    assert len(done["copies"]) == 6
    assert done["known_again"] == done["sent_again"] > 0
    assert done["left_behind"] == []
    assert [each["name"] for each in data("cluster", "ls")["clusters"]] == ["drill"]


def test_the_log_is_cut_down_to_what_followers_and_the_last_backup_have(tmp_path: Path) -> None:
    assert refusal("compact", "--before", "1000", "-c", "drill") == "ES4405"
    made = data("backup", "create", "--save", str(tmp_path), "-c", "drill")
    tried = data("compact", "--before", "1000", "--dry-run", "-c", "drill")
    assert (tried["refused"], tried["events"]) == (False, 1000)
    firsts = {
        node["first_offset"] for node in data("compact", "--before", "1000", "--yes", "-c", "drill")["nodes"]
    }
    assert len(firsts) == 1
    assert 0 < firsts.pop() <= 1000
    one = tmp_path / "one.ndjson"
    one.write_text(json.dumps({"id": "n", "source": "/s", "type": "t"}))
    data("produce", str(one), "-c", "drill")
    end = made["next_offset"] + 1
    assert refusal("compact", "--before", str(end), "-c", "drill") == "ES4405"
    data("compact", "--before", "2000", "--confirm", "drill", "-c", "drill")
    kept = data("snapshot", "create", "-c", "drill")["nodes"]
    assert all(node["kept"] and node["entries_to_replay"] == 0 for node in kept)


@pytest.mark.timeout(300)  # three starts of three nodes
def test_a_restored_cluster_outlives_the_loss_of_two_of_its_nodes(tmp_path: Path) -> None:
    """What was cut stays known, too, through the restore and the recovery from the one survivor."""
    made = data("backup", "create", "--save", str(tmp_path / "b"), "-c", "drill")
    with restored(tmp_path / "b", "again") as first:
        assert (first["epoch"], first["next_offset"]) == (2, made["next_offset"])
        survivor = first["leader"] % 3 + 1  # a follower
        others = [number for number in (1, 2, 3) if number != survivor]
        recover = ["cluster", "recover", "again", "--from-node", str(survivor), "--confirm", "again"]
        assert refusal(*recover) == "ES4403"
        for number in others:
            data("node", "kill", str(number), "-c", "again", "--yes")
        assert refusal(*recover) == "ES4403"  # they were only down, and run again now
        for number in others:
            data("node", "kill", str(number), "-c", "again", "--yes")
            shutil.rmtree(Path(first["data_dir"]) / f"node-{number}")
        done = data(*recover)
        assert (done["epoch"], done["from_node"], done["tried"]) == (3, survivor, {})
        assert done["next_offset"] == made["next_offset"]
        assert known_again("again") == FLIGHTS_COUNT
        proof = data("verify", "-c", "again")
        assert (proof["hashes_equal"], proof["duplicates"]) == (True, 0)
        exported = data("export", "--save", str(tmp_path / "e.db"), "-c", "again")
        assert exported["events"] == made["next_offset"] - proof["nodes"][0]["first_offset"]
