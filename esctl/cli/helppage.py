"""What `--help` prints: for the program, for a group and for a command, in one form.

Typer's own pages load much of rich, frame everything, break words, and give ranges as `0.01<=x<=3600`. A
value that is out of range is told its bounds when it is typed (`usagetext.py`). The examples are in
`examples.py`. Called by typer, through `CommandWithHelp` and `GroupWithHelp`, and by `main.py`.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import typer.core

from esctl.cli import examples
from esctl.cli.durationoption import shown_default
from esctl.ui.answer import Tone
from esctl.ui.terminal import Output, Terminal

SHARED_PANEL: Final = "Options of every command"
WIDEST_NAME: Final = 26
"""Characters; what is wider has its text on the next line."""

_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""Between words that stay on one line."""

Rows = list[tuple[str, str]]


class CommandWithHelp(typer.core.TyperCommand):
    """A command whose help is a page of ours."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print it; click would take it from `formatter`, which stays empty."""
        parameters = self.get_params(ctx)
        usage = usage_of(ctx.command_path, parameters)
        sections = {**sections_of(parameters), **meanings_of(self)}
        print_page(usage, self.help or "", sections, ends_of(self), _examples(ctx))


class GroupWithHelp(typer.core.TyperGroup):
    """A group whose help is a page of ours. It may itself be a command, as `esctl status` is."""

    own: typer.core.TyperCommand | None = None
    """What the group's name runs when none of the group's commands is named."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of what `args` are for; click runs the command of that context."""
        if self.own is None or not self._are_its_own(args, completing="resilient_parsing" in extra):
            return super().make_context(info_name, args, parent, **extra)
        return self.own.make_context(info_name, args, parent, **extra)

    def _are_its_own(self, args: list[str], *, completing: bool) -> bool:
        """Whether a line that goes on with `args` is for the group's own command."""
        assert self.own is not None
        if not args:
            return not completing  # a shell is told the names of the group's commands
        if args[0] in self.commands or args[0] in ("-h", "--help"):
            return False
        # A word that a command without arguments cannot take is a misspelt command.
        return args[0].startswith("-") or any(one.param_type_name == "argument" for one in self.own.params)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The names of its commands, or the options of its own command."""
        if self.own is not None and incomplete.startswith("-"):
            return self.own.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print it; click would take it from `formatter`, which stays empty."""
        shown = [(name, one) for name, one in self.commands.items() if not one.hidden]
        commands = {"Commands": [(name, _first_part(one.help)) for name, one in shown]}
        own = self.own or self  # a group alone has no parameters but --help
        page = {**commands, **sections_of(own.get_params(ctx)), **meanings_of(own)}
        usage = f"Usage: {ctx.command_path} COMMAND ..."
        if self.own is not None:
            usage = f"{usage_of(ctx.command_path, own.params)}\n       {ctx.command_path} COMMAND ..."
        print_page(usage, own.help or "", page, ends_of(own), _examples(ctx))


def print_page(
    usage: str, lead: str, sections: Mapping[str, Rows], ends: Iterable[str], lines: Sequence[str] = ()
) -> None:
    """Print names and what they do, under headings; `lines` are examples, which are never broken."""
    terminal = Terminal(Output.TABLE)
    names = [len(name) for rows in sections.values() for name, _ in rows]
    indent = 4 + max((length for length in names if length <= WIDEST_NAME), default=WIDEST_NAME)
    for line in usage.splitlines():
        terminal.toned([(line, Tone.NORMAL)], indent=2)
    for text in lead.split("\n\n") if lead else []:
        terminal.toned([])
        for line in _fitting(text, terminal.columns, 2):
            terminal.toned([(f"  {line}", Tone.NORMAL)])
    for title, rows in sections.items():
        terminal.toned([])
        terminal.toned([(title, Tone.STRONG)])
        for name, text in rows:
            head = f"  {name}".ljust(indent)
            if len(name) > WIDEST_NAME:
                terminal.toned([(head, Tone.ACCENT)])
                head = " " * indent
            for line in _fitting(text, terminal.columns, indent) or [""]:
                terminal.toned([(head, Tone.ACCENT), (line, Tone.NORMAL)])
                head = " " * indent
    if lines:
        terminal.toned([])
        terminal.toned([("Examples", Tone.STRONG)])
        for line in lines:
            typed, sign, what = line.partition("  # ")
            terminal.toned([(f"  {typed}", Tone.ACCENT), (f"{sign}{what}", Tone.DIM)])
    for text in filter(None, ends):
        terminal.toned([])
        terminal.toned([(text, Tone.DIM)], indent=2)


