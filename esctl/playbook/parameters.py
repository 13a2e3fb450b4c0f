"""What a command of `esctl` takes, read from the command itself, so that a playbook knows what a shell knows.

An argument of a step has the name of the command's option (`--one-way` is `one_way`), or of its positional
argument; its type follows from the command's annotation and from the word that the help has for the value.
Nothing is declared twice: an option that is added to a command is there in playbooks too. Pure but for the
loading of commands. Called by `stepkinds.py` and `commands.py`.
"""

import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from esctl.cli.arguments import DryRun, Yes, words_of
from esctl.cli.durationoption import METAVAR, Reader
from esctl.cli.oldwords import argument_of
from esctl.playbook import commandline
from esctl.ui.duration import Duration


class Takes(enum.StrEnum):
    """The type of an argument, in the words of messages."""

    TEXT = "a text"
    INT = "a whole number"
    NUMBER = "a number"
    NODE = "the number of a node"
    BOOL = "true or false"
    DURATION = 'a duration such as "30s"'
    SHARE = 'a share such as "5%"'
    RATE = 'bytes a second such as "50k"'
    TEXTS = "a list of texts"
    ITEMS = 'a list, or an expression for one such as "status.followers"'
    TABLE = "a table"
    STEP = "the id of a step"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. `option` is how the command's line has it; empty where its place says which it is."""

    takes: Takes
    meaning: str
    required: bool = False
    choices: tuple[str, ...] = ()
    option: str = ""
    plain: str = ""
    """The unit of a number alone, where a duration may be one."""


_SET_BY_THE_RUN: Final = frozenset({"--id", *words_of(Yes), *words_of(DryRun)})
"""What the run says of itself: the fault's name, that a person has agreed, and that it is meant."""
_BY_METAVAR: Final = {METAVAR: Takes.DURATION, "SHARE": Takes.SHARE, "BYTES": Takes.RATE}
"""What a text is, by the word that the command's help has for it."""
_NODE_METAVARS: Final = ("ID", "NODE")


@cache
def arguments(path: tuple[str, ...]) -> Mapping[str, Argument]:
    """What the command of these names takes, its positional arguments first, in their order."""
    command = commandline.find(path)
    assert command is not None, f"there is no command {' '.join(path)}"
    takes = command.callback.declared.takes
    own = [one for one in command.params if one.name in takes and not _SET_BY_THE_RUN.intersection(one.opts)]
    own.sort(key=lambda one: one.param_type_name != "argument")
    return dict(_argument(one, takes[one.name]) for one in own)


def with_option(group: str, option: str) -> tuple[str, ...]:
    """The commands of a group that take an option, such as --lease."""
    name = argument_of(option)
    return tuple(one for one in commandline.members(group) if name in arguments((group, one)))


def words(path: tuple[str, ...], given: Mapping[str, Any]) -> list[str]:
    """The line of a command with these arguments. What it does not take is left out."""
    said = list(path)
    for name, argument in arguments(path).items():
        value = given.get(name)
        if value is None or value is False:
            continue
        if argument.option:
            said.append(argument.option)
        if value is not True:
            number = isinstance(value, int | float) and not isinstance(value, Duration)
            said.append(f"{value}{argument.plain}" if number else str(value))
    return said


def _argument(parameter: Any, annotation: Any) -> tuple[str, Argument]:
    """The name in a playbook, and what there is to say of it. Of several long names the last one counts."""
    kind = _without_none(get_args(annotation)[0])
    option = ""
    if parameter.param_type_name == "option":
        option = [one for one in parameter.opts if one.startswith("--")][-1]
    takes = _takes(kind, (parameter.metavar or "").strip("[]"))
    reader = getattr(parameter.type, "func", None)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = tuple(kind)
    help_text = parameter.help or ""
    return (
        argument_of(option) if option else parameter.name,
        Argument(
            takes,
            help_text,
            parameter.required,
            tuple(map(str, choices)),
            option,
            plain=reader.plain if isinstance(reader, Reader) else "",
        ),
    )


def _without_none(kind: Any) -> Any:
    """The type itself of one that may be left out."""
    members = [one for one in get_args(kind) if one is not types.NoneType]
    return members[0] if isinstance(kind, types.UnionType) else kind


def _takes(kind: Any, metavar: str) -> Takes:
    if kind is bool:
        return Takes.BOOL
    if kind is int:
        return Takes.NODE if metavar in _NODE_METAVARS else Takes.INT
    if kind is float and metavar != METAVAR:
        return Takes.NUMBER
    if kind is float:
        return Takes.DURATION
    return _BY_METAVAR.get(metavar, Takes.TEXT) if kind is str else Takes.TEXT
