"""Who stands for election, and who stands back: the answers to one who asks, and what a pre-vote binds.

Raft 5.2 leaves a split vote to chance and a second timeout. Pre-votes (thesis 9.6) cost no disk, so here
they settle who stands: of those that ask at the same moment, the best log, then the lowest id; and whoever
has granted one refuses others for a moment. `Ballot` is the side that asks, `Backing` the side that is asked.
What either refuses it refuses for milliseconds, so no node, dead, deaf or not electable, keeps others from
being elected. Neither sends, nor changes a role. Called by `core.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from esnode import limits
from esnode.raft import quorum
from esnode.raft.messages import (
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    NodeId,
    RaftMessage,
    VoteReply,
    VoteRequest,
)


@dataclass(frozen=True, slots=True)
class Appointment:
    """The leader `by` has told this node to lead in `term`; `asked`: an operator wanted that."""

    term: int
    by: NodeId
    asked: bool


class Ballot:
    """The answers to one question of a node: for pre-votes, or for votes."""

    def __init__(self, me: NodeId, voters: Sequence[NodeId]) -> None:
        self._me = me
        self._voters = voters
        self.request = VoteRequest(0, 0, 0, pre=True)
        """The question."""
        self._votes: dict[NodeId, bool] = {}
        self._promised: set[NodeId] = set()
        """Those whose pre-vote led to this election."""
        self._was_split = False

    def begin_pre(self) -> None:
        """Ask for pre-votes; the own one is there."""
        self._votes = {self._me: True}

    def begin(self, *, after_pre_vote: bool) -> None:
        """Ask for votes; the own one is there once it is durable."""
        granted = {voter for voter, is_granted in self._votes.items() if is_granted}
        self._promised = granted if after_pre_vote else set()
        self._was_split = False
        self._votes = {}

    def answer(self, voter: NodeId, *, granted: bool) -> None:
        """Each is counted once."""
        self._votes.setdefault(voter, granted)

    def has_answered(self, voter: NodeId) -> bool:
        """Whether `voter` has answered the question."""
        return voter in self._votes

    def precedes(self, sender: NodeId, request: VoteRequest) -> bool:
        """Whether this node asks for the same term, with as good a log, and has the lower id."""
        is_even = request.term == self.request.term and _end_of(request) == _end_of(self.request)
        return is_even and self._me < sender

    def forget(self, voter: NodeId) -> None:
        """What an earlier life of `voter` has said is void."""
        self._votes.pop(voter, None)

    @property
    def tally(self) -> quorum.Tally:
        """How it stands."""
        return quorum.tally(self._votes, self._voters)

    def is_split(self) -> bool:
        """Whether an election that is not won has become hopeless; said once, and by answers only.

        A dead voter never answers, so a tally stays open for ever: two of five voted here, two there. But
        those that had granted the pre-vote live. When all of them have voted, waiting for the others' votes
        is all that is left. However slow the disks, this is not known before they have done their part.
        """
        all_voted = bool(self._promised) and self._promised <= self._votes.keys()
        if self._was_split or not (all_voted or self.tally is quorum.Tally.LOST):
            return False
        self._was_split = True
        return True


class Backing:
    """Whom this node has granted a pre-vote a moment ago.

    For that moment nobody with no better a log gets one for the same term: so two that ask at the same
    time do not both find a majority. While one voter more than a majority lives, one of two still finds
    it at once: the worse one also grants, and the others each back one of them. Otherwise, and where three
    ask at once, it may take a retry.
    """

    def __init__(self) -> None:
        self._left_ms = 0
        self._backed: NodeId | None = None
        self._request = VoteRequest(0, 0, 0, pre=True)

    def tick(self, elapsed_ms: int) -> None:
        """Time passes."""
        self._left_ms -= elapsed_ms

    def refuses(self, sender: NodeId, request: VoteRequest) -> bool:
        """Whether granting `request` too would help to split the vote."""
        backed = self._request
        is_rival = self._left_ms > 0 and sender != self._backed and request.term == backed.term
        return is_rival and _end_of(request) <= _end_of(backed)

    def grant(self, sender: NodeId, request: VoteRequest) -> None:
        """The pre-vote is granted."""
        self._left_ms = limits.HASTY_RETRY_MS
        self._backed, self._request = sender, request


def _end_of(request: VoteRequest) -> tuple[int, int]:
    """Where the asker's log ends, in the order of Raft 5.4.1."""
    return request.last_term, request.last_index


def is_about_a_future_term(message: RaftMessage) -> bool:
    """A pre-vote speaks of a term that has not begun: it changes nobody's."""
    if isinstance(message, VoteReply):
        return message.pre and message.granted
    return isinstance(message, VoteRequest) and message.pre


def answers_to_stale(term: int, message: RaftMessage) -> Sequence[RaftMessage]:
    """What tells a sender that lives in the past which term it is; anything else of the past is void."""
    match message:
        case AppendEntries() | Heartbeat() | InstallSnapshot():
            return (HeartbeatReply(term, 0),)
        case VoteRequest(pre=True):
            return (VoteReply(term, granted=False, pre=True),)
        case _:
            return ()
