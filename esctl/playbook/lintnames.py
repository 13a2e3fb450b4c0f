"""What a playbook reads and where: each name is there, was captured before, is compared with its own type.

Walks the steps in the order in which they are done and remembers what is known at each. Pure. Called by
`lint.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from esctl.playbook import expression, names, template
from esctl.playbook.lintrules import LintFinding
from esctl.playbook.nesting import DEFAULT_ITEM, in_a_row
from esctl.playbook.schema import Action, ActionKind, Input, InputType, Playbook, Step
from esctl.playbook.types import Type
from esctl.playbookerrors import NotEvaluable, UnknownValue

_TYPES: Final = {
    InputType.NODE: Type.NUMBER,
    InputType.INT: Type.NUMBER,
    InputType.DURATION: Type.NUMBER,
    InputType.ENUM: Type.TEXT,
    InputType.STRING: Type.TEXT,
    InputType.SECRET: Type.TEXT,
}
_CHANGING: Final = frozenset({"status", "health", "faults", "load"})
_ANSWERED_BY: Final = {"fault": {ActionKind.FAULT}, "bench": {ActionKind.BENCH}}
_DUMB: Final = frozenset(
    {
        ActionKind.CHECK,
        ActionKind.ASSERT,
        ActionKind.WAIT,
        ActionKind.NOTE,
        ActionKind.APPROVE,
        ActionKind.ASK,
    }
)
"""Kinds with no command that could answer."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is known where a step stands."""

    playbook: Playbook
    captured: Mapping[str, Type]
    steps: frozenset[str] = frozenset()
    faults: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    load: bool = False

    def with_own(self, step: Step) -> "_Scope":
        """What the step itself knows once it has captured."""
        own = {name: _type_of(text, self) for name, text in step.capture.items()}
        return replace(self, captured={**self.captured, **own})

    def after(self, step: Step) -> "_Scope":
        """What the next step knows."""
        action, found = step.action, self.with_own(step)
        captured = dict(found.captured)
        if action.kind is ActionKind.ASK:
            captured[str(action.arguments.get("name", step.id))] = Type.TEXT
        return replace(
            found,
            captured=captured,
            steps=self.steps | {step.id},
            faults=self.faults | ({step.id} if action.kind is ActionKind.FAULT else set()),
            load=self.load or _is_load(step),
        )


def of_guards(playbook: Playbook) -> Iterator[LintFinding]:
    """A guard is watched from the first step on, so it may read nothing that comes later."""
    everything = _Scope(playbook, {}, load=any(map(_is_load, in_a_row(playbook.steps))))
    for number, guard in enumerate(playbook.guards):
        roots = expression.parse(guard.expr).roots
        if not roots & _CHANGING or roots - _CHANGING - {"inputs", "cluster", "run"}:
            yield LintFinding.of(
                "guard-blind",
                "",
                f"the guard `{guard.expr}` reads what does not change, or what only a step knows",
                f"let it read {', '.join(sorted(f'{root}.*' for root in _CHANGING))}",
                *("guard", number, "expr"),
            )
        else:
            flaws = _of_condition("", guard.expr, everything, "the guard")
            yield from _at(flaws, "guard", number, "expr")
    yield from _unused(playbook)


def of_steps(playbook: Playbook) -> list[list[LintFinding]]:
    """Of each step, in the order of the file."""
    found: list[list[LintFinding]] = []
    _walk(playbook.steps, _Scope(playbook, {}), found)
    return found


def _at(found: Iterable[LintFinding], *place: str | int) -> Iterator[LintFinding]:
    """The findings, of a key."""
    return (replace(one, place=place) for one in found)


def names_of(text: str) -> tuple[str, ...]:
    """What an expression reads."""
    return expression.parse(text).names


def samples(
    playbook: Playbook, value: Any, by_type: Mapping[InputType, Any], unknown: Any = 1
) -> dict[str, Any]:
    """A value for each reference in `value`, so that what it is part of can be tried.

    An input has its default, or one of its type; what is known only in a run is `unknown`.
    """
    specs = {spec.name: spec for spec in playbook.inputs}
    found: dict[str, Any] = {}
    for name in template.names(value):
        root, _, rest = name.partition(".")
        spec = specs.get(rest) if root == "inputs" else None
        place = found
        *path, last = name.split(".")
        for part in path:
            below = place.setdefault(part, {})
            place = below if isinstance(below, dict) else {}
        place[last] = unknown if spec is None else _sample(spec, by_type)
    return found


