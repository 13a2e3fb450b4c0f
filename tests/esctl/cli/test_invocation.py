"""How a command ends, in real processes: Ctrl-C, a reader that leaves, a bug, and a quick start."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from esctl.cli import signals
from esctl.cli.invocation import Invocation, SharedOptions, naming
from esctl.clusters import state
from esctl.errors import Interrupted
from esctl.exits import exit_of
from esctl.ui.answer import Answer
from esctl.ui.plain import Nothing
from esctl.ui.terminal import Output
from esnode.errors import NoQuorum
from tests.esctl.conftest import FakeNodes, plan

SLEEPER = """
import sys
from esctl.ui.answer import Answer, Line
from esctl.cli.invocation import Invocation, SharedOptions
from esctl.ui.terminal import Output

def work(run):
    import trio
    acked = 0
    if "silent" not in sys.argv:
        run.on_interrupt(lambda: Answer({"acked": acked}, [Line(f"{acked} acked")]), "again is safe")

    async def send():
        nonlocal acked
        acked = 7
        print("sending", file=sys.stderr, flush=True)
        try:
            await trio.sleep_forever()
        finally:
            if "slow" in sys.argv:
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()

    run.trio(send)

run = Invocation("produce", SharedOptions(output=Output.JSON))
sys.exit(run.conclude(lambda: work(run)))
"""


SIGNALLED_AT_THE_END = """
import os

class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), number=NUMBER):
        kill(me, number)

