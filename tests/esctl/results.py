"""Results of measurements that nobody made, for the tests of what is said about results."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from esctl.bench.machine import ClusterData, MachineData
from esctl.bench.result import AnyResult, Result

MACHINE: Final[MachineData] = {
    "machine": "x86_64", "cpu": "A", "cpus": 2, "memory_bytes": 8_000_000_000, "system": "Linux 6",
    "python": "3.11.7", "sqlite": "3.40.1", "eventstreamcore": "0.1.0", "load_average": 0.3,
}  # fmt: skip
CLUSTER: Final[ClusterData] = {"nodes": 3, "storage": "sqlite", "durability": "fsync"}
SETTINGS: Final = {"rate_per_s": 0.0, "size_bytes": 100, "window": 64}


def result(*runs: Mapping[str, float | None], **parts: Any) -> AnyResult:
    """A result of `produce` with these runs; `parts` replace what else it has."""
    usual: dict[str, Any] = {
        "kind": "produce", "settings": SETTINGS, "machine": MACHINE, "cluster": CLUSTER, "detail": {},
        "taken_at": "2013-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Result(**{**usual, "runs": runs, **parts})


def of(name: str, values: Sequence[float | None], **parts: Any) -> AnyResult:
    """A result with one figure, which each run has its value of."""
    return result(*({name: value} for value in values), **parts)
