"""Files of results: what was saved comes back, and what is anything else is refused with a reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esctl.bench import validity
from esctl.bench.result import check_place, read, save
from esctl.bench.units import FigureText, better, reading
from esctl.errors import InputUnreadable, InvalidResult, MachineRefused
from esctl.ui.formatting import number
from tests.esctl.results import result

Document = dict[str, Any]


def document() -> Document:
    made = result(
        {"p99_ms": 5.0, "lost": 0, "p50_ms": None},
        series={"p99_ms": [(0.0, 5.0), (1.0, 6.0)]},
        detail={"nodes": [{"id": 1}]},
    )
    copy: Document = json.loads(json.dumps(made.to_json()))
    return copy


def test_a_saved_result_comes_back_with_its_medians(tmp_path: Path) -> None:
    made = result({"p99_ms": 5.0}, {"p99_ms": 9.0}, {"p99_ms": None}, series={"p99_ms": [(0.0, 5.0)]})
    path = tmp_path / "new" / "one.json"
    save(made, path)
    again = read(path)
    assert again.figures == {"p99_ms": 7.0}
    assert json.loads(path.read_text())["figures"] == {"p99_ms": 7.0}
    assert again.to_json() == json.loads(path.read_text())


def without(name: str) -> Callable[[Document], Any]:
    return lambda d: d.pop(name)


def put(name: str, value: Any) -> Callable[[Document], Any]:
    return lambda d: d.update({name: value})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("schema"), "not a result"),
        (put("schema", "esctl/v1"), "not a result"),
        (put("schema", "esctl-bench/2"), "this esctl reads esctl-bench/1"),
        *((without(name), f"lacks its {name}") for name in ("kind", "settings", "machine", "cluster")),
        *((without(name), f"lacks its {name}") for name in ("series", "detail", "taken_at")),
        (put("kind", 7), "lacks its kind"),
        (put("settings", []), "lacks its settings"),
        (without("runs"), "no runs"),
        (put("runs", []), "no runs"),
        (put("runs", {}), "no runs"),
        (put("runs", [7]), "run 1 is not a set of figures"),
        (put("runs", [{"p99_ms": 1.0}, {"p99_ms": "fast"}]), "p99_ms of run 2 is not a number"),
        (put("runs", [{"p99_ms": True}]), "not a number"),
        (put("runs", [{"p99_ms": -0.1}]), "below zero"),
        (put("runs", [{"events_per_s": -1}]), "below zero"),
        (put("runs", [{"lost": -1}]), "below zero"),
        (put("runs", [{"p99_ms": 10**400}]), "not a finite number"),
        (put("series", {"p99_ms": 1}), "not a list of points"),
        (put("series", {"p99_ms": [1]}), "not a point"),
        (put("series", {"p99_ms": [[1, 2, 3]]}), "not a point"),
        (put("series", {"p99_ms": [[1, None]]}), "not a number"),
        (put("series", {"p99_ms": [[1, -2]]}), "below zero"),
        (put("detail", {"note": "\ud800"}), "half of a character"),
        (put("settings", {"\udfff": 1}), "half of a character"),
        (put("detail", {"deep": nested(40)}), "nested more than"),
    ],
)
def test_a_document_that_is_no_whole_result_is_refused(
    change: Callable[[Document], Any], message: str, tmp_path: Path
) -> None:
    wrong = document()
    change(wrong)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(InvalidResult, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[]", "not a result"),
        (b"7", "not a result"),
        (b'{"schema": "esctl-bench/1", "runs": [{"p99_ms": NaN}]}', "NaN, which is no number"),
        (b'{"schema": "esctl-bench/1", "runs": [{"p99_ms": -Infinity}]}', "-Infinity, which is no number"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_json_of_a_result_is_refused(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(text)
    with pytest.raises(InvalidResult, match=message):
        read(path)


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(document()).replace("5.0", "1e999"))
    with pytest.raises(InvalidResult, match="not a finite number"):
        read(path)


def test_a_file_of_any_size_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(validity, "MAX_BYTES", 100)
    with pytest.raises(InvalidResult, match="no result has more than 100"):
        read(Path("/dev/zero"))


def test_a_directory_and_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputUnreadable) as caught:
            read(path)
        assert "esctl bench produce --save" in caught.value.next_step


def test_figures_without_a_unit_may_be_below_zero_and_so_may_the_time_before_a_strike(tmp_path: Path) -> None:
    made = result({"memory_drift_percent": -2.0}, series={"p99_ms": [(-1.0, 5.0)]})
    save(made, tmp_path / "one.json")
    assert read(tmp_path / "one.json").figures == {"memory_drift_percent": -2.0}


@pytest.mark.parametrize(
    ("name", "read_as", "way"),
    [
        ("events_per_s", FigureText("events", "events/s"), 1),
        ("follower_events_per_s", FigureText("follower", "events/s"), 1),
        ("payload_bytes_per_s", FigureText("payload", "MB/s", 1e6), 1),
        ("payload_mb_per_s", FigureText("payload", "MB/s"), 1),
        ("rate_per_s", FigureText("rate", "events/s"), 1),
        ("knee_per_s", FigureText("knee", "/s"), 1),
        ("p999_ms", FigureText("p99.9", "ms"), -1),
        ("raw_p9999_ms", FigureText("raw p99.99", "ms"), 0),
        ("leader_rss_bytes", FigureText("leader rss", "MB", 1e6), -1),
        ("leader_cpu_us_per_event", FigureText("leader cpu", "µs an event"), -1),
        ("events_of_floor", FigureText("events", "of the floor"), 1),
        ("lost", FigureText("lost", ""), -1),
        ("failed", FigureText("failed", ""), -1),
        ("seconds", FigureText("seconds", ""), 0),
        ("_ms", FigureText("ms", ""), -1),
        ("", FigureText("", ""), 0),
    ],
)
def test_the_unit_of_a_figure_is_read_from_its_name(name: str, read_as: FigureText, way: int) -> None:
    assert reading(name) == read_as
    assert better(name) == way


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.12345, "0.1235"), (12.0, "12"), (999.96, "1000"), (27004.4, "27,004")],
)
def test_numbers_are_written_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_result_that_cannot_be_written_whole_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.json"
    save(result({"p50_ms": 1.0}), path)

    def cut_off(new: Path, text: str, **_: object) -> None:
        with new.open("w") as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", cut_off)
        with pytest.raises(MachineRefused, match="No space left"):
            save(result({"p50_ms": 2.0}), path)
    assert read(path).figures == {"p50_ms": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_result_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "one.json")
    save(result({"p50_ms": 1.0}), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert read(tmp_path / "one.json").figures == {"p50_ms": 1.0}
    check_place(Path(os.devnull))
    save(result({"p50_ms": 1.0}), Path(os.devnull))
    assert Path(os.devnull).is_char_device()
