"""Commands of `esctl`, each in a process of its own that is forked from one that has loaded the program.

A command has its own process, streams, environment and exit code. Shared are what is loaded, which costs
more than most commands do, and the interpreter's own settings: `PYTHON...` variables have no effect. Output
goes to files, so a process that is left behind with it is not noticed. A test that is about the start of a
process, about signals or about pipes starts `python -m esctl.main` itself, and so do its playbook's steps.
The steps of a playbook that is run here are forked from the same server. The server ends with who asked.
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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import trio

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
    given = (stdin or "").encode()
    with _begun(_server(), words, env, given, group=False) as command:
        command.ours.settimeout(timeout_s)
        try:
            code = _number_from(command.ours)
        except TimeoutError:
            os.kill(command.pid, signal.SIGKILL)
            out, err = _text_of(command.out), _text_of(command.err)
            raise subprocess.TimeoutExpired(list(words), timeout_s, out, err) from None
        return subprocess.CompletedProcess(list(words), code, _text_of(command.out), _text_of(command.err))


@dataclass(slots=True)
class _Command:
    """A process that runs, with what a `trio.Process` shows to who stops it; its code comes by `ours`."""

    pid: int
    ours: socket.socket
    out: IO[bytes]
    err: IO[bytes]
    returncode: int | None = None


@contextmanager
def _begun(
    server: socket.socket, words: Sequence[str], env: Mapping[str, str], stdin: bytes, *, group: bool
) -> Iterator[_Command]:
    """Have the server start a command, as the leader of a process group of its own with `group`."""
    with ExitStack() as stack:
        given, out, err = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        given.write(stdin)
        given.seek(0)
        ours, theirs = [stack.enter_context(end) for end in socket.socketpair()]
        request = {"words": words, "env": dict(env), "directory": os.getcwd(), "group": group}
        descriptors = [file.fileno() for file in (theirs, given, out, err)]
        socket.send_fds(server, [json.dumps(request).encode()], descriptors)
        theirs.close()
        yield _Command(_number_from(ours), ours, out, err)


async def _run_step(
    server: socket.socket,
    line: Sequence[str],
    *,
    stdin: bytes,
    env: Mapping[str, str],
    deliver_cancel: Callable[[_Command], Awaitable[object]],
    **_: bool,
) -> subprocess.CompletedProcess[bytes]:
    """`trio.run_process` for a command that a command starts: the same but for the interpreter."""
    start, words = list(line[:3]), list(line[3:])
    assert start == [sys.executable, "-m", "esctl.main"], line
    with _begun(server, words, env, stdin, group=True) as command:
        try:
            await trio.lowlevel.wait_readable(command.ours)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(deliver_cancel, command)
                    await trio.lowlevel.wait_readable(command.ours)
                    nursery.cancel_scope.cancel()
            raise
        command.returncode = _number_from(command.ours)
        return subprocess.CompletedProcess(
            list(line), command.returncode, _bytes_of(command.out), _bytes_of(command.err)
        )


def _number_from(connection: socket.socket) -> int:
    data = connection.recv(4)
    assert data, "the server of commands has ended"
    return int.from_bytes(data, signed=True)


def _bytes_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _text_of(file: IO[bytes]) -> str:
    return _bytes_of(file).decode()


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
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    doors = (asking, ours)  # the tests', and the commands' whose steps are commands
    for one in doors:
        selector.register(one, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            door = next((one for one in doors if one is key.fileobj), None)
            if door is None:
                pid, answer = key.data
                selector.unregister(key.fileobj)
                os.close(key.fd)
                with answer, suppress(BrokenPipeError):  # nobody waits any more
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    answer.send(status.to_bytes(4, signed=True))
                continue
            data, descriptors, _flags, _address = socket.recv_fds(door, MAX_REQUEST_BYTES, 4)
            if not data:
                sys.exit()
            request = json.loads(data)
            pid = os.fork()
            if not pid:
                for other in list(selector.get_map().values()):
                    if other.data is not None:
                        os.close(other.fd)
                        other.data[1].close()
                selector.close()
                for one in doors:
                    one.close()
                _become(request, descriptors)
                trio.run_process = partial(_run_step, theirs)
                return
            if request["group"]:
                os.setpgid(pid, pid)  # here, so that who gets the number can signal the group
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
