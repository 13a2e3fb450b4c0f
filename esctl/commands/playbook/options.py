"""The arguments and options that several commands of `esctl playbook` take, and what is done with them.

A playbook is named by its id or by its file; an input is given as NAME=VALUE.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.playbook import catalog
from esctl.playbookerrors import InvalidInput, UnsafePlaybook

if TYPE_CHECKING:
    from esctl.playbook.schema import Playbook


def names_that_begin(incomplete: str) -> list[str]:
    """What a shell may complete the id of a playbook to."""
    return [name for name in catalog.every() if name.startswith(incomplete)]


def shipped_that_begin(incomplete: str) -> list[str]:
    """What a shell may complete the id of a shipped playbook to."""
    return [name for name in catalog.shipped_ones() if name.startswith(incomplete)]


PlaybookArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLAYBOOK",
        help="Id from esctl playbook ls, or file",
        autocompletion=names_that_begin,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="Input of the playbook; for a secret, NAME=@FILE; repeatable",
    ),
]


def safe(name: str) -> "Playbook":
    """The playbook, free of errors; raises `PlaybookNotFound`, `InvalidPlaybook`, `UnsafePlaybook`."""
    from esctl.playbook import lint, parser
    from esctl.playbook.lintrules import LintSeverity

    found = parser.read(catalog.find(name))
    wrong = [finding for finding in lint.lint(found) if finding.severity is LintSeverity.ERROR]
    if wrong:
        first, more = wrong[0], len(wrong) - 1
        where = f"step {first.step}: " if first.step else ""
        also = f"; and {more} more" if more else ""
        raise UnsafePlaybook(
            f"{found.path}: {where}{first.message}{also}", next_step=f"esctl playbook lint {found.path}"
        )
    return found


def given(words: Sequence[str] | None, form: str = "--input NAME=VALUE") -> Mapping[str, str]:
    """The words of an option by name, which is written as `form` says; raises `InvalidInput`."""
    option, _, pair = form.partition(" ")
    found: dict[str, str] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise InvalidInput(f"{option} {word}: write {pair}")
        if name in found:
            raise InvalidInput(f"{option} {name} is given twice")
        found[name] = value
    return found
