"""The process of one partition: started, started again when it ends, and ended with the supervisor.

Decides how long to wait before it is started again: 0.1 s, doubled up to 10 s each time that it ends at once.
Never decides why it has ended: that is in the last line of its own log, which goes where the supervisor's
goes. Made by `supervisor.py`, one task for each.
"""

import logging
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Final

import trio

from esnode.messages import Side
from esnode.transport.handover import hand_over, handover_pair
from esnode.transport.tcpstream import TcpStream

log = logging.getLogger(__name__)

RESTART_MIN_S: Final = 0.1
RESTART_MAX_S: Final = 10.0
STEADY_AFTER_S: Final = 60.0
"""A process that has run for so long is started again at once, as the first time."""
STOP_S: Final = 10.0
"""A node stops within 2 s. One that is slower is killed after this, which loses nothing."""


class HandoverSocket:
    """Our end of the socket through which a process gets the connections of one port."""

    def __init__(self, end: socket.socket) -> None:
        self._end = trio.socket.from_stdlib_socket(end)
        self._turn = trio.Lock()

    async def hand_over(self, stream: TcpStream, first: bytes) -> bool:
        """Hand the connection over; False where the process has ended."""
        async with self._turn:
            try:
                await hand_over(self._end, stream, first)
            except (OSError, trio.ClosedResourceError):
                return False
        return True

    def close(self) -> None:
        """Close this end: the process notices."""
        self._end.close()


class PartitionProcess:
    """One partition of this node; `command` starts it, `once` is added to it the first time only."""

    def __init__(self, partition: int, command: Sequence[str], once: Sequence[str] = ()) -> None:
        self.partition = partition
        self.sockets: dict[Side, HandoverSocket] = {}
        """Empty while it does not run."""
        self.unclean = False
        """Whether it had to be killed at the end, or ended with an error then."""
        self._command = command
        self._once = tuple(once)

    async def hand_over(self, side: Side, stream: TcpStream, first: bytes) -> bool:
        """Hand over a connection, of which `first` was read; False where the process is not there."""
        handover = self.sockets.get(side)
        return handover is not None and await handover.hand_over(stream, first)

    async def run(self) -> None:
        """Keep it running for ever; when this is cancelled, end it, within a bound."""
        pause_s = RESTART_MIN_S
        while True:
            begun = trio.current_time()
            return_code = await self._run_once()
            ran_s = trio.current_time() - begun
            if ran_s >= STEADY_AFTER_S:
                pause_s = RESTART_MIN_S
            log.error(
                "partition_ended",
                extra={
                    "partition": self.partition,
                    **_ending(return_code),
                    "ran_s": round(ran_s, 3),
                    "again_in_s": pause_s,
                },
            )
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_MAX_S)

    async def _run_once(self) -> int:
        pairs = {side: handover_pair() for side in Side}
        sockets = {side: HandoverSocket(ours) for side, (ours, _) in pairs.items()}
        try:
            process = await self._start([theirs for _, theirs in pairs.values()])
            self.sockets = sockets
            try:
                return await process.wait()
            except trio.Cancelled:
                await self._stop(process)
                raise
        finally:
            self.sockets = {}
            for each in sockets.values():
                each.close()

    async def _start(self, ends: Sequence[socket.socket]) -> trio.Process:
        numbers = [end.fileno() for end in ends]
        inherited = ",".join(map(str, numbers))
        command = [*self._command, "--partition", str(self.partition), "--sockets", inherited, *self._once]
        self._once = ()
        try:
            # In a session of its own: Ctrl-C in a terminal is for the supervisor, which ends it in order.
            process: trio.Process = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, pass_fds=numbers, start_new_session=True
            )
        finally:
            for end in ends:
                end.close()
        log.info("partition_started", extra={"partition": self.partition, "pid": process.pid})
        return process

    async def _stop(self, process: trio.Process) -> None:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(STOP_S):
                await process.wait()
            if process.returncode is None:
                log.error("partition_killed", extra={"partition": self.partition, "after_s": STOP_S})
                process.kill()
                await process.wait()
        # By the signal itself where it had not begun to serve.
        self.unclean = process.returncode not in (0, -signal.SIGTERM)


def _ending(return_code: int) -> dict[str, object]:
    if return_code >= 0:
        return {"exit_code": return_code}
    try:
        return {"signal": signal.Signals(-return_code).name}
    except ValueError:
        return {"signal": str(-return_code)}
