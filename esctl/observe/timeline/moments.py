"""A line of a node's log as a moment: when, where, of which kind, and what it says in plain words.

Knows every event that `esnode` writes, by name: those that tell something, and those that would only be in
the way. An event that it does not know is a moment when it is a warning or worse. A line that is not as
expected is never an error here: it comes from a file. Pure. Called by `story.py` and `esctl timeline`.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from esctl.cli import timearguments
from esctl.clusters import rolechanges
from esctl.clusters.nodelog import RAW, LogLine, whole
from esctl.clusters.rolechanges import ElectionNews
from esctl.ui.formatting import duration


class MomentKind(enum.StrEnum):
    """What sort of thing happened."""

    OPENED = "opened"
    """A process began, and opened its storage."""
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    STALLED = "stalled"
    """A process did nothing for a while, and goes on."""
    ROLE = "role"
    VOTE = "vote"
    COMMIT = "commit"
    """The first of a new leader."""
    GONE = "gone"
    """A node says that another one's connection has ended."""
    FAULT = "fault"
    FAULT_OVER = "fault-over"
    TRANSFER = "transfer"
    TRANSFERRED = "transferred"
    SNAPSHOT = "snapshot"
    INSTALLED = "installed"
    CUT = "cut"
    """Retention has cut the log's prefix."""
    REPAIR = "repair"
    REPAIRED = "repaired"
    MOVE = "move"
    """Of sources, to other partitions: the node that leads partition 0 begins it, or goes on with it."""
    MOVED = "moved"
    SWITCHED = "switched"
    """A partition goes by another ring."""
    STEP = "step"
    """Of a playbook."""
    STEP_OVER = "step-over"
    COMMAND = "command"
    """Typed by an operator."""
    COMMAND_OVER = "command-over"
    RUN = "run"
    """A playbook's run begins or ends."""
    TROUBLE = "trouble"
    """A warning or an error of any other kind."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened."""

    at_s: float
    """Seconds since 1970, on the clock of the machine that wrote it."""
    node: int | None
    """Whose log says so; None for what is no node's."""
    kind: MomentKind
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    news: ElectionNews | None = None
    """What it tells of elections."""

    def number(self, name: str) -> int | None:
        """A whole number of its details; None where there is none."""
        return whole(self.details.get(name))

    def word(self, name: str) -> str:
        """A text of its details; empty where there is none."""
        value = self.details.get(name)
        return value if isinstance(value, str) else ""


Fields = Mapping[str, Any]
Telling = tuple[MomentKind, Callable[[Fields], str]]


def moments(lines: Iterable[LogLine]) -> Iterator[Moment]:
    """Those that the lines tell of, in the order of the lines."""
    for line in lines:
        moment = moment_of(line)
        if moment is not None:
            yield moment


def moment_of(line: LogLine) -> Moment | None:
    """What the line tells; None when it tells nothing that belongs on a timeline, or not when it was."""
    at_s = timearguments.seconds(line.time)
    if at_s is None or line.event == RAW:
        return None
    known = _TELLINGS.get(line.event)
    if known is not None:
        kind, telling = known
        return Moment(at_s, line.node, kind, telling(line.fields), line.fields, rolechanges.news_of(line))
    quiet = line.event in LEFT_OUT and line.level == "warning"
    if line.level in ("info", "debug") or quiet:
        return None
    reason = line.fields.get("reason")
    told = f"{line.event.replace('_', ' ')}: {reason}" if reason else line.text.replace("_", " ")
    return Moment(at_s, line.node, MomentKind.TROUBLE, told, line.fields)


def _says(text: str) -> Callable[[Fields], str]:
    return lambda _: text


def _with(text: str, name: str) -> Callable[[Fields], str]:
    return lambda fields: text.format(fields.get(name))


def _role(fields: Fields) -> str:
    return f"{fields.get('role')} in term {fields.get('new_term')}"


def _failure(fields: Fields) -> str:
    return f"fails: {fields.get('code')}: {fields.get('reason')}"


def _fault(fields: Fields) -> str:
    peers = fields.get("peers")
    towards = f" towards {_list(peers)}" if isinstance(peers, list) and peers else ""
    parameters = fields.get("parameters")
    words = ""
    if isinstance(parameters, dict):
        words = "".join(f" {name}={value}" for name, value in parameters.items() if value)
    return f"{fields.get('kind')}{words}{towards}"


def _transfer(fields: Fields) -> str:
    to = fields.get("to")
    return f"hands the leadership to {f'node {to}' if to is not None else 'the best follower'}"


def _behind(fields: Fields) -> str:
    return f"has a slow disk, {fields.get('lag_ms')} ms behind the others, and {_transfer(fields)}"


