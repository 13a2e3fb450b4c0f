"""Checks the document of a measurement before it is used: a file may come from anywhere.

Every part is there and of its kind, every number is finite, no rate, latency or size is below zero, every
text can be printed, nothing is nested without end. Judges no figure. Called by `esctl/bench/result.py`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Never

from esctl.bench.units import better
from esctl.errors import InvalidResult

FORM: Final = "esctl-bench/"
SCHEMA: Final = "esctl-bench/1"
MAX_DEPTH: Final = 32
MAX_BYTES: Final = 64 * 1024 * 1024
"""An hour of a soak with a point a second in ten series takes 2 MB."""

_MAPS: Final = ("settings", "machine", "cluster", "series", "detail")
_LARGEST: Final = 1e300


def parse(text: bytes, origin: str) -> Any:
    """The JSON document in `text`; `origin` names it in the `InvalidResult` that a wrong one raises."""
    if len(text) > MAX_BYTES:
        raise InvalidResult(f"{origin} has {len(text):,} bytes; no result has more than {MAX_BYTES:,}")

    def refuse(constant: str) -> Never:
        raise InvalidResult(f"{origin} holds {constant}, which is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise InvalidResult(f"{origin} is nested too deeply") from error
    except ValueError as error:
        raise InvalidResult(f"{origin} is not JSON: {error}") from error


def check(document: Any, origin: str) -> None:
    """Raise `InvalidResult`, which says what is wrong, unless `document` is a whole result."""
    if not isinstance(document, Mapping) or not str(document.get("schema", "")).startswith(FORM):
        raise InvalidResult(f"{origin} is not a result of esctl bench")
    if document["schema"] != SCHEMA:
        raise InvalidResult(
            f"{origin} has the schema {document['schema']}; this esctl reads {SCHEMA}",
            next_step="take it again, or read it with the version that wrote it",
        )
    _check_texts(document, origin)
    for name in ("kind", "taken_at"):
        if not isinstance(document.get(name), str) or not document[name]:
            raise InvalidResult(f"{origin} lacks its {name}")
    for name in _MAPS:
        if not isinstance(document.get(name), Mapping):
            raise InvalidResult(f"{origin} lacks its {name}")
    if not isinstance(document.get("runs"), list) or not document["runs"]:
        raise InvalidResult(f"{origin} has no runs")
    for number, run in enumerate(document["runs"], 1):
        if not isinstance(run, Mapping):
            raise InvalidResult(f"{origin}: run {number} is not a set of figures")
        for name, value in run.items():
            if value is not None:
                _check_number(name, value, f"{origin}: {name} of run {number}")
    for name, points in document["series"].items():
        _check_series(name, points, f"{origin}: the series {name}")


def _check_series(name: str, points: Any, where: str) -> None:
    if not isinstance(points, list):
        raise InvalidResult(f"{where} is not a list of points")
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise InvalidResult(f"{where} holds what is not a point of two numbers")
        _check_number("", point[0], where)
        _check_number(name, point[1], where)


def _check_number(name: str, value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidResult(f"{where} is not a number")
    if abs(value) > _LARGEST or math.isnan(value):
        raise InvalidResult(f"{where} is not a finite number")
    if value < 0 and better(name):
        raise InvalidResult(f"{where} is below zero")


def _check_texts(document: Any, origin: str) -> None:
    """No text that no encoding can hold, no nesting that whoever shows it would drown in."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        texts = [one for one in level if isinstance(one, str)]
        if any(not _can_be_written(one) for one in texts):
            raise InvalidResult(f"{origin} holds a text with half of a character")
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise InvalidResult(f"{origin} is nested more than {MAX_DEPTH} levels deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list | tuple) else ()


def _can_be_written(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
