"""Charts: drawn within the terminal's width, numbers on a pipe, distinguishable without colours."""

import io
import json

import pytest

from esctl.ui.answer import Answer, Chart
from esctl.ui.chart import COLORS, draw, rows
from esctl.ui.terminal import CHART_WIDTH, Output, Terminal

CURVES = {
    "p50": [(10_000.0, 1.1), (20_000.0, 1.3), (40_000.0, 2.2)],
    "p99": [(10_000.0, 3.0), (40_000.0, 60.0)],
}
CHART = Chart("latency", CURVES, "events/s", "ms", log=True, bound=12.0)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(output: Output | None, screen: io.StringIO) -> str:
    Terminal(output, stdout=screen, stderr=io.StringIO()).show("probe", Answer({"a": 1}, [CHART]))
    return screen.getvalue()


def test_a_pipe_gets_a_row_for_each_x_and_a_dash_where_a_curve_has_none() -> None:
    assert shown(None, io.StringIO()) == "10000.0\t1.1\t3.0\n20000.0\t1.3\t-\n40000.0\t2.2\t60.0\n"
    assert rows(CHART)[1] == [20_000.0, 1.3, None]


def test_json_has_the_data_and_no_drawing() -> None:
    assert json.loads(shown(Output.JSON, io.StringIO()))["data"] == {"a": 1}


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_a_chart_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    lines = shown(None, Screen()).splitlines()
    assert max(map(len, lines)) <= columns
    assert "latency over events/s" in lines[0]
    assert any("10 ms" in line for line in lines)


def test_colours_tell_the_curves_apart_and_letters_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(None, Screen())
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(None, Screen())
    assert "\x1b" not in plain
    assert "oo p50" in plain
    assert "** p99" in plain


def test_a_chart_that_was_asked_for_on_a_pipe_has_a_width_too() -> None:
    lines = shown(Output.TABLE, io.StringIO()).splitlines()
    assert "\x1b" not in "".join(lines)
    assert 40 < max(map(len, lines)) <= CHART_WIDTH


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 5.0)],
        [(1.0, 5.0), (2.0, 5.0)],
        [(1.0, 0.0), (2.0, 0.0)],
        [(1.0, 1e-9), (2.0, 1e12)],
        [(0.0, float("nan")), (1.0, 2.0), (2.0, float("inf"))],
        [(float(x), float(x % 7)) for x in range(5000)],
    ],
)
def test_any_curve_can_be_drawn(points: list[tuple[float, float]], log: bool) -> None:
    for chart in (
        Chart("c", {"one": points}, "x", "ms", log=log),
        Chart("c", {"one": points}, "x", from_zero=True),
    ):
        for color in (True, False):
            text = draw(chart, 80, color=color)
            assert text == "" or "c over x" in text


def test_nothing_to_draw_draws_nothing() -> None:
    assert draw(Chart("c", {"one": []}, "x"), 80, color=True) == ""
    assert draw(Chart("c", {"one": [(1.0, 0.0)]}, "x", log=True), 80, color=True) == ""


def test_more_curves_than_colours_can_be_drawn() -> None:
    curves = {f"node {n}": [(0.0, float(n)), (1.0, n + 1.0)] for n in range(len(COLORS) + 3)}
    for color in (True, False):
        assert "node 8" in draw(Chart("memory", curves, "minutes", "MB"), 80, color=color)
