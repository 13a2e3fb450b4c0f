"""Starts processes that outlive this one: in a session of their own, with nothing of this terminal.

A program of the toolkit says that it is there with `say_ready`, and whoever started it waits for that; a node
is waited for by its port. Decides nothing about when a process ends. Never prints. Called by the backends,
the leases of faults, and the background loads.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import esnode
from esctl.errors import MachineRefused

_READY: Final = b"ready\n"


def spawn(command: list[str], output: int, errors: int) -> int:
    """Start `command` with these descriptors for its output; its pid. Its input is empty.

    It finds this installation's packages, wherever it runs. Raises `OSError`.
    """
    package_root = str(Path(esnode.__file__).resolve().parent.parent)
    search = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.posix_spawn(
        command[0],
        command,
        {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONUNBUFFERED": "1"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, errors, 2),
        ],
        setsid=True,
    )


class Starting:
    """`python -m MODULE ARGUMENTS`, started, and not yet there. `name` is what errors call it.

    Raises `MachineRefused`. Either `wait_ready` or `abandon` must follow.
    """

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is there, or has ended
        ours, theirs = os.pipe()
        self._output = os.fdopen(ours, "rb")
        try:
            spawn([sys.executable, "-m", module, *arguments], theirs, self._errors.fileno())
        except OSError as error:
            self.abandon()
            raise MachineRefused(f"{name} could not be started: {error.strerror}") from error
        finally:
            os.close(theirs)

    def wait_ready(self) -> None:
        """Return once it says that it is there. Raises `MachineRefused`, with its last word, when it ends."""
        with self._errors, self._output:
            if self._output.readline() == _READY:
                return
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise MachineRefused(f"{self._name} ended at once: {said[-1] if said else 'it said nothing'}")

    def abandon(self) -> None:
        """Do not wait for it: it ends by itself when it finds nothing to do."""
        self._output.close()
        self._errors.close()


def say_ready() -> None:
    """Tell whoever started this process that it is there; nothing more can be said on its output."""
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