def _full_window(fields: Fields) -> str:
    does = "refuses new events" if fields.get("when_full") == "refuse" else "forgets keys before their time"
    return f"{does}: its deduplication window is full, with {fields.get('live_keys')} keys"


def _ended_process(fields: Fields) -> str:
    how = fields.get("signal") or f"exit code {fields.get('exit_code')}"
    return f"its process has ended ({how}); its supervisor starts another one"


def _moved(fields: Fields) -> str:
    keys, took_ms, waited_ms = (
        whole(fields.get(name)) or 0 for name in ("moved_keys", "took_ms", "waited_ms")
    )
    took = f"{keys:,} keys copied in {duration(took_ms / 1000)}"
    return f"{took}, and moving sources waited {duration(waited_ms / 1000)}"


def _ring(text: str) -> Callable[[Fields], str]:
    return lambda fields: text.format(fields.get("partitions"), fields.get("version"))


def _list(values: list[object]) -> str:
    return ", ".join(map(str, values))


_TELLINGS: Final[Mapping[str, Telling]] = {
    "storage_opened": (MomentKind.OPENED, _says("begins")),
    "node_started": (MomentKind.STARTED, _with("is there, with {} events", "next_offset")),
    "node_stopping": (MomentKind.STOPPING, _with("is asked to stop ({})", "signal")),
    "node_stopped": (MomentKind.STOPPED, _says("has stopped")),
    "node_failed": (MomentKind.FAILED, _failure),
    "node_stalled": (MomentKind.STALLED, _with("did nothing for {} ms", "stalled_ms")),
    "state_changed": (MomentKind.ROLE, _role),
    "vote_cast": (MomentKind.VOTE, _with("votes for node {}", "vote")),
    "first_commit": (MomentKind.COMMIT, _with("commits in term {}", "new_term")),
    "peer_closed": (MomentKind.GONE, _with("hears no more of node {}", "peer")),
    "fault_set": (MomentKind.FAULT, _fault),
    "fault_healed": (MomentKind.FAULT_OVER, _says("healed")),
    "fault_expired": (MomentKind.FAULT_OVER, _says("expired")),
    "disk_behind": (MomentKind.TRANSFER, _behind),
    "transfer_asked": (MomentKind.TRANSFER, _transfer),
    "transfer_done": (MomentKind.TRANSFERRED, _with("node {} has taken over", "to")),
    "transfer_failed": (MomentKind.TRANSFERRED, _says("nobody has taken over in time")),
    "snapshot_sending": (MomentKind.SNAPSHOT, _with("sends node {} a snapshot", "peer")),
    "snapshot_installed": (
        MomentKind.INSTALLED,
        _with("has taken a snapshot up to offset {}", "next_offset"),
    ),
    "prefix_cut": (MomentKind.CUT, _with("cuts its log: the first event kept is {}", "first_offset")),
    "window_full": (MomentKind.TROUBLE, _full_window),
    "rejoin_begun": (MomentKind.REPAIR, _with("cannot trust its disk, and rejoins: {}", "reason")),
    "index_discarded": (MomentKind.REPAIR, _with("makes an index of its keys anew: {}", "reason")),
    "rejoin_done": (MomentKind.REPAIRED, _says("has rejoined")),
    "ring_plan_begun": (MomentKind.MOVE, _ring("sources move to {} partitions, by the ring of version {}")),
    "ring_plan_ended": (MomentKind.MOVED, _moved),
    "ring_changed": (MomentKind.SWITCHED, _ring("switch to the ring of {} partitions, version {}")),
    "partition_ended": (MomentKind.TROUBLE, _ended_process),
    "copy_trusted": (MomentKind.REPAIR, _with("trusts a copy of its directory: {}", "reason")),
}
LEFT_OUT: Final = frozenset(
    {
        "savepoint_loaded", "snapshot_loaded", "log_replayed", "keys_indexed", "log_checked",  # a start
        "peer_connected", "peer_unreachable", "peer_left", "peer_noted", "peers_asked", "snapshot_sent",
        "keys_missing", "client_dropped", "connection_left", "window_has_room",
        "ring_step_failed",
    }
)  # fmt: skip
"""Written often, and told better by something else: not even their warnings are moments, their errors are."""
KNOWN: Final = frozenset(_TELLINGS) | LEFT_OUT | {
    "savepoint_unusable", "left_to_the_next_start", "peer_dropped", "client_refused", "handshakes_displaced",
    "history_conflict", "connection_refused", "supervisor_started", "supervisor_gone",
    "partition_started", "partition_killed",
}  # fmt: skip
"""Every event that a node writes."""
