"""One fsync of one node fails with EIO, under load; the node must end, and be sound after its next start.

python -m tests.torture.fsyncs --times 10 [--rate N] [--seed N] [--storage ENGINE] [--home DIR]

strace hangs on to the running node and lets one of its next fsyncs fail, only that one: a node that
tried again would not notice. Confirmed by strace's own log, and by the node's exit code and typed error.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import trio

from esctl.exits import Exit
from esnode.errors import StorageFailed
from tests.torture.arena import Arena, Target, Trouble
from tests.torture.campaign import Needs, Settings, Strike, options, settings_of
from tests.torture.campaign import run as run_campaign
from tests.torture.load import Load

CALLS: Final = "fsync,fdatasync,pwritev2"
"""The last is a write that syncs: what the engine `segments` commits with."""
MAX_NUMBER: Final = 60
"""The first to so many-th fsync of a thread fails."""
END_TIMEOUT_S: Final = 60.0


class FailedFsync:
    """EIO from one fsync."""

    name = "fsyncs"
    needs = Needs()

    def missing(self) -> str:
        if not shutil.which("strace"):
            return "there is no strace"
        scope = Path("/proc/sys/kernel/yama/ptrace_scope")
        if os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0":
            return "only root may trace a running process here"
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        number = source.randint(1, MAX_NUMBER)
        trace = ring.directory / "strace.log"
        trace.unlink(missing_ok=True)
        words = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}"]
        words += ["-e", f"inject={CALLS}:error=EIO:when={number}", "-p", str(ring.pid(target.number))]
        tracer = await trio.lowlevel.open_process(words, stderr=subprocess.DEVNULL)
        code = await ring.wait_end(target.number, END_TIMEOUT_S)
        if code is None:
            tracer.terminate()
        await tracer.wait()
        what = f"fsync {number} failed"
        injected = [line for line in trace.read_text().splitlines() if "EIO" in line and "INJECTED" in line]
        if code is None:
            if injected:
                raise Trouble(f"node {target.number} lived on after {injected[0]}")
            return Strike(what, f"no fsync was made to fail in {END_TIMEOUT_S:g} s")
        words_said = ring.last_words(target.number)
        await ring.start([target.number])
        if not injected:
            return Strike(what, f"strace shows no failed call, and the node ended with {code}: {words_said}")
        if code != 1 or not words_said.startswith(StorageFailed.code):
            raise Trouble(f"after a failed fsync node {target.number} ended with {code}: {words_said}")
        return Strike(f"{what}; {words_said}")


def run(settings: Settings) -> Exit:
    """The whole run; prints its one line."""
    return run_campaign("fsyncs", [FailedFsync()], settings)


def parser() -> argparse.ArgumentParser:
    return options(__doc__, times=10)


if __name__ == "__main__":
    sys.exit(run(settings_of(parser().parse_args())))
