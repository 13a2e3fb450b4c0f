"""The command `esctl`: its first page, and the one place where an unknown error ends it.

A command's module is loaded when that command is asked for and never for `--help`, which reads only the
table of commands. Usage errors and bugs are reported here, under `-o json` as one document. Called by the
shell.
"""

import os
import platform
import sys
import traceback
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, Any, Final

import typer
import typer.core

from esctl import oserror
from esctl.cli import oldwords
from esctl.cli.commandtable import ROW_BY_NAME, ROWS, SHOWN, load
from esctl.cli.helppage import option_rows, print_page
from esctl.cli.invocation import (
    SHARED_WORDS,
    ClusterOption,
    JsonOption,
    NoColorOption,
    NoInputOption,
    OutputOption,
    shared_options,
)
from esctl.cli.signals import leave_at_once
from esctl.cli.usagetext import usage_text
from esctl.errors import OutputNotWritten, UsageError
from esctl.exits import Exit, exit_of
from esctl.ui import escape, streams
from esctl.ui.answer import Answer, Tone, Trouble
from esctl.ui.terminal import Output, Terminal
from esnode import __version__
from esnode.errors import Bug, EventStreamError

COMPLETE_VARIABLE: Final = "_ESCTL_COMPLETE"
"""The shell's completion function sets it; see `esctl completion`."""


FIRST_STEPS: Final = (
    ("see a demo", "esctl demo"),
    ("create a cluster", "esctl cluster up"),
    ("what is wrong?", "esctl why"),
    ("what happened?", "esctl timeline"),
    ("what each command does", "esctl --help"),
)
"""What `esctl` alone shows below the names of the commands."""
FIRST_WIDTH: Final = 2 + max(len(question) for question, _ in FIRST_STEPS)


