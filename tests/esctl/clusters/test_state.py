"""Where clusters are kept: names, defaults, damage, and two people at once."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from esctl.clusters import state
from esctl.clusters.backends import pidfile
from esctl.errors import (
    ClusterExists,
    ClusterNotFound,
    InvalidName,
    MachineRefused,
    NoCluster,
    NodeNotFound,
    SeveralClusters,
    StateUnreadable,
)
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes, plan


def test_a_cluster_is_read_back_as_it_was_added(tmp_path: Path) -> None:
    cluster = plan("one", tmp_path / "data")
    state.add(cluster)
    assert state.load("one") == cluster
    assert state.names() == ["one"]
    assert cluster.directory.stat().st_mode & 0o777 == 0o700
    assert (cluster.directory / "cluster.json").stat().st_mode & 0o777 == 0o600


def test_the_only_cluster_there_is_is_the_default(tmp_path: Path) -> None:
    with pytest.raises(NoCluster):
        state.resolve(None)
    state.add(plan("one", tmp_path / "one"))
    assert state.resolve(None).name == "one"
    state.add(plan("two", tmp_path / "two"))
    assert state.resolve("two").name == "two"
    with pytest.raises(SeveralClusters, match="one, two"):
        state.resolve(None)


def test_a_second_cluster_of_the_same_name_is_refused(tmp_path: Path) -> None:
    state.add(plan("one", tmp_path / "one"))
    before = state.load("one")
    with pytest.raises(ClusterExists) as refused:
        state.add(plan("one", tmp_path / "other"))
    assert "esctl cluster start one" in refused.value.next_step
    assert state.load("one") == before


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", "x" * 41, "ä", "a\n"])
def test_a_name_that_is_no_directory_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        state.check_name(name)


def test_an_unknown_cluster_is_told_with_the_known_ones(tmp_path: Path) -> None:
    state.add(plan("one", tmp_path / "one"))
    with pytest.raises(ClusterNotFound, match="there are: one"):
        state.load("two")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (b"", "it is not JSON: line 1, column 1"),
        (b"{", "it is not JSON: line 1, column 2"),
        (b"\xff", "it is not text in UTF-8"),
        (b"[]", "a value in it is not what belongs there"),
        (b"{}", "it does not say 'schema'"),
        (b'{"schema": "esctl-cluster/v2"}', "it is of format 2"),
        (b'{"schema": "esctl-cluster/v1", "name": "one"}', "it does not say "),
    ],
)
def test_a_damaged_description_is_an_error_that_names_the_file_and_what_is_wrong(
    tmp_path: Path, damage: bytes, said: str
) -> None:
    cluster = plan("one", tmp_path / "one")
    state.add(cluster)
    path = cluster.directory / "cluster.json"
    path.write_bytes(damage)
    with pytest.raises(StateUnreadable) as caught:
        state.load("one")
    assert str(path) in str(caught.value)
    assert said in str(caught.value).replace(f"{path} is", "it is")
    assert "Error" not in str(caught.value)


def test_a_node_is_found_by_number_only(tmp_path: Path) -> None:
    cluster = plan("one", tmp_path / "one")
    assert cluster.node(2).id == 2
    assert cluster.quorum == 2
    with pytest.raises(NodeNotFound, match="1, 2, 3"):
        cluster.node(4)


def test_a_relative_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state.clusters_root() == Path.home() / ".local" / "state" / "esctl" / "clusters"


def test_an_atomic_write_leaves_the_old_text_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    state.write_atomically(path, "old")

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def refuse_all(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MachineRefused, match="No space left"):
        state.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.glob(".file*")) == []
    with monkeypatch.context() as also:
        also.setattr(Path, "unlink", refuse_all)
        with pytest.raises(MachineRefused, match="No space left"):
            state.write_atomically(path, "new")
    (tmp_path / f".file.{os.getpid()}").unlink()
    with pytest.raises(UnicodeEncodeError):
        state.write_atomically(path, "caf\udce9")
    assert path.read_text() == "old"
    assert list(tmp_path.glob(".file*")) == []


def test_one_command_at_a_time_changes_a_cluster(tmp_path: Path) -> None:
    state.add(plan("one", tmp_path / "one"))
    told, order = threading.Event(), []

    def second() -> None:
        with state.locked("one", lambda _text: told.set()):
            order.append("second")

    with state.locked("one", lambda _text: None):
        other = threading.Thread(target=second)
        other.start()
        assert told.wait(60)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    "damage", ["", "{", "[" * 100_000, "nul", '{"schema": "esctl-cluster/v1", "nodes": 7}']
)
def test_one_broken_description_is_in_no_other_clusters_way(
    fakes: FakeNodes, tmp_path: Path, damage: str
) -> None:
    broken = state.clusters_root() / "broken"
    broken.mkdir(parents=True)
    (broken / "cluster.json").write_text(damage)
    (state.clusters_root() / ".trash").mkdir()
    (state.clusters_root() / ".trash" / "cluster.json").touch()
    assert [cluster.name for cluster in state.readable()] == ["fake"]
    assert len(fakes.backend.addresses(3)) == 3
    assert state.owner_of(fakes.cluster.node(1).data_dir) == "fake"
    assert Run("cluster", "up", "another", "--data-dir", str(tmp_path / "a"), "--dry-run").code == 0
    assert Run("node", "ls", "-c", "fake").code == 0
    refused = Run("cluster", "destroy", "broken", "-o", "json")
    assert refused.code == 13
    assert refused.document["errors"][0]["next"] == "esctl cluster destroy broken --confirm broken"
    assert broken.exists()
    gone = Run("cluster", "destroy", "broken", "--confirm", "broken", "-o", "json")
    assert gone.code == 0
    assert gone.data["deleted"] == [str(broken)]
    assert not broken.exists()
    assert fakes.cluster.directory.exists()


def test_a_description_that_is_a_directory_keeps_no_cluster_for_ever(state_home: Path) -> None:
    broken = state.clusters_root() / "broken"
    (broken / "cluster.json").mkdir(parents=True)
    (broken / "cluster.json" / "left").touch()
    refused = Run("cluster", "destroy", "broken", "-o", "json")
    assert refused.document["errors"][0]["next"] == "esctl cluster destroy broken --confirm broken"
    gone = Run("cluster", "destroy", "broken", "--confirm", "broken", "-o", "json")
    assert (gone.code, gone.document["errors"]) == (0, [])
    assert not broken.exists()


@pytest.mark.parametrize("where", ["beside", "through a link", "elsewhere"])
def test_a_cluster_whose_description_is_broken_is_not_deleted_under_its_nodes(
    state_home: Path, tmp_path: Path, where: str
) -> None:
    if where == "through a link":
        (tmp_path / "disk").mkdir()
        state_home.symlink_to(tmp_path / "disk")
    home = state.clusters_root() / "torn" / state.HOME
    (home / "node-1").mkdir(parents=True)
    (home.parent / "cluster.json").touch()
    config = {
        "beside": home / "node-1.toml",
        "through a link": home.resolve() / "node-1.toml",
        "elsewhere": tmp_path / "elsewhere" / "node-1.toml",  # only its note tells
    }[where]
    program = "import sys; print('there', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", program, "esnode", "--config", str(config)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "there\n"
        note = home.parent / "node-1.pid"
        if where == "elsewhere":
            pidfile.take_note(note, node.pid, str(config))
        refused = Run("cluster", "destroy", "torn", "--confirm", "torn", "-o", "json")
        assert refused.code == 14
        assert refused.document["errors"][0]["next"].startswith(f"kill {node.pid};")
        assert home.is_dir()
        assert note.exists() is (where == "elsewhere")
        node.communicate()
    gone = Run("cluster", "destroy", "torn", "--confirm", "torn", "-o", "table")
    assert gone.code == 0
    assert "all its data" not in gone.out + gone.err, "where else it kept data is not known"
    assert not home.exists()
