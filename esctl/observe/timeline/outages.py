"""The times without a leader, each with what led to it: what stands at the top of a timeline.

Only what the logs say: a cause is what was the matter when the leader was lost, and the election that ended
it. Pure. Called by the drawings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from esctl.observe.timeline.happenings import Happening
from esctl.observe.timeline.story import WHYS, Story
from esctl.ui.formatting import duration

NEAR_S: Final = 1.0
"""What began so long before a leader was missed, or was still on, may have led to it."""
CAUSES: Final = ("fault", "pause", "failure", "restart", "down", "transfer")
MOST_CAUSES: Final = 2
A_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which no node led that a majority followed."""

    begin_s: float
    end_s: float
    why: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s


def outages(story: Story) -> list[Outage]:
    """All of them, in order."""
    return [Outage(begin_s, end_s, _why(story, begin_s, end_s)) for begin_s, end_s in story.leaderless]


def summary(story: Story) -> str:
    """How often, how long in all, and the longest: in a line."""
    found = outages(story)
    if not found:
        return "no time without a leader, as the nodes' logs tell"
    longest = max(found, key=lambda one: one.seconds)
    times = (
        "once" if len(found) == 1 else f"{len(found)} times, {duration(sum(o.seconds for o in found))} in all"
    )
    at = time_of_day(longest.begin_s, story)
    return f"without a leader {times}, {duration(longest.seconds)} at most, at {at}; as the nodes' logs tell"


def _why(story: Story, begin_s: float, end_s: float) -> str:
    causes = [one for one in story.happenings if one.kind in CAUSES and _was_on(one, begin_s, end_s)]
    told = [_in_short(one) for one in causes[:MOST_CAUSES]]
    won = next((one for one in story.elections if begin_s <= one.elected_s <= end_s + NEAR_S), None)
    if won is not None:
        why = WHYS.get(won.why, "").format(by=won.before, noticed_by=won.noticed_by)
        told += [why] if why else []
        told.append(f"then node {won.leader} led term {won.term}")
    elif end_s >= story.end_s:
        told.append("nobody leads at the end")
    return "; ".join(told)


def _was_on(one: Happening, begin_s: float, end_s: float) -> bool:
    over_s = one.end_s if one.end_s is not None else end_s
    return one.begin_s <= begin_s + NEAR_S and one.begin_s <= end_s and over_s >= begin_s - NEAR_S


def _in_short(one: Happening) -> str:
    """Without how it ended: that is in the list."""
    return one.text.partition(";")[0]


# --- times for people ----------------------------------------------------------------------------------


def time_of_day(at_s: float, story: Story, *, short: bool = False) -> str:
    """In UTC, with the date where the story is longer than a day; `short`: no milliseconds over a minute."""
    at = datetime.fromtimestamp(at_s, UTC)
    first, last = (datetime.fromtimestamp(bound, UTC).date() for bound in (story.begin_s, story.end_s))
    text = f"{at:%H:%M:%S}"
    if not short or story.end_s - story.begin_s < A_MINUTE_S:
        text += f".{at.microsecond // 1000:03}"
    return f"{at:%m-%d} {text}" if first != last else text


def spread(places: Sequence[tuple[float, str]], least: float) -> list[tuple[float, str]]:
    """Those that are at least so far from the one before; the first and the last always."""
    ordered = sorted(places)
    kept: list[tuple[float, str]] = []
    for place, text in ordered[:-1]:
        if not kept or (place - kept[-1][0] >= least and ordered[-1][0] - place >= least):
            kept.append((place, text))
    return [*kept, *ordered[-1:]]