late = Late()
"""


def esctl(*words: str, program: str = "from esctl.main import main; main()") -> list[str]:
    return [sys.executable, "-c", program, *words]


def wait_for(stream: int, text: str) -> str:
    """Read until `text` has come."""
    seen = ""
    while text not in seen:
        data = os.read(stream, 4096)
        assert data, f"the output ended before {text!r}: {seen!r}"
        seen += data.decode()
    return seen


def test_ctrl_c_speaks_cleans_up_and_tells_what_was_done() -> None:
    with subprocess.Popen(esctl(program=SLEEPER), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"press Ctrl-C again" in err
    assert b"Traceback" not in err
    document = json.loads(out)
    assert document["data"] == {"acked": 7}
    assert document["errors"][0]["code"] == "ES4203"
    assert document["errors"][0]["next"] == "again is safe"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_same_signal_while_the_interpreter_ends_changes_no_exit_code(number: signal.Signals) -> None:
    program = f"NUMBER = {int(number)}\n{SIGNALLED_AT_THE_END}{SLEEPER}"
    with subprocess.Popen(esctl(program=program), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["data"] == {"acked": 7}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_end_a_command_give_the_same_summary(number: signal.Signals) -> None:
    with subprocess.Popen(esctl(program=SLEEPER), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(number)
        process.send_signal(number)  # as `timeout` and a closed terminal do: no reason to skip the clean-up
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopping after {number.name}".encode() in err
    document = json.loads(out)
    assert document["data"] == {"acked": 7}
    assert document["errors"][0]["message"] == f"{number.name} ended the command"
    assert document["errors"][0]["next"] == "again is safe"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_outside_of_trio_give_the_summary_too(number: signal.Signals) -> None:
    waits = (
        "    acked = 9\n    print('sending', file=sys.stderr, flush=True)\n"
        "    import threading\n    threading.Event().wait()"
    )
    program = SLEEPER.replace("    run.trio(send)", waits)
    with subprocess.Popen(esctl(program=program), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["data"] == {"acked": 9}


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + SLEEPER  # as nohup does
    with subprocess.Popen(esctl(program=program), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert b"stopping after SIGTERM" in err


def test_ctrl_c_in_a_command_that_sends_nothing_says_nothing_of_sending() -> None:
    with subprocess.Popen(
        esctl("silent", program=SLEEPER), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["errors"][0]["next"] == "run it again"


def test_a_second_ctrl_c_leaves_at_once() -> None:
    with subprocess.Popen(
        esctl("slow", program=SLEEPER), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(signal.SIGINT)
        wait_for(process.stderr.fileno(), "again")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""


def blocked(clean_up_s: float) -> list[str]:
    """A command that writes more than its reader takes."""
    writes = "sys.stdout.write('x' * 1_000_000); await trio.sleep_forever()"
    program = SLEEPER.replace("await trio.sleep_forever()", writes, 1)
    program = program.replace("run.trio(send)", f"run.trio(send, {clean_up_s})")
    return esctl(program=f"from esctl.ui import streams\nstreams.install()\n{program}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_whose_reader_stands_still(number: signal.Signals) -> None:
    with subprocess.Popen(blocked(0.1), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        process.send_signal(number)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_a_second_ctrl_c_leaves_a_reader_that_stands_still() -> None:
    with subprocess.Popen(blocked(1000), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_for(process.stderr.fileno(), "sending")
        try:
            assert until_it_ends(process, signal.SIGINT) == 130
        finally:
            process.kill()


def until_it_ends(process: subprocess.Popen[bytes], number: signal.Signals) -> int | None:
    """Press again and again: two that come at once are one."""
    for _ in range(100):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.1)
    return None


def test_signals_that_were_all_ignored_stay_ignored() -> None:
    async def work() -> int:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
        return 7

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        assert trio.run(signals.interruptible, work, lambda _number: None, 5.0) == 7
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_reader_that_leaves_is_met_with_silence(fakes: FakeNodes) -> None:
    line = json.dumps({"time": "t", "level": "info", "event": "e", "filler": "x" * 1000})
    fakes.cluster.nodes[0].log.write_text((line + "\n") * 500)
    with subprocess.Popen(
        esctl("logs", "-o", "json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "e"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_an_unknown_error_is_reported_as_a_bug(tmp_path: Path) -> None:
    program = (
        "from esctl.clusters import state\nstate.names = lambda: 1 / 0\nfrom esctl.main import main\nmain()"
    )
    run = subprocess.run(
        esctl("cluster", "ls", "-o", "json", program=program), capture_output=True, timeout=60
    )
    assert run.returncode == 1
    (error,) = json.loads(run.stdout)["errors"]
    assert error["code"] == "ES9001"
    assert "ZeroDivisionError" in error["message"]
    assert b"Traceback" in run.stderr
    assert b"esctl 0.1.0, Python 3." in run.stderr


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], {"trio", "pydantic", "tempfile", "esctl.commands.cluster"}),
        (["explain", "ES1203"], {"trio"}),
        (["cluster", "ls"], set()),
        (["node", "ls", "-o", "json"], set()),
    ],
)
def test_quick_commands_load_nothing_heavy(fakes: FakeNodes, words: list[str], unwanted: set[str]) -> None:
    unwanted |= {"rich", "numpy", "cbor2", "sqlite3", "esnode.client", "esnode.wire", "esctl.commands.doctor"}
    program = (
        "import sys\nfrom esctl.main import main\n"
        "try:\n    main()\nfinally:\n    print(','.join(sys.modules), file=sys.stderr)\n"
    )
    run = subprocess.run(esctl(*words, program=program), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert sorted(unwanted & set(run.stderr.splitlines()[-1].split(","))) == []


def test_status_loads_nothing_heavy_and_makes_few_classes_the_slow_way() -> None:
    """Classes that the standard library freezes cost most of a start (DECISIONS 70)."""
    program = (
        "import sys, esctl.main, esctl.commands.status, esctl.query.survey\n"
        "loaded = [m for name, m in sys.modules.items() if name.startswith(('esctl', 'esnode'))]\n"
        "made = {c for m in loaded for c in vars(m).values() if isinstance(c, type)}\n"
        "made = [vars(c) for c in made if '__dataclass_fields__' in vars(c)]\n"
        "frozen = [c['__setattr__'] for c in made if '__setattr__' in c]\n"
        "slow = [refuse for refuse in frozen if refuse.__module__ != 'esnode.dataclass']\n"
        "print(len(slow), ','.join(sys.modules))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    slow, names = run.stdout.split(" ", 1)
    assert int(slow) <= 20
    unwanted = {"rich", "numpy", "sqlite3", "pydantic", "rocksdict", "uniplot"}
    assert not unwanted & set(names.strip().split(","))


def test_logs_follow_what_is_written_until_ctrl_c(fakes: FakeNodes) -> None:
    node = fakes.cluster.nodes[0]
    node.log.write_text(json.dumps({"time": "t1", "event": "before"}) + "\n")
    with subprocess.Popen(esctl("logs", "-f"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        wait_for(process.stdout.fileno(), "before")
        with node.log.open("a") as log:
            log.write(json.dumps({"time": "t2", "event": "after"}) + "\n")
        wait_for(process.stdout.fileno(), "after")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().splitlines() == ["stopping; press Ctrl-C again to leave at once"]


def test_a_person_at_a_terminal_types_the_name_to_destroy(fakes: FakeNodes, tmp_path: Path) -> None:
    state.add(plan("other", tmp_path / "other"))

    def answer(reply: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        with subprocess.Popen(
            esctl("cluster", "destroy", "fake"), stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            seen = wait_for(master, "Type fake to confirm:")
            os.write(master, f"{reply}\n".encode())
            seen += wait_for(master, "\r\n") if reply == "fake" else wait_for(master, "next:")
            process.wait(60)
        os.close(master)
        return process.returncode, seen

    code, seen = answer("other")
    assert code == 13
    assert "every event" in seen
    assert state.names() == ["fake", "other"]
    assert answer("fake")[0] == 0
    assert state.names() == ["other"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("esctl status", "esctl status --cluster a"),
        (
            "esctl status health; sending again is safe",
            "esctl status health --cluster a; sending again is safe",
        ),
        ("esctl logs; esctl cluster wait", "esctl logs --cluster a; esctl cluster wait --cluster a"),
        ("esctl logs --node 2", "esctl logs --node 2 --cluster a"),
        ("esctl status --cluster b", "esctl status --cluster b"),
        ("esctl cluster start a", "esctl cluster start a"),
        ("esctl cluster ls", "esctl cluster ls"),
        ("esctl explain lists every code", "esctl explain lists every code"),
    ],
)
def test_commands_to_type_next_name_the_cluster_they_are_about(said: str, shown: str) -> None:
    assert naming(said, "a") == shown
    assert naming(said, None) == said


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NoQuorum("nobody leads")])
def test_an_error_in_a_group_ends_a_command_as_it_would_alone(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> Answer[Nothing]:
        raise BaseExceptionGroup("of a nursery that no `run.trio` is around", [error])

    code = Invocation("version", SharedOptions(output=Output.JSON)).conclude(work)
    (told,) = json.loads(capsys.readouterr().out)["errors"]
    alone = Interrupted if isinstance(error, KeyboardInterrupt) else NoQuorum
    assert (code, told["code"]) == (exit_of(alone), alone.code)
