"""A node's data directory: moved aside and never deleted, or changed for another one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from esctl import state
from esctl.backends import datadir
from esctl.errors import DirectoryTaken, MachineRefused
from esnode import config

from .conftest import FakeNodes

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


def test_destroying_a_cluster_deletes_what_was_put_aside(fakes: FakeNodes) -> None:
    aside = datadir.renew(fakes.cluster.node(2), NOW)
    assert aside is not None
    assert fakes.backend.destroy(fakes.cluster) == []
    assert not aside.exists()
