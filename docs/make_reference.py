"""Writes docs/commands.md, docs/errors.md and docs/playbook-reference.md from the code itself.

`make docs` runs it; with `--check` it writes nothing and tells which page is not current. Everything that
the pages say is read from the code: nothing is imported but what `esctl --help` and `esctl explain` show.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from esctl import errors, exits
from esctl.cli import examples
from esctl.cli.commandtable import ROW_BY_NAME, every_command
from esctl.cli.durationoption import shown_default
from esctl.cli.helppage import SHARED_PANEL, meanings_of
from esctl.playbook import inputs, lintrules, names, parameters, stepkinds
from esnode.errors import CallerError, EventStreamError, OperatorError, PeerError, declared

DOCS: Final = Path(__file__).resolve().parent
NOTE: Final = "<!-- Written by docs/make_reference.py from the code: change that, then run `make docs`. -->"

_COMMANDS_HEAD: Final = f"""{NOTE}
# The commands of `esctl`

`esctl COMMAND --help` shows the same text. Results go to standard output, everything else to standard error.
An error message consists of a code ([errors.md](errors.md)), the cause and the next command to run.

## Options of every command

These options may stand before or after the command's name.
"""

_COMMANDS_TAIL: Final = """
With `-o json` a command prints one JSON document. Its keys are `schema` (`esctl/v1`), `command`, `ok`, `data`
and `errors`. Each error has `code`, `message`, `cause` and `next`. Commands that keep running print one JSON
object per line instead: `consume`, `logs`, `top` and `status health --watch`. `esctl schema COMMAND` prints
the JSON Schema of a command's output.

Plain output is tab-separated and has no headings. A row is always one line. Control characters, line breaks,
characters that change the direction of text, and bytes that are not UTF-8 are escaped: `\\u001b`, `\\n`,
`\\u202e`, `\\xff`.

If the reader of a pipe exits early, as `head` does, the command stops printing. It still finishes its work,
with the same exit code. If the output cannot be written for another reason (a full disk, a closed output),
the command reports this at the end (ES4030), and an exit code of 0 becomes 1. Ctrl-C, SIGTERM and SIGHUP end
a command with a summary and exit code 130. A second Ctrl-C ends it immediately.

Environment variables:

| variable | meaning |
|---|---|
| `ESCTL_CLUSTER`, `ESCTL_OUTPUT`, `ESCTL_NO_INPUT` | the same as `--cluster`, `--output` and `--no-input` |
| `ESCTL_CONTEXT` | the context to use, see `esctl config context ls` |
| `NO_COLOR` | if set, output has no colours; `TERM=dumb` has the same effect |
| `XDG_CONFIG_HOME` | directory of `esctl/config.toml`, the user's settings; default: `~/.config` |
| `XDG_STATE_HOME` | directory of `esctl/`, the state and data of clusters; default: `~/.local/state` |
"""

_ERRORS_HEAD: Final = f"""{NOTE}
# Errors

Each error has a code that never changes. The tables below list all errors; `esctl explain CODE` shows the
same text. The exit code is the one that an `esctl` command returns if it fails with this error. The last
column gives the next step; a bare command is the command to run next. The outcome is one of these:

- **not done**: the operation was certainly not done.
- **unknown**: the operation may have been done. Send the same events again: this is safe, because they keep
  their ids.
- **checked**: a check was made and failed.
"""

_PLAYBOOK_HEAD: Final = f"""{NOTE}
# Playbook reference