def _sample(spec: Input, by_type: Mapping[InputType, Any]) -> Any:
    if spec.default is not None and not (spec.type is InputType.NODE and isinstance(spec.default, str)):
        return spec.default
    return spec.choices[0] if spec.choices else by_type[spec.type]


# --- walking ------------------------------------------------------------------------------------------


def _walk(steps: Iterable[Step], scope: _Scope, found: list[list[LintFinding]]) -> _Scope:
    for step in steps:
        found.append(list(_of_step(step, scope)))
        if step.steps:
            items = scope.items
            if step.action.kind is ActionKind.FOREACH:
                items |= {str(step.action.arguments.get("as", DEFAULT_ITEM))}
            scope = replace(_walk(step.steps, replace(scope, items=items), found), items=scope.items)
        scope = scope.after(step)
    return scope


def _of_step(step: Step, scope: _Scope) -> Iterator[LintFinding]:
    own = scope.with_own(step)
    after = own.after(step)
    for key, texts in (("when", (step.when,) if step.when else ()), ("pre", step.pre)):
        for number, text in enumerate(texts):
            yield from _at(_of_condition(step.id, text, scope, "", step), key, number)
    for name, text in step.capture.items():
        flaws = _of_expression(step.id, text, scope, f"capture.{name}: ", step)
        yield from _at(flaws, "capture", name)
    for number, text in enumerate(step.expect):
        yield from _at(_of_condition(step.id, text, after, "", step), "expect", number)
        if (
            any(name.startswith("verify.") for name in names_of(text))
            and step.action.kind is not ActionKind.ASSERT
        ):
            yield LintFinding.of(
                "verify-elsewhere",
                step.id,
                f"`{text}` reads every node's log, in a {step.action.kind} step",
                "make it an `assert` step",
                *("expect", number),
            )
    for key, what in (("title", step.title), ("doc", step.doc), ("confirm", step.confirm)):
        yield from _at(_of_references(step.id, what, own, shown=True), key)
    yield from _of_action(step, step.action, own, "with")
    if step.undo is not None:
        yield from _of_action(step, step.undo, after, "undo", "with")


def _of_action(step: Step, action: Action, scope: _Scope, *place: str) -> Iterator[LintFinding]:
    for name, value in action.arguments.items():
        is_expression = name == "items" and isinstance(value, str) and not template.has_reference(value)
        if action.kind is ActionKind.FOREACH and is_expression:
            yield from _at(_of_expression(step.id, value, scope, "", step), *place, name)
        else:
            hidden = action.kind is ActionKind.HTTP and name in ("headers", "body")
            given = action.kind is ActionKind.INCLUDE and name == "inputs"
            flaws = _of_references(step.id, value, scope, shown=not hidden and not given)
            yield from _at(flaws, *place, name)
    fault = action.arguments.get("fault") if action.kind is ActionKind.HEAL else None
    if fault is not None and fault not in scope.faults and "${" not in str(fault):
        yield LintFinding.of(
            "fault-unknown",
            step.id,
            f"it heals the fault of {fault}, which is no fault step before it",
            "name the id of a fault step, or say `all = true`",
            *(*place, "fault"),
        )


# --- one expression -----------------------------------------------------------------------------------


def _of_condition(
    step: str, text: str, scope: _Scope, what: str = "", of: Step | None = None
) -> Iterator[LintFinding]:
    found = list(_of_expression(step, text, scope, what, of))
    yield from found
    if found:
        return
    kind = _type_of(text, scope)
    if kind not in (Type.BOOL, Type.ANY):
        yield LintFinding.of(
            "types-differ",
            step,
            f"{what and f'{what} '}`{text}` is {kind}, neither true nor false",
            "compare it with something",
        )


def _of_expression(
    step: str, text: str, scope: _Scope, what: str = "", of: Step | None = None
) -> Iterator[LintFinding]:
    parsed = expression.parse(text)
    found = [flaw for name in parsed.names for flaw in _of_name(step, name, scope, of, shown=True)]
    yield from found
    if found:
        return
    try:
        parsed.type_under(lambda name: _named(name, scope))
    except NotEvaluable as error:
        yield LintFinding.of(
            "types-differ", step, f"{what and f'{what} '}`{text}`: {error}", "compare what is of one type"
        )


