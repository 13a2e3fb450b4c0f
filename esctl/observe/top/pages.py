"""The other pages of `esctl top`: a node, its log, what is wrong, live events, help.

Pure: views from a state and a size. What is longer than the screen is cut to what the operator has scrolled
to. Called by `esctl top`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from esctl.observe.logfilter import TONES
from esctl.observe.top import board, curves
from esctl.observe.top.board import broken
from esctl.observe.top.keys import TOLD, keys
from esctl.observe.top.rates import now
from esctl.observe.top.state import BoardState, Page
from esctl.ui.answer import Beside, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration, megabytes

HEAD_LINES: Final = 2
INDENT: Final = 16


def body(shown: BoardState, width: int, height: int) -> list[View]:
    """The page that is on the screen, but for its last lines."""
    if shown.page is Page.BOARD:
        return board.body(shown, width, height)
    room = max(1, height - HEAD_LINES - len(board.foot(shown, width)))
    if shown.page is Page.NODE:
        return [*_title(shown), *_node(shown, width, room)]
    lines = list(_lines(shown, width))
    most = max(0, len(lines) - room)
    shown.scroll = min(shown.scroll, most)
    at = most - shown.scroll if shown.page in (Page.LOG, Page.EVENTS) else shown.scroll
    return [*_title(shown), *lines[at : at + room]]


def _title(shown: BoardState) -> list[Line]:
    number, cluster = shown.selected, shown.survey.cluster.name
    more, part = "", f", partition {shown.survey.partition}" if shown.several else ""
    match shown.page:
        case Page.NODE:
            text = f"node {number} of {cluster}{part}"
        case Page.LOG:
            text = f"log of node {number}{part}"
            more = f"  {shown.scroll} lines from its end" if shown.scroll else "  as it is written"
        case Page.EVENTS:
            text, more = f"events as node {number} has them{part}", f"  {shown.events_of}"
        case Page.WHY:
            text = f"what is wrong with {cluster}"
            more = "  looked at every few seconds"
        case _:
            text = "keys and figures of esctl top"
    return [Line(text, Tone.STRONG, [(more, Tone.DIM)]), Line("")]


def _lines(shown: BoardState, width: int) -> Iterator[Line]:
    match shown.page:
        case Page.LOG:
            yield from (_log_line(shown, place) for place in range(len(shown.log)))
        case Page.EVENTS:
            yield from (_event(one.offset, one.event) for one in shown.events)
        case Page.WHY:
            yield from _why(shown, width)
        case _:
            yield from _help(shown, width)


def _log_line(shown: BoardState, place: int) -> Line:
    line = shown.log[place]
    tone = TONES.get(line.level, Tone.NORMAL)
    event, _, details = line.text.partition(" ")
    parts = [(f"{line.level:<8}", tone), (event, tone), (f" {details}", Tone.DIM)]
    return Line(f"{line.time[11:23]:<12} ", Tone.DIM, parts)


def _event(offset: int, event: dict[str, Any]) -> Line:
    names = [str(event.get(name, "-")) for name in ("source", "id", "type")]
    data = json.dumps(event.get("data"), default=str)
    parts = [(f"{' '.join(names)} ", Tone.NORMAL), (data, Tone.DIM)]
    return Line(f"{offset:>13,} ", Tone.ACCENT, parts)


def _why(shown: BoardState, width: int) -> Iterator[Line]:
    if shown.why is None:
        yield Line("looking ...", Tone.DIM)
    for view in shown.why or ():
        if isinstance(view, Line):
            yield from (Line(part, view.tone) for part in broken(view.text, width) or [""])


def _help(shown: BoardState, width: int) -> Iterator[Line]:
    listed = keys(several=shown.several)
    for pairs in (listed, TOLD):
        for name, words in pairs:
            first, *rest = broken(words, width - INDENT)
            yield Line(f"{name:<{INDENT}}", Tone.ACCENT, [(first, Tone.NORMAL)])
            yield from (Line(" " * INDENT + part) for part in rest)
        if pairs is listed:
            yield Line("what changes something shows the command that it runs, and asks", Tone.DIM)
            yield Line("")


# --- one node ----------------------------------------------------------------------------------------


def _node(shown: BoardState, width: int, room: int) -> list[View]:
    """What it says of itself beside its curves, and below it its links to the others."""
    fields = Fields(list(_fields(shown)))
    links = _links(shown)
    left = room - (len(links.rows) + 3 if links.rows else 0)
    charts = curves.of_node(shown.rates, shown.selected, width // 2)
    drawn = curves.grid(charts, curves.HALF - 1, left)
    views: list[View] = [Beside([[fields], drawn]) if drawn else fields]
    return [*views, Line(""), links] if links.rows else views


def _fields(shown: BoardState) -> Iterator[tuple[str, Value]]:
    report, track = shown.report, shown.rates.track(shown.selected)
    process, status = report.process, report.status or {}
    pid = f", process {process.pid}" if process.pid else ""
    since = f", up for {duration(process.uptime_s)}" if process.uptime_s is not None else ""
    yield "role", board.role(shown.survey, report)
    yield "process", f"{process.state}{pid}{since}"
    yield "clients", report.node.client
    if report.why:
        yield "silent", Cell(report.why, Tone.BAD)
    if not status:
        return
    lag = shown.survey.behind(report, "next_offset")
    yield "term", f"{status['term']}, leader {status.get('leader') or 'unknown'}"
    yield "events", f"{status['first_offset']:,} to {status['next_offset']:,}"
    yield "behind", f"{lag:,} events" if lag is not None else None
    yield "entries", f"{status['applied_index']:,} applied of {status['last_index']:,}"
    yield "memory", megabytes(report.number("rss_bytes"))
    cpu = now(track.cpu_percent)
    yield "processor", f"{cpu:.0f} %" if cpu is not None else None
    yield "disk", f"{status.get('storage')}, {megabytes(status.get('storage_bytes'))}"
    late_ms = status.get("disk_lag_ms")
    yield "disk late", Cell(f"{late_ms} ms", Tone.WARN) if late_ms else "no"
    dedup = status.get("dedup") or {}
    yield "keys", f"{dedup.get('live_keys', 0):,} known, {dedup.get('producers', 0):,} sessions"
    for fault in report.faults:
        left_s = int(fault["left_ms"]) / 1000
        yield "fault", Cell(f"{fault['kind']} ({fault['id']}), {duration(left_s)} left", Tone.BROKEN)


def _links(shown: BoardState) -> Table:
    """What it says of the others: all of them on the leader, whether they are connected on a follower."""
    report = shown.report
    last = report.number("last_index") or 0
    rows: list[Sequence[Value]] = []
    peers: dict[str, dict[str, Any]] = (report.status or {}).get("peers") or {}
    for number, link in sorted(peers.items(), key=lambda one: int(one[0])):
        connected = bool(link.get("connected"))
        match = link.get("match_index")
        refused = link.get("refused")
        rows.append([
            f"node {number}",
            Cell("yes" if connected else "no", Tone.NORMAL if connected else Tone.BAD),
            str(link.get("state") or "-"),
            max(0, last - int(match)) if match is not None else None,
            f"{int(link.get('outbox_bytes') or 0) / 1000:,.0f} kB",
            None if link.get("heard") is None else "yes" if link["heard"] else Cell("no", Tone.BAD),
            Cell(str(refused["reason"]), Tone.BAD) if refused else None,
        ])  # fmt: skip
    return Table(["peer", "connected", "state", "entries behind", "waits", "heard", "refused"], rows)
