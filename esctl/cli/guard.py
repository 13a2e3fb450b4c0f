"""Guards against harm: shows what the quorum would be, and asks for confirmation.

Three tiers: mild asks nothing; moderate asks, unless --yes; severe always needs the cluster's name, typed or
as --confirm NAME. If nobody can answer, the answer is no. Called by the commands that take something
away.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.state import Cluster
from esctl.errors import NotConfirmed, TooFewNodes
from esctl.ui.terminal import Terminal
from esctl.ui.values import Count


class QuorumChangeData(TypedDict):
    """How many nodes run, before and after, and how many a majority needs."""

    needed: Count
    running_before: Count
    running_after: Count
    kept: bool


@dataclass(frozen=True, slots=True)
class QuorumChange:
    """How many nodes run, before and after, and how many a majority needs."""

    needed: int
    running_before: int
    running_after: int
    uncounted: bool = False
    """Are there nodes that run and do not count: unheard by the leader, far behind, or rejoining?"""

    @property
    def lost(self) -> bool:
        """Would this change end the majority?"""
        return self.running_after < self.needed <= self.running_before

    @property
    def text(self) -> str:
        """For people."""
        verdict = "a quorum" if self.running_after >= self.needed else "no quorum: nothing is acked"
        how = "running and following the leader" if self.uncounted else "running"
        return f"{self.running_after} of {self.total} nodes {how}, {self.needed} needed: {verdict}"

    @property
    def total(self) -> int:
        """How many nodes are configured; a majority of n is n // 2 + 1, and n is odd."""
        return 2 * self.needed - 1

    def as_data(self) -> QuorumChangeData:
        """For the JSON answer."""
        return {
            "needed": self.needed,
            "running_before": self.running_before,
            "running_after": self.running_after,
            "kept": self.running_after >= self.needed,
        }


def quorum_change(
    cluster: Cluster,
    nodes: Sequence[NodeProcess],
    *,
    without: Collection[int] = (),
    with_: Collection[int] = (),
    uncounted: Collection[int] = (),
) -> QuorumChange:
    """What becomes of the quorum when some nodes stop (`without`) or run again (`with_`).

    `uncounted` run and make no majority all the same: `Survey.uncounted` tells them.
    """
    before = {process.node.id for process in nodes if process.state is RunState.RUNNING} - set(uncounted)
    after = (before | set(with_)) - set(without)
    return QuorumChange(cluster.quorum, len(before), len(after), bool(set(uncounted) - set(without)))


def can_spare_one(
    cluster: Cluster, nodes: Sequence[NodeProcess], what: str, uncounted: Collection[int] = ()
) -> QuorumChange:
    """What becomes of the quorum while one node is struck, whichever it is.

    Raises `TooFewNodes` unless all nodes run and follow the leader closely, and the others make a majority.
    `what` is to be done.
    """
    out = [process for process in nodes if process.state is not RunState.RUNNING]
    if out:
        raise TooFewNodes(
            f"{what} wants all nodes of {cluster.name} running, and node {out[0].node.id} is {out[0].state};"
            " nothing was done",
            next_step=f"esctl status --cluster {cluster.name}",
        )
    if uncounted:
        raise TooFewNodes(
            f"{what} wants all nodes of {cluster.name} to follow the leader closely, and node"
            f" {min(uncounted)} does not; nothing was done",
            next_step=f"esctl why --cluster {cluster.name}",
        )
    change = quorum_change(cluster, nodes, without=[nodes[0].node.id])
    if change.running_after < change.needed:
        raise TooFewNodes(
            f"{what} wants 3 nodes at least, and {cluster.name} has {len(nodes)}; nothing was done",
            next_step="esctl cluster up NAME --nodes 3",
        )
    return change


def moderate(terminal: Terminal, question: str, *, yes: bool, typed: str) -> None:
    """Ask a person; raises `NotConfirmed` unless the answer is yes, also where nobody is there to answer.

    `typed` is the command, without --yes.
    """
    if yes:
        return
    again = f"{typed} --yes"
    if not terminal.interactive:
        raise NotConfirmed(
            f"this asks first, and nobody is there to answer: {question} Nothing was done", next_step=again
        )
    if terminal.ask(f"{question} Go on? [y/N]").lower() not in ("y", "yes"):
        raise NotConfirmed("not confirmed; nothing was done", next_step=again)


def severe(
    terminal: Terminal, cluster: Cluster, consequence: str, *, confirm: str | None, words: str
) -> None:
    """Want the cluster's name; raises `NotConfirmed`. `words` is the command that would be confirmed."""
    by_name(terminal, cluster.name, consequence, confirm=confirm, words=words)


def by_name(terminal: Terminal, name: str, consequence: str, *, confirm: str | None, words: str) -> None:
    """The same for a cluster of which no more than its name is known."""
    if confirm is None and terminal.interactive:
        terminal.warn(consequence)
        confirm = terminal.ask(f"Type {name} to confirm:")
    if confirm == name:
        return
    reason = "was not confirmed" if not confirm else f"was confirmed for {confirm!r}, not for {name!r}"
    raise NotConfirmed(
        f"{words} {name} {reason}; {consequence}; nothing was done",
        next_step=f"esctl {words} {name} --confirm {name}",
    )
