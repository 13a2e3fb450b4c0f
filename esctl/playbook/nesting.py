"""Steps within steps: the rounds of a `foreach`, the steps of an included playbook, and all steps in a row.

A step that is taken into another place gets an id of its own there, and everything in it that names a step,
an item or an input is written anew, so that what comes out is steps like any others, complete by themselves:
the undo of round 2 still knows that it was about node 2. Pure. Called by the reader, the plan and the run.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from esctl.playbook import expression, template
from esctl.playbook.grammar import Node, Path
from esctl.playbook.schema import Action, ActionKind, Step
from esctl.playbookerrors import NotEvaluable

DEFAULT_ITEM = "node"


def in_a_row(steps: Iterable[Step]) -> Iterator[Step]:
    """Every step and those within it, in the order of the file."""
    for step in steps:
        yield step
        yield from in_a_row(step.steps)


def items_of(step: Step, values: Mapping[str, Any]) -> list[Any]:
    """What a `foreach` goes through; raises `UnknownValue`, `NotEvaluable`."""
    items = step.action.arguments["items"]
    if isinstance(items, str):
        whole = template.has_reference(items)
        items = template.fill(items, values) if whole else expression.parse(items).evaluate(values)
    if not isinstance(items, list | tuple):
        raise NotEvaluable(f"step {step.id}: `with.items` is no list to go through")
    return list(items)


def rounds(step: Step, items: Sequence[Any]) -> list[tuple[Step, ...]]:
    """The steps of a `foreach`, for each item: `stop` becomes `stop-2`, and `item.node` the value 2."""
    name = str(step.action.arguments.get("as", DEFAULT_ITEM))
    found: list[tuple[Step, ...]] = []
    labels: set[str] = set()
    for item in items:
        label, times = _slug(item), 2
        while label in labels:
            label, times = f"{_slug(item)}-{times}", times + 1
        labels.add(label)
        found.append(renamed(step.steps, f"{{}}-{label}", {f"item.{name}": expression.literal(item)}))
    return found


def renamed(steps: Sequence[Step], pattern: str, values: Mapping[str, Node]) -> tuple[Step, ...]:
    """The steps under other ids, such as `{}-2`, with names bound.

    Raises `InvalidExpression` where that makes no sense.
    """
    ids = {step.id: pattern.format(step.id) for step in in_a_row(steps)}
    bound = {**{f"step.{old}": Path(("step", new)) for old, new in ids.items()}, **values}
    return tuple(_renamed(step, ids, bound) for step in steps)


def _renamed(step: Step, ids: Mapping[str, str], values: Mapping[str, Node]) -> Step:
    def condition(text: str) -> str:
        return _expression(text, values)

    return replace(
        step,
        id=ids[step.id],
        action=_action(step.action, ids, values),
        title=_text(step.title, values),
        doc=_text(step.doc, values),
        confirm=_text(step.confirm, values),
        when=condition(step.when),
        pre=tuple(map(condition, step.pre)),
        expect=tuple(map(condition, step.expect)),
        capture={name: condition(text) for name, text in step.capture.items()},
        undo=_action(step.undo, ids, values) if step.undo is not None else None,
        steps=tuple(_renamed(inner, ids, values) for inner in step.steps),
    )


def _action(action: Action, ids: Mapping[str, str], values: Mapping[str, Node]) -> Action:
    given = dict(template.bind(action.arguments, values))
    if action.kind is ActionKind.HEAL and given.get("fault") in ids:
        given["fault"] = ids[given["fault"]]
    items = given.get("items")
    if action.kind is ActionKind.FOREACH and isinstance(items, str) and not template.has_reference(items):
        given["items"] = _expression(items, values)
    return Action(action.kind, given)


def _expression(text: str, values: Mapping[str, Node]) -> str:
    """The text itself where nothing in it is bound: it stays as it was written."""
    if not text:
        return text
    parsed = expression.parse(text)
    bound = parsed.bind(values)
    return text if bound == parsed else str(bound)


def _text(text: str, values: Mapping[str, Node]) -> str:
    bound = template.bind(text, values)
    return bound if isinstance(bound, str) else template.written(bound, text)


def _slug(item: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(item).lower()).strip("-") or "item"
