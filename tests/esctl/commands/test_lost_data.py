"""Every node's log is gone, however: nobody is told to start or to destroy anything before looking for it."""

import shutil

import pytest

from esctl.clusters.backends import datadir
from esctl.clusters.state import Node
from esnode.storage import rocksdb, segments, sqlite
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FLIGHTS, FakeNodes

OPENED = '{"time": "2013-01-01T00:00:00Z", "level": "info", "event": "storage_opened"}\n'
LOOK = "esctl why --cluster fake"


def run_once(node: Node, log: str = "log.sqlite") -> None:
    """Leave what a node leaves that has run."""
    node.log.write_text(OPENED)
    (node.data_dir / "identity.json").write_text("{}")
    (node.data_dir / log).write_text("events")


def lose(node: Node, what: str) -> None:
    """Take away the directory, what is in it, or only its log."""
    if what == "directory":
        shutil.rmtree(node.data_dir)
    elif what == "contents":
        shutil.rmtree(node.data_dir)
        node.data_dir.mkdir()
    else:
        (node.data_dir / "log.sqlite").unlink()


@pytest.mark.parametrize("what", ["directory", "contents", "log"])
def test_without_the_logs_of_a_majority_every_command_says_to_look_for_them(
    fakes: FakeNodes, what: str
) -> None:
    for node in fakes.cluster.nodes:
        run_once(node)
        lose(node, what)
    why = Run("why", "-o", "json").data["findings"][0]
    assert why["kind"] == "no-quorum"
    assert why["next"] == "esctl backup ls"
    assert "before any node starts" in why["first"]
    assert not any("it goes on as soon as" in line for line in why["evidence"]), "it cannot"
    for words in (("verify",), ("status",), ("produce", str(FLIGHTS))):
        (error,) = Run(*words, "-o", "json").document["errors"]
        assert error["next"].startswith(LOOK), words
    checks = Run("doctor", "-o", "json").data["checks"]
    (told,) = [check for check in checks if check["check"] == "cluster fake"]
    assert told["result"] == "bad"
    assert told["next"].endswith(LOOK)
    assert "destroy" not in told["next"]


@pytest.mark.parametrize("what", ["directory", "contents", "log"])
def test_one_node_without_its_log_fetches_it_from_the_others(fakes: FakeNodes, what: str) -> None:
    for node in fakes.cluster.nodes:
        run_once(node)
    lose(fakes.cluster.node(2), what)
    assert [datadir.has_lost_its_log(node) for node in fakes.cluster.nodes] == [False, True, False]
    problem = Run("why", "-o", "json").data["findings"][0]
    assert problem["next"] == "esctl cluster start fake"
    assert any("it goes on as soon as" in line for line in problem["evidence"])


def test_a_node_that_has_never_run_has_lost_nothing(fakes: FakeNodes) -> None:
    assert not any(datadir.has_lost_its_log(node) for node in fakes.cluster.nodes)


@pytest.mark.parametrize("log", ["log.sqlite", "segments", "rocksdb"])
def test_the_log_of_every_engine_is_known(fakes: FakeNodes, log: str) -> None:
    node = fakes.cluster.node(1)
    run_once(node, log)
    assert not datadir.has_lost_its_log(node)
    assert {*datadir.LOGS} == {sqlite.DATABASE, segments.FOLDER, rocksdb.DATABASE}
