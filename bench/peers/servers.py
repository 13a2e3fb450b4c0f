"""The processes of a system: started in a group of their own, ended by their pid, never outliving the bench.

Each gets SIGKILL from the kernel when the bench dies, however it dies (`setpriv --pdeathsig`, of
util-linux). Their data is thrown away, so nobody is asked to end in peace. Used by the drivers.
"""

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from esctl.clusters.backends import pidfile
from esctl.errors import NodeFailedToStart, NodeNotReady

LEASH: Final = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""Binds a process to its parent, and starts nothing where the parent has gone before it was bound."""
START_TIMEOUT_S: Final = 90.0
ASK_EVERY_S: Final = 0.01
TAIL_BYTES: Final = 800
READ_LOGS: Final = "the end of the server's own log, above, says why"


class Servers:
    """Processes by name, in the order in which they were started."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}

    def start(
        self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run `command` in `directory`; what it prints goes to `directory`/NAME.log."""
        self._logs[name] = directory / f"{name}.log"
        with self._logs[name].open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603  # our own command lines, no shell
                [*LEASH, str(os.getpid()), *command],
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        """Of one process."""
        return self._processes[name].pid

    async def until(self, ready: Callable[[], Awaitable[bool]], what: str) -> None:
        """Ask `ready` until it says yes; raises `NodeFailedToStart`, `NodeNotReady` with a log's end."""
        with trio.move_on_after(START_TIMEOUT_S):
            while not await ready():
                self.check()
                await trio.sleep(ASK_EVERY_S)  # a server that starts tells nobody
            return
        tails = "\n".join(f"{name}: {self._tail(name)}" for name in self._logs)
        raise NodeNotReady(f"{what}: not within {START_TIMEOUT_S:g} s\n{tails}", next_step=READ_LOGS)

    def check(self) -> None:
        """Raises `NodeFailedToStart` when a process has ended by itself."""
        for name, process in self._processes.items():
            if (code := process.poll()) is not None:
                raise NodeFailedToStart(
                    f"{name} ended with code {code}:\n{self._tail(name)}", next_step=READ_LOGS
                )

    def end_all(self) -> None:
        """SIGKILL to each process and to what it started, and collect them."""
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        self._logs.clear()

    def _tail(self, name: str) -> str:
        data = self._logs[name].read_bytes()
        return data[-TAIL_BYTES:].decode(errors="replace").strip()


def kill(pid: int) -> None:
    """SIGKILL to one process, and to nothing that it started."""
    os.kill(pid, signal.SIGKILL)


def resident_bytes(pids: Sequence[int]) -> list[int]:
    """Memory of each process that is alive."""
    found = (pidfile.rss_bytes(pid) for pid in pids)
    return [size for size in found if size is not None]


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time, user and system, that these processes have used so far."""
    ticks = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        user, system = text.rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")