This page lists the arguments of each kind of step, the types of inputs, the names that an expression may
read, and the rules of the linter. [playbooks.md](playbooks.md) describes the format of a playbook.
"""

_NAMES: Final = """The names that an expression may read. `N` stands for the number of a node, `ID` for the
id of a step, `NAME` for the name of an input, an item or a captured value. A name that ends in `*` stands for
all names below it, which are known only after the command has run. `status.followers[0]` and
`status.followers.0` both mean the first item of a list."""


def commands_page() -> str:
    """The whole of docs/commands.md."""
    parts = [_COMMANDS_HEAD, *_table(_shared_parameters()), _COMMANDS_TAIL, *_exit_codes()]
    panel = ""
    for name, command in every_command().items():
        row = ROW_BY_NAME[name.partition(" ")[0]]
        if row.panel != panel:
            panel = row.panel
            parts += ["", f"## {panel}"]
        parts += _command(f"esctl {name}", command)
    return "\n".join(parts) + "\n"


def errors_page() -> str:
    """The whole of docs/errors.md."""
    families: list[tuple[str, type[EventStreamError]]] = [
        ("Errors that the caller can fix", CallerError),
        ("Errors that need an operator", OperatorError),
        ("Errors of the other end of a connection", PeerError),
        ("Bugs", EventStreamError),
    ]
    assert errors.UsageError.code in declared(), "the toolkit's errors are declared by their import"
    left = declared()
    parts = [_ERRORS_HEAD]
    for title, base in families:
        members = {code: cls for code, cls in left.items() if issubclass(cls, base)}
        left = {code: cls for code, cls in left.items() if code not in members}
        heads = "| code | error and cause | outcome | exit code | what to do |"
        parts += [f"## {title}", "", heads, "|---|---|---|---|---|"]
        parts += [_error(code, cls) for code, cls in members.items()]
        parts.append("")
    return "\n".join(parts)


def playbook_page() -> str:
    """The whole of docs/playbook-reference.md."""
    parts = [
        _PLAYBOOK_HEAD,
        "## Kinds",
        "",
        "The arguments that each kind of step takes in `with`. A `*` marks a required argument.",
        "",
    ]
    for kind in stepkinds.TABLES:
        parts += [f"### {kind}", "", *_arguments(stepkinds.arguments_of(kind, {}))]
        for command in stepkinds.commands_of(kind):
            parts += [f"`{kind} {command}`:", "", *_arguments(parameters.arguments((kind, command)))]
    parts += ["## Inputs", "", "| type | value |", "|---|---|"]
    parts += [f"| `{kind}` | {what} |" for kind, what in inputs.TAKES.items()]
    parts += ["", "## Names", "", _NAMES, "", "| name | type | meaning |", "|---|---|---|"]
    for name, entry in names.CATALOGUE.items():
        what = f"{entry.type}, or null" if entry.nullable else entry.type
        parts.append(f"| `{name}` | {what} | {entry.meaning} |")
    parts += ["", "## Rules of the linter", "", "| rule | severity | what it requires |", "|---|---|---|"]
    parts += [f"| `{rule}` | {severity} | {what} |" for rule, (severity, what) in lintrules.RULES.items()]
    return "\n".join(parts) + "\n"


def _arguments(table: Mapping[str, parameters.Argument]) -> list[str]:
    if not table:
        return ["No arguments.", ""]
    rows = ["| argument | type | meaning |", "|---|---|---|"]
    for name, argument in table.items():
        choices = ", ".join(f"`{choice}`" for choice in argument.choices)
        what = f"{argument.meaning}: {choices}" if choices else argument.meaning
        rows.append(f"| `{name}`{' *' if argument.required else ''} | {argument.takes} | {_cell(what)} |")
    return [*rows, ""]


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "errors.md": errors_page,
    "playbook-reference.md": playbook_page,
}


def _error(code: str, cls: type[EventStreamError]) -> str:
    outcome = "not done" if cls.definite else "unknown"
    if issubclass(cls, errors.Finding):
        outcome = "checked"
    what = f"**{cls.title}** (`{cls.__name__}`). {_one_line(inspect.getdoc(cls) or '')}"
    return f"| {code} | {_cell(what)} | {outcome} | {int(exits.exit_of(cls))} | {_cell(cls.next_step)} |"


def _command(name: str, command: Any) -> Iterator[str]:
    own = [each for each in command.params if each.name not in SHARED]
    arguments = [each for each in own if each.param_type_name == "argument"]
    words = [_argument(each) for each in arguments]
    yield from (
        "",
        f"### {' '.join([name, *words])}",
        "",
        ". ".join(map(_one_line, command.help.split("\n\n"))) + ".",
    )
    if own:
        yield ""
        yield from _table(own)
    for rows in meanings_of(command).values():
        yield ""
        yield from (f"- `{word}`: {what}" for word, what in rows)
    yield from ("", "```", *examples.shown(name.removeprefix("esctl ")), "```")


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _table(parameters: list[Any]) -> Iterator[str]:
    yield "| option | what it does | default |"
    yield "|---|---|---|"
    for each in parameters:
        text = _one_line(each.help or "") + (f" (`{each.envvar}`)" if each.envvar else "")
        yield f"| {_spelling(each)} | {_cell(text)} | {_default(each)} |"


def _spelling(parameter: Any) -> str:
    values = _values(parameter)
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`" + (f": {values}" if values else "")
    names = [*sorted(parameter.opts, key=len, reverse=True), *parameter.secondary_opts]
    spelled = ", ".join(f"`{name}`" for name in names)
    if parameter.is_flag:
        return spelled
    named = f"`{parameter.metavar}`" if parameter.metavar else values or f"`{parameter.name.upper()}`"
    return f"{spelled} {named}"


def _values(parameter: Any) -> str:
    """The words that a choice takes."""
    choices = getattr(parameter.type, "choices", ())
    return ", ".join(f"`{getattr(word, 'value', word)}`" for word in choices)


def _default(parameter: Any) -> str:
    default = parameter.default
    if default is None or isinstance(default, bool) or parameter.show_default is False:
        return ""
    if (duration := shown_default(parameter)) is not None:
        return duration
    return f"{default:g}" if isinstance(default, int | float) else str(default)


def _shared_parameters() -> list[Any]:
    """What a command has that declares no parameter of its own."""
    version = every_command()["version"]
    return [each for each in version.params if each.rich_help_panel == SHARED_PANEL]


def _exit_codes() -> Iterator[str]:
    tree = ast.parse(inspect.getsource(exits.Exit)).body[0]
    assert isinstance(tree, ast.ClassDef)
    yield from ("Exit codes:", "", "| exit code | meaning |", "|---|---|")
    for code in exits.Exit:
        yield f"| {int(code)} | {_meaning(tree, code.name)} |"


def _meaning(tree: ast.ClassDef, name: str) -> str:
    """The text under a member of the enumeration, or its name in words."""
    words = name.lower().replace("_", " ")
    for member, after in pairwise(tree.body):
        if isinstance(member, ast.Assign) and ast.unparse(member.targets[0]) == name:
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return _one_line(str(after.value.value)).removesuffix(".")
            break
    return words


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


SHARED: Final = frozenset(each.name for each in _shared_parameters())


def main() -> int:
    """The program; its exit code is 1 when `--check` finds a page that is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and say what is not current")
    only_look = parser.parse_args().check
    stale = [name for name, write in PAGES.items() if _read(DOCS / name) != write()]
    for name in stale:
        if only_look:
            sys.stderr.write(f"docs/{name} is not current: run `make docs`\n")
        else:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
            sys.stdout.write(f"docs/{name} is written\n")
    return 1 if stale and only_look else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
