"""Which process is a node's: the one with the lock, or with the command line, and nobody else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from esctl.clusters.backends import nodeprocess, pidfile
from tests.esctl.conftest import FAKE_NODE, FakeNodes

PATIENCE_S = 60.0


@contextmanager
def by_hand(directory: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that somebody has started with such a command line, and that says when it is there."""
    program = "import sys; print('there', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=directory, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.communicate()


def test_a_node_that_was_started_by_hand_is_found_by_its_lock(fakes: FakeNodes, tmp_path: Path) -> None:
    node = fakes.cluster.node(1)
    copy = tmp_path / "by-hand.toml"
    copy.write_bytes(node.config.read_bytes())
    command = [sys.executable, str(FAKE_NODE), "esnode", "--config", str(copy), "well"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "node_started" in process.stdout.readline()
        found = nodeprocess.holder_of(node)
        assert found is not None
        assert found.pid == process.pid
        assert fakes.states() == ["running", "down", "down"]
        assert nodeprocess.send(found, signal.SIGTERM)
        process.communicate()
    assert fakes.states() == ["down"] * 3


@pytest.mark.parametrize("form", ["--config={}", "--config {}", "relative"])
def test_a_node_that_has_no_lock_yet_is_found_by_its_command_line(fakes: FakeNodes, form: str) -> None:
    node = fakes.cluster.node(2)
    words = ["--config", node.config.name] if form == "relative" else form.format(node.config).split(" ")
    with by_hand(node.config.parent, "esnode", *words) as process:
        assert {number: one.pid for number, one in nodeprocess.holders(fakes.cluster.nodes).items()} == {
            2: process.pid
        }


def test_a_process_that_only_speaks_of_a_node_is_none(fakes: FakeNodes) -> None:
    node = fakes.cluster.node(2)
    (node.data_dir / "lock").write_text(str(os.getpid()))  # a number that is somebody else's by now
    for words in (["tail", "-f", str(node.log)], ["edit", "--config", str(node.config)], [str(node.config)]):
        with by_hand(node.config.parent, *words):
            assert nodeprocess.holders(fakes.cluster.nodes) == {}


def test_a_lock_that_names_a_node_of_another_directory_is_not_believed(fakes: FakeNodes) -> None:
    trio.run(fakes.backend.start, fakes.cluster, [1], PATIENCE_S)
    (pid, *_) = fakes.pids()
    (fakes.cluster.node(2).data_dir / "lock").write_text(str(pid))
    assert fakes.states() == ["running", "down", "down"]


def test_a_process_is_waited_for_while_it_has_no_command_line_yet(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lets the parent go on before the child has its words: a stop at that moment missed it."""
    node, real, looks = fakes.cluster.node(3), pidfile.words_of, 0
    with by_hand(node.config.parent, "esnode", "--config", str(node.config)) as process:

        def not_yet(pid: int) -> list[str]:
            nonlocal looks
            if pid == process.pid and (looks := looks + 1) < 5:
                return []
            return real(pid)

        monkeypatch.setattr(pidfile, "words_of", not_yet)
        found = nodeprocess.holder_of(node)
        assert found is not None
        assert found.pid == process.pid


def test_a_process_that_is_another_one_by_now_gets_no_signal() -> None:
    facts = pidfile.facts_of(os.getpid())
    assert facts is not None
    recycled = nodeprocess.Holder(os.getpid(), pidfile.ProcessFacts(facts.state, facts.start_ticks + 1))
    assert not nodeprocess.send(recycled, signal.SIGKILL)
