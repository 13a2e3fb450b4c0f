"""What each kind of step takes in `with`: the names, their types, which are wanted, and what they mean.

A table and one check against it, made when a playbook is read and once more when everything is filled in. A
kind that stands for a group of commands takes what these commands take (`parameters.py`). Whether the
command that comes of it can be typed is the linter's to find. Called by the reader, the run, and the
reference page.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

from esctl.cli import oldwords
from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.playbook import commandline, expression, parameters, template
from esctl.playbook.parameters import Argument, Takes
from esctl.playbook.schema import Action, ActionKind
from esctl.playbookerrors import InvalidExpression, InvalidPlaybook, NotEvaluable
from esctl.ui.duration import Duration

_QUESTION: Final = Argument(Takes.TEXT, "question to ask a person", required=True)
TABLES: Final[Mapping[ActionKind, Mapping[str, Argument]]] = {
    ActionKind.CHECK: {},
    ActionKind.ASSERT: {},
    ActionKind.WAIT: {"for": Argument(Takes.DURATION, "time to wait before the expectations are checked")},
    ActionKind.ESCTL: {
        "argv": Argument(Takes.TEXTS, "words of the command line after `esctl`, without `--cluster`", True)
    },
    ActionKind.FAULT: {"type": Argument(Takes.TEXT, "command of the group `fault`", True)},
    ActionKind.HEAL: {
        "fault": Argument(Takes.STEP, "id of the step whose fault is ended"),
        "all": Argument(Takes.BOOL, "end all faults of the cluster"),
    },
    ActionKind.BENCH: {
        "mode": Argument(Takes.TEXT, "command of the group `bench`", True),
        "background": Argument(
            Takes.BOOL,
            "run the load while the next steps run, as `esctl bench start` does; only with `produce`",
        ),
        "name": Argument(Takes.TEXT, "name of the background load; default: the step's id"),
    },
    ActionKind.BACKUP: {
        "action": Argument(Takes.TEXT, "command of the group `backup`", True),
        "options": Argument(Takes.TEXTS, "more words for the command line"),
    },
    ActionKind.APPROVE: {"question": _QUESTION},
    ActionKind.ASK: {
        "question": _QUESTION,
        "name": Argument(
            Takes.TEXT, "name under which the answer is stored (`captured.NAME`); default: the step's id"
        ),
        "choices": Argument(Takes.TEXTS, "accepted answers"),
    },
    ActionKind.HTTP: {
        "url": Argument(Takes.TEXT, "URL to request", True),
        "method": Argument(
            Takes.TEXT, "HTTP method; default: `GET`", False, ("GET", "HEAD", "POST", "PUT", "DELETE")
        ),
        "status": Argument(Takes.INT, "expected status code of the response; default: 200"),
        "headers": Argument(Takes.TABLE, "request headers, by name"),
        "body": Argument(Takes.TEXT, "request body"),
    },
    ActionKind.FOREACH: {
        "items": Argument(
            Takes.ITEMS, "items; the inner steps run once for each item, one item after the other", True
        ),
        "as": Argument(Takes.TEXT, "name of the item in the inner steps (`item.NAME`); default: `node`"),
    },
    ActionKind.INCLUDE: {
        "playbook": Argument(
            Takes.TEXT, "file to include: one in the same folder, or a shipped playbook", True
        ),
        "inputs": Argument(Takes.TABLE, "inputs of the included playbook"),
    },
    ActionKind.NOTE: {"text": Argument(Takes.TEXT, "text to show to the person who runs the playbook")},
}
"""By kind; one that stands for a group of commands has in addition what the command takes."""
_CHOOSERS: Final = {ActionKind.FAULT: "type", ActionKind.BENCH: "mode", ActionKind.BACKUP: "action"}
"""The argument that names the command, of the group that is called as the kind is."""
_TAKES_PART: Final = {ActionKind.FAULT: "--lease", ActionKind.BENCH: "--save"}
"""The option that tells the commands that a step may be from the rest of their group: a fault that ends by
itself, a measurement with a result; `bench report` saves one too, and measures nothing."""

_ONE_OF: Final = {ActionKind.HEAL: ("fault", "all")}
ONE_OFF: Final = frozenset({"flip", "torn"})
"""What is done to a disk once, while its node is stopped, and does not last: there is nothing to lease."""
READ_ONLY: Final = frozenset(
    {
        ActionKind.CHECK,
        ActionKind.ASSERT,
        ActionKind.WAIT,
        ActionKind.APPROVE,
        ActionKind.ASK,
        ActionKind.NOTE,
    }
)
"""Kinds that change nothing, so that their impact need not be said."""
NESTING: Final = frozenset({ActionKind.FOREACH, ActionKind.INCLUDE})


def commands_of(kind: ActionKind) -> tuple[str, ...]:
    """The commands that a step of this kind may be; none for a kind that is no group of commands."""
    if kind not in _CHOOSERS:
        return ()
    option = _TAKES_PART.get(kind)
    if option is None:
        return tuple(commandline.members(kind))
    return tuple(one for one in parameters.with_option(kind, option) if one != "report")


def arguments_of(kind: ActionKind, given: Mapping[str, Any]) -> Mapping[str, Argument]:
    """The table for these arguments: that of the kind, and of the command that they name."""
    chooser = _CHOOSERS.get(kind)
    if chooser is None:
        return TABLES[kind]
    commands, named = commands_of(kind), str(given.get(chooser))
    table = {**TABLES[kind], chooser: replace(TABLES[kind][chooser], choices=commands)}
    if kind is ActionKind.BENCH and given.get("background") is True:
        named, commands = "start", ("start",)
    return {**(parameters.arguments((kind, named)) if named in commands else {}), **table}


def current(action: Action) -> tuple[Action, str]:
    """The action by the words of this version, and a note for who wrote old ones, or ""."""
    given = action.arguments
    if action.kind is ActionKind.ESCTL:
        words = given.get("argv", ())
        line, note = oldwords.current([str(word) for word in words]) if isinstance(words, list) else ([], "")
        return (replace(action, arguments={**given, "argv": line}) if note else action), note
    if action.kind not in _CHOOSERS:
        return action, ""
    named, note = oldwords.current_arguments((action.kind, str(given.get(_CHOOSERS[action.kind]))), given)
    options = named.get("options", ())
    if isinstance(options, list):
        path = [str(action.kind), str(given.get(_CHOOSERS[action.kind]))]
        line, also = oldwords.current([*path, *map(str, options)])
        named, note = {**named, **({"options": line[len(path) :]} if also else {})}, note or also
    return (replace(action, arguments=named) if note else action), note


def flaws(action: Action) -> Iterator[tuple[str, str]]:
    """Each argument that does not fit, and why. What has a reference in it is looked at once it is filled."""
    action, _ = current(action)
    table, given = arguments_of(action.kind, action.arguments), action.arguments
    for name, argument in table.items():
        if argument.required and name not in given:
            yield name, f"is missing: {argument.meaning}"
    for name, value in given.items():
        if name not in table:
            yield name, _unknown(name, table)
        elif why := _flaw(table[name], value):
            yield name, why
    one_of = _ONE_OF.get(action.kind, ())
    if one_of and sum(name in given and given[name] is not False for name in one_of) != 1:
        yield one_of[0], f"`{action.kind}` wants either `{one_of[0]}` or `{one_of[1]}`"


def filled(action: Action, values: Mapping[str, Any]) -> Action:
    """The action with its references replaced. Raises `UnknownValue`, `NotEvaluable`, `InvalidPlaybook`."""
    done = replace(action, arguments=template.fill(action.arguments, values))
    wrong = [f"`with.{name}`: {why}" for name, why in flaws(done)]
    if wrong:
        raise InvalidPlaybook(f"a {action.kind} step cannot act: {'; '.join(wrong)}")
    return done


def _unknown(name: str, table: Mapping[str, Argument]) -> str:
    near = get_close_matches(name, table, 1)
    if near:
        return f"is not known; did you mean `{near[0]}`?"
    return f"is not known; there are: {', '.join(table)}" if table else "is not known: it takes no arguments"


def _flaw(argument: Argument, value: Any) -> str:
    """Why a value does not fit; empty when it does."""
    try:
        if template.references(value) and (isinstance(value, str) or argument.takes is not Takes.TABLE):
            return ""
    except InvalidExpression as error:
        return str(error)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not _fits(argument.takes, value) and not (argument.plain and number):
        return f"must be {argument.takes}, not {value!r}"
    if argument.choices and value not in argument.choices:
        near = get_close_matches(value, [str(one) for one in argument.choices], 1)
        also = f"; did you mean {near[0]!r}?" if near else ""
        return f"must be one of {', '.join(argument.choices)}, not {value!r}{also}"
    return ""


def _fits(takes: Takes, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match takes:
        case Takes.TEXT | Takes.STEP:
            return isinstance(value, str) and value != ""
        case Takes.INT:
            return number and isinstance(value, int)
        case Takes.NUMBER:
            return number
        case Takes.NODE:
            return number and isinstance(value, int) and value > 0
        case Takes.BOOL:
            return isinstance(value, bool)
        case Takes.TEXTS:
            words = isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
            return words and bool(value)
        case Takes.TABLE:
            return isinstance(value, Mapping)
        case Takes.ITEMS:
            return _is_items(value)
        case Takes.DURATION:
            return isinstance(value, Duration) or (isinstance(value, str) and _parses(Duration.parse, value))
        case Takes.SHARE:
            return isinstance(value, str) and _parses(nodeorders.permille, value)
        case Takes.RATE:
            return isinstance(value, str) and _parses(nodeorders.bytes_per_s, value)


def _is_items(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str | int | float) for one in value)
    return isinstance(value, str) and _parses(expression.parse, value)


def _parses(read: Any, text: str) -> bool:
    try:
        read(text)
    except (InvalidArgument, InvalidExpression, NotEvaluable):
        return False
    return True
