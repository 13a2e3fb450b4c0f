"""What a playbook is made of: head, inputs, guards and steps, as frozen values.

Pure and without behaviour: a reader makes these of a TOML file and refuses what does not fit,
a linter says what is unwise, a plan and a run follow them. Expressions stay texts here; they have
a grammar of their own. Durations are milliseconds. Called by everything in `esctl/playbook`.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA: Final = "esctl.playbook/v1"

Scalar = str | int | float | bool | None
"""What an input, a captured value and an expression can be."""


class Risk(enum.StrEnum):
    """What can go wrong when the playbook itself goes well."""

    LOW = "low"
    MODERATE = "moderate"
    SEVERE = "severe"


class Impact(enum.StrEnum):
    """What a step does to the cluster."""

    READS = "ro"
    WRITES = "rw"
    DESTROYS = "destructive"


class InputType(enum.StrEnum):
    """What an input takes."""

    NODE = "node"
    INT = "int"
    DURATION = "duration"
    ENUM = "enum"
    STRING = "string"
    SECRET = "secret"  # noqa: S105  # a name of a type, not a password


class ActionKind(enum.StrEnum):
    """What a step is; `undo` has one too."""

    CHECK = "check"
    ASSERT = "assert"
    ESCTL = "esctl"
    FAULT = "fault"
    HEAL = "heal"
    WAIT = "wait"
    BENCH = "bench"
    BACKUP = "backup"
    APPROVE = "approve"
    ASK = "ask"
    HTTP = "http"
    FOREACH = "foreach"
    INCLUDE = "include"
    NOTE = "note"


class OnFail(enum.StrEnum):
    """What follows when a step fails."""

    ROLLBACK = "rollback"
    STOP = "stop"
    CONTINUE = "continue"
    ASK = "ask"


class OnBreach(enum.StrEnum):
    """What follows when a guard no longer holds."""

    ROLLBACK = "rollback"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Requires:
    """What the cluster must be for the playbook to make sense."""

    nodes: int = 1
    """At least so many."""
    backends: tuple[str, ...] = ()
    """On one of these; empty: on any."""
    faults: bool = False
    """Nodes that may be broken on purpose."""


@dataclass(frozen=True, slots=True)
class Input:
    """What the operator may or must say before a run. Without a default it must."""

    name: str
    type: InputType
    help: str = ""
    default: Scalar = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that is watched all along. A breach is one that lasts `for_ms`."""

    expr: str
    every_ms: int = 500
    for_ms: int = 0
    on_breach: OnBreach = OnBreach.ROLLBACK


@dataclass(frozen=True, slots=True)
class Action:
    """A kind and its arguments (`with`), which may hold `${inputs.name}` and `${captured.name}`."""

    kind: ActionKind
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an action is tried, and the pause between two tries."""

    attempts: int = 1
    every_ms: int = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `steps` are those inside a `foreach` or an `include`."""

    id: str
    action: Action
    impact: Impact
    title: str = ""
    doc: str = ""
    when: str = ""
    """Do it only if this holds; empty: always."""
    pre: tuple[str, ...] = ()
    """What must hold before, or the step fails without having acted."""
    expect: tuple[str, ...] = ()
    """What must hold afterwards, within `timeout_ms`."""
    timeout_ms: int = 60_000
    retry: Retry = field(default_factory=Retry)
    capture: Mapping[str, str] = field(default_factory=dict)
    """Names to the expressions whose values they keep, taken before the step acts."""
    confirm: str = ""
    """The question that a person must answer with yes; empty: none."""
    undo: Action | None = None
    irreversible: bool = False
    on_fail: OnFail = OnFail.ROLLBACK
    steps: tuple["Step", ...] = ()


@dataclass(frozen=True, slots=True)
class Playbook:
    """A whole playbook. `digest` is the SHA-256 of the file, in hex; `path` is where it was read."""

    id: str
    version: str
    title: str
    risk: Risk
    max_duration_ms: int
    steps: tuple[Step, ...]
    doc: str = ""
    requires: Requires = field(default_factory=Requires)
    lock: bool = True
    """Whether the cluster's lock is held for the whole run."""
    inputs: tuple[Input, ...] = ()
    guards: tuple[Guard, ...] = ()
    path: str = ""
    digest: str = ""
