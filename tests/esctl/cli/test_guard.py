"""The guards: what the quorum would be, who is asked, and who is refused."""

import io
from pathlib import Path

import pytest

from esctl.cli import guard
from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.state import Cluster
from esctl.errors import NotConfirmed
from esctl.ui.answer import Answer
from esctl.ui.terminal import Output, Terminal
from tests.esctl.conftest import plan


class Person(Terminal):
    """A terminal with somebody at it who gives one reply."""

    def __init__(self, reply: str) -> None:
        super().__init__(Output.TABLE, stdout=io.StringIO(), stderr=io.StringIO())
        self.reply, self.asked = reply, ""

    @property
    def interactive(self) -> bool:
        return True

    def ask(self, question: str) -> str:
        self.asked = question
        return self.reply


NOBODY = Terminal(Output.PLAIN, ask=False, stdout=io.StringIO(), stderr=io.StringIO())


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return plan("prod", tmp_path / "data")


def processes(cluster: Cluster, *states: RunState) -> list[NodeProcess]:
    return [NodeProcess(node, s, 1, 1, 1.0) for node, s in zip(cluster.nodes, states, strict=True)]


@pytest.mark.parametrize(
    ("states", "without", "with_", "after", "lost"),
    [
        ("RRR", [1], [], 2, False),
        ("RRD", [1], [], 1, True),
        ("RRD", [3], [], 2, False),
        ("RPR", [1], [], 1, True),
        ("RDD", [1], [], 0, False),
        ("RDD", [], [2], 2, False),
        ("RRR", [1, 2, 3], [], 0, True),
    ],
)
def test_the_quorum_afterwards_is_counted_from_running_nodes(
    cluster: Cluster, states: str, without: list[int], with_: list[int], after: int, lost: bool
) -> None:
    letters = {"R": RunState.RUNNING, "P": RunState.PAUSED, "D": RunState.DOWN}
    found = processes(cluster, *(letters[letter] for letter in states))
    change = guard.quorum_change(cluster, found, without=without, with_=with_)
    assert (change.running_after, change.lost, change.total) == (after, lost, 3)
    assert change.as_data()["kept"] is (after >= 2)
    assert f"{after} of 3" in change.text


def test_a_moderate_danger_wants_a_yes_and_nobody_there_is_none() -> None:
    def try_it(terminal: Terminal, *, yes: bool = False) -> None:
        guard.moderate(terminal, "kill node 1.", yes=yes, typed="esctl node kill 1")

    agreeing = Person("y")
    try_it(agreeing)
    assert "kill node 1" in agreeing.asked
    for terminal in (Person(""), Person("no"), NOBODY):
        with pytest.raises(NotConfirmed) as refused:
            try_it(terminal)
        assert refused.value.next_step == "esctl node kill 1 --yes"
        assert Answer.of_error(refused.value).exit_code == 13
    for terminal in (Person("n"), NOBODY):
        try_it(terminal, yes=True)


def test_a_severe_danger_wants_the_name_from_everybody(cluster: Cluster) -> None:
    def try_it(terminal: Terminal, confirm: str | None) -> None:
        guard.severe(terminal, cluster, "all would be lost", confirm=confirm, words="cluster destroy")

    try_it(NOBODY, "prod")
    try_it(Person("prod"), None)
    for terminal, confirm in ((NOBODY, None), (NOBODY, "test"), (Person("y"), None)):
        with pytest.raises(NotConfirmed) as refused:
            try_it(terminal, confirm)
        assert refused.value.next_step == "esctl cluster destroy prod --confirm prod"
        assert Answer.of_error(refused.value).exit_code == 13
