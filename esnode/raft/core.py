"""The Raft state machine of one node: `step(input)`, then `ready()` for all that follows from it.

Decides roles, terms and votes. Sans-IO: no clock (time comes in as `Tick`), no randomness of its own
(an injected generator), no disk, no network. The role changes in `_become_*`, and where an election is
lost. Who stands: `elections.py`; clients' requests: `requests.py`; replication: `leadership.py` and
`following.py`; positions: `log.py`; a lost disk: `rejoin.py`. Called by `driver.py` and by the simulator.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (figure 2,
sections 5 and 8); Ongaro's thesis (3.10 transfer, 6.2 check-quorum, 6.4 reads, 9.6 pre-vote,
10.2.1 writing to the leader's disk in parallel).
"""

from collections.abc import Collection, Iterable
from typing import assert_never

from esnode import limits
from esnode.config import Raft as Timers
from esnode.dedup.admission import Admission
from esnode.errors import HistoryConflict
from esnode.raft import quorum
from esnode.raft.disklag import DiskLag, Yielded
from esnode.raft.elections import Appointment, Backing, Ballot, answers_to_stale, is_about_a_future_term
from esnode.raft.following import answer_to_snapshot, compare, take_entries, takes_snapshot
from esnode.raft.leadership import Leadership
from esnode.raft.log import RaftLog
from esnode.raft.messages import (
    NOTHING,
    AppendEntries,
    AppendReject,
    AppendReply,
    Beat,
    Fetched,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Input,
    InstallSnapshot,
    NodeId,
    OpenProducer,
    Outgoing,
    PartReceived,
    PeerClosed,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    Persisted,
    PrefixCut,
    Propose,
    ProposeRing,
    RaftMessage,
    ReadIndex,
    Ready,
    Received,
    Rejoin,
    RejoinReply,
    Role,
    Snapshot,
    SnapshotSent,
    SoftState,
    Tick,
    TimeoutNow,
    Transfer,
    VoteReply,
    VoteRequest,
    Write,
)
from esnode.raft.rejoin import Rejoining, is_deaf_to, is_vouched_for
from esnode.raft.requests import Requests
from esnode.raft.timer import ElectionTimer, RandomSource


