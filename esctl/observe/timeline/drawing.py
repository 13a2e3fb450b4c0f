"""A story as views for the terminal: a lane for each node, one for what was done to them, and the list below.

Decides marks, tones and words; knows no terminal. Called by `esctl timeline`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from esctl.clusters import rolechanges
from esctl.observe.timeline import lanes
from esctl.observe.timeline.axis import Axis, axis
from esctl.observe.timeline.story import Story
from esctl.ui.answer import Cell, Lanes, Line, Span, Table, Tone, Value, View

MARKS: Final = {
    rolechanges.LEADER: ("█", Tone.GOOD, 2),
    rolechanges.FOLLOWER: ("─", Tone.ACCENT, 1),
    rolechanges.PRE_CANDIDATE: ("░", Tone.WARN, 3),
    rolechanges.CANDIDATE: ("▒", Tone.WARN, 4),
    lanes.PAUSED: ("z", Tone.BAD, 5),
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
    "election": Tone.GOOD, "fault": Tone.BAD, "pause": Tone.BAD, "failure": Tone.BAD, "restart": Tone.BAD,
    "down": Tone.BAD, "step-down": Tone.WARN, "attempt": Tone.WARN, "trouble": Tone.WARN, "repair": Tone.WARN,
    "step": Tone.ACCENT, "command": Tone.ACCENT, "transfer": Tone.ACCENT,
}  # fmt: skip
ACTIONS: Final = {
    "fault": ("faults", "a fault is active", "▓", Tone.BAD),
    "step": ("steps", "a step of the playbook", "=", Tone.ACCENT),
    "command": ("typed", "a command of an operator", "+", Tone.ACCENT),
}
"""What is done to a cluster, each sort in a row of its own: the row's name, what it means, its mark."""
LATENCY_MARKS: Final = "▁▂▃▄▅▆▇█"


def axis_of(story: Story, *, linear: bool = False) -> Axis:
    """On which everything that happened has a place of its own."""
    times = [one.begin_s for one in story.happenings]
    times += [one.end_s for one in story.happenings if one.end_s is not None]
    times += [s.begin_s for lane in story.lanes.values() for s in lane.stretches]
    return axis(times, story.begin_s, story.end_s, linear=linear)


def views(story: Story, *, linear: bool = False) -> list[View]:
    """The lanes, the list, and how long nobody led."""
    if not story.happenings:
        return [Line("nothing happened that the logs tell of", Tone.DIM)]
    shown: list[View] = [lane_view(story, axis_of(story, linear=linear), linear=linear), _list(story)]
    if story.leaderless:
        lengths = [end_s - begin_s for begin_s, end_s in story.leaderless]
        times = "once" if len(lengths) == 1 else f"{len(lengths)} times"
        text = f"without a leader {times}, {span(sum(lengths))} in all, {span(max(lengths))} at most"
        shown.append(Line(f"{text}, as the nodes' logs tell", Tone.WARN))
    return shown


def lane_view(story: Story, along: Axis, *, linear: bool = False) -> Lanes:
    """A row for each node, then what was done to them."""
    rows: list[tuple[str, Sequence[Span]]] = [
        (
            f"node {node}",
            [
                _between(story, along, one.begin_s, one.end_s, MARKS[one.state], one.state)
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
            _between(story, along, a, b, (LEADERLESS, Tone.BAD, 0), "no leader") for a, b in story.leaderless
        ]
        rows.append(("nobody", gaps))
        legend.append((LEADERLESS, "no leader that a majority follows", Tone.BAD))
    for kind, (name, words, mark, tone) in ACTIONS.items():
        found = [one for one in story.happenings if one.kind == kind]
        if found:
            ends = [story.end_s if one.end_s is None else one.end_s for one in found]
            rows.append((name, [_between(story, along, one.begin_s, end_s, (mark, tone, 0), one.text)
                                for one, end_s in zip(found, ends, strict=True)]))  # fmt: skip
            legend.append((mark, words, tone))
    if story.latency_ms:
        rows.append(("latency", _latency(story, along)))
        worst = max(value for _, value in story.latency_ms)
        legend.append((LATENCY_MARKS[-1], f"clients wait, at most {worst:,.0f} ms", Tone.NORMAL))
    ticks = [(along.place(one.begin_s), f"{one.begin_s - story.begin_s:+.1f}s") for one in story.happenings]
    end = f"{story.end_s - story.begin_s:+.1f}s"
    return Lanes(
        _title(story, linear=linear), rows, [(1.0, end), *ticks[:1], *_spread(ticks[1:], end)], legend
    )


def _spread(ticks: Sequence[tuple[float, str]], end: str) -> list[tuple[float, str]]:
    """Without those that would crowd out the end of the axis."""
    return [(place, text) for place, text in ticks if place < 1 - 0.02 * (len(end) + 1)]


def _title(story: Story, *, linear: bool) -> str:
    begun = datetime.fromtimestamp(story.begin_s, UTC)
    whole = f"{begun:%Y-%m-%d %H:%M:%S} UTC, and {span(story.end_s - story.begin_s)}"
    return whole if linear else f"{whole}; quiet times are drawn narrow"


def _between(
    story: Story, along: Axis, begin_s: float, end_s: float, look: tuple[str, Tone, int], what: str
) -> Span:
    mark, tone, weight = look
    cells = (what, f"{begin_s - story.begin_s:+.3f}", f"{end_s - story.begin_s:+.3f}")
    return Span(along.place(begin_s), along.place(end_s), mark, tone, weight, cells)


def _latency(story: Story, along: Axis) -> list[Span]:
    """How long clients waited, each time against the longest."""
    worst = max(value for _, value in story.latency_ms) or 1.0
    found = []
    for place, (at_s, value) in enumerate(story.latency_ms):
        after = story.latency_ms[place + 1][0] if place + 1 < len(story.latency_ms) else story.end_s
        height = min(len(LATENCY_MARKS) - 1, int(value / worst * len(LATENCY_MARKS)))
        look = (LATENCY_MARKS[height], Tone.NORMAL, height)
        found.append(_between(story, along, at_s, max(at_s, after), look, f"{value:g} ms"))
    return found


def _list(story: Story) -> Table:
    rows: list[list[Value]] = []
    for one in story.happenings:
        tone = TONES.get(one.kind, Tone.NORMAL)
        after = f"{one.begin_s - story.begin_s:+.3f}"
        length = Cell("goes on", tone) if one.seconds is None else span(one.seconds) if one.seconds else None
        rows.append([Cell(after, Tone.DIM), length, Cell(one.kind, tone), one.text])
    return Table(["s", "for", "what", ""], rows)


def span(seconds: float) -> str:
    """A duration for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
