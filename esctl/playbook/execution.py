"""How a step's command is run: as a process of `esctl`, the same that a person would type.

Its one JSON document comes back as a `Reply`. It has a session of its own, so that Ctrl-C at the terminal
does not strike it: it is told to stop when its step is over, and killed when it does not. Never prints.
Called by `actions.py` and `undo.py`; tests have a script in its place.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import trio

import esnode
from esctl.cli.invocation import SHARED_WORDS
from esctl.exits import Exit
from esctl.playbook.commandline import consenting
from esctl.playbook.commands import typed
from esctl.ui.formatting import duration

STOP_S: Final = 8.0
"""From Ctrl-C to the kill: a command cleans up in less."""
MOST_OUTPUT: Final = 10_000
"""Characters of what is no JSON document."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a command ended. `errors` are those of the JSON envelope."""

    exit: int
    data: Mapping[str, Any] = field(default_factory=dict)
    errors: Sequence[Mapping[str, str]] = ()

    @property
    def ok(self) -> bool:
        """Did it do what it should?"""
        return self.exit == Exit.OK

    @property
    def codes(self) -> set[str]:
        """The codes of its errors."""
        return {str(error.get("code", "")) for error in self.errors}

    @property
    def why(self) -> str:
        """For people, in one line."""
        said = [
            f"{error.get('message', '')}" + (f" ({error['cause']})" if error.get("cause") else "")
            for error in self.errors
        ]
        return "; ".join(said) or f"it ended with exit code {self.exit}"


class Executor(Protocol):
    """Runs commands of `esctl` on the cluster of the run."""

    async def run(self, words: Sequence[str], timeout_s: float) -> Reply:
        """Run `esctl WORDS`; when the time is over it is stopped, and the exit code is 124."""

    def typed(self, words: Sequence[str]) -> str:
        """The line that a person would type for the same."""


class ChildProcesses:
    """Each command in a process of its own. With `consent`, a person has said yes to all of them before."""

    def __init__(self, cluster: str, *, consent: bool) -> None:
        self._cluster = cluster
        self._consent = consent

    def typed(self, words: Sequence[str]) -> str:
        """See `Executor`."""
        named = [] if {*SHARED_WORDS["cluster"], self._cluster} & set(words) else ["--cluster", self._cluster]
        return typed(["esctl", *words, *named])

    async def run(self, words: Sequence[str], timeout_s: float) -> Reply:
        """See `Executor`."""
        shared = ["-o", "json", "--no-input", "--cluster", self._cluster]
        line = [
            sys.executable, "-m", "esctl.main", *shared, *(consenting(words) if self._consent else words),
        ]  # fmt: skip
        with trio.move_on_after(timeout_s):
            done = await trio.run_process(
                line,
                stdin=b"",
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=_surroundings(),
                start_new_session=True,
                deliver_cancel=_stop,
            )
            return reply_of(done.returncode, done.stdout, done.stderr)
        what = f"{self.typed(words)} was not done within {duration(timeout_s)}"
        return Reply(Exit.TIMEOUT, errors=[{"code": "", "message": what, "cause": ""}])


def reply_of(code: int, stdout: bytes, stderr: bytes) -> Reply:
    """What a command said; one that was killed has minus the signal's number for its code."""
    text = stdout.decode(errors="replace")
    try:
        document = json.loads(text)
        return Reply(code, document["data"], document["errors"])
    except (ValueError, TypeError, KeyError):
        said = stderr.decode(errors="replace").strip().splitlines()
        errors = [{"code": "", "message": said[-1], "cause": ""}] if code and said else []
        return Reply(code, {"output": text[:MOST_OUTPUT]}, errors)


def _surroundings() -> dict[str, str]:
    root = str(Path(esnode.__file__).resolve().parent.parent)
    search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ESCTL_")}
    return {**kept, "PYTHONPATH": search}


async def _stop(process: trio.Process) -> None:
    """As Ctrl-C would, to the command and what it has started; then for certain. Ended when it has."""
    _signal(process, signal.SIGINT)
    await trio.sleep(STOP_S)
    _signal(process, signal.SIGKILL)


def _signal(process: trio.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        os.killpg(process.pid, number)
