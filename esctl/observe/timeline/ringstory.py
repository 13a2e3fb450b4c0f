"""The stories of several partitions as one: what happened in more than one of them is told once.

Each partition has leaders and elections of its own, so each has a story as a cluster of one partition has;
this says of which a happening is one, and draws who led each. Pure. Called by `esctl timeline`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, TypedDict

from esctl.cli import timearguments
from esctl.clusters.rolechanges import LEADER
from esctl.observe.timeline import drawing
from esctl.observe.timeline.happenings import Happening, HappeningData
from esctl.observe.timeline.outages import outages, time_of_day
from esctl.observe.timeline.story import LaneStretch, LeaderlessData, Story
from esctl.ui.answer import Lanes, Line, Span, Tone, View
from esctl.ui.axis import Axis
from esctl.ui.formatting import duration, partitions_named
from esctl.ui.values import ClusterName, Count

TOGETHER_S: Final = 2.0
"""What several partitions tell alike within this was one thing."""
DIGITS: Final = "0123456789abcdef"
"""The mark of a node that leads; a cluster on one machine has up to 15."""


class PartHappening(HappeningData):
    """Something that took its time, in some partitions."""

    partitions: Annotated[list[Count], "Those whose processes tell of it"]


class PartStory(TypedDict):
    """What one partition was over time."""

    id: Count
    leaderless: list[LeaderlessData]
    lanes: Annotated[dict[str, list[LaneStretch]], "By node"]


class RingTimelineAnswer(TypedDict):
    """What happened to a cluster with several partitions."""

    cluster: ClusterName
    notes: list[str]
    begin: str
    end: str
    happenings: list[PartHappening]
    partitions: list[PartStory]
    latency_ms: list[tuple[str, float]]
    acked_per_s: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class SharedHappening:
    """A happening, and the partitions that tell of it."""

    happening: Happening
    partitions: list[int]


@dataclass(frozen=True, slots=True)
class RingStory:
    """All partitions, by number; they have one beginning and one end."""

    stories: Mapping[int, Story]

    @property
    def any(self) -> Story:
        """One of them: for the axis of time and what is the same in all."""
        return next(iter(self.stories.values()))

    def told(self) -> list[SharedHappening]:
        """What happened, in order; once, where several partitions tell it."""
        every = [(one, partition) for partition, story in self.stories.items() for one in story.happenings]
        every.sort(key=lambda pair: (pair[0].begin_s, pair[1]))
        found: list[SharedHappening] = []
        latest: dict[tuple[str, str], SharedHappening] = {}
        for one, partition in every:
            known = latest.get((one.kind, one.text))
            near = known is not None and one.begin_s - known.happening.begin_s <= TOGETHER_S
            if known is not None and near and partition not in known.partitions:
                known.partitions.append(partition)
                continue
            found.append(SharedHappening(one, [partition]))
            latest[one.kind, one.text] = found[-1]
        return found

    def where(self, told: SharedHappening) -> str:
        """Of which partitions it is said; empty where of all, or of the cluster as partition 0 tells it."""
        if told.happening.kind == "move":
            return ""
        return "" if len(told.partitions) == len(self.stories) else f"{partitions_named(told.partitions)}: "

    def as_data(self, cluster: str, notes: list[str]) -> RingTimelineAnswer:
        """For the JSON answer."""
        begin_s = self.any.begin_s
        each = {number: story.as_data() for number, story in self.stories.items()}
        return {
            "cluster": cluster,
            "notes": notes,
            "begin": timearguments.written(begin_s),
            "end": timearguments.written(self.any.end_s),
            "happenings": [
                {**one.happening.as_data(begin_s), "partitions": one.partitions} for one in self.told()
            ],
            "partitions": [
                {"id": number, "leaderless": data["leaderless"], "lanes": data["lanes"]}
                for number, data in each.items()
            ],
            "latency_ms": each[0]["latency_ms"],
            "acked_per_s": each[0]["acked_per_s"],
        }


def views(ring: RingStory, *, linear: bool = False) -> list[View]:
    """How long each partition had no leader, who led it, and the list."""
    whole = replace(
        ring.any,
        lanes={},
        leaderless=(),
        happenings=[
            replace(one.happening, text=f"{ring.where(one)}{one.happening.text}") for one in ring.told()
        ],
    )
    if not whole.happenings:
        return [Line("nothing happened that the logs tell of", Tone.DIM)]
    return [*_summary(ring), Line(""), _lanes(ring, whole, linear=linear), drawing.happenings(whole)]


def _summary(ring: RingStory) -> list[Line]:
    lost = {number: outages(story) for number, story in ring.stories.items() if story.leaderless}
    if not lost:
        return [Line("no time without a leader in any partition, as the nodes' logs tell", Tone.GOOD)]
    lines = [Line("without a leader, as the nodes' logs tell:", Tone.WARN)]
    for number, found in lost.items():
        longest = max(found, key=lambda one: one.seconds)
        times = "once" if len(found) == 1 else f"{len(found)} times, at most"
        at = time_of_day(longest.begin_s, ring.any)
        head = f"  partition {number}: {times} {duration(longest.seconds)}, at {at}  "
        lines.append(Line(head, Tone.BAD, [(longest.why, Tone.NORMAL)]))
    return lines


def _lanes(ring: RingStory, whole: Story, *, linear: bool) -> Lanes:
    """A row for each partition: which node led it."""
    story = replace(whole, lanes=ring.any.lanes)
    along = drawing.axis_of(story, linear=linear)
    rows = [(f"part. {number}", _led(one, along)) for number, one in ring.stories.items()]
    drawn = drawing.lane_view(whole, along, linear=linear)
    legend = [("1-9a-f", "the node that leads", Tone.GOOD)]
    if any(one.leaderless for one in ring.stories.values()):
        legend.append((drawing.LEADERLESS, "no leader that a majority follows", Tone.BAD))
    return replace(drawn, rows=[*rows, *drawn.rows], legend=[*legend, *drawn.legend])


def _led(story: Story, along: Axis) -> Sequence[Span]:
    found = [
        drawing.between(
            story, along, one.begin_s, one.end_s, (DIGITS[node % 16], Tone.GOOD, 2), f"node {node}"
        )
        for node, lane in story.lanes.items()
        for one in lane.stretches
        if one.state == LEADER and one.end_s >= story.begin_s
    ]
    gaps = [
        drawing.between(story, along, begin_s, end_s, (drawing.LEADERLESS, Tone.BAD, 3), "no leader")
        for begin_s, end_s in story.leaderless
    ]
    return [*found, *gaps]
