"""A node's data directory: moved aside and never deleted, or changed for another one."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from esctl.clusters import state
from esctl.clusters.backends import datadir
from esctl.clusters.state import Node
from esctl.errors import DirectoryTaken, InvalidArgument, MachineRefused
from esnode import config
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

NOW = datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_old_directory_is_moved_aside_with_all_that_is_in_it(fakes: FakeNodes) -> None:
    node = fakes.cluster.node(2)
    (node.data_dir / "log").write_text("events")
    aside = datadir.renew(node, NOW)
    assert aside == node.data_dir.with_name("node-2.aside-20130102T030405Z")
    assert (aside / "log").read_text() == "events"
    assert list(node.data_dir.iterdir()) == []


def test_a_directory_that_is_gone_with_its_disk_is_made_anew(fakes: FakeNodes) -> None:
    node = fakes.cluster.node(2)
    node.data_dir.rmdir()
    assert datadir.renew(node, NOW) is None
    assert node.data_dir.is_dir()


def test_a_directory_that_cannot_be_moved_is_left_as_it_is(fakes: FakeNodes) -> None:
    node = fakes.cluster.node(2)
    aside = datadir.aside_of(node, NOW)
    aside.mkdir()
    (aside / "in the way").touch()
    with pytest.raises(MachineRefused, match="cannot be moved aside") as caught:
        datadir.renew(node, NOW)
    assert "--data-dir" in caught.value.next_step
    assert node.data_dir.is_dir()


def test_another_directory_is_noted_in_the_configuration_and_the_description(
    fakes: FakeNodes, tmp_path: Path
) -> None:
    where, old = tmp_path / "disk2" / "node-2", fakes.cluster.node(2).data_dir
    datadir.check(fakes.cluster, 2, where)
    assert datadir.move(fakes.cluster, 2, where) == old
    assert state.load("fake").node(2).data_dir == where
    assert config.load(fakes.cluster.node(2).config).data_dir == where
    assert [state.load("fake").node(n) for n in (1, 3)] == [fakes.cluster.node(n) for n in (1, 3)]


def test_a_directory_that_is_somebodys_is_refused(fakes: FakeNodes, tmp_path: Path) -> None:
    with pytest.raises(DirectoryTaken, match="belongs to cluster fake"):
        datadir.check(fakes.cluster, 2, fakes.cluster.node(1).data_dir)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DirectoryTaken, match="not an empty directory"):
        datadir.check(fakes.cluster, 2, tmp_path / "full")
    with pytest.raises(InvalidArgument, match="is not UTF-8"):
        datadir.check(fakes.cluster, 2, tmp_path / "caf\udce9")


def test_destroying_a_cluster_deletes_what_was_put_aside(fakes: FakeNodes) -> None:
    aside = datadir.renew(fakes.cluster.node(2), NOW)
    assert aside is not None
    assert fakes.backend.destroy(fakes.cluster) == []
    assert not aside.exists()


def linked(fakes: FakeNodes, target: Path, number: int = 2) -> Path:
    """The node's directory is on another disk, and a link leads there."""
    node = fakes.cluster.node(number)
    target.parent.mkdir(parents=True)
    node.data_dir.rename(target)
    node.data_dir.symlink_to(target)
    title = {"cluster": fakes.cluster.identity, "node_id": number}
    (target / "identity.json").write_text(json.dumps(title))
    return target


def test_a_directory_behind_a_link_is_renewed_on_its_own_disk(fakes: FakeNodes, tmp_path: Path) -> None:
    node, target = fakes.cluster.node(2), linked(fakes, tmp_path / "disk2" / "n2")
    aside = datadir.renew(node, NOW)
    assert aside == target.with_name("n2.aside-20130102T030405Z")
    assert (aside / "identity.json").exists()
    assert node.data_dir.readlink() == target
    assert list(target.iterdir()) == []
    assert list(datadir.put_aside(node)) == [aside]


