"""Which node is to lead a partition, and when the leader hands over to it.

With several partitions, node K mod n is to lead partition K, so all nodes lead about as many. Decides for how
long that node must have been fit before it is handed the leadership: longer, each time that it has lost it
soon. What an operator has chosen is left alone for a while, or until that node was restarted. Pure: time
comes in. Never hands over. Called by `leaderspread.py`.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from esnode import limits
from esnode.raft.elections import Appointment
from esnode.raft.messages import NodeId


def spread(partitions: int, voters: Iterable[NodeId], away: Collection[NodeId] = ()) -> tuple[NodeId, ...]:
    """The node that is to lead each partition, while the nodes in `away` cannot; one of the voters can.

    Partition K is for node K mod n of the n voters, in the order of their ids. The partitions of nodes that
    are away go to the others, each to the one with the fewest. Those of the others stay where they are.
    """
    nodes = sorted(voters)
    present = [node for node in nodes if node not in away]
    wanted = [nodes[partition % len(nodes)] for partition in range(partitions)]
    load = {node: wanted.count(node) for node in present}
    for partition, node in enumerate(wanted):
        if node not in load:
            least = min(present, key=lambda each: (load[each], each))
            wanted[partition] = least
            load[least] += 1
    return tuple(wanted)


class Why(enum.Enum):
    """Why a leader hands over now, or does not."""

    FOLLOWS = "follows"
    """It does not lead."""
    PLACED = "placed"
    """It is the one that is to lead."""
    ASKED = "asked"
    """An operator has chosen it."""
    UNFIT = "unfit"
    """The other node is not connected, or behind."""
    WAITS = "waits"
    """The other node has not been fit for long enough."""
    UNDER_WAY = "under_way"
    """It is handing over."""
    NOW = "now"
    """Hand over now."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look: `to` is who is to lead, `wait_s` how long it takes if nothing changes."""

    why: Why
    to: NodeId
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as this one sees it now."""

    life: int | None
    """The incarnation of its process; None: not connected."""
    keeps_up: bool
    """This node leads, hears it, and has it close behind."""


class _Candidate:
    """What one other node was seen to do."""

    def __init__(self) -> None:
        self.life: int | None = None
        self.is_new = False
        """Its process began after the leadership of this one, which has known the one before."""
        self.knows_life = False
        """This leader has seen its process."""
        self.is_fit = False
        self.since = 0.0
        """When it began to be fit, or not to be."""
        self.losses = 0
        """How often in a row it was handed the leadership in vain, or lost it soon."""
        self.declined = False
        """The last time by its own doing, and the same process is still there."""

    def see(self, now: float, peer: Peer) -> None:
        came = peer.life is not None and peer.life != self.life
        if came:
            self.is_new = self.is_new or self.knows_life
            self.life, self.declined = peer.life, False
        self.knows_life = self.knows_life or peer.life is not None
        is_fit = peer.life is not None and peer.keeps_up
        if is_fit != self.is_fit or (came and is_fit):
            self.is_fit, self.since = is_fit, now

    def begin(self, now: float) -> None:
        """A new leader knows nothing of it yet."""
        self.is_fit, self.since = False, now
        self.is_new = self.knows_life = False

    @property
    def fit_s(self) -> float:
        """For how long it must have been fit."""
        most_s = limits.LEADER_DECLINED_S if self.declined else limits.LEADER_FIT_AGAIN_S
        return min(limits.LEADER_FIT_S * 2.0 ** min(self.losses, 16), most_s)


class Placement:
    """One node's view of the leadership of one partition."""

    def __init__(self, me: NodeId, partition: int, partitions: int, voters: Iterable[NodeId]) -> None:
        self._me = me
        self._partition, self._partitions = partition, partitions
        self._voters = tuple(sorted(voters))
        self.preferred = spread(partitions, self._voters)[partition]
        """Who is to lead while all can."""
        self._candidates = {voter: _Candidate() for voter in self._voters if voter != me}
        self._leader: NodeId | None = None
        """The last one that was known."""
        self._led_since = 0.0
        self._term = 0
        self._tried: tuple[NodeId, float] | None = None
        """To whom this leader hands over, and since when."""

    def look(
        self,
        now: float,
        leader: NodeId | None,
        term: int,
        peers: Mapping[NodeId, Peer],
        appointment: Appointment | None = None,
    ) -> Verdict:
        """Note what is seen at `now`, in seconds; what to do. `appointment`: the last one of this node."""
        if leader is not None:
            self._see_leader(now, leader, term, appointment)
        if leader != self._me:
            return Verdict(Why.FOLLOWS, self.preferred)
        for peer, seen in peers.items():
            self._candidates[peer].see(now, seen)
        self._give_up(now)
        return self._decide(now, appointment)

    def hands_over(self, now: float, to: NodeId) -> None:
        """This leader has begun to."""
        self._tried = (to, now)

    def _see_leader(self, now: float, leader: NodeId, term: int, appointment: Appointment | None) -> None:
        before = self._leader
        if leader == before and (leader != self._me or term == self._term):
            return
        if before == self.preferred and before != leader and before != self._me:
            self._lost(before, now - self._led_since, term, appointment)
        self._leader, self._led_since, self._term, self._tried = leader, now, term, None
        for candidate in self._candidates.values():
            candidate.begin(now)

    def _lost(self, node: NodeId, led_s: float, term: int, appointment: Appointment | None) -> None:
        """The node that is to lead does not any more."""
        candidate = self._candidates[node]
        candidate.losses = candidate.losses + 1 if led_s < limits.LEADER_LASTS_S else 0
        candidate.declined = appointment is not None and (appointment.term, appointment.by) == (term, node)

    def _give_up(self, now: float) -> None:
        """A hand-over that nobody has taken: the next one has to wait."""
        if self._tried is None or now - self._tried[1] < limits.TRANSFER_TIMEOUT_S:
            return
        candidate = self._candidates[self._tried[0]]
        candidate.losses += 1
        candidate.declined = True
        candidate.since = now
        self._tried = None

    def _decide(self, now: float, appointment: Appointment | None) -> Verdict:
        away = [
            node
            for node, candidate in self._candidates.items()
            if not candidate.is_fit and now - candidate.since >= limits.LEADER_AWAY_S
        ]
        to = spread(self._partitions, self._voters, away)[self._partition]
        if to == self._me:
            return Verdict(Why.PLACED, to)
        candidate = self._candidates[to]
        for_s = now - candidate.since
        kept_s = limits.LEADER_KEPT_S - (now - self._led_since)
        home = self._candidates.get(self.preferred)
        # Whoever moved it away from a node wanted to stop that node: it has been stopped, and is back.
        is_over = home is not None and home.is_new
        chosen = appointment is not None and appointment.asked and appointment.term == self._term
        is_asked = chosen and not is_over
        if self._tried is not None:
            return Verdict(Why.UNDER_WAY, to)
        if is_asked and kept_s > 0:
            return Verdict(Why.ASKED, to, kept_s)
        if not candidate.is_fit:
            return Verdict(Why.UNFIT, to, limits.LEADER_AWAY_S - for_s)
        left_s = candidate.fit_s - for_s
        return Verdict(Why.WAITS, to, left_s) if left_s > 0 else Verdict(Why.NOW, to)
