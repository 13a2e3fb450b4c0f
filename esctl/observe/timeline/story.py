"""The moments of all nodes as one story: what belongs together is one happening, with a beginning and an end.

One fault on three nodes is one happening, and so is an election with its suspicion, votes and first commit.
What has no end in the logs stays open; nothing is guessed. Order is that of the wall clocks that wrote the
lines. Pure. Called by `esctl timeline`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, NotRequired, TypedDict

from esctl.cli import timearguments
from esctl.clusters.rolechanges import LEADER
from esctl.observe.timeline import elections as electing
from esctl.observe.timeline.elections import Attempt, Election
from esctl.observe.timeline.happenings import (
    Happening,
    HappeningData,
    commands,
    faults,
    moves,
    plain,
    processes,
    repairs,
    snapshots,
    steps,
    transfers,
)
from esctl.observe.timeline.lanes import PAUSED, Lane, lanes, without_leader
from esctl.observe.timeline.moments import Moment, MomentKind
from esctl.ui.formatting import nodes_named
from esctl.ui.values import Count, Milliseconds, NodeId

WHYS: Final = {
    "silence": "node {by} was silent",
    "leader_closed": "the connection of node {by} ended",
    "transfer": "node {by} handed over",
    "slow_disk": "node {noticed_by} handed over: its disk was slow",
    "newer_term": "another node asked for votes",
    "no_majority": "node {noticed_by} had heard from no majority",
    "no_leader": "nobody led",
}
"""Why a node missed its leader, by the words that the node wrote."""


class LeaderlessData(TypedDict):
    """A time without a leader."""

    begin: str
    ms: Milliseconds


class LaneStretch(TypedDict):
    """What a node was from then on; null is not known."""

    begin: str
    state: str
    term: int | None
    leader: NodeId | None


class StoryData(TypedDict):
    """What happened, from the logs of all nodes."""

    partition: NotRequired[Annotated[Count, "The one of several that it is about"]]
    begin: str
    end: str
    happenings: list[HappeningData]
    leaderless: list[LeaderlessData]
    lanes: Annotated[dict[str, list[LaneStretch]], "By node"]
    latency_ms: Annotated[list[tuple[str, float]], "When, and how long clients waited at most"]
    acked_per_s: Annotated[list[tuple[str, float]], "When, and how many events loads were acked a second"]


@dataclass(frozen=True, slots=True)
class Story:
    """All of it. Times in seconds since 1970."""

    begin_s: float
    end_s: float
    lanes: Mapping[int, Lane]
    happenings: Sequence[Happening]
    elections: Sequence[Election]
    votes: Sequence[Moment]
    leaderless: Sequence[tuple[float, float]]
    latency_ms: Sequence[tuple[float, float]] = field(default_factory=tuple)
    """What clients felt: when, and how long."""
    acked_per_s: Sequence[tuple[float, float]] = field(default_factory=tuple)
    """What loads were acked: when, and how many events a second."""

    def as_data(self) -> StoryData:
        """For the JSON answer."""
        return {
            "begin": timearguments.written(self.begin_s),
            "end": timearguments.written(self.end_s),
            "happenings": [one.as_data(self.begin_s) for one in self.happenings],
            "leaderless": [
                {"begin": timearguments.written(begin_s), "ms": round((end_s - begin_s) * 1000, 3)}
                for begin_s, end_s in self.leaderless
            ],
            "lanes": {
                str(node): [
                    {
                        "begin": timearguments.written(max(one.begin_s, self.begin_s)),
                        "state": one.state,
                        "term": one.term,
                        "leader": one.leader,
                    }
                    for one in lane.stretches
                    if one.end_s > self.begin_s or one is lane.stretches[-1]
                ]
                for node, lane in self.lanes.items()
            },
            "latency_ms": [(timearguments.written(at_s), value) for at_s, value in self.latency_ms],
            "acked_per_s": [(timearguments.written(at_s), value) for at_s, value in self.acked_per_s],
        }


def tell(
    moments: Iterable[Moment],
    nodes: Iterable[int],
    *,
    since_s: float | None = None,
    begin_s: float | None = None,
    until_s: float | None = None,
    down: Collection[int] = (),
    latency_ms: Sequence[tuple[float, float]] = (),
    acked_per_s: Sequence[tuple[float, float]] = (),
) -> Story:
    """The story from the first moment, or the first from `since_s` on, to `until_s`, or the last one.

    `begin_s`: from then on, whatever the first moment is: for stories that are to have one axis.
    Moments before `since_s` only tell what the nodes were then. `down`: the nodes that do not run at the end.
    """
    ordered = sorted(moments, key=lambda moment: moment.at_s)
    numbers = sorted({*nodes, *(one.node for one in ordered if one.node is not None)})
    shown = [one.at_s for one in ordered if since_s is None or one.at_s >= since_s]
    begin_s = begin_s if begin_s is not None else min(shown, default=since_s or 0.0)
    end_s = max([*shown, begin_s, *(at_s for at_s, _ in latency_ms)])
    if until_s is not None:
        end_s = max(begin_s, until_s)
    every = lanes(ordered, numbers, end_s, down)
    won = electing.elections(ordered, every)
    tried = electing.attempts(won, every, end_s)
    found = [
        *map(_of_election, won),
        *map(_of_attempt, tried),
        *_steps_down(every, won),
        *_pauses(every),
        *processes(ordered, every, end_s),
        *faults(ordered, every),
        *transfers(ordered, won),
        *snapshots(ordered),
        *moves(ordered),
        *repairs(ordered),
        *steps(ordered),
        *commands(ordered),
        *plain(ordered),
    ]
    inside = [one for one in found if _is_inside(one, begin_s, end_s)]
    return Story(
        begin_s,
        end_s,
        every,
        sorted(inside, key=lambda one: (one.begin_s, one.kind, one.nodes, one.text)),
        [one for one in won if begin_s <= one.end_s and one.begin_s <= end_s],
        [one for one in ordered if one.kind is MomentKind.VOTE and begin_s <= one.at_s <= end_s],
        _with_silence(without_leader(every, begin_s, end_s), won, begin_s),
        [(at_s, value) for at_s, value in latency_ms if begin_s <= at_s <= end_s],
        [(at_s, value) for at_s, value in acked_per_s if begin_s <= at_s <= end_s],
    )


def _is_inside(one: Happening, begin_s: float, end_s: float) -> bool:
    return one.begin_s <= end_s and (one.end_s is None or one.end_s >= begin_s)


def _of_election(election: Election) -> Happening:
    before = f", after node {election.before}" if election.before not in (None, election.leader) else ""
    words = [f"node {election.leader} leads term {election.term}{before}"]
    why = WHYS.get(election.why, "").format(by=election.before, noticed_by=election.noticed_by)
    if why:
        silent = f" for {election.silence_ms} ms" if election.silence_ms is not None else ""
        words.append(f"{why}{silent}")
    elected_ms = (election.elected_s - election.begin_s) * 1000
    if election.votes:
        words.append(f"votes of {nodes_named(list(election.votes))} after {elected_ms:.0f} ms")
    if election.committed_s is not None:
        words.append(f"first commit after {(election.committed_s - election.begin_s) * 1000:.0f} ms")
    others = [node for node in election.stood if node != election.leader]
    if others:
        words.append(f"{nodes_named(others)} stood as well")
    nodes = tuple(sorted({election.leader, *election.votes}))
    return Happening(
        election.begin_s, election.end_s, "election", "; ".join(words), nodes, electing.as_data(election)
    )


def _of_attempt(attempt: Attempt) -> Happening:
    text = f"node {attempt.node} asks whether it could lead, in vain"
    return Happening(attempt.begin_s, attempt.end_s, "attempt", text, (attempt.node,), {"term": attempt.term})


def _steps_down(every: Mapping[int, Lane], won: Sequence[Election]) -> list[Happening]:
    """Leaders that gave up by themselves; that another one was elected is told by the election."""
    found = []
    for lane in every.values():
        for before, after in zip(lane.stretches, lane.stretches[1:], strict=False):
            if before.state == LEADER and after.why == "no_majority":
                text = f"node {lane.node} leads no longer: no majority answered it"
                found.append(
                    Happening(
                        after.begin_s, after.begin_s, "step-down", text, (lane.node,), {"term": before.term}
                    )
                )
    return found


def _pauses(every: Mapping[int, Lane]) -> list[Happening]:
    what = "did nothing: its process or machine was paused"
    return [
        Happening(one.begin_s, one.end_s, "pause", f"node {lane.node} {what}", (lane.node,))
        for lane in every.values()
        for one in lane.stretches
        if one.state == PAUSED
    ]


def _with_silence(
    intervals: Sequence[tuple[float, float]], won: Sequence[Election], begin_s: float
) -> list[tuple[float, float]]:
    """Each from when the last leader was heard last, where the node that missed it has said when that was."""
    found: list[tuple[float, float]] = []
    for from_s, to_s in intervals:
        missed = [one for one in won if from_s <= one.elected_s and one.begin_s <= to_s]
        heard = [one.begin_s - one.silence_ms / 1000 for one in missed if one.silence_ms is not None]
        from_s = max(begin_s, min([from_s, *heard]))
        if found and found[-1][1] >= from_s:
            found[-1] = found[-1][0], max(to_s, found[-1][1])
        else:
            found.append((from_s, to_s))
    return found
