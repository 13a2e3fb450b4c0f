"""A story as views for the terminal: a lane for each node, one for what was done to them, and the list below.

Decides marks, tones and words; knows no terminal. Called by `esctl timeline`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from esctl.clusters import rolechanges
from esctl.observe.timeline import lanes
from esctl.observe.timeline.outages import outages, spread, summary, time_of_day
from esctl.observe.timeline.story import Story
from esctl.ui.answer import Cell, Lanes, Line, Span, Table, Tone, Value, View
from esctl.ui.axis import Axis, axis
from esctl.ui.formatting import duration

MARKS: Final = {
    rolechanges.LEADER: ("█", Tone.GOOD, 2),
    rolechanges.FOLLOWER: ("─", Tone.ACCENT, 1),
    rolechanges.PRE_CANDIDATE: ("░", Tone.WARN, 3),
    rolechanges.CANDIDATE: ("▒", Tone.WARN, 4),
    lanes.PAUSED: ("z", Tone.PAUSED, 5),
    lanes.DOWN: ("x", Tone.BAD, 5),
    lanes.STARTING: (".", Tone.DIM, 4),
    lanes.UNKNOWN: (" ", Tone.DIM, 0),
}
"""The mark of each state, its tone, and its weight: what is rare and short wins a shared place."""
WORDS: Final = {
    rolechanges.LEADER: "leads", rolechanges.FOLLOWER: "follows",
    rolechanges.PRE_CANDIDATE: "asks whether it could lead", rolechanges.CANDIDATE: "asks for votes",
    lanes.PAUSED: "paused", lanes.DOWN: "down", lanes.STARTING: "starts",
}  # fmt: skip
LEADERLESS: Final = "!"
TONES: Final = {
    "election": Tone.GOOD, "fault": Tone.BROKEN, "pause": Tone.PAUSED, "failure": Tone.BAD,
    "restart": Tone.BAD, "down": Tone.BAD,
    "step-down": Tone.WARN, "attempt": Tone.WARN, "trouble": Tone.WARN, "repair": Tone.WARN,
    "step": Tone.ACCENT, "command": Tone.ACCENT, "transfer": Tone.ACCENT, "move": Tone.ACCENT,
}  # fmt: skip
ACTIONS: Final = {
    "fault": ("faults", "a fault is active", "▓", Tone.BROKEN),
    "step": ("steps", "a step of the playbook", "=", Tone.ACCENT),
    "command": ("typed", "a command of an operator", "+", Tone.ACCENT),
}
"""What is done to a cluster, each sort in a row of its own: the row's name, what it means, its mark."""
LATENCY_MARKS: Final = "▁▂▃▄▅▆▇█"
TICK_ROOM: Final = 0.13
"""What a time of day takes of an axis of 70 columns."""


def axis_of(story: Story, *, linear: bool = False) -> Axis:
    """On which everything that happened has a place of its own."""
    times = [one.begin_s for one in story.happenings]
    times += [one.end_s for one in story.happenings if one.end_s is not None]
    times += [s.begin_s for lane in story.lanes.values() for s in lane.stretches]
    return axis(times, story.begin_s, story.end_s, linear=linear)


def views(story: Story, *, linear: bool = False) -> list[View]:
    """How long nobody led and why, the lanes, the list."""
    if not story.happenings:
        return [Line("nothing happened that the logs tell of", Tone.DIM)]
    shown: list[View] = [Line(summary(story), Tone.WARN if story.leaderless else Tone.GOOD)]
    for one in outages(story):
        head = f"  {time_of_day(one.begin_s, story)}  {duration(one.seconds)}  "
        shown.append(Line(head, Tone.BAD, [(one.why, Tone.NORMAL)]))
    return [
        *shown,
        Line(""),
        lane_view(story, axis_of(story, linear=linear), linear=linear),
        happenings(story),
    ]


