"""The process backend, with nodes that are scripts: files and processes, and what it never touches.

What every backend must do is in `test_backends.py`.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.clusters import state
from esctl.clusters.backends import layout, pidfile, process
from esctl.clusters.backends.interface import NodeOptions, NodeProcess
from esctl.clusters.state import write_atomically as write
from esctl.errors import DirectoryTaken, NodeFilesGone, NodeNotReady, NodeNotRunning
from esnode.config import load
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes, plan

PATIENCE_S = 60.0


async def start_all(fakes: FakeNodes) -> None:
    await fakes.backend.start(fakes.cluster, fakes.numbers, PATIENCE_S)


async def test_a_node_is_the_leader_of_its_own_session(fakes: FakeNodes) -> None:
    await start_all(fakes)
    for pid in fakes.pids():
        assert pid is not None
        assert os.getsid(pid) == pid != os.getsid(0)


async def test_a_node_that_ignores_sigterm_is_killed(fakes: FakeNodes) -> None:
    fakes.moods[2] = "stubborn"
    await start_all(fakes)
    assert await fakes.backend.stop(fakes.cluster, [2], 0.2) == [2]
    assert fakes.states() == ["running", "down", "running"]


async def test_a_start_waits_for_a_node_that_was_told_to_end_and_not_waited_for(fakes: FakeNodes) -> None:
    fakes.moods[2] = "slow"
    await start_all(fakes)
    (_, ending, _) = fakes.pids()
    with trio.CancelScope() as ctrl_c:
        ctrl_c.cancel()
        await fakes.backend.stop(fakes.cluster, [2], PATIENCE_S)
    assert fakes.pids()[1] == ending
    (started,) = await fakes.backend.start(fakes.cluster, [2], PATIENCE_S)
    assert started.pid not in (None, ending)
    assert fakes.states() == ["running"] * 3


async def test_a_node_that_was_told_to_end_and_does_not_is_not_said_to_be_started(fakes: FakeNodes) -> None:
    fakes.moods[2] = "stubborn"
    await start_all(fakes)
    with trio.CancelScope() as ctrl_c:
        ctrl_c.cancel()
        await fakes.backend.stop(fakes.cluster, [2], PATIENCE_S)
    with pytest.raises(NodeNotReady, match="was told to end and has not ended within") as told:
        await fakes.backend.start(fakes.cluster, [2], 0.2)
    assert told.value.next_step == "esctl node stop 2 --cluster fake"


def test_a_killed_process_is_dying_until_it_is_gone(tmp_path: Path) -> None:
    """It may still hold its ports: a start that came before it is gone found them in use."""
    with subprocess.Popen(["sleep", "60"]) as child:
        note = pidfile.take_note(tmp_path / "pid", child.pid, "sleep")
        assert not pidfile.is_dying(note)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert pidfile.is_dying(note)
        assert not pidfile.is_dying(dataclasses.replace(note, start_ticks=note.start_ticks + 1))
    assert not pidfile.is_dying(note)


async def test_a_start_waits_for_a_killed_process_that_is_not_gone_yet(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_all(fakes)
    (pid, *_) = fakes.pids()
    assert pid is not None
    waited_for = []
    gone = process._gone

    async def note_and_wait(waited: int) -> int | None:
        waited_for.append(waited)
        return await gone(waited)

    monkeypatch.setattr(process, "_gone", note_and_wait)
    os.kill(pid, signal.SIGKILL)
    await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    await start_all(fakes)
    assert waited_for[0] == pid
    assert fakes.states() == ["running"] * 3


async def test_what_the_operator_says_of_the_data_reaches_the_node(fakes: FakeNodes) -> None:
    await fakes.backend.start(fakes.cluster, [1], PATIENCE_S, ["--rejoin"])
    (pid, *_) = fakes.pids()
    command_line = await trio.Path(f"/proc/{pid}/cmdline").read_bytes()
    assert command_line.split(b"\0")[-2] == b"--rejoin"


async def test_a_node_that_does_not_answer_is_reported_and_left_running(fakes: FakeNodes) -> None:
    fakes.moods[1] = "deaf"
    with pytest.raises(NodeNotReady, match="node 1"):
        await fakes.backend.start(fakes.cluster, [1], 0.5)
    assert fakes.states()[0] == "running"


async def test_a_start_that_is_cut_off_at_once_leaves_no_process_that_a_stop_does_not_find(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[int] = []
    spawn = os.posix_spawn

    def spawn_and_interrupt(*args: Any, **options: Any) -> int:
        spawned.append(spawn(*args, **options))
        trio.from_thread.run_sync(ctrl_c.cancel)
        return spawned[-1]

    monkeypatch.setattr(os, "posix_spawn", spawn_and_interrupt)
    with trio.CancelScope() as ctrl_c:
        await start_all(fakes)
    assert len(spawned) == 3
    await fakes.backend.stop(fakes.cluster, fakes.numbers, 0.0)
    assert [pid for pid in spawned if pidfile.facts_of(pid) is not None] == []


async def test_other_tasks_go_on_while_a_start_looks_at_the_processes(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load of a drill runs in the same event loop: a look that blocks it would count as an outage."""
    other_task_ran = threading.Event()
    nodes = fakes.backend.nodes

    def look(cluster: state.Cluster) -> list[NodeProcess]:
        assert other_task_ran.wait(10)
        return nodes(cluster)

    monkeypatch.setattr(fakes.backend, "nodes", look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_all, fakes)
        await trio.testing.wait_all_tasks_blocked()
        other_task_ran.set()
    assert set(fakes.states()) == {"running"}