def _fitting(text: str, columns: int | None, indent: int) -> list[str]:
    """The text in lines that fit beside an `indent`, words whole; one line where nothing bounds it."""
    text = " ".join(re.split(r"[ \n]+", text.strip()))
    lines = textwrap.wrap(
        text,
        max(1, columns - indent) if columns else len(text) + 1,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _examples(ctx: Any) -> list[str]:
    return list(examples.shown(ctx.command_path.partition(" ")[2]))


def usage_of(path: str, parameters: Sequence[Any]) -> str:
    """The form of a command line: `path` is the program and the command's name."""
    arguments = [_argument(one) for one in parameters if one.param_type_name == "argument"]
    return " ".join([f"Usage: {path} [OPTIONS]", *arguments])


def sections_of(parameters: Sequence[Any]) -> dict[str, Rows]:
    """The parameters of one command, without those that every command has."""
    own = [one for one in parameters if one.rich_help_panel != SHARED_PANEL]
    arguments = [(_argument(one), _text(one)) for one in own if one.param_type_name == "argument"]
    options = option_rows(own)
    return {title: rows for title, rows in (("Arguments", arguments), ("Options", options)) if rows}


def meanings_of(command: Any) -> dict[str, Rows]:
    """What the words mean that its first argument takes: a command has them in its epilog, one a line."""
    if not command.epilog:
        return {}
    (chosen, *_) = [one for one in command.params if one.param_type_name == "argument"]
    rows = [(word, text) for word, _, text in (line.partition(": ") for line in command.epilog.splitlines())]
    return {_argument(chosen).strip("[]"): rows}


def option_rows(parameters: Sequence[Any], *, values: bool = True) -> Rows:
    """The options among the parameters, but for hidden ones; with what stands for their `values`."""
    shown = [one for one in parameters if one.param_type_name == "option" and not one.hidden]
    return [(_option(one) if values else _names(one), _text(one)) for one in shown]


def ends_of(command: Any) -> Iterator[str]:
    """What stands below: the options that it shares."""
    shared = [one for one in command.params if one.rich_help_panel == SHARED_PANEL and not one.hidden]
    if shared:
        yield f"As every command: {', '.join(map(_shortest, shared))}"


def _shortest(parameter: Any) -> str:
    """An option by its shortest name, with all its choices or a name for its value."""
    name = min(parameter.opts, key=len)
    return name if parameter.is_flag else f"{name} {'|'.join(_choices(parameter)) or _value(parameter)}"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().removesuffix("...").strip("[]").removesuffix("...")
    if parameter.nargs == -1:
        name += "..."
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = _names(parameter)
    return names if parameter.is_flag or parameter.count else f"{names} {_value(parameter)}"


def _names(parameter: Any) -> str:
    return ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))


def _value(parameter: Any) -> str:
    """What stands for an option's value: its choices, if there is room for them, or a name."""
    choices = "|".join(_choices(parameter))
    if choices and len(max(parameter.opts, key=len)) + 1 + len(choices) <= WIDEST_NAME:
        return choices
    return str(parameter.metavar or parameter.name.rpartition("_")[2].upper())


def _text(parameter: Any) -> str:
    text = (parameter.help or "").removesuffix(".")
    choices = _choices(parameter)
    if choices and (parameter.param_type_name == "argument" or "|" not in _value(parameter)):
        text += f": {', '.join(choices)}"
    default = _default(parameter).replace(" ", _NO_BREAK)
    return f"{text} ({default})" if default else text


def _choices(parameter: Any) -> list[str]:
    return [str(getattr(word, "value", word)) for word in getattr(parameter.type, "choices", ())]


def _default(parameter: Any) -> str:
    default, shown = parameter.default, parameter.show_default
    if parameter.required:
        return "required" if parameter.param_type_name == "option" else ""
    if isinstance(shown, str):
        return f"default: {shown}"
    if (
        not shown
        or callable(default)
        or default is None
        or isinstance(default, bool)
        or default in ("", (), [])
    ):
        return ""
    if (duration := shown_default(parameter)) is not None:
        return f"default: {duration}"
    default = getattr(default, "value", default)
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f"default: {default}"


def _first_part(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split()).partition("; ")[0]
