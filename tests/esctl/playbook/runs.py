"""A run of a playbook as `esctl/playbook/report.py` tells it, with a short outage and a long audit."""

from typing import Any

BEGUN = 1_357_000_000.0


def a_long_run() -> dict[str, Any]:
    """A cut of two seconds, and an audit of ten minutes."""
    names = [("steady", "check", 0.0, 0.2), ("load-at-a-rate", "load", 0.2, 2.0), ("cut", "fault", 2.2, 2.0),
             ("heal", "heal", 4.2, 1.5), ("audit", "audit", 6.0, 600.0)]  # fmt: skip
    steps = [
        {"step": name, "title": f"The step {name}", "kind": kind, "state": "passed", "why": "",
         "begun": BEGUN + at, "seconds": seconds, "commands": [f"esctl {kind} --cluster " + "x" * 90],
         "undo": "none", "undo_why": ""}
        for name, kind, at, seconds in names
    ]  # fmt: skip
    samples = [
        {"at": BEGUN + 0.3 + n / 10, "p50_ms": 2.0, "p99_ms": 5.0, "max_ms": 560.0 if 22 <= n < 32 else 9.0}
        for n in range(50)
    ]
    last = {"acked": 10_000, "failed": 0, "unknown": 0, "longest_gap_ms": 560.0}
    return {
        "playbook": {"title": "Lose the leader", "id": "drill", "version": "1", "digest": "0" * 64},
        "verdict": "pass",
        "state": "pass", "why": "every step passed", "clean": True, "left": [],
        "run": "drill-20130101-000000-0000", "rehearsal": False, "cluster": "c", "begun": BEGUN,
        "seconds": 606.0,
        "inputs": {"rate": 200}, "steps": steps, "audit": {"passed": True, "acked": 10_000, "acked_lost": 0},
        "chosen": {},
        "notes": [], "guards": [],
        "loads": [{"name": "load", "rate_per_s": 200.0, "last": last, "samples": samples}],
    }  # fmt: skip
