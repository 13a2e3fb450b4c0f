"""How a node comes back that has lost part of what it promised: whom it asks, and when it is done.

Its earlier life acked entries and gave votes that its disk does not show. So it asks every other voter
to forget them; then it asks again, where they are now; then it follows, and votes once its own disk
holds all that they had. Never sends, never looks into the log. Called by `core.py`, on a node that
rejoins, and only there.
"""

from collections.abc import Collection

from esnode.raft import quorum
from esnode.raft.messages import (
    AppendEntries,
    Heartbeat,
    InstallSnapshot,
    NodeId,
    RaftMessage,
    Rejoin,
    RejoinReply,
    TimeoutNow,
)
from esnode.raft.timer import RandomSource

MAX_NONCE = 2**62


def is_vouched_for(welcomes: int, voters: int) -> bool:
    """Whether so many peers have welcomed a node that it may call its own disk sound, and vote.

    A wiped node does not know that it is one before a peer that knows it turns it away, and a peer that
    rejoins turns nobody away. With a minority of the disks lost, one of so many is sound. Its welcome
    holds for the process's life: the directory stays the same.
    """
    return welcomes + 1 >= quorum.majority(voters)


class Rejoining:
    """The two rounds of questions of one process life, and the place in the log to reach.

    Round one ends when ALL others have answered: from then on nobody counts an ack or a vote of the
    earlier life, and whatever was committed or won with one is on other nodes. Round two ends when a
    majority of the voters, all sound, has answered: it shares a member with every quorum that the
    earlier life was part of, so the greatest term covers every leader that it elected, and the
    greatest end of a log covers every entry that it helped to commit. The answers of round one may
    not be used for that: what a voter did after its answer may still have been counted together with
    the old acks, by one that was asked later.

    Until round two ends this node is `deaf` to leaders: it may have elected another one since, and an
    ack or a sign of life given to the older one would break that promise. Afterwards its term is past
    all promises that count, and its acks are as good as anybody's.

    The transport must deliver nothing of an older connection, and so of an older life, after something
    of a newer one (`replication.py`). Inside a connection it keeps the order, but nothing here needs
    that: an answer is known by its nonce, and a heartbeat from before its sender had forgotten, the one
    message that carries a belief about this log, commits nothing while this node rejoins.
    """

    def __init__(self, peers: Collection[NodeId], random: RandomSource) -> None:
        self._peers = tuple(peers)
        self._random = random
        self._nonce = random.randrange(MAX_NONCE)
        self._forgotten = False
        self._answered: set[NodeId] = set()
        self._target = (0, 0)
        self.deaf = True
        """What leaders say is not for this node yet."""

    @property
    def unanswered(self) -> tuple[NodeId, ...]:
        """The peers to ask, now or again."""
        return tuple(peer for peer in self._peers if self.deaf and peer not in self._answered)

    @property
    def question(self) -> Rejoin:
        """What to ask them."""
        return Rejoin(self._nonce)

    def expects(self, reply: RejoinReply) -> bool:
        """Whether `reply` answers the question that is open: not one of an earlier round or life."""
        return self.deaf and reply.nonce == self._nonce

    def answered(self, sender: NodeId, reply: RejoinReply) -> bool:
        """Take an expected answer; tells whether another round begins with it."""
        if not self._forgotten:
            self._answered.add(sender)
            if self.unanswered:
                return False
            self._forgotten = True
            self._answered.clear()
            self._nonce = self._random.randrange(MAX_NONCE)
            return True
        if reply.sound:  # the others are asked again: they may have come back by then
            self._answered.add(sender)
            self._target = max(self._target, (reply.last_term, reply.last_index))
            self.deaf = len(self._answered) < quorum.majority(1 + len(self._peers))
        return False

    def is_over(self, durable_term: int, durable_index: int) -> bool:
        """Whether a log that durably ends there holds everything that was asked for."""
        return not self.deaf and (durable_term, durable_index) >= self._target


def is_deaf_to(rejoining: Rejoining | None, message: RaftMessage) -> bool:
    """Until it knows what it may have promised, a node that rejoins obeys no leader."""
    deaf = rejoining is not None and rejoining.deaf
    return deaf and isinstance(message, AppendEntries | Heartbeat | InstallSnapshot | TimeoutNow)
