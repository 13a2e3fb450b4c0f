"""How far a run has come: what the events of its journal add up to.

Pure. The running playbook, `resume`, `abort`, `report` and the screen all see a run through this, so they
never disagree. Events: run-begins, session-begins, step-begins, step-captures, step-acts (the intent),
step-answers, step-ends, foreach, guard, audit, asked, note, verdict, undo-begins, undo-ends, session-ends.
Others are skipped: a newer esctl may have written them. Called by everything that runs or shows a run.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from esctl.playbook.journal import Event
from esctl.ui.values import Count, Seconds, UnixTime

EVERY_FAULT: Final = "*"
"""Among the faults that a step ends: all there are."""


class StepState(enum.StrEnum):
    """Where a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    """What it asks for could not be known."""
    SKIPPED = "skipped"
    CUT_OFF = "cut off"
    """It began, and nobody lived to see its end."""


class Undo(enum.StrEnum):
    """What has become of a step's undo."""

    NONE = "none"
    """There is nothing to undo: it did not begin, changes nothing, or is irreversible."""
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class RunVerdict(enum.StrEnum):
    """How a run ended."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class RunPlaybook(TypedDict):
    """The playbook that was run."""

    id: str
    version: str
    title: str
    digest: str
    path: str


class RunStep(TypedDict):
    """A step as it went; one inside a foreach has a row for each round."""

    step: str
    title: str
    kind: str
    state: StepState
    why: str
    begun: UnixTime | None
    seconds: Seconds | None
    attempts: Count
    commands: list[str]
    undo: Undo
    undo_why: str


class ExactlyOnceDoubts(TypedDict):
    """What an exactly-once check read; with doubts and without flaws it says no more."""

    conclusive: bool
    doubts: list[str]
    acked: Count
    events: Count
    nodes_read: Count
    flaws: list[str]


class ExactlyOnceFacts(ExactlyOnceDoubts):
    """What an exactly-once check found."""

    passed: bool
    acked_lost: Count
    duplicates: Count
    stored_again: Count
    reordered: Count
    changed: Count
    hashes_equal: bool


@dataclass(slots=True)
class StepRun:
    """One step as it went; one inside a `foreach` has a row for each round. Times: seconds since 1970."""

    id: str
    """In a round of a `foreach`, the step's id and the item: `stop-2`."""
    kind: str
    title: str = ""
    state: StepState = StepState.WAITING
    why: str = ""
    begun_s: float | None = None
    ended_s: float | None = None
    attempt: int = 0
    acts: bool = False
    """Its intent to change something is written."""
    temporary: bool = False
    """What it does is undone after a pass too."""
    commands: list[str] = field(default_factory=list)
    """As a person would type them."""
    faults: list[str] = field(default_factory=list)
    """The ids of the faults that it set, or meant to, and that were not undone."""
    heals: list[str] = field(default_factory=list)
    """The ids of the faults that it ends, or `EVERY_FAULT`."""
    loads: list[str] = field(default_factory=list)
    captured: dict[str, Any] = field(default_factory=dict)
    """All that was captured when it began, and what it captured itself."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    undo: Undo = Undo.NONE
    undo_why: str = ""
    undo_commands: list[str] = field(default_factory=list)
    order: int = -1
    """The event with its last intent: what began last is undone first."""

    def as_data(self) -> RunStep:
        """For the JSON answer and the report."""
        seconds = None
        if self.begun_s is not None and self.ended_s is not None:
            seconds = round(self.ended_s - self.begun_s, 3)
        return {
            "step": self.id,
            "title": self.title,
            "kind": self.kind,
            "state": self.state,
            "why": self.why,
            "begun": self.begun_s,
            "seconds": seconds,
            "attempts": self.attempt,
            "commands": self.commands,
            "undo": self.undo,
            "undo_why": self.undo_why,
        }


@dataclass(slots=True)
class GuardRun:
    """One guard as it went."""

    expr: str
    state: str = "not looked at"
    """`holds`, `breached`, `failing` (not long enough for a breach) or `unknown`."""
    text: str = ""
    history: list[tuple[float, str, str]] = field(default_factory=list)
    """When it changed, to what, and the values then."""


def _no_playbook() -> RunPlaybook:
    return {"id": "", "version": "", "title": "", "digest": "", "path": ""}


@dataclass(slots=True)
class RunProgress:
    """The whole run."""

    run: str = ""
    playbook: RunPlaybook = field(default_factory=_no_playbook)
    """Its id, version, title, digest."""
    cluster: str = ""
    identity: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    """The words that nodes were chosen by, by input."""
    max_duration_ms: int = 0
    rehearsal: bool = False
    steps: dict[str, StepRun] = field(default_factory=dict)
    guards: dict[str, GuardRun] = field(default_factory=dict)
    captured: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, list[Any]] = field(default_factory=dict)
    """What each foreach goes over."""
    answers: dict[str, str] = field(default_factory=dict)
    """What a person answered, by step."""
    notes: list[tuple[float, str, str]] = field(default_factory=list)
    exactly_once: ExactlyOnceFacts | ExactlyOnceDoubts | None = None
    """What the newest exactly-once check found."""
    verdict: RunVerdict | None = None
    why: str = ""
    sessions: list[list[Any]] = field(default_factory=list)
    """[why, begin, last event, how it ended or None], one for each process that drove the run."""

    @property
    def begun_s(self) -> float:
        """When the run began."""
        return float(self.sessions[0][1]) if self.sessions else 0.0

    @property
    def last_s(self) -> float:
        """When something was heard of it last."""
        return float(self.sessions[-1][2]) if self.sessions else 0.0

    @property
    def spent_ms(self) -> int:
        """For how long it was driven; the time between two sessions does not count."""
        return round(1000 * sum(float(last) - float(begin) for _, begin, last, _ in self.sessions))

    @property
    def pending(self) -> list[StepRun]:
        """Steps that are to be undone, the one that began last first."""
        wanted = [step for step in self.steps.values() if step.undo in (Undo.PENDING, Undo.FAILED)]
        return sorted(wanted, key=lambda step: step.order, reverse=True)

    @property
    def clean(self) -> bool:
        """Is nothing left that should be undone? After a pass only what is temporary is."""
        left = self.pending
        return not (any(step.temporary for step in left) if self.verdict is RunVerdict.PASS else left)

    @property
    def words(self) -> str:
        """Where the run is, in a word or two."""
        if self.verdict is not None:
            left = "" if self.clean else ", clean-up incomplete"
            return f"{self.verdict}{left}"
        return "cut off" if self.sessions and self.sessions[-1][3] is None else "stopped"

    def take(self, event: Event) -> None:
        """One more event."""
        at = float(event["at"])
        if self.sessions:
            self.sessions[-1][2] = at
        match event["event"]:
            case "run-begins":
                for name in ("run", "playbook", "cluster", "identity", "inputs", "max_duration_ms"):
                    setattr(self, name, event[name])
                self.rehearsal = bool(event.get("rehearsal"))
                self.chosen = event.get("chosen") or {}
            case "session-begins":
                self.cut_off()
                self.sessions.append([event["why"], at, at, None])
            case "session-ends":
                self.sessions[-1][3] = event["how"]
            case "step-begins" | "step-captures" | "step-acts" | "step-answers" | "step-ends":
                self._step(event, at)
            case "undo-begins" | "undo-ends":
                self._undo(event)
            case "foreach":
                self.rounds[event["step"]] = list(event["over"])
            case "audit":
                self.exactly_once = event["facts"]
            case "asked":
                self.answers[event["step"]] = event["answer"]
            case "note":
                self.notes.append((at, event["step"], event["text"]))
            case "guard":
                guard = self.guards.setdefault(event["expr"], GuardRun(event["expr"]))
                guard.state, guard.text = event["state"], event["text"]
                guard.history.append((at, guard.state, guard.text))
            case "verdict":
                self.verdict, self.why = RunVerdict(event["verdict"]), event["why"]

    def _step(self, event: Event, at: float) -> None:
        name = event["step"]
        step = self.steps.get(name)
        if step is None:
            step = self.steps[name] = StepRun(name, event.get("kind", ""), event.get("title", ""))
        match event["event"]:
            case "step-begins":
                step.state, step.why, step.begun_s, step.ended_s = StepState.RUNNING, "", at, None
                step.attempt, step.acts = event["attempt"], False
                step.captured = dict(self.captured)
            case "step-captures":
                step.captured.update(event["values"])
                self.captured.update(event["values"])
            case "step-acts":
                step.acts, step.temporary = event["changes"], event["temporary"]
                step.commands, step.answer = list(event["commands"]), {}
                step.faults = [*dict.fromkeys([*step.faults, *event["faults"]])]
                step.heals, step.loads = list(event["heals"]), list(event["loads"])
                if event["undo"]:
                    step.undo, step.undo_why, step.order = Undo.PENDING, "", event["n"]
            case "step-answers":
                step.answer = event["data"]
            case "step-ends":
                step.state, step.why, step.ended_s = StepState(event["state"]), event["why"], at
                for other in self.steps.values():
                    if other.undo is Undo.PENDING and ends(step, other):
                        other.undo, other.undo_why = Undo.DONE, f"by the step {step.id}"

    def _undo(self, event: Event) -> None:
        step = self.steps[event["step"]]
        step.undo_commands = list(event.get("commands", step.undo_commands))
        if event["event"] == "undo-ends":
            step.undo = Undo.DONE if event["ok"] else Undo.FAILED
            step.faults = [] if event["ok"] else step.faults
            step.undo_why = event["why"]

    def cut_off(self) -> None:
        """The process that drove it is gone: what it was at was cut off."""
        for step in self.steps.values():
            if step.state is StepState.RUNNING:
                step.state = StepState.CUT_OFF


def ends(step: StepRun, other: StepRun) -> bool:
    """Has `step` ended what `other` began: healed all of its faults, or stopped its load?"""
    if step.id == other.id or step.state is not StepState.PASSED:
        return False
    healed = bool(other.faults) and (EVERY_FAULT in step.heals or set(other.faults) <= set(step.heals))
    stopped = bool(other.loads) and not step.temporary and set(other.loads) <= set(step.loads)
    return healed or stopped


def progress_of(events: Iterable[Event], *, driven: bool = False) -> RunProgress:
    """What a journal adds up to, for those who did not write it. What runs in it is cut off, unless a process
    drives the run."""
    progress = RunProgress()
    for event in events:
        progress.take(event)
    if not driven:
        progress.cut_off()
    return progress