def _of_references(step: str, value: Any, scope: _Scope, *, shown: bool) -> Iterator[LintFinding]:
    for name in template.names(value):
        yield from _of_name(step, name, scope, None, shown=shown)


def _of_name(step: str, name: str, scope: _Scope, of: Step | None, *, shown: bool) -> Iterator[LintFinding]:
    root, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    try:
        names.entry_of(name)
    except UnknownValue as error:
        yield LintFinding.of("unknown-name", step, str(error), "see the names: esctl docs playbook-reference")
        return
    if root == "captured" and first not in scope.captured:
        known = ", ".join(scope.captured) or "nothing"
        message = f"{name} is read, and what was captured before is: {known}"
        yield LintFinding.of("captured-early", step, message, "capture it in a step that comes earlier")
    elif root == "inputs":
        yield from _of_input(step, first, scope, shown=shown)
    elif root == "item" and first not in scope.items:
        message = f"{name} is read, and no `foreach` around it has an item of that name"
        yield LintFinding.of("unknown-name", step, message, "name it as `as` of the foreach does")
    elif root == "step" and first not in scope.steps:
        message = f"{name} is read, and {first} is no step before it"
        yield LintFinding.of("unknown-name", step, message, "name a step that comes earlier")
    elif root == "load" and not scope.load:
        message = f"{name} is read, and no load runs in the background"
        yield LintFinding.of(
            "load-missing", step, message, "begin a `bench` step with `background = true` before"
        )
    elif root in names.OWN and (of is None or not _answers(of, root)):
        message = f"{name} is read, and this step has no command that answers it"
        yield LintFinding.of("not-its-own", step, message, "capture it in the step whose command it is")


def _answers(step: Step, root: str) -> bool:
    kinds = _ANSWERED_BY.get(root)
    return step.action.kind in kinds if kinds is not None else step.action.kind not in _DUMB


def _of_input(step: str, name: str, scope: _Scope, *, shown: bool) -> Iterator[LintFinding]:
    spec = next((spec for spec in scope.playbook.inputs if spec.name == name), None)
    if spec is None:
        known = ", ".join(one.name for one in scope.playbook.inputs) or "none"
        message = f"there is no input {name}; there are: {known}"
        yield LintFinding.of("unknown-name", step, message, f"declare it under [inputs.{name}]")
    elif spec.type is InputType.SECRET and shown:
        message = f"the secret {name} would be seen by everybody who looks"
        yield LintFinding.of(
            "secret-shown", step, message, "use it in `headers` or `body` of an http step only"
        )


def _named(name: str, scope: _Scope) -> Type:
    root, _, rest = name.partition(".")
    if root == "inputs":
        return next((_TYPES[spec.type] for spec in scope.playbook.inputs if spec.name == rest), Type.ANY)
    if root == "captured":
        return scope.captured.get(rest, Type.ANY)
    return names.entry_of(name).type


def _type_of(text: str, scope: _Scope) -> Type:
    try:
        return expression.parse(text).type_under(lambda name: _named(name, scope))
    except NotEvaluable:
        return Type.ANY


def _is_load(step: Step) -> bool:
    return step.action.kind is ActionKind.BENCH and step.action.arguments.get("background") is True


def _unused(playbook: Playbook) -> Iterator[LintFinding]:
    read: set[str] = set()
    for guard in playbook.guards:
        read |= set(names_of(guard.expr))
    for step in in_a_row(playbook.steps):
        texts = [step.when, *step.pre, *step.expect, *step.capture.values()]
        items = step.action.arguments.get("items")
        if isinstance(items, str) and not template.has_reference(items):
            texts.append(items)
        read |= {name for text in texts if text for name in names_of(text)}
        told = [step.title, step.doc, step.confirm, step.action.arguments]
        read |= set(template.names([*told, *([step.undo.arguments] if step.undo is not None else [])]))
    for spec in playbook.inputs:
        if f"inputs.{spec.name}" not in read:
            yield LintFinding.of(
                "input-unused",
                "",
                f"nothing reads the input {spec.name}",
                "use it, or leave it out",
                *("inputs", spec.name),
            )