def lane_view(story: Story, along: Axis, *, linear: bool = False) -> Lanes:
    """A row for each node, then what was done to them."""
    rows: list[tuple[str, Sequence[Span]]] = [
        (
            f"node {node}",
            [
                between(story, along, one.begin_s, one.end_s, MARKS[one.state], one.state)
                for one in lane.stretches
                if one.end_s >= story.begin_s
            ],
        )
        for node, lane in story.lanes.items()
    ]
    used = {one.cells[0] for _, spans in rows for one in spans}
    legend = [(MARKS[state][0], words, MARKS[state][1]) for state, words in WORDS.items() if state in used]
    if story.leaderless:
        gaps = [
            between(story, along, a, b, (LEADERLESS, Tone.BAD, 0), "no leader") for a, b in story.leaderless
        ]
        rows.append(("nobody", gaps))
        legend.append((LEADERLESS, "no leader that a majority follows", Tone.BAD))
    for kind, (name, words, mark, tone) in ACTIONS.items():
        found = [one for one in story.happenings if one.kind == kind]
        if found:
            ends = [story.end_s if one.end_s is None else one.end_s for one in found]
            rows.append((name, [between(story, along, one.begin_s, end_s, (mark, tone, 0), one.text)
                                for one, end_s in zip(found, ends, strict=True)]))  # fmt: skip
            legend.append((mark, words, tone))
    if story.acked_per_s:
        rows.append(("acked/s", _heights(story, along, story.acked_per_s, " events/s", Tone.GOOD)))
        most = max(value for _, value in story.acked_per_s)
        legend.append((LATENCY_MARKS[-1], f"events acked a second, at most {most:,.0f}", Tone.GOOD))
    if story.latency_ms:
        rows.append(("latency", _heights(story, along, story.latency_ms, " ms", Tone.NORMAL)))
        worst = max(value for _, value in story.latency_ms)
        legend.append((LATENCY_MARKS[-1], f"clients wait, at most {worst:,.0f} ms", Tone.NORMAL))
    return Lanes(_title(story, linear=linear), rows, ticks_of(story, along, TICK_ROOM), legend)


def ticks_of(story: Story, along: Axis, least: float) -> list[tuple[float, str]]:
    """The time of day where something happened, of those closer than `least` the first."""
    times = {story.begin_s, story.end_s, *(max(story.begin_s, one.begin_s) for one in story.happenings)}
    places = [(along.place(at_s), time_of_day(at_s, story, short=True)) for at_s in times]
    return spread(places, least)


def _title(story: Story, *, linear: bool) -> str:
    begun = datetime.fromtimestamp(story.begin_s, UTC)
    whole = f"{begun:%Y-%m-%d %H:%M:%S} UTC, and {duration(story.end_s - story.begin_s)}"
    return whole if linear else f"{whole}; quiet times are drawn narrow"


def between(
    story: Story, along: Axis, begin_s: float, end_s: float, look: tuple[str, Tone, int], what: str
) -> Span:
    """A time on the axis, with its mark, tone and weight."""
    mark, tone, weight = look
    cells = (what, time_of_day(begin_s, story), time_of_day(end_s, story))
    return Span(along.place(begin_s), along.place(end_s), mark, tone, weight, cells)


def _heights(
    story: Story, along: Axis, samples: Sequence[tuple[float, float]], unit: str, tone: Tone
) -> list[Span]:
    """Samples as bars, each against the highest; what weighs most in a shared place is what was worst."""
    most = max(value for _, value in samples) or 1.0
    found = []
    for place, (at_s, value) in enumerate(samples):
        after = samples[place + 1][0] if place + 1 < len(samples) else story.end_s
        height = min(len(LATENCY_MARKS) - 1, int(value / most * len(LATENCY_MARKS)))
        weight = height if unit == " ms" else len(LATENCY_MARKS) - height
        look = (LATENCY_MARKS[height] if value else " ", tone, weight)
        found.append(between(story, along, at_s, max(at_s, after), look, f"{value:g}{unit}"))
    return found


def happenings(story: Story) -> Table:
    """What happened, in order."""
    rows: list[list[Value]] = []
    for one in story.happenings:
        tone = TONES.get(one.kind, Tone.NORMAL)
        at = time_of_day(one.begin_s, story)
        length = (
            Cell("goes on", tone) if one.seconds is None else duration(one.seconds) if one.seconds else None
        )
        rows.append([Cell(at, Tone.DIM), length, Cell(one.kind, tone), one.text])
    return Table(["time", "for", "what", ""], rows)
