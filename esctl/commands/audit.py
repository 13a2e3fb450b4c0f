"""`esctl audit`: who ran which command that changes something, when, and how it ended.

Reads the audit log of a cluster, also of one that was destroyed; `--verify` says whether it was edited.
Changes nothing, and is in no audit log itself.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, TypedDict

import typer

from esctl.cli import auditlog, timearguments
from esctl.cli.auditlog import AuditLog, Break, Entry
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import state
from esctl.errors import AuditBroken, Inconclusive, NoCluster, SeveralClusters
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration
from esctl.ui.values import Count, ErrorCode, FilePath, Seconds

app = new_typer()
_DAMAGE_SHOWN: Final = 5
AuditLogName = Annotated[str, "A cluster's name; _machine is the audit log of what is about none"]


class EntryData(TypedDict):
    """A command that was run; null of how it ended is not noted."""

    run: str
    time: str
    user: str
    host: str
    pid: int
    cluster: AuditLogName
    command: str
    line: str
    exit_code: int | None
    error: ErrorCode | None
    seconds: Seconds | None


class EntriesAnswer(TypedDict):
    """The commands that were asked for."""

    cluster: AuditLogName
    file: FilePath
    entries: list[EntryData]


class BreakData(TypedDict):
    """A line that does not follow the one before it."""

    line: Annotated[int, ("minimum", 1)]
    what: str


class IntactAnswer(TypedDict):
    """Whether the audit log was edited."""

    cluster: AuditLogName
    file: FilePath
    lines: Count
    intact: bool
    breaks: list[BreakData]


@command(app, "audit", partitions=True)
def audit(
    run: Invocation,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Start time: 2h ago, or 2026-01-31T04:00Z")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Show only the commands of this user")
    ] = None,
    machine: Annotated[
        bool,
        typer.Option(
            "--machine",
            help="Show the commands that concern no cluster, such as changes of the configuration",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check whether lines of the audit log were edited or removed, and where"
        ),
    ] = False,
) -> Answer[EntriesAnswer | IntactAnswer]:
    """Show who changed what: commands, users, times and outcomes"""
    wanted = AuditLog(auditlog.MACHINE if machine else _name(run))
    if verify:
        return _verified(wanted)
    begin_s = timearguments.moment(since, datetime.now(UTC)).timestamp() if since is not None else None
    entries = [
        entry
        for entry in wanted.entries()
        if (user is None or user in entry.user.split()) and (begin_s is None or _at_s(entry) >= begin_s)
    ]
    data: EntriesAnswer = {
        "cluster": wanted.name,
        "file": str(wanted.path),
        "entries": [_entry_data(entry) for entry in entries],
    }
    rows: list[list[Value]] = [
        [entry.time[:19].replace("T", " "), entry.user, entry.line, _outcome(entry)] for entry in entries
    ]
    return Answer(data, [Table(["time (UTC)", "user", "command", "outcome"], rows, empty="nothing yet")])


def _name(run: Invocation) -> str:
    """The cluster that is asked about; one that was destroyed has an audit log, too."""
    known = auditlog.names()
    if run.cluster_name in known:
        return run.cluster_name
    try:
        return run.cluster().name
    except (NoCluster, SeveralClusters):
        left = [name for name in known if name != auditlog.MACHINE]
        if run.cluster_name is None and len(left) == 1 and not state.names():
            return left[0]
        raise


def _at_s(entry: Entry) -> float:
    """Seconds since 1970; a record without a time is older than any."""
    return timearguments.seconds(entry.time) or 0.0


def _outcome(entry: Entry) -> Cell:
    if entry.exit_code is None:
        return Cell("not noted: killed, or it runs still", Tone.WARN)
    if entry.exit_code == Exit.OK:
        return Cell(f"done in {duration(entry.seconds or 0)}", Tone.GOOD)
    return Cell(f"exit {entry.exit_code} {entry.error or ''}".rstrip(), Tone.BAD)


def _entry_data(entry: Entry) -> EntryData:
    return {
        "run": entry.run,
        "time": entry.time,
        "user": entry.user,
        "host": entry.host,
        "pid": entry.pid,
        "cluster": entry.cluster,
        "command": entry.command,
        "line": entry.line,
        "exit_code": entry.exit_code,
        "error": entry.error,
        "seconds": entry.seconds,
    }


def _verified(wanted: AuditLog) -> Answer[IntactAnswer]:
    breaks, lines = wanted.breaks(), sum(1 for _ in wanted.lines())
    data: IntactAnswer = {
        "cluster": wanted.name,
        "file": str(wanted.path),
        "lines": lines,
        "intact": not breaks,
        "breaks": [{"line": one.line, "what": one.what} for one in breaks],
    }
    if not lines:
        nothing = Inconclusive(f"{wanted.path} has no line", next_step="esctl cluster ls")
        return Answer(data, [], [Trouble.of(nothing)], exit_of(Inconclusive))
    if not breaks:
        whole = Line(
            f"{lines:,} lines, each follows the one before it; a cut at the end would not show", Tone.GOOD
        )
        return Answer(data, [whole])
    views: list[View] = [Line(_said(one), Tone.BAD) for one in breaks[:_DAMAGE_SHOWN]]
    what = f"{len(breaks)} of {lines} lines of {wanted.path} are not what was written"
    trouble = Trouble(AuditBroken.code, what, _said(breaks[0]), AuditBroken.next_step)
    return Answer(data, views, [trouble], exit_of(AuditBroken))


def _said(one: Break) -> str:
    return f"line {one.line} {one.what}"
