"""Commands of `esctl`, each in a process of its own that is forked from one that has loaded the program.

A command has its own process, streams, environment and exit code. Shared are what is loaded, which costs
more than most commands do, and the interpreter's own settings: `PYTHON...` variables have no effect. Output
goes to files, so a process that is left behind with it is not noticed. A test that is about the start of a
process, about signals or about pipes starts `python -m esctl.main` itself. The server ends with who asked.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from esctl import main as program
from esctl.cli.commandtable import ROWS, load

ROOT = Path(__file__).resolve().parents[2]
LOADED_LATE = [
    "esctl.query.survey",
    "esctl.observe.diagnosis.collect",
    "esctl.events.producer",
]
"""By many commands, which then find it loaded."""
MAX_REQUEST_BYTES = 200_000


def run(
    words: Sequence[str], env: Mapping[str, str], stdin: str | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` says of `python -m esctl.main` with these words, its output captured as text.

    Raises `subprocess.TimeoutExpired`; the command is killed then.
    """
    with ExitStack() as stack:
        given, out, err = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        given.write((stdin or "").encode())
        given.seek(0)
        ours, theirs = [stack.enter_context(end) for end in socket.socketpair()]
        request = json.dumps({"words": words, "env": dict(env), "directory": os.getcwd()}).encode()
        descriptors = [file.fileno() for file in (theirs, given, out, err)]
        socket.send_fds(_server(), [request], descriptors)
        theirs.close()
        ours.settimeout(timeout_s)
        pid = _number_from(ours)
        try:
            code = _number_from(ours)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(words), timeout_s, _text_of(out), _text_of(err)) from None
        return subprocess.CompletedProcess(list(words), code, _text_of(out), _text_of(err))


def _number_from(connection: socket.socket) -> int:
    data = connection.recv(4)
    assert data, "the server of commands has ended"
    return int.from_bytes(data, signed=True)


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@cache
def _server() -> socket.socket:
    """Where this process sends its commands; the server is started at the first."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.esctl.forked", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(asking: socket.socket) -> None:
    """Start commands until nobody can ask any more. Returns in each command's own process, too, to run it."""
    selector = selectors.DefaultSelector()
    selector.register(asking, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not asking:
                pid, answer = key.data
                selector.unregister(key.fileobj)
                os.close(key.fd)
                with answer, suppress(BrokenPipeError):  # nobody waits any more
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    answer.send(status.to_bytes(4, signed=True))
                continue
            data, descriptors, _flags, _address = socket.recv_fds(asking, MAX_REQUEST_BYTES, 4)
            if not data:
                sys.exit()
            pid = os.fork()
            if not pid:
                for other in list(selector.get_map().values()):
                    if other.data is not None:
                        os.close(other.fd)
                        other.data[1].close()
                selector.close()
                asking.close()
                _become(json.loads(data), descriptors)
                return
            answer = socket.socket(fileno=descriptors[0])
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            with suppress(BrokenPipeError):
                answer.send(pid.to_bytes(4, signed=True))
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Make this process what a shell would have started."""
    os.close(descriptors[0])
    for number, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["directory"])
    sys.argv = [str(program.__file__), *request["words"]]


if __name__ == "__main__":
    for row in ROWS:
        load(row)
    for module in LOADED_LATE:
        import_module(module)
    gc.collect()
    gc.freeze()  # so that a command copies no page of what is loaded only to look at it
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        program.main()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))  # to take all apart would cost more than most commands
