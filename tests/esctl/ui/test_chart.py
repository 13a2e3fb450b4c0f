"""Charts: drawn within the terminal's width, numbers on a pipe, distinguishable without colours."""

import io
import json

import pytest

from esctl.ui.answer import Answer, Chart
from esctl.ui.chart import BELOW, MARK, TONES, draw, rows
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
    assert "latency in ms over events/s" in lines[0]
    assert any(line.startswith("  10┤") for line in lines)


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


def text_of(chart: Chart, width: int = 80, *, dots: bool = True) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw(chart, width, dots=dots)]


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
        Chart("c", {"one": points}, "x", from_zero=True, filled=True),
    ):
        for dots in (True, False):
            lines = text_of(chart, dots=dots)
            assert not lines or lines[0].startswith("c ")
            assert all(len(line) <= 80 for line in lines)


def test_nothing_to_draw_draws_nothing() -> None:
    assert text_of(Chart("c", {"one": []}, "x")) == []
    assert text_of(Chart("c", {"one": [(1.0, 0.0)]}, "x", log=True)) == []


def test_more_curves_than_colours_can_be_drawn() -> None:
    curves = {f"node {n}": [(0.0, float(n)), (1.0, n + 1.0)] for n in range(len(TONES) + 3)}
    for dots in (True, False):
        lines = text_of(Chart("memory", curves, "minutes", "MB"), dots=dots)
        assert "node 8" in "\n".join(lines)
        assert all(len(line) <= 80 for line in lines)


LATELY = {"events/s": [(float(x), 5_000.0) for x in range(-60, 1)]}


def test_the_axis_counts_in_whole_steps_with_their_unit() -> None:
    lines = text_of(Chart("events/s", LATELY, "", from_zero=True, between=(-60, 0), x_unit=" s"), 40)
    assert [word for word in lines[-1].split() if word != "s"] == ["-60", "-40", "-20", "0"]
    assert lines[-1].rstrip().endswith("0 s")
    assert [line.split("┤")[0].strip() for line in lines if "┤" in line] == ["4,000", "2,000", "0"]


def test_a_moment_is_a_line_through_the_curve_with_its_word_and_an_arrow_on_the_axis() -> None:
    marked = Chart("events/s", LATELY, "", between=(-60, 0), marks=[(-30, "term 7")], from_zero=True)
    lines = text_of(marked, 40)
    assert "term 7" in lines[2], "beside the curve, not over it"
    column = lines[-2].index(MARK)
    assert sum(line[column] == "┊" for line in lines[1:-2]) == marked.height - 1, "all but where the curve is"
    assert MARK not in "".join(text_of(Chart("events/s", LATELY, "", from_zero=True), 40))


def test_a_gap_in_a_curve_is_not_bridged() -> None:
    whole = [(float(x), 1.0) for x in range(11)]
    torn = [(x, y if x != 5 else float("nan")) for x, y in whole]
    drawn = ["".join(text_of(Chart("c", {"c": curve}, "x"), 40)) for curve in (whole, torn)]
    solid, broken = (sum(each > "\N{BRAILLE PATTERN BLANK}" for each in text) for text in drawn)
    assert broken < solid - 5


def test_an_area_is_filled_from_its_curve_to_the_ground() -> None:
    filled = text_of(Chart("c", {"c": [(0.0, 8.0), (9.0, 8.0)]}, "x", from_zero=True, filled=True), 40)
    assert all("⣿" in line for line in filled[3:-2])


def test_a_value_that_has_no_place_on_a_logarithmic_axis_is_shown_below_it() -> None:
    low = Chart("c", {"c": [(0.0, 10.0), (5.0, 0.0), (10.0, 20.0)]}, "x", log=True)
    assert [BELOW in line for line in text_of(low)[1:-2]] == [False] * (low.height - 1) + [True]
    assert BELOW not in "".join(text_of(CHART))