class Commands(typer.core.TyperGroup):
    """The root group: knows every command by its row, and loads one when it is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for row in ROWS:
            self.commands[row.name] = typer.core.TyperCommand(
                row.name, help=row.help, rich_help_panel=row.panel, hidden=row.hidden, callback=None
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What click calls to run `args[0]`, and to complete what follows it."""
        args, note = oldwords.current(args)
        if note and not ctx.resilient_parsing:  # a shell that asks for completions wants no note
            _terminal(args).note(note)
        row = ROW_BY_NAME.get(args[0])
        if row is not None:
            self.commands[row.name] = load(row)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Draw the first page; typer's own would load all of rich for it."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for row in SHOWN:
            sections.setdefault(row.panel, []).append((row.name, row.help))
        sections["Options, also after the command"] = option_rows(self.get_params(ctx), values=False)
        print_page("Usage: esctl [OPTIONS] COMMAND ...", self.help or "", sections, [self.epilog or ""])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with its code."""
        words = list(sys.argv[1:] if args is None else args)
        code: int = Exit.OK
        try:
            ended = super().main(
                words, prog_name or "esctl", complete_var or COMPLETE_VARIABLE, False, **extra
            )
            # `status metrics` may end with a monitor's own code.
            code = ended if isinstance(ended, int) else Exit.OK
        except typer.TyperException as error:
            code = _report_usage(words, error)
        except (KeyboardInterrupt, typer.Abort):
            code = Exit.INTERRUPTED
        except Exception as error:  # noqa: BLE001  # the one place where an unknown error ends the command
            refused = oserror.declared(error) if isinstance(error, oserror.KINDS) else None
            code = _report_bug(words, error) if refused is None else _report_refusal(words, refused)
        try:
            code = _unless_lost(code)
        except KeyboardInterrupt:  # the reader takes nothing more
            leave_at_once()
        sys.exit(code)


app = typer.Typer(
    name="esctl",
    cls=Commands,
    add_completion=COMPLETE_VARIABLE in os.environ,  # that loads the code for it
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run, observe, test and repair EventStreamCore, a replicated exactly-once event log",
    epilog="Start here: esctl cluster up",
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    cluster: ClusterOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    no_input: NoInputOption = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit")] = False,
) -> None:
    """Take the shared options that stand before the command."""
    ctx.obj = shared_options(cluster, output, json, no_color, no_input)
    if version:
        typer.echo(f"esctl {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        _show_first_page()


def _show_first_page() -> None:
    """What `esctl` alone says: where to begin, and the commands by name, on one screen."""
    terminal = Terminal(Output.TABLE)
    width = max(len(row.panel) for row in SHOWN) + 2
    terminal.toned([(f"{app.info.help}", Tone.NORMAL)])
    terminal.toned([])
    for panel in dict.fromkeys(row.panel for row in SHOWN):
        names = "  ".join(row.name for row in SHOWN if row.panel == panel)
        terminal.toned([(panel.ljust(width), Tone.STRONG), (names, Tone.ACCENT)], indent=width)
    terminal.toned([])
    for question, command in FIRST_STEPS:
        terminal.toned([(question.ljust(FIRST_WIDTH), Tone.DIM), (command, Tone.NORMAL)])


def _report_usage(words: list[str], error: typer.TyperException) -> Exit:
    """A command line that cannot be understood. Groups without a command have shown their help already."""
    message = escape.of_repr(usage_text(error))
    if message:
        context = getattr(error, "ctx", None)
        usage = UsageError(message, next_step=f"{context.command_path if context else 'esctl'} --help")
        _terminal(words).show(" ".join(_command_words(words)), Answer.of_error(usage))
    return Exit.USAGE


def _report_refusal(words: list[str], refused: EventStreamError) -> Exit:
    """The operating system said no before the command had begun."""
    _terminal(words).show(" ".join(_command_words(words)), Answer.of_error(refused))
    return exit_of(refused)


def _unless_lost(code: int) -> int:
    """The exit code; another one where it said that all went well, and what was printed did not arrive."""
    failure = streams.failure_of(sys.stdout)
    if failure is not None:
        lost = OutputNotWritten(f"standard output was not written to its end: {failure.strerror}")
        Terminal(Output.PLAIN).trouble(Trouble.of(lost))
    said = streams.failure_of(sys.stderr)
    whole = failure is None and said in (None, streams.CLOSED)  # 2>&- is how one asks for no messages
    return code if code or whole else exit_of(OutputNotWritten)


def _report_bug(words: list[str], error: Exception) -> Exit:
    """Everything that is worth having in a report; the arguments may hold secrets and are left out."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    about = f"esctl {__version__}, Python {platform.python_version()}, {platform.platform()}"
    sys.stderr.write("".join(traceback.format_exception(error)) + f"{about}\n")
    trouble = Trouble(
        Bug.code,
        f"{type(error).__name__}: {error} (in {where.name}, line {where.lineno} of {where.filename})",
        "this is a bug in esctl",
        "report it with the text above",
    )
    _terminal(words).show(" ".join(_command_words(words)), Answer(errors=(trouble,), exit_code=Exit.ERROR))
    return Exit.ERROR


def _terminal(words: list[str]) -> Terminal:
    """The terminal for a command line that was not parsed to its end."""
    text = " ".join(words)
    as_json = os.environ.get("ESCTL_OUTPUT") == "json" or not {*SHARED_WORDS["json"]}.isdisjoint(words)
    as_json |= any(f"{name}{to}json" in text for name in SHARED_WORDS["output"] for to in (" ", "=", ""))
    return Terminal(Output.JSON if as_json else None, color={*SHARED_WORDS["no_color"]}.isdisjoint(words))


def _command_words(words: list[str]) -> list[str]:
    """The words that name the command, as far as they can be told."""
    for start in range(len(words)):
        line, _ = oldwords.current(words[start:])
        if line[0] in ROW_BY_NAME:
            deepest = 3 if line[:2] == ["config", "context"] else 2
            named = takewhile(str.isalpha, line[1:deepest])
            return [line[0], *named]
    return []


def main() -> None:
    """The entry point of the console script."""
    streams.install()
    app(prog_name="esctl")


if __name__ == "__main__":
    main()
