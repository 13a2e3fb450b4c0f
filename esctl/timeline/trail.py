"""What operators typed, as moments: from the audit trail of a cluster, where there is one.

`$XDG_STATE_HOME/esctl/audit/NAME.jsonl` has one JSON object a line: an intent before a command acts (`run`,
`time`, `user`, `line`), and an outcome after it (`run`, `time`, `exit_code`). Lines that are not as expected
are skipped. Called by `esctl timeline`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esctl import instant, state
from esctl.timeline.moments import Kind, Moment


def read(cluster: str) -> list[Moment]:
    """All that the trail of the cluster tells; nothing when there is none, or it cannot be read."""
    path = state.clusters_root().parent / "audit" / f"{cluster}.jsonl"
    return [moment for record in _records(path) for moment in [_moment(record)] if moment is not None]


def _moment(record: dict[str, Any]) -> Moment | None:
    at_s, run = instant.seconds(str(record.get("time"))), record.get("run")
    if at_s is None or not isinstance(run, str):
        return None
    match record.get("what"):
        case "intent":
            text = f"{record.get('user')}: {record.get('line') or record.get('command')}"
            return Moment(at_s, None, Kind.COMMAND, text, {"step": run, "user": record.get("user")})
        case "outcome":
            code = record.get("exit_code")
            ended = "ok" if code == 0 else f"exit {code}"
            return Moment(at_s, None, Kind.COMMAND_OVER, ended, {"step": run, "exit_code": code})
        case _:
            return None


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError:
        return
    for raw in data.splitlines():
        try:
            record = json.loads(raw)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record