def test_a_directory_behind_a_link_is_destroyed_with_what_was_put_aside(
    fakes: FakeNodes, tmp_path: Path
) -> None:
    target = linked(fakes, tmp_path / "disk2" / "n2")
    (target.parent / "n2.aside-20130102T030405Z").mkdir()
    data = Run("cluster", "destroy", "fake", "--confirm", "fake", "-o", "json").data
    assert list(target.parent.iterdir()) == []
    assert not fakes.cluster.data_dir.exists()
    assert data["kept"] == []
    assert str(target.parent / "n2.aside-20130102T030405Z") in data["deleted"]


def test_a_link_that_leads_to_somebody_elses_files_is_left_with_them(
    fakes: FakeNodes, tmp_path: Path
) -> None:
    target = linked(fakes, tmp_path / "home" / "photos")
    (target / "identity.json").write_text('{"cluster": "another", "node_id": 2}')
    data = Run("cluster", "destroy", "fake", "--confirm", "fake", "-o", "json").data
    assert [path.name for path in target.iterdir()] == ["identity.json"]
    assert data["kept"] == [str(fakes.cluster.node(2).data_dir)]


def test_a_directory_that_was_replaced_by_one_elsewhere_goes_with_the_cluster(
    fakes: FakeNodes, tmp_path: Path
) -> None:
    node = fakes.cluster.node(2)
    title = {"cluster": fakes.cluster.identity, "node_id": 2}
    (node.data_dir / "identity.json").write_text(json.dumps(title))
    for where in (tmp_path / "new" / "a", tmp_path / "new" / "b"):
        datadir.move(state.load("fake"), 2, where)
    foreign = tmp_path / "new" / "a" / "not-ours"  # nothing says that this one is the node's
    foreign.touch()
    answer = Run("cluster", "destroy", "fake", "--confirm", "fake", "-o", "json")
    assert not node.data_dir.exists()
    assert not (tmp_path / "new" / "b").exists()
    assert {str(node.data_dir), str(tmp_path / "new" / "b")} <= set(answer.data["deleted"])
    assert answer.data["kept"] == [str(foreign.parent)]
    assert foreign.exists()


def test_what_others_keep_beside_the_data_is_named_and_stays(fakes: FakeNodes) -> None:
    bystander = fakes.cluster.data_dir / "notes.txt"
    bystander.write_text("mine")
    told = Run("cluster", "destroy", "fake", "--confirm", "fake")
    assert str(bystander) in told.out
    assert "with all its data" not in told.out
    assert bystander.read_text() == "mine"
    assert state.names() == []


def test_a_file_system_that_is_new_counts_as_empty(fakes: FakeNodes, tmp_path: Path) -> None:
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    datadir.check(fakes.cluster, 2, tmp_path / "disk")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DirectoryTaken, match="not an empty directory"):
        datadir.check(fakes.cluster, 2, tmp_path / "dangling")


def mounts(directory: Path) -> bool:
    """Mount a small file system there, if this user may."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def mounted(fakes: FakeNodes) -> Iterator[Node]:
    """Node 2, whose data directory is a disk of its own."""
    node = fakes.cluster.node(2)
    if not mounts(node.data_dir):
        pytest.skip("file systems cannot be mounted here")
    yield node
    subprocess.run(["umount", str(node.data_dir)], check=True)


def test_a_mount_point_is_renewed_in_place_and_destroyed_to_the_last_file(
    fakes: FakeNodes, mounted: Node
) -> None:
    (mounted.data_dir / "log").write_text("events")
    (mounted.data_dir / "lost+found").mkdir()
    aside = datadir.renew(mounted, NOW)
    assert aside == mounted.data_dir / "aside-20130102T030405Z"
    assert (aside / "log").read_text() == "events"
    assert {path.name for path in mounted.data_dir.iterdir()} == {aside.name, "lost+found"}
    assert list(datadir.put_aside(mounted)) == [aside]
    answer = Run("cluster", "destroy", "fake", "--confirm", "fake", "-o", "json")
    assert answer.code == 0
    assert answer.data["kept"] == [str(mounted.data_dir)]  # a mount point cannot go: it is empty, and told
    assert [path.name for path in mounted.data_dir.iterdir()] == ["lost+found"]
