"""A command of `esctl` that says 3,000 lines, does its work, and shows 20,000 rows.

`python -m tests.esctl.talkative FILE [fails] [OPTIONS]`: its work is to write FILE, its verdict 11 if it
fails. Run by `test_streams.py`, in place of a command that needs a cluster.
"""

import sys
import types
from pathlib import Path
from typing import Any

from esctl.errors import VerdictFailed
from esctl.exits import Exit
from esctl.ui import streams
from esctl.ui.answer import Answer, Table, Trouble

LINES = 3_000
ROWS = 20_000
DONE = "all done"


def main() -> None:
    streams.install()  # as the entry point does, before anything else is opened
    from esctl.cli.invocation import Invocation, command, new_typer
    from esctl.main import app

    place, fails = Path(sys.argv[1]), "fails" in sys.argv
    module = types.ModuleType("esctl.commands.version")
    module.app = new_typer()  # type: ignore[attr-defined]

    def talk(run: Invocation) -> Answer[Any]:
        for number in range(LINES):
            run.terminal.warn(f"line {number} is bad")
        place.write_text(DONE, encoding="utf-8")
        errors = [Trouble.of(VerdictFailed("an event is lost"))] if fails else []
        rows = list(range(ROWS))
        code = Exit.VERDICT_FAILED if fails else Exit.OK
        return Answer({"rows": rows}, [Table(["n"], [[n] for n in rows])], errors, code)

    command(module.app, "version")(talk)
    sys.modules["esctl.commands.version"] = module
    app(["version", *[word for word in sys.argv[2:] if word != "fails"]], prog_name="esctl")


if __name__ == "__main__":
    main()
