"""What each node was over time: leader, follower, candidate, paused, down, as the logs of all nodes tell.

A node that was killed says nothing of it: its own log goes on with a new process, and the others tell when
its connections ended. A node that was paused says so when it goes on. What it was before the first line that
tells is unknown, and stays so; before the first line of a process it was down. Pure. Called by `story.py`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from esctl.clusters.rolechanges import FOLLOWER, LEADER, ROLES, RoleChange
from esctl.observe.timeline.moments import Moment, MomentKind

UNKNOWN: Final = "unknown"
DOWN: Final = "down"
STARTING: Final = "starting"
PAUSED: Final = "paused"


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a node was for a while."""

    begin_s: float
    end_s: float
    state: str
    term: int | None = None
    leader: int | None = None
    """Whom it followed, or itself."""
    why: str = ""
    """The reason that the node gave for becoming this."""
    by: int | None = None
    """The node that caused it."""
    silence_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A process ended and did not say so. `known`: other nodes tell when, and not only its last line."""

    at_s: float
    known: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """One node from the beginning to the end, without a gap."""

    node: int
    stretches: Sequence[Stretch]
    deaths: Sequence[Death] = ()

    def at(self, at_s: float) -> Stretch:
        """What it was then; at the moment of a change: what it became."""
        place = bisect_right(self.stretches, at_s, key=lambda stretch: stretch.begin_s)
        return self.stretches[max(0, place - 1)]


def lanes(
    moments: Sequence[Moment], nodes: Iterable[int], end_s: float, down: Iterable[int] = ()
) -> dict[int, Lane]:
    """One for each of `nodes`; `moments` are those of all nodes, in order.

    `down` are the nodes that are not running at the end, whatever their logs say.
    """
    begin_s = moments[0].at_s if moments else end_s
    gone: dict[int, list[float]] = {}
    for moment in moments:
        if moment.kind is MomentKind.GONE and (peer := moment.number("peer")) is not None:
            gone.setdefault(peer, []).append(moment.at_s)
    dead = frozenset(down)
    return {
        node: _lane(
            node,
            [one for one in moments if one.node == node],
            gone.get(node, []),
            begin_s,
            end_s,
            node in dead,
        )
        for node in sorted(set(nodes))
    }


def _lane(
    node: int, moments: Sequence[Moment], gone: Sequence[float], begin_s: float, end_s: float, is_down: bool
) -> Lane:
    is_new = bool(moments) and moments[0].kind in (MomentKind.OPENED, MomentKind.STARTED)
    changes = [Stretch(begin_s, end_s, DOWN if is_new else UNKNOWN)]
    deaths: list[Death] = []
    last_s = begin_s
    """When the process was certainly alive last."""
    for moment in moments:
        state = changes[-1].state
        begins = moment.kind is MomentKind.OPENED or (moment.kind is MomentKind.STARTED and state != STARTING)
        if begins and state not in (UNKNOWN, DOWN):
            deaths.append(_death(gone, last_s, moment.at_s))
            changes.append(Stretch(deaths[-1].at_s, end_s, DOWN))
        changes += _change(moment, changes, end_s)
        last_s = moment.at_s
    if is_down and changes[-1].state != DOWN:
        deaths.append(_death(gone, last_s, end_s))
        changes.append(Stretch(deaths[-1].at_s, end_s, DOWN))
    return Lane(node, _joined(changes, end_s), deaths)


def _death(gone: Sequence[float], after_s: float, before_s: float) -> Death:
    """When a process ended that was alive at the one time, and was not any more at the other."""
    told = [at_s for at_s in gone if after_s <= at_s <= before_s]
    return Death(told[0], known=True) if told else Death(after_s, known=False)


def _change(moment: Moment, changes: Sequence[Stretch], end_s: float) -> list[Stretch]:
    at_s, before = moment.at_s, changes[-1]
    match moment.kind:
        case MomentKind.OPENED:
            return [Stretch(at_s, end_s, STARTING)]
        case MomentKind.STARTED:
            return [Stretch(at_s, end_s, FOLLOWER, moment.number("term"))]
        case MomentKind.STOPPED | MomentKind.FAILED:
            return [Stretch(at_s, end_s, DOWN)]
        case MomentKind.STALLED if (stalled_ms := moment.number("stalled_ms")) is not None:
            begin_s = max(before.begin_s, at_s - max(0, stalled_ms) / 1000)
            return [replace(before, begin_s=begin_s, state=PAUSED), replace(before, begin_s=at_s)]
        case MomentKind.ROLE if isinstance(became := moment.news, RoleChange):
            told = (became.role, became.term, became.leader, became.why, became.by, became.silence_ms)
            return [Stretch(at_s, end_s, *told)]
        case _:
            return []


def _joined(changes: Sequence[Stretch], end_s: float) -> list[Stretch]:
    """Each ends where the next one begins; one of no length is left out, but the last."""
    found = []
    for place, stretch in enumerate(changes):
        after_s = changes[place + 1].begin_s if place + 1 < len(changes) else end_s
        if after_s > stretch.begin_s or place + 1 == len(changes):
            found.append(replace(stretch, end_s=max(after_s, stretch.begin_s)))
    return found


def without_leader(every: Mapping[int, Lane], begin_s: float, end_s: float) -> list[tuple[float, float]]:
    """The intervals in which no node led that a majority followed, itself counted, and somebody was up.

    Not the time before the first leader: a cluster that has never had one misses none.
    """
    times = sorted({begin_s, *(s.begin_s for lane in every.values() for s in lane.stretches)})
    found: list[tuple[float, float]] = []
    had_one = any(_is_unknown(lane, begin_s) for lane in every.values())
    for place, at_s in enumerate(times):
        after_s = min(times[place + 1] if place + 1 < len(times) else end_s, end_s)
        now = [lane.at(at_s) for lane in every.values()]
        led = _leads(now, len(every))
        had_one |= led
        is_up = any(one.state in ROLES for one in now) and not any(one.state == UNKNOWN for one in now)
        if led or not had_one or not is_up or after_s <= begin_s or after_s <= at_s:
            continue
        if found and found[-1][1] == at_s:
            found[-1] = found[-1][0], after_s
        else:
            found.append((max(at_s, begin_s), after_s))
    return found


def _is_unknown(lane: Lane, at_s: float) -> bool:
    return lane.at(at_s).state == UNKNOWN


def _leads(now: Sequence[Stretch], count: int) -> bool:
    leading = [one for one in now if one.state == LEADER]
    return any(
        sum(
            one.leader == led.leader and one.term == led.term and one.state in (FOLLOWER, LEADER)
            for one in now
        )
        > count // 2
        for led in leading
    )
