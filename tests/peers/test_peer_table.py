"""The table and the document of all systems."""

import json

from bench.peers.peer import Facts
from bench.peers.table import SCHEMA, Measured, document, markdown

FACTS = Facts("a system", "yes", "a client", "its timers", "its dialling")
MACHINE = {"cpus": 2, "cpu": "a processor", "load_average": [0.5, 1.5], "fsync_ms": [0.2, 0.47]}
SETTINGS = {
    "size": 100, "window": 64, "batch": 64, "runs": 3, "seconds": 10.0, "failovers": 5,
    "rates": (20_000.0, 60_000.0), "habits": "wait",
}  # fmt: skip


def loop(name: str, per_s: float) -> dict[str, float | None]:
    return {
        f"{name}_per_s": per_s,
        f"{name}_p50_ms": 1.25,
        f"{name}_p99_ms": 17.6,
        f"{name}_p999_ms": 1234.5,
        f"{name}_nodes_us_per_event": 16.4,
        f"{name}_client_us_per_event": 3.96,
        f"{name}_client_busy": 0.3,
    }


def row_of(one: Measured) -> list[str]:
    line = markdown([one], MACHINE, SETTINGS).splitlines()[2]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_the_medians_of_the_runs() -> None:
    one = Measured("name", "1.0", FACTS, failovers_ms=[48.0, 4700.0, 60.0])
    for per_s in (90_000, 80_000, 100_000):
        run = {**loop("closed", per_s), **loop("at_20000", 20_000), **loop("at_60000", 59_999)}
        one.runs.append({**run, "memory_bytes": 120e6, "cold_start_ms": 2_140.0})
    assert row_of(one) == [
        "a system", "yes", "90,000/s", "1.2 / 18 / 1,234 ms", "16 + 4.0 µs", "1.2 / 18 / 1,234 ms",
        "1.2 / 18 / 1,234 ms", "120 MB", "60 ms (48 ms to 4.7 s)", "2.1 s",
    ]  # fmt: skip


def test_a_rate_that_was_not_reached_has_no_latency() -> None:
    one = Measured("name", "1.0", FACTS, runs=[{**loop("closed", 9_000), **loop("at_20000", 12_300)}])
    assert row_of(one)[5:7] == ["not reached (12,300/s)", "not tried"]


def test_what_was_not_measured_is_a_dash() -> None:
    assert row_of(Measured("name", "1.0", FACTS))[2:] == ["-"] * 8


def test_a_client_without_processor_left_is_named() -> None:
    one = Measured("name", "1.0", FACTS, runs=[{**loop("closed", 1.0), "closed_client_busy": 0.97}])
    assert row_of(one)[4] == "16 + 4.0 µs: the client is the bottleneck"


def test_the_conditions_and_the_failures_stand_below_the_table() -> None:
    one = Measured("name", "1.0", FACTS, failures=["kill 1 of 5: ES1203: no acks"])
    text = markdown([one], MACHINE, SETTINGS)
    assert "load average 0.5 before and 1.5 after" in text
    assert "- **name** (1.0): a client. Cluster's timers: its timers." in text
    assert "Dials: its dialling." in text
    assert "While a leader is killed, the clients written here wait." in text
    assert "  - failed: kill 1 of 5: ES1203: no acks" in text


def test_the_document_holds_every_run_and_the_medians() -> None:
    one = Measured("name", "1.0", FACTS, runs=[loop("closed", 1.0), loop("closed", 3.0)], failovers_ms=[5.0])
    written = json.loads(json.dumps(document([one], MACHINE, SETTINGS)))
    assert written["schema"] == SCHEMA
    (system,) = written["systems"]
    assert system["figures"]["closed_per_s"] == 2.0
    assert [run["closed_per_s"] for run in system["runs"]] == [1.0, 3.0]
    assert system["facts"]["durable"] == "yes"
    assert system["failovers_ms"] == [5.0]