def test_a_node_whose_configuration_is_gone_is_told_before_anything_starts(fakes: FakeNodes) -> None:
    fakes.cluster.node(3).config.unlink()
    with pytest.raises(NodeFilesGone, match="was not made to its end") as told:
        trio.run(start_all, fakes)
    assert told.value.next_step.endswith("esctl cluster destroy fake --confirm fake")
    assert fakes.states() == ["down"] * 3


class Killed(BaseException):
    """Stands for kill -9: nothing is cleaned up."""


@pytest.mark.parametrize("writes", range(7))
def test_a_cluster_that_was_killed_while_it_was_made_is_known_and_can_be_destroyed(
    tmp_path: Path, writes: int
) -> None:
    left = writes

    def die(directory: Path) -> None:
        nonlocal left
        if not left:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / ".node-1.toml.4194305").touch()  # it was being written
            raise Killed
        left -= 1
        state.make_directory(directory)

    cluster = plan("half", tmp_path / "half")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "make_directory", die)
        patched.setattr(process, "write_atomically", lambda path, text: (die(path.parent), write(path, text)))
        with pytest.raises(Killed):
            layout.make(cluster, NodeOptions())
    assert state.load("half") == cluster
    assert Run("cluster", "destroy", "half", "--confirm", "half").code == 0
    assert not cluster.data_dir.exists()
    assert state.names() == []


def test_a_place_whose_name_is_no_text_is_refused_in_the_dry_run_and_leaves_nothing(tmp_path: Path) -> None:
    for more in (["--dry-run"], []):
        refused = Run("cluster", "up", "zz", "--data-dir", f"{tmp_path}/d\udcff", *more, "-o", "json")
        assert refused.code == 2
        assert "is not UTF-8" in refused.document["errors"][0]["message"]
        assert state.names() == []
    assert not list(tmp_path.glob("d*"))


def test_a_cluster_that_the_machine_refuses_to_make_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(process, "load", refuse)
    with pytest.raises(OSError, match="Input/output"):
        layout.make(plan("half", tmp_path / "half"), NodeOptions())
    assert state.names() == []
    assert not (tmp_path / "half").exists()


def test_a_place_that_is_promised_to_another_cluster_is_not_free(fakes: FakeNodes, tmp_path: Path) -> None:
    layout.describe(plan("first", tmp_path / "new"), NodeOptions())  # and its files were never made
    with pytest.raises(DirectoryTaken, match="belongs to cluster first"):
        layout.make(plan("second", tmp_path / "new"), NodeOptions())
    assert "second" not in state.names()


def test_a_recycled_pid_is_never_signalled(fakes: FakeNodes) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        path = fakes.cluster.directory / "node-1.pid"
        pidfile.take_note(path, stranger.pid, str(fakes.cluster.nodes[0].config))
        assert fakes.states()[0] == "down"  # its command line is not the node's
        with pytest.raises(NodeNotRunning):
            trio.run(fakes.backend.kill, fakes.cluster, 1)
        note = pidfile.take_note(path, stranger.pid, "input()")
        assert pidfile.live(note) is not None
        for other in ({"start_ticks": note.start_ticks + 1}, {"boot": "another"}):
            recycled = dataclasses.replace(note, **other)
            path.write_text(json.dumps(dataclasses.asdict(recycled)))
            assert not pidfile.send(recycled, signal.SIGKILL)
            assert fakes.states()[0] == "down"
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_the_written_configuration_is_read_back_by_a_node(fakes: FakeNodes) -> None:
    for node in fakes.cluster.nodes:
        config = load(node.config)
        assert config.node_id == node.id
        assert config.cluster == fakes.cluster.identity
        assert str(config.me.client) == node.client
        assert config.data_dir == node.data_dir
    assert fakes.cluster.nodes[0].data_dir.stat().st_mode & 0o777 == 0o700


def test_a_directory_of_other_nodes_is_refused_and_not_changed(fakes: FakeNodes) -> None:
    home = fakes.cluster.data_dir
    before = sorted(home.rglob("*"))
    with pytest.raises(DirectoryTaken, match=f"{home}.* belongs to cluster fake;") as caught:
        fakes.backend.create(plan("second", home), NodeOptions())
    assert caught.value.next_step.startswith(
        "esctl cluster start fake, or: esctl cluster up second --data-dir"
    )
    assert sorted(home.rglob("*")) == before


def test_a_directory_whose_note_is_gone_is_known_by_its_configuration(fakes: FakeNodes) -> None:
    home = fakes.cluster.data_dir
    state.remove(fakes.cluster.name)
    with pytest.raises(DirectoryTaken, match=r"belongs to cluster fake-0a1b2c3d, of which") as caught:
        fakes.backend.create(plan("second", home), NodeOptions())
    assert caught.value.next_step.startswith("esctl cluster up second --data-dir DIR")
    fakes.cluster.nodes[0].config.write_text("not a configuration")
    with pytest.raises(DirectoryTaken, match="exists already; nothing was changed"):
        fakes.backend.create(plan("second", home), NodeOptions())


def test_destroy_deletes_the_nodes_files_and_nothing_else(fakes: FakeNodes) -> None:
    bystander = fakes.cluster.data_dir / "notes.txt"
    bystander.write_text("mine")
    assert fakes.backend.destroy(fakes.cluster) == []
    assert list(fakes.cluster.data_dir.iterdir()) == [bystander]


def test_log_files_and_pid_files_are_private(fakes: FakeNodes) -> None:
    trio.run(start_all, fakes)
    log = fakes.backend.log_path(fakes.cluster, 1)
    assert log.stat().st_mode & 0o077 == 0
    note: Path = fakes.cluster.directory / "node-1.pid"
    assert note.stat().st_mode & 0o077 == 0
