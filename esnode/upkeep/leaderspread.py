"""Keeps the leaders of several partitions spread over the nodes: each process does so for its own partition.

Tells the core to hand over when `placement.py` says so, and the log and the status why a leader is elsewhere.
Not there with one partition; with `leaders = "free"` it does nothing. A task of `node.py`: a leader in its
place, and a follower, only wait for the next change.
"""

import logging
from typing import Any, Protocol, Self

import trio

from esnode import limits
from esnode.coalescing import next_of
from esnode.config import Config
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.core import Core
from esnode.raft.messages import NodeId, Transfer
from esnode.raft.progress import ProgressState
from esnode.upkeep.placement import Peer, Placement, Verdict, Why

log = logging.getLogger(__name__)


class Lives(Protocol):
    """The connections with the peers; `replication.py` has them."""

    def life_of(self, peer: NodeId) -> int | None:
        """The incarnation of the peer's process; None unless connections in both directions are open."""
        ...


class LeaderSpread:
    """One partition of one node."""

    def __init__(self, config: Config, core: Core, view: View, inbox: Inbox, lives: Lives) -> None:
        self._core = core
        self._view = view
        self._inbox = inbox
        self._lives = lives
        self._election_ms = config.raft.election_ms
        self._placement = Placement(config.node_id, config.partition, config.partitions, core.voters)
        self._is_free = config.leaders == "free"
        self._asked: NodeId | None = None
        """Whom the log has told of, and not yet how that went."""
        self._verdict = Verdict(Why.FOLLOWS, self._placement.preferred)

    @classmethod
    def of(cls, config: Config, core: Core, view: View, inbox: Inbox, lives: Lives) -> Self | None:
        """None with one partition: any node may lead it."""
        return cls(config, core, view, inbox, lives) if config.partitions > 1 else None

    async def run(self) -> None:
        """Look, for ever: at each change of the leader, and often while another node is to lead."""
        while not self._is_free:
            verdict = self.look()
            is_at_home = verdict.why is Why.PLACED and verdict.to == self._placement.preferred
            with trio.CancelScope() as waiting:
                if verdict.why is not Why.FOLLOWS and not is_at_home:
                    waiting.deadline = next_of(limits.LEADER_LOOK_S)
                await self._view.wait_changed()

    def look(self) -> Verdict:
        """See how things are now, and hand over if it is time to."""
        now, state = trio.current_time(), self._view.soft_state
        peers = {peer: self._peer(peer) for peer in self._core.peers}
        self._verdict = verdict = self._placement.look(
            now, state.leader, state.term, peers, self._core.appointment
        )
        self._tell_end(verdict)
        if verdict.why is Why.NOW:
            self._placement.hands_over(now, verdict.to)
            self._asked = verdict.to
            log.info("transfer_asked", extra={"to": verdict.to, "why": "preferred_leader"})
            self._inbox.put(Transfer(verdict.to))
        return verdict

    def picture(self) -> dict[str, Any]:
        """For the status: who is to lead, and why it does not."""
        verdict = self._verdict
        return {
            "preferred": self._placement.preferred,
            "to": verdict.to,
            "why": "free" if self._is_free else verdict.why.value,
            "wait_ms": round(verdict.wait_s * 1000),
        }

    def _peer(self, peer: NodeId) -> Peer:
        leadership = self._core.leadership
        if leadership is None:
            return Peer(self._lives.life_of(peer), keeps_up=False)
        progress = leadership.progress[peer]
        keeps_up = (
            progress.state is ProgressState.REPLICATE
            and progress.silence_ms < self._election_ms
            and not progress.disk.is_slow
            and peer not in leadership.conflicts
        )
        return Peer(self._lives.life_of(peer), keeps_up)

    def _tell_end(self, verdict: Verdict) -> None:
        """What became of the last hand-over, once it is known."""
        leader = self._view.soft_state.leader
        if self._asked is None or leader is None or verdict.why is Why.UNDER_WAY:
            return
        if leader == self._asked:
            log.info("transfer_done", extra={"to": leader})
        else:
            log.warning("transfer_failed", extra={"to": self._asked})
        self._asked = None
