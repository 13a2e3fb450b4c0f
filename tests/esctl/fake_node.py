"""Stands in for a node: reads its configuration, takes its lock, listens, logs, and ends on SIGTERM.

Run as a script, with a command line that says `esnode --config FILE` as a node's does; then its mood. In the
mood of a supervisor it has a process for each partition, which ends when it does, or only when it is told to.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from esnode.config import load


def say(event: str, **fields: object) -> None:
    """One line of the log."""
    print(
        json.dumps({"time": "2013-01-01T00:00:00.000Z", "level": "info", "event": event, **fields}),
        flush=True,
    )


def lock(path: Path) -> IO[str]:
    """Hold the data directory as a node does."""
    file = path.open("a+")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def of_partition(mood: str) -> int:
    """The process of a partition: it waits for the end of its supervisor, and lingers on in that mood."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdin.read()
    if mood == "lingering":
        ended.wait()
    time.sleep(0.3)  # it hands over its leadership
    return 0


def start_partitions(config_path: str, mood: str, count: int) -> list[subprocess.Popen[bytes]]:
    """A process each, as a supervisor starts them."""
    line = [sys.executable, __file__, "esnode", "--config", config_path, mood, "--partition"]
    return [
        subprocess.Popen([*line, str(number)], stdin=subprocess.PIPE, start_new_session=True)
        for number in range(count)
    ]


def main(config_path: str, mood: str) -> int:
    """The program; its exit code."""
    config = load(Path(config_path))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mood == "stubborn" else lambda *_: ended.set())
    if mood == "crash":
        say(
            "node_failed",
            level="critical",
            node=config.node_id,
            reason="the disk is gone",
            next="buy a new disk",
        )
        return 3
    with lock(config.data_dir / "lock"), socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((config.me.client.host, config.me.client.port))
        if mood != "deaf":
            server.listen()
        several = config.partitions > 1
        partitions = start_partitions(config_path, mood, config.partitions) if several else []
        say("node_started", node=config.node_id)
        ended.wait()
        for process in partitions:
            process.terminate()
        for process in partitions:
            process.wait()
        if mood == "slow":
            time.sleep(0.5)  # its last answers and its last sync
    say("node_stopped", node=config.node_id)
    return 0


if __name__ == "__main__":
    words = sys.argv[3:]
    sys.exit(of_partition(words[1]) if "--partition" in words else main(words[0], words[1]))