class Core:
    """One voter."""

    def __init__(
        self,
        me: NodeId,
        voters: Iterable[NodeId],
        *,
        hard_state: HardState,
        log: RaftLog,
        admission: Admission,
        timers: Timers,
        random: RandomSource,
        rejoining: bool = False,
    ) -> None:
        self.me = me
        self.voters = tuple(sorted(voters))
        self.peers = tuple(voter for voter in self.voters if voter != me)
        self.log = log
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.leadership: Leadership | None = None
        self.requests = Requests(log, admission)
        self._timers = timers
        self._timer = ElectionTimer(timers, random)
        self.disk = DiskLag()
        self.yielded: Yielded | None = None  # the last hand-over because of this disk
        self.appointment: Appointment | None = None  # the last hand-over to this node
        self._hard_state = hard_state
        self._given_hard_state = hard_state
        self._rejoining = Rejoining(self.peers, random) if rejoining else None
        self._rejoined_untold = False
        self._welcomed_by: set[NodeId] = set()
        self.held: dict[NodeId, int] = {}  # what `Leadership.held` told at the end of the last one
        self._told: tuple[Role, int, NodeId | None, bool] | None = None
        self._ballot = Ballot(me, self.voters)
        self._backing = Backing()
        self._vote_write_id = 0
        self._write_id = 0
        self._snapshot: Snapshot | None = None
        self._conflict: HistoryConflict | None = None  # ends this process soon; it hears nobody any more
        self._now: list[Outgoing] = []
        self._after: list[Outgoing] = []

    @property
    def term(self) -> int:
        """The current term."""
        return self._hard_state.term

    @property
    def rejoining(self) -> bool:
        """Whether this node has yet to make up for a disk that it lost: until then it has no vote."""
        return self._rejoining is not None

    @property
    def doubts_its_leader(self) -> bool:
        """Whether the leader has been silent so long that it may soon be replaced: milliseconds count."""
        return self.leader not in {None, self.me} and self._timer.is_close

    # === inputs ================================================================================

    def step(self, item: Input) -> None:
        """Take one input. What follows from it is in the next `ready()`."""
        match item:
            case Received(sender, message):
                self._receive(sender, message)
            case PartReceived(sender):
                self._part_received(sender)
            case Propose():
                self.requests.propose(item)
            case Persisted(write_id):
                self._persisted(write_id)
            case Tick(elapsed_ms):
                self._tick(min(elapsed_ms, limits.MAX_TICK_MS))
            case ReadIndex(token):
                self.requests.read_index(token)
            case PeerClosed(peer):
                self._peer_closed(peer)
            case PrefixCut(index):
                self.log.cut_prefix(index)
            case PeerConnected(peer):
                self._peer_connected(peer)
            case Beat():
                if self.leadership is not None:
                    self.leadership.beat()
                self._ask(self.peers)
            case OpenProducer() | ProposeRing() | Transfer():
                self.requests.heed(item)
            case Fetched() | PeerUnreachable() | SnapshotSent():
                if self.leadership is not None:
                    self.leadership.heed(item)
            case _:
                assert_never(item)

    def applied_to(self, index: int) -> None:
        """The machine has applied the entries of the last `Ready`, up to `index`."""
        self.log.applied_to(index)
        self.requests.applied(index)

    # === what follows ==========================================================================

    def ready(self) -> Ready:
        """Everything to be done now. Each thing is handed out once."""
        decisions, grants = self.requests.take()
        leadership = self.leadership
        if leadership is not None:
            self._advance(leadership)
        messages, granted, fetches, snapshots = leadership.take() if leadership else ([], [], [], [])
        conflicts = leadership.take_conflicts() if leadership else ()
        self._now, grants = self._now + messages, grants + granted
        write, committed, soft_state = self._next_write(), self.log.appliable(), self._next_soft_state()
        asked = decisions or grants or fetches or snapshots or conflicts
        if not (asked or self._now or self._after or committed or write or soft_state):
            return NOTHING
        ready = Ready(
            write=write,
            messages=tuple(self._now),
            messages_after=tuple(self._after),
            committed=committed,
            decisions=tuple(decisions),
            read_grants=tuple(grants),
            fetches=tuple(fetches),
            snapshots=tuple(snapshots),
            soft_state=soft_state,
            conflicts=conflicts,
        )
        self._now, self._after = [], []
        return ready

    def _advance(self, leadership: Leadership) -> None:
        """The leader's share of `ready`: commit, start rounds of reads, fill the followers' windows."""
        if self.log.committed < self.log.last_index:
            commit = leadership.commit_index()
            # Raft 5.4.2 and figure 8: an entry of an earlier term is committed only by one of this term.
            if commit > self.log.committed and self.log.term_at(commit) == self.term:
                self.log.commit_to(commit)
        if leadership.reads.are_waiting and self.log.term_at(self.log.committed) == self.term:
            leadership.begin_reads()
        leadership.replicate()

    def _next_write(self) -> Write | None:
        entries = self.log.take_unwritten()
        hard_state = self._hard_state if self._hard_state is not self._given_hard_state else None
        rejoined, self._rejoined_untold = self._rejoined_untold, False
        if not entries and hard_state is None and self._snapshot is None and not rejoined:
            return None
        self._write_id += 1
        self.log.claim(self._write_id)
        if hard_state is not None:
            self._given_hard_state = hard_state
            self._vote_write_id = self._write_id
        write = Write(self._write_id, self._snapshot, hard_state, entries, self.log.committed, rejoined)
        self._snapshot = None
        return write

    def _next_soft_state(self) -> SoftState | None:
        told = (self.role, self.term, self.leader, self.rejoining)
        if told == self._told:
            return None
        self._told = told
        return SoftState(*told)

    def _persisted(self, write_id: int) -> None:
        self.log.persisted(write_id)
        self._stop_rejoining_when_level()
        if self.role is Role.CANDIDATE and write_id >= self._vote_write_id:
            # The own vote counts like any other: once it cannot be forgotten.
            self._ballot.answer(self.me, granted=True)
            self._count_votes()

    # === roles =================================================================================

    def _become_follower(self, term: int, leader: NodeId | None) -> None:
        if self.leadership is not None:
            self.held = self.leadership.held(self.held)
            self.requests.end(self.leadership)
            self.leadership = None
        if term > self.term:
            self._hard_state = HardState(term, None)
        self.role = Role.FOLLOWER
        self.leader = leader
        self._timer.restart()

    def _become_pre_candidate(self) -> None:
        """Ask whether an election could be won before disturbing anybody with one (thesis 9.6)."""
        self.role = Role.PRE_CANDIDATE
        self.leader = None
        self._timer.retry()
        self._ballot.begin_pre()
        self._ask_for_votes(self.term + 1, pre=True, transfer=False)
        self._count_votes()

    def _become_candidate(self, *, transfer: bool) -> None:
        self.role = Role.CANDIDATE
        self.leader = None
        self._timer.restart()  # votes must reach disks, and nobody knows their pace
        self._hard_state = HardState(self.term + 1, self.me)
        self._ballot.begin(after_pre_vote=not transfer)
        self._vote_write_id = self._write_id + 1
        self._ask_for_votes(self.term, pre=False, transfer=transfer)

    def _become_leader(self) -> None:
        self.role = Role.LEADER
        self.leader = self.me
        self._timer.heard()
        self.leadership = Leadership(self.term, self.peers, self.log, self._timers.election_ms)
        self.requests.begin(self.leadership)

    # === elections =============================================================================

    def _tick(self, elapsed_ms: int) -> None:
        if self._conflict is not None:
            raise self._conflict
        self._timer.stands_late = self.disk.tick(elapsed_ms, self.log.durable, self.log.committed)
        if self.leadership is not None:
            self.requests.tick(elapsed_ms)
            if not self.leadership.tick(elapsed_ms):
                self._become_follower(self.term, None)
            elif self.disk.is_slow and (to := self.leadership.yield_to_a_faster_disk()) is not None:
                self.yielded = Yielded(self.term, to, self.disk.lag_ms)
            return
        self._timer.tick(elapsed_ms)
        self._backing.tick(elapsed_ms)
        if self._timer.has_expired and self.rejoining:
            self._become_follower(self.term, None)
        elif self._timer.has_expired:
            self._become_pre_candidate()

    def _peer_closed(self, peer: NodeId) -> None:
        """The leader's process has ended, most likely: no need to wait for silence."""
        if self.role is not Role.FOLLOWER or peer != self.leader:
            return
        self.leader = None
        survivors = [voter for voter in self.voters if voter != peer]
        self._timer.hurry(survivors.index(self.me))

    def _ask_for_votes(self, term: int, *, pre: bool, transfer: bool) -> None:
        request = VoteRequest(term, self.log.last_index, self.log.last_term, pre, transfer)
        outbox = self._now if pre else self._after
        outbox += [Outgoing(peer, request) for peer in self.peers]
        self._ballot.request = request

    def _count_votes(self) -> None:
        tally = self._ballot.tally
        if tally is quorum.Tally.WON and self.role is Role.PRE_CANDIDATE:
            self._become_candidate(transfer=False)
        elif tally is quorum.Tally.WON:
            self._become_leader()
        elif self.role is Role.CANDIDATE and self._ballot.is_split():
            self._timer.stand_again(self.voters.index(self.me))
        if tally is quorum.Tally.LOST:
            self.role = Role.FOLLOWER

    def _on_vote_request(self, sender: NodeId, request: VoteRequest) -> None:
        vote = self._hard_state.vote
        free = vote == sender or (vote is None and self.leader is None)
        may_vote = free or (request.pre and request.term > self.term)
        may_vote = may_vote and self._is_sound
        granted = may_vote and not self.log.is_newer_than(request.last_index, request.last_term)
        if request.pre:
            self._answer_pre_vote(sender, request, granted=granted)
            return
        if granted:
            self._timer.silence_ms = 0
            if vote is None:
                self._hard_state = HardState(self.term, sender)
        self._after.append(Outgoing(sender, VoteReply(self.term, granted, pre=False)))

    def _answer_pre_vote(self, sender: NodeId, request: VoteRequest, *, granted: bool) -> None:
        """Grant it, unless somebody should stand before `sender`: this node, or one that it backs."""
        stands = self.role is Role.PRE_CANDIDATE
        is_fresh = stands and self._timer.silence_ms < limits.HASTY_RETRY_MS  # older ones may be hopeless
        precedes = is_fresh and self._ballot.precedes(sender, request)
        granted = granted and not precedes and not self._backing.refuses(sender, request)
        term = request.term if granted else self.term
        self._now.append(Outgoing(sender, VoteReply(term, granted, pre=True)))
        if granted:
            self._backing.grant(sender, request)
            self._timer.give_way()
        elif stands and not self._ballot.has_answered(sender):
            # It still believed in the leader when it was asked, or is being asked right now.
            self._now.append(Outgoing(sender, self._ballot.request))

    def _on_vote_reply(self, sender: NodeId, reply: VoteReply) -> None:
        asked_role = Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE
        asked_term = self.term + 1 if reply.pre and reply.granted else self.term
        if self.role is asked_role and reply.term == asked_term:
            self._ballot.answer(sender, granted=reply.granted)
            self._count_votes()

    def _hears_from_a_leader(self) -> bool:
        """The lease of check-quorum: while a leader lives, nobody is helped to replace it (6.2)."""
        return self.role is Role.LEADER or (self.leader is not None and self._timer.within_lease)

    # === messages ==============================================================================

    def _receive(self, sender: NodeId, message: PeerMessage) -> None:
        if sender not in self.peers or self._conflict is not None:
            return
        if isinstance(message, Rejoin):
            self._on_rejoin(sender, message)
        elif isinstance(message, RejoinReply):
            self._on_rejoin_reply(sender, message)
        elif message.term <= limits.MAX_TERM and not is_deaf_to(self._rejoining, message):
            self._receive_in_term(sender, message)

    def _receive_in_term(self, sender: NodeId, message: RaftMessage) -> None:
        if message.term > self.term:
            wants_vote = isinstance(message, VoteRequest) and not message.transfer
            if wants_vote and sender == self.leader:
                self.leader = None  # it leads no more; what it had begun to send may go on for minutes
            elif wants_vote and self._hears_from_a_leader():
                return
            if not is_about_a_future_term(message):
                self._become_follower(message.term, None)
        if message.term < self.term:
            self._now += [Outgoing(sender, answer) for answer in answers_to_stale(self.term, message)]
        else:
            self._dispatch(sender, message)

    def _dispatch(self, sender: NodeId, message: RaftMessage) -> None:
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                self._heed_leader(sender)
                self._obey(sender, message)
            case AppendReply() | HeartbeatReply() | AppendReject():
                if self.leadership is not None:
                    self.leadership.hear(sender, message)
            case VoteRequest():
                self._on_vote_request(sender, message)
            case VoteReply():
                self._on_vote_reply(sender, message)
            case TimeoutNow():
                if self.role is not Role.LEADER and not self.rejoining:
                    self._become_candidate(transfer=True)
                    self.appointment = Appointment(self.term, sender, message.asked)
            case _:
                assert_never(message)

    def _heed_leader(self, sender: NodeId) -> None:
        """A message of this term's leader: follow it, and start the timer anew."""
        if self.leader not in {None, sender}:  # Raft 5.2: history has split, and it may be ours that is wrong
            raise HistoryConflict(f"two leaders in term {self.term}: {self.leader} and {sender}")
        if self.leader is None:
            self._become_follower(self.term, sender)
        self._timer.heard()

    def _obey(self, leader: NodeId, message: AppendEntries | Heartbeat | InstallSnapshot) -> None:
        """Do what the leader wants, and answer; or show what contradicts it: the next tick ends this node."""
        sides = (self.me, leader)
        try:
            match message:
                case AppendEntries():
                    self._reply(leader, take_entries(self.log, self.term, message, sides=sides))
                case Heartbeat():
                    compare(self.log, message.applied, sides)
                    if not self.rejoining:  # one that was overtaken may go by what an earlier life had
                        self.log.commit_to(message.commit)
                    applied = self.log.point(self.log.applied)
                    self._now.append(Outgoing(leader, HeartbeatReply(self.term, message.probe, applied)))
                case InstallSnapshot(_, snapshot):
                    if takes_snapshot(self.log, snapshot, sides=sides):
                        self._snapshot = snapshot
                    self._reply(leader, answer_to_snapshot(self.log, self.term, snapshot.index))
                case _:
                    assert_never(message)
        except HistoryConflict as error:
            self._conflict = error
            self._now.append(Outgoing(leader, HeartbeatReply(self.term, 0, self.log.point(error.index))))

    def _part_received(self, sender: NodeId) -> None:
        """The leader lives, and hears that this node does: an answer to probe 0, which confirms no reads."""
        if sender == self.leader:
            self._timer.heard()
            self._now.append(Outgoing(sender, HeartbeatReply(self.term, 0)))

    def _reply(self, leader: NodeId, reply: AppendReply | AppendReject) -> None:
        """Say something about this log: only once it is durable."""
        self._after.append(Outgoing(leader, reply))

    # === coming back with a lost disk ==========================================================

    @property
    def _is_sound(self) -> bool:
        """Whether this disk holds all that was promised: its vote, and its word to others, rest on it."""
        return not self.rejoining and is_vouched_for(len(self._welcomed_by), len(self.voters))

    def _peer_connected(self, peer: NodeId) -> None:
        self._welcomed_by.add(peer)
        if self.leadership is not None:
            self.leadership.on_connected(peer)
        self._ask((peer,))

    def _on_rejoin(self, sender: NodeId, question: Rejoin) -> None:
        """The sender has lost what it had: count nothing that its earlier life said."""
        if self.leadership is not None:
            self.leadership.forget(sender)
        self._ballot.forget(sender)
        end = self.log.last_index, self.log.last_term
        self._now.append(Outgoing(sender, RejoinReply(self.term, question.nonce, self._is_sound, *end)))

    def _ask(self, peers: Collection[NodeId]) -> None:
        """Put the open question, if there is one, to those of `peers` that have not answered it."""
        if self._rejoining is not None:
            asked = [peer for peer in self._rejoining.unanswered if peer in peers]
            self._now += [Outgoing(peer, self._rejoining.question) for peer in asked]

    def _on_rejoin_reply(self, sender: NodeId, reply: RejoinReply) -> None:
        rejoining = self._rejoining
        if rejoining is None or reply.term > limits.MAX_TERM or not rejoining.expects(reply):
            return
        if reply.term > self.term:
            self._become_follower(reply.term, None)
        if rejoining.answered(sender, reply):
            self._ask(self.peers)
        self._stop_rejoining_when_level()

    def _stop_rejoining_when_level(self) -> None:
        if self._rejoining is None:
            return
        durable_term = self.log.term_at(self.log.durable)
        assert durable_term is not None
        if self._rejoining.is_over(durable_term, self.log.durable):
            self._rejoining = None
            self._rejoined_untold = True
            if self._hard_state.vote is None:
                # An earlier life may have voted in this term: this one votes for nobody else.
                self._hard_state = HardState(self.term, self.me)
