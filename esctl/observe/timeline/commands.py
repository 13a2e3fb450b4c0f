"""What operators typed, as moments: from the audit log of a cluster, where there is one.

An entry without a time is skipped. Called by `esctl timeline`.
"""

from collections.abc import Iterator

from esctl.cli import timearguments
from esctl.cli.auditlog import AuditLog, Entry
from esctl.observe.timeline.moments import Moment, MomentKind


def read(cluster: str) -> list[Moment]:
    """All that the audit log of the cluster tells; nothing when there is none, or it cannot be read."""
    try:
        return [moment for entry in AuditLog(cluster).entries() for moment in _moments(entry)]
    except OSError:
        return []


def _moments(entry: Entry) -> Iterator[Moment]:
    at_s, code = timearguments.seconds(entry.time), entry.exit_code
    if at_s is None:
        return
    text = f"{entry.user}: {entry.line or entry.command}"
    yield Moment(at_s, None, MomentKind.COMMAND, text, {"step": entry.run, "user": entry.user})
    if code is not None and entry.seconds is not None:
        ended = "ok" if code == 0 else f"exit {code}"
        over = {"step": entry.run, "exit_code": code}
        yield Moment(at_s + entry.seconds, None, MomentKind.COMMAND_OVER, ended, over)
