"""The faults on purpose that are active: none stops events by itself, each explains something.

Pure rules. Called by `ranking.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation
from esctl.ui.formatting import duration


def faults(seen: Situation) -> Iterator[Problem]:
    """Faults that are active, one finding for what one command has set."""
    active: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for report in seen.survey.up:
        for fault in report.faults:
            active.setdefault(str(fault["id"]).partition(".")[0], []).append((report.node.id, fault))
    for one in seen.struck:
        picture = {"kind": one.kind, "peers": [], "left_ms": one.left_ms, "hits": 1}
        active.setdefault(one.fault, []).append((one.node, picture))
    for name, parts in sorted(active.items()):
        struck = sorted({number for number, _ in parts})
        touched = {number for number, _ in parts} | {int(p) for _, fault in parts for p in fault["peers"]}
        kinds = sorted({str(fault["kind"]) for _, fault in parts})
        left_s = max(int(fault["left_ms"]) for _, fault in parts) / 1000
        hits = sum(int(fault["hits"]) for _, fault in parts)
        yield Problem(
            ProblemKind.FAULT,
            Severity.WARNING,
            f"an injected fault is active: {name} ({', '.join(kinds)})"
            f" on node{'s' if len(struck) > 1 else ''} {_listed(struck)}",
            [
                f"it has taken effect {'once' if hits == 1 else f'{hits:,} times'}; it ends by itself in"
                f" {duration(left_s)}",
                "the nodes do not know who injected it",
            ],
            seen.command(f"fault heal {name}"),
            also=[seen.command("fault ls")],
            nodes=frozenset(touched),
        )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
