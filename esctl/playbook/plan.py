"""The plan of a run: every step, the command it comes down to, how it is undone, what the quorum would be.

Computed from a playbook, its inputs and one look at the cluster; what is known only later stays a `${...}`.
The fingerprint is the cluster as the plan saw it: a run that finds another one refuses. Pure. Called by
`esctl playbook plan` and by the run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from esctl.playbook import clustervalues, expression, nesting, nodechoice, template
from esctl.playbook.commands import command_of, shown
from esctl.playbook.forecast import Forecast, Outlook
from esctl.playbook.schema import Action, ActionKind, InputType, Playbook, Scalar, Step
from esctl.playbook.stepkinds import NESTING
from esctl.playbookerrors import InvalidPlan, NotEvaluable
from esctl.ui.duration import Duration

if TYPE_CHECKING:
    from esctl.playbook.answers import FingerprintData, PlanAnswer, PlannedStepData
    from esctl.query.survey import Survey

SCHEMA: Final = "esctl.plan/v1"
SECRET: Final = "(secret)"  # noqa: S105  # what is shown in the place of one


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The cluster as the plan saw it. Who leads is told and not held to: it may change by itself."""

    identity: str
    voters: tuple[int, ...]
    up: tuple[int, ...]
    leader: int | None

    @classmethod
    def of(cls, survey: "Survey") -> "Fingerprint":
        """As it is now."""
        leader = survey.leader.node.id if survey.leader is not None else None
        up = tuple(report.node.id for report in survey.up)
        return cls(survey.cluster.identity, tuple(clustervalues.voters_of(survey)), up, leader)

    def differences(self, now: "Fingerprint") -> list[str]:
        """What is no longer as it was, in words; empty when the plan still stands."""
        found = []
        if now.identity != self.identity:
            found.append(f"it is another cluster: {now.identity}, not {self.identity}")
        for what, before, after in (("votes", self.voters, now.voters), ("answers", self.up, now.up)):
            found += [f"node {node} {what} no longer" for node in before if node not in after]
            found += [f"node {node} {what} now" for node in after if node not in before]
        return found

    def as_data(self) -> "FingerprintData":
        """For the JSON answer and for a saved plan."""
        return {
            "identity": self.identity,
            "voters": list(self.voters),
            "up": list(self.up),
            "leader": self.leader,
        }

    @classmethod
    def from_data(cls, data: Any) -> "Fingerprint":
        """Raises `InvalidPlan`."""
        try:
            leader = data["leader"]
            return cls(
                str(data["identity"]),
                tuple(int(number) for number in data["voters"]),
                tuple(int(number) for number in data["up"]),
                None if leader is None else int(leader),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidPlan(f"the plan has no fingerprint of a cluster: {error!r}") from error


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as it would be done. `depth` counts the steps around it."""

    step: Step
    depth: int
    words: tuple[str, ...]
    command: str
    undo: str
    quorum: Outlook | None

    def as_data(self) -> "PlannedStepData":
        """For the JSON answer."""
        step = self.step
        return {
            "id": step.id,
            "title": step.title or None,
            "kind": step.action.kind,
            "impact": step.impact,
            "depth": self.depth,
            "argv": list(self.words),
            "command": self.command or None,
            "when": step.when or None,
            "pre": list(step.pre),
            "expect": list(step.expect),
            "confirm": step.confirm or None,
            "undo": self.undo or None,
            "irreversible": step.irreversible,
            "quorum": self.quorum.as_data() if self.quorum is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole. `unmet` is what the playbook requires and the cluster is not."""

    playbook: Playbook
    inputs: Mapping[str, Scalar]
    """A node is its number here, whatever word was given."""
    chosen: Mapping[str, str]
    """The words that nodes were chosen by, by input."""
    steps: Sequence[PlannedStep]
    unmet: Sequence[str]
    fingerprint: Fingerprint | None

    @property
    def keeps_quorum(self) -> bool:
        """Is there a quorum after every step?"""
        return all(one.quorum is None or one.quorum.kept for one in self.steps)

    def as_data(self) -> "PlanAnswer":
        """For the JSON answer and for a saved plan. A secret is not in it."""
        book = self.playbook
        return {
            "schema": "esctl.plan/v1",
            "playbook": book.id,
            "version": book.version,
            "title": book.title,
            "risk": book.risk,
            "digest": book.digest,
            "path": book.path,
            "max_duration_ms": book.max_duration_ms,
            "inputs": shown_inputs(book, self.inputs),
            "chosen": dict(self.chosen),
            "unmet": list(self.unmet),
            "keeps_quorum": self.keeps_quorum,
            "steps": [one.as_data() for one in self.steps],
            "fingerprint": self.fingerprint.as_data() if self.fingerprint is not None else None,
        }


def plan(playbook: Playbook, inputs: Mapping[str, Scalar], survey: "Survey | None") -> Plan:
    """Without a survey, for a playbook that makes a cluster, nothing is said of a quorum.

    Raises `UnplannableStep` for a step that makes no sense here, and where no node is what an input asks for.
    """
    chosen = nodechoice.words_of(playbook, inputs)
    inputs = {**inputs, **nodechoice.chosen(chosen, survey)}
    planner = _Planner(playbook, inputs, survey)
    steps = tuple(planner.steps(playbook.steps, 0))
    fingerprint = Fingerprint.of(survey) if survey is not None else None
    return Plan(playbook, inputs, chosen, steps, unmet(playbook, survey), fingerprint)


def unmet(playbook: Playbook, survey: "Survey | None") -> list[str]:
    """What `requires` wants and the cluster is not, in words."""
    wanted, found = playbook.requires, list[str]()
    if survey is None:
        return [f"it wants a cluster of {wanted.nodes} nodes, and there is none"] if wanted.nodes else []
    nodes, backend = len(survey.cluster.nodes), survey.cluster.backend
    if nodes < wanted.nodes:
        found.append(f"it wants {wanted.nodes} nodes, and {survey.cluster.name} has {nodes}")
    if wanted.backends and backend not in wanted.backends:
        found.append(f"it wants the backend {' or '.join(wanted.backends)}, and this is {backend}")
    closed = [r.node.id for r in survey.up if not (r.status or {}).get("faults_allowed")]
    if wanted.faults and closed:
        names = ", ".join(map(str, closed))
        found.append(f"it injects faults, and node {names} was started without faults allowed")
    return found


def shown_inputs(playbook: Playbook, inputs: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The inputs as a file or a screen may have them: a duration as it is typed, and no secret."""
    return {
        name: str(value) if isinstance(value, Duration) else value
        for name, value in without_secrets(playbook, inputs).items()
    }


def without_secrets(playbook: Playbook, inputs: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The inputs, with a word in the place of each secret."""
    secret = {spec.name for spec in playbook.inputs if spec.type is InputType.SECRET}
    return {name: SECRET if name in secret else value for name, value in inputs.items()}


class _Planner:
    """Goes through the steps with the picture of the cluster and what is captured so far."""

    def __init__(self, playbook: Playbook, inputs: Mapping[str, Scalar], survey: "Survey | None") -> None:
        self._values: dict[str, Any] = {"inputs": without_secrets(playbook, inputs), "captured": {}}
        self._picture: Forecast | None = None
        if survey is not None:
            status = clustervalues.status(survey)
            self._values |= {"status": status, "cluster": clustervalues.cluster(survey)}
            voters = tuple(status["voters"])
            self._picture = Forecast(voters, status["leader"], frozenset(voters) - frozenset(status["up"]))

    def steps(self, steps: Sequence[Step], depth: int) -> Iterator[PlannedStep]:
        for step in steps:
            self._capture(step)
            yield self._planned(step, depth)
            for inside in self._inside(step):
                yield from self.steps(inside, depth + 1)

    def _inside(self, step: Step) -> Sequence[Sequence[Step]]:
        if step.action.kind is not ActionKind.FOREACH:
            return [step.steps]
        try:
            return nesting.rounds(step, nesting.items_of(step, self._values))
        except NotEvaluable:
            return [step.steps]  # what it goes through is known only then

    def _capture(self, step: Step) -> None:
        """As far as it can be known now; what was captured under this name before is not it any more."""
        for name, text in step.capture.items():
            self._values["captured"].pop(name, None)
            try:
                self._values["captured"][name] = expression.parse(text).evaluate(self._values)
            except NotEvaluable:
                continue

    def _planned(self, step: Step, depth: int) -> PlannedStep:
        action = self._filled(step.action)
        undo = self._filled(step.undo) if step.undo is not None else None
        outlook = None
        if self._picture is not None and action.kind not in NESTING:
            self._picture, outlook = self._picture.after(step.id, action)
        title, doc, confirm = (self._text(text) for text in (step.title, step.doc, step.confirm))
        done = replace(step, action=action, undo=undo, title=title, doc=doc, confirm=confirm)
        return PlannedStep(
            done, depth, tuple(command_of(action)), _shown(action), _shown(undo) if undo else "", outlook
        )

    def _filled(self, action: Action) -> Action:
        return Action(action.kind, template.fill_known(action.arguments, self._values))

    def _text(self, text: str) -> str:
        return str(template.fill_known(text, self._values))


def _shown(action: Action) -> str:
    """The command; a heal names the step until its fault has an id."""
    if action.kind is ActionKind.HEAL and "fault" in action.arguments:
        return f"esctl fault heal (the fault of {action.arguments['fault']})"
    return shown(action)
