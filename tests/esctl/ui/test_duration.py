"""Spans of time, as they are typed and as they are printed."""

import pytest

from esctl.errors import InvalidArgument
from esctl.ui.duration import Duration, milliseconds, with_units
from esctl.ui.formatting import duration, typed


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("10min", 600_000), ("1h30m", 5_400_000),
     ("2d", 172_800_000), ("1m30.5s", 90_500), ("1s500ms", 1_500), ("0.01ms", 0.01), (" 5s ", 5_000),
     ("0s", 0)],
)  # fmt: skip
def test_a_span_of_time_has_units_from_the_largest_to_the_smallest(text: str, expected_ms: float) -> None:
    assert milliseconds(text) == with_units(text) == pytest.approx(expected_ms)


@pytest.mark.parametrize(("plain", "expected_ms"), [("ms", 5.5), ("s", 5_500), ("m", 330_000)])
def test_a_number_alone_counts_the_unit_of_its_option(plain: str, expected_ms: float) -> None:
    assert milliseconds("5.5", plain) == expected_ms
    assert with_units("5.5") is None


@pytest.mark.parametrize(
    "text",
    ["", "s", "soon", "5 s", "-5s", "30m1h", "5x", "1h30", "\u0663s", "1s\n2s",
     "inf", "nan", "1e3s", "12000d", f"{'9' * 400}s"],
)  # fmt: skip
def test_what_is_no_span_of_time_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no duration: write 500ms, 30s, 10m or 1h30m"):
        milliseconds(text)


@pytest.mark.parametrize(
    ("given_ms", "text"),
    [(0, "0s"), (0.01, "0.01ms"), (250, "250ms"), (1_500, "1.5s"), (30_000, "30s"), (90_000, "1m30s"),
     (3_600_000, "1h"), (3_600_001, "1h0.001s"), (9_600_000_000, "111d2h40m"), (-500, "-500ms")],
)  # fmt: skip
def test_what_is_to_be_typed_is_written_exactly(given_ms: float, text: str) -> None:
    assert typed(given_ms) == text
    if given_ms >= 0:
        assert milliseconds(text) == pytest.approx(given_ms)


def test_each_duration_of_a_playbook_is_read_again_as_it_is_written() -> None:
    for length_ms in (0, 1, 999, 1_000, 1_001, 59_999, 60_000, 3_599_999, 86_400_000, 123_456_789):
        assert Duration.parse(str(Duration(length_ms))) == length_ms


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0, "0 ms"), (0.0005, "0.5 ms"), (0.31, "310 ms"), (0.9996, "1 s"), (5.94, "5.9 s"),
     (59.94, "59.9 s"), (59.96, "1 min"), (65, "1 min 5 s"), (3_599.7, "1 h"), (7_260, "2 h 1 min"),
     (180_000, "2 d 2 h"), (-90, "-1 min 30 s")],
)  # fmt: skip
def test_people_are_told_the_two_largest_units(seconds: float | None, text: str | None) -> None:
    assert duration(seconds) == text
