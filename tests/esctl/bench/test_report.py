"""The page about measurements: whole, with nothing from elsewhere, and deaf to what the files try to say."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from esctl.bench.report import choice, plot
from esctl.bench.report.page import page
from esctl.bench.result import AnyResult, save
from esctl.ui.html import style
from tests.esctl.commands.test_commands import Run
from tests.esctl.results import MACHINE, of, result

VOID = {"meta", "br", "img", "input", "link", "hr"}
EVIL = "<script>alert(1)</script><img src=//evil onerror=x>&amp;\"'</style></svg>--><b>\x00\x1b[2J\u202e"
TIME = "2013-01-01T00:00:00+00:00"


class Parsed(HTMLParser):
    """The page taken apart; every element must be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def failover() -> AnyResult:
    runs = [
        {"unavailable_ms": 30.0 + n, "detect_ms": 5.0, "elect_ms": 10.0 + n, "lost": 0} for n in range(24)
    ]
    return result(
        *runs,
        kind="failover",
        settings={"strike": "kill", "x": "strike"},
        series={"unavailable_ms": [(float(n), 30.0 + n) for n in range(24)], "detect_ms": [(0.0, 5.0)]},
        detail={"strikes": [{"node": 1, "missed": None, **run} for run in runs]},
    )


def produce(p99_ms: float = 5.0) -> AnyResult:
    runs = [{"events_per_s": 450_000.0, "p99_ms": p99_ms}] * 3
    series = {
        "events_per_s": [(t / 1, 450_000.0) for t in range(30)],
        "p99_ms": [(t / 1, p99_ms) for t in range(30)],
    }
    return result(*runs, series=series)


def soak() -> AnyResult:
    series = {f"node_{n}_rss_bytes": [(float(t), 1e8 + t) for t in range(3600)] for n in (1, 2, 3)}
    return of("leader_rss_bytes", [1e8], kind="soak", settings={"seconds": 3600}, series=series)


def evil() -> AnyResult:
    point = [(0.0, 1.0), (1.0, 2.0)]
    return result(
        {EVIL: 1.0, f"{EVIL}_ms": 2.0},
        kind=EVIL, settings={EVIL: EVIL, "x": EVIL}, machine={EVIL: 1}, cluster={"nodes": [EVIL]},
        series={f"{EVIL}_ms": point, f"{EVIL}2_ms": point},
        detail={"strikes": [{"detect_ms": 1.0, "elect_ms": 2.0}], EVIL: {EVIL: [EVIL, None, True]}},
        taken_at=EVIL,
    )  # fmt: skip


EVERYTHING = {
    "a.json": produce(), "b.json": produce(9.0), "f.json": failover(), "s.json": soak(),
    EVIL: evil(), f"{EVIL}2": evil(),
}  # fmt: skip


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(EVERYTHING, TIME)
    parsed = Parsed(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(parsed.tags)
    names = {name for name, _ in parsed.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "style"})
    assert all(value and value.startswith("#") for name, value in parsed.attributes if name == "href")
    assert not re.search(r"url\(|@import|https?:", style.CSS)
    assert ("content", style.POLICY) in parsed.attributes


def test_links_within_the_page_lead_to_a_place_of_their_own() -> None:
    parsed = Parsed(page(EVERYTHING, TIME))
    places = [value for name, value in parsed.attributes if name == "id"]
    links = [value for name, value in parsed.attributes if name == "href"]
    assert len(set(places)) == len(places)
    assert links
    assert {f"#{place}" for place in places} == set(links)


def test_markup_from_a_file_is_text_everywhere() -> None:
    text = page({EVIL: evil(), f"{EVIL}2": evil()}, TIME)
    parsed = Parsed(text)
    assert text.count("<script") == 0
    assert text.count("</style>") == 1
    assert "<script>alert(1)</script><img src=//evil" in parsed.text
    assert set(parsed.tags) == set(
        Parsed(page({"f": failover(), "g": failover(), "p": produce()}, TIME)).tags
    )


def test_no_character_that_a_page_may_not_have_gets_into_it() -> None:
    text = page({EVIL: evil()}, TIME)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\N{REPLACEMENT CHARACTER}" in text


def test_figures_are_told_with_their_unit_and_range() -> None:
    runs = [{"p999_ms": value, "rss_bytes": 9.1e7} for value in (8.0, 9.0, 12.0)]
    assert "p99.9 9 8 12 ms rss 91 91 91 MB" in Parsed(page({"a": result(*runs)}, TIME)).text
    assert "p99.9 8 ms" in Parsed(page({"a": result(runs[0])}, TIME)).text


def test_settings_and_machine_are_on_the_page() -> None:
    text = Parsed(page({"a": produce()}, TIME)).text
    assert "size 100 bytes" in text
    assert "memory 8,000 MB" in text
    assert "durability fsync" in text
    assert "python 3.11.7" in text


def test_results_of_one_kind_are_compared_with_the_first_of_them() -> None:
    moved = result(*produce(9.0).runs, machine={**MACHINE, "cpus": 64})
    text = Parsed(page({"a.json": produce(), "b.json": moved, "s.json": soak()}, TIME)).text
    assert "b.json against a.json" in text
    assert "worse: 1 same, 1 worse" in text
    assert "warning: another machine: cpus 2 → 64" in text
    assert "against s.json" not in text


def test_each_series_is_drawn_and_those_of_one_unit_together() -> None:
    assert len(choice.plots(produce())) == 2
    (drawn,) = choice.plots(soak())
    assert [line.get("class") for line in drawn.iter("polyline")] == ["line0", "line1", "line2"]
    assert "time in min" in "".join(drawn.itertext())
    assert len(choice.overlays({"a": produce(), "b": produce(), "s": soak()})) == 0
    assert len(choice.overlays({"a": produce(), "b": produce(6.0)})) == 2


