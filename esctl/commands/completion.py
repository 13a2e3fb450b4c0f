"""`esctl completion SHELL`: the script that makes the shell complete commands and options."""

import os
import subprocess
import sys
from typing import Annotated, Final, Literal, TypedDict

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.ui.answer import Answer, Line

app = new_typer()
Shell = Literal["bash", "zsh", "fish"]
_HOW: Final[dict[Shell, str]] = {
    "bash": "echo 'eval \"$(esctl completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(esctl completion zsh)\"' >> ~/.zshrc",
    "fish": "esctl completion fish > ~/.config/fish/completions/esctl.fish",
}


class CompletionAnswer(TypedDict):
    """The completion script of a shell, and how it is installed."""

    shell: Shell
    script: str
    install: str


@command(app, "completion")
def completion(
    run: Invocation, shell: Annotated[Shell, typer.Argument(help="Shell")]
) -> Answer[CompletionAnswer]:
    """Print the completion script for a shell"""
    # The script is typer's own; it prints it when the variable that the script will set asks for it.
    printed = subprocess.run(
        [sys.executable, "-m", "esctl.main"],
        env={**os.environ, "_ESCTL_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    if run.terminal.interactive:
        run.terminal.note(f"to install it: {_HOW[shell]}")
    script = printed.stdout.strip()
    return Answer(
        {"shell": shell, "script": script, "install": _HOW[shell]},
        [Line(line) for line in script.splitlines()],
    )
