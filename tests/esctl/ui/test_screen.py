"""The terminal while it is redrawn in place: what it shows, its keys, and how it is left behind."""

import io
import os
import pty
import select
import termios
from collections.abc import Iterator
from typing import IO, Any

import pytest
import trio

from esctl.ui import screen as screens
from esctl.ui.answer import Line, View
from esctl.ui.screen import END, ENTER, HOME, LEAVE, Screen, keys_of
from esctl.ui.terminal import Output, Terminal


class Sink(io.StringIO):
    """A stream that can hold ASCII only."""

    encoding = "ascii"


def test_a_terminal_that_cannot_show_a_character_gets_another() -> None:
    sink = Sink()
    Screen(sink, drawn, 0)._write("▁ x")
    assert sink.getvalue() == "? x"


class Tty:
    """A terminal of 20 columns and 6 lines: what is on it, and keys that are pressed."""

    def __init__(self) -> None:
        self.person, self.program = pty.openpty()
        termios.tcsetwinsize(self.program, (6, 20))
        self.output: IO[str] = os.fdopen(os.dup(self.program), "w")

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.program)

    def seen(self) -> str:
        """Everything that was written since the last time."""
        self.output.flush()
        data = b""
        while select.select([self.person], [], [], 0)[0]:
            data += os.read(self.person, 100_000)
        return data.decode()

    def close(self) -> None:
        self.output.close()
        os.close(self.program)
        os.close(self.person)


@pytest.fixture
def tty() -> Iterator[Tty]:
    made = Tty()
    yield made
    made.close()


def drawn(views: Any, width: int) -> list[str]:
    return Terminal(Output.TABLE, color=False).rendered(views, width)


def opened(tty: Tty) -> Screen:
    return Screen(tty.output, drawn, tty.program)


def test_keys_are_seen_one_by_one_and_sequences_are_one_key() -> None:
    assert keys_of(b"pq") == ["p", "q"]
    assert keys_of(b"\x1b[A\x1bOBy") == ["up", "down", "y"]
    assert keys_of(b"\x1b[3~x\x1b[1;5Cq") == ["x", "q"]
    assert keys_of(b"\x1b") == ["escape"]
    assert keys_of("ä\r".encode()) == ["ä", "enter"]
    assert keys_of(b"\x1b[5~\x1b[6~\n") == ["page up", "page down", "enter"]
    assert keys_of(b"\x1b[") == []


def test_a_picture_fills_the_terminal_and_its_foot_is_at_the_bottom(tty: Tty) -> None:
    with opened(tty) as screen:
        assert screen.size == (20, 6)
        screen.show([Line("above")], [Line("below")])
        text = tty.seen()
    assert text.startswith(ENTER)
    lines = text.partition(HOME)[2].split("\r\n")
    assert len(lines) == 6
    assert lines[0].startswith("above")
    assert lines[5].startswith("below")


def test_what_has_no_room_is_cut(tty: Tty) -> None:
    with opened(tty) as screen:
        views: list[View] = [Line(f"line {n} " + "x" * 40) for n in range(20)]
        screen.show(views, [Line("foot")])
        lines = tty.seen().partition(HOME)[2].replace("\x1b[K", "").replace("\x1b[J", "").split("\r\n")
    assert [line.split()[1] for line in lines[:5]] == ["0", "1", "2", "3", "4"]
    assert all(len(line) <= 20 for line in lines)


def test_the_terminal_is_left_as_it_was_also_after_an_error(tty: Tty) -> None:
    before = tty.settings()

    def fail_while_open() -> None:
        with opened(tty):
            assert not tty.settings()[3] & (termios.ECHO | termios.ICANON)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_while_open()
    assert tty.settings() == before
    assert tty.seen().endswith(LEAVE)


def test_a_process_that_ends_at_once_restores_the_terminal_first(tty: Tty) -> None:
    before = tty.settings()
    screen = opened(tty)
    screen.__enter__()
    screens.restore()
    assert tty.settings() == before
    screens.restore()
    screen.close()
    assert tty.seen().count(LEAVE) == 1


async def test_keys_come_as_they_are_pressed_and_end_with_the_terminal(tty: Tty) -> None:
    reading, pressing = os.pipe()
    with opened(tty) as screen:
        screen._keyboard, keyboard = reading, screen._keyboard
        os.write(pressing, b"p\x1b[A")
        os.close(pressing)
        with trio.fail_after(5):
            keys = [key async for key in screen.pressed()]
        screen._keyboard = keyboard
    os.close(reading)
    assert keys == ["p", "up", END]


def test_only_a_person_at_a_terminal_gets_a_live_screen(monkeypatch: pytest.MonkeyPatch, tty: Tty) -> None:
    with open(os.dup(tty.program)) as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setenv("TERM", "xterm")
        assert Terminal(stdout=tty.output).can_live
        assert not Terminal(Output.JSON, stdout=tty.output).can_live
        with Terminal(stdout=tty.output).live() as screen:
            screen.show([Line("x")])
        monkeypatch.setenv("TERM", "dumb")
        assert not Terminal(stdout=tty.output).can_live
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        monkeypatch.setenv("TERM", "xterm")
        assert not Terminal(stdout=tty.output).can_live