def test_more_curves_than_colours_are_two_plots() -> None:
    series = {f"n{n}_ms": [(0.0, 1.0), (1.0, 2.0)] for n in range(plot.COLOURS + 1)}
    assert len(choice.plots(result({}, series=series))) == 2


def test_the_phases_of_each_strike_are_a_bar_and_no_curve() -> None:
    curve, bars = choice.plots(failover())
    assert len(list(curve.iter("polyline"))) == 1
    assert len(list(bars.iter("rect"))) == 2 * 24
    text = "".join(bars.itertext())
    assert "detect" in text
    assert "first commit" not in text


def test_a_strike_whose_phases_nobody_knows_has_no_bar() -> None:
    strikes = [{"detect_ms": None, "elect_ms": None}, {"phases": {"detect_ms": 3}}, "odd", {"detect_ms": -1}]
    assert choice.phases({"acked": 1, "strikes": strikes}) == [("no 2", {"detect": 3})]
    assert choice.phases({"strikes": []}) == []


@pytest.mark.parametrize("low", [-1e300, -3.0, 0.0, 1e-300, 7.0, 1e300])
@pytest.mark.parametrize("high", [0.0, 1e-9, 7.0, 1e300])
def test_any_finite_numbers_can_be_drawn(low: float, high: float) -> None:
    points = [(low, high), (high, low), (low, low)]
    for unit in ("ms", ""):
        figure = plot.curves("any", {"a": points}, plot.PlotAxis("x"), plot.PlotAxis("y", unit))
        places = re.findall(r"[-\d.]+", next(figure.iter("polyline")).get("points") or "")
        assert len(places) == 6
        assert all(0 <= float(place) <= plot.WIDTH for place in places)


def test_a_series_without_a_point_is_not_drawn() -> None:
    assert choice.plots(result({}, series={"p99_ms": []})) == []


def test_a_long_curve_is_thinned_and_keeps_its_spikes() -> None:
    points = [(float(t), 1.0) for t in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    points[12_345] = (12_345.0, 0.1)
    thinned = plot.thin(points)
    assert len(thinned) <= 2 * plot.STRETCHES + 4
    assert {points[0], points[-1], points[54_321], points[12_345]} <= set(thinned)
    assert thinned == sorted(thinned)
    assert plot.thin([(2, 1), (1, 5)]) == [(1, 5), (2, 1)]


def test_latencies_far_apart_get_decades() -> None:
    far = plot.curves("far", {"a": [(0, 1), (1, 400)]}, plot.PlotAxis("x"), plot.PlotAxis("", "ms"))
    assert "logarithmic" in "".join(far.itertext())
    near = plot.curves("near", {"a": [(0, 1), (1, 4)]}, plot.PlotAxis("x"), plot.PlotAxis("", "ms"))
    assert "logarithmic" not in "".join(near.itertext())


def test_long_lists_of_a_file_are_cut_on_the_page() -> None:
    text = Parsed(page({"a": result({}, detail={"gaps": list(range(5_000))})}, TIME)).text
    assert "and 4,900 more" in text


def test_a_ratio_beyond_the_axis_is_an_arrow_with_its_figure() -> None:
    figure = plot.changes("ratios", [("p99 ms", 40.0, 5.0, "worse"), ("p50 ms", 1.1, None, "same")])
    arrows = list(figure.iter("polygon"))
    assert [arrow.get("class") for arrow in arrows] == ["worse"]
    assert len(list(figure.iter("circle"))) == 1
    assert "40 ×" in "".join(figure.itertext())
    low = plot.changes("ratios", [("p99 ms", 0.01, 5.0, "better")])
    assert "0.01 ×" in "".join(low.itertext())


def test_a_name_that_has_no_room_is_cut_where_one_sees_it_and_whole_in_its_title() -> None:
    name = "a name that is longer than " + "anything " * 20
    figure = plot.changes("ratios", [(name, 1.0, 5.0, "same")])
    (text,) = [one for one in figure.iter("text") if (one.text or "").startswith("a name")]
    assert (text.text or "").endswith("…")
    assert float(text.get("x") or 0) >= plot.LETTER * (len(text.text or "") - 1)
    assert name in "".join(figure.itertext())


def test_a_value_that_has_no_place_among_decades_is_an_arrow_below_them() -> None:
    far = plot.curves("f", {"a": [(0, 1), (1, 400), (2, 0)]}, plot.PlotAxis("x"), plot.PlotAxis("", "ms"))
    assert "".join(far.itertext()).count("↓") == 1


# --- as it is typed -----------------------------------------------------------------------------


def test_the_command_writes_the_page_of_its_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(produce(), tmp_path / f"{name}.json")
    out = tmp_path / "new" / "page.html"
    run = Run(
        "bench",
        "report",
        str(tmp_path / "a.json"),
        str(tmp_path / "b.json"),
        "--save",
        str(out),
        "-o",
        "json",
    )
    assert run.code == 0
    data: dict[str, Any] = run.data
    assert data["file"] == str(out)
    assert data["bytes"] == out.stat().st_size
    assert "results side by side" in Parsed(out.read_text(encoding="utf-8")).text


def test_the_page_is_not_written_over_a_result_nor_into_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save(produce(), path)
    before = path.read_text()
    over = Run("bench", "report", str(path), "--save", str(tmp_path / "." / "a.json"), "-o", "json")
    assert (over.code, path.read_text()) == (2, before)
    into = Run("bench", "report", str(path), "--save", str(tmp_path), "-o", "json")
    assert into.code == 1
    assert into.document["errors"][0]["code"] == "ES4106"
    assert json.loads(path.read_text())["schema"] == "esctl-bench/1"
